import { describe, expect, it } from 'vitest';
import { DATA, L4, mfn, TinyGuest } from '../../../test/support/tiny-guest.js';

/**
 * A kernel that records every exception: its number, error code and rip go into a list at DATA+0x800, and the handler
 * continues at the address in r14. Vectors 1, 6 and 7 have no error code.
 */
const kernel = (body: string): string => `
    lea rdi, [traps]
    mov eax, SET_TRAP_TABLE
    syscall
    mov rbx, DATA
    mov r13, DATA+0x800
    ${body}
    jmp poweroff
  h1: mov r12d, 1
    jmp without
  h6: mov r12d, 6
    jmp without
  h7: mov r12d, 7
    jmp without
  h13: mov r12d, 13
    jmp with
  h14: mov r12d, 14
    jmp with
  without:
    mov qword [r13+8], -1
    mov rax, [rsp+16]
    jmp note
  with:
    mov rax, [rsp+16]
    mov [r13+8], rax
    mov rax, [rsp+24]
  note:
    mov [r13], r12
    mov [r13+16], rax
    mov rax, cr0
    mov [r13+24], rax
    add r13, 32
    mov rsp, STACK
    jmp r14
  traps:
    ${[1, 6, 7, 13, 14].map((v) => `db ${v}, 4\ndw 0xe030\ndd 0\ndq h${v}`).join('\n')}
    zero 16
`;
/** Runs instructions one after another, each of which must fault. Returns vector and error code of each. */
async function faults(...lines: string[]): Promise<[number, number][]> {
  const g = await TinyGuest.boot(
    kernel(
      lines
        .map(
          (line, i) =>
            `lea r14, [next${i}]\nf${i}: ${line}\nmov qword [r13], 255\nadd r13, 32\nnext${i}: nop`,
        )
        .join('\n'),
    ),
  );
  expect(g.run()).toMatchObject({ reason: 'poweroff' });
  return lines.map((_, i) => {
    const at = DATA + 0x800 + 32 * i;
    if (g.s64(at) !== 255) expect(g.s64(at + 16)).toBe(g.code.at(`f${i}`));
    return [g.s64(at), g.s64(at + 8)];
  });
}
/** Runs a body and returns the guest. */
async function runs(body: string): Promise<TinyGuest> {
  const g = await TinyGuest.boot(kernel(body));
  expect(g.run()).toMatchObject({ reason: 'poweroff' });
  return g;
}

describe('a hardware breakpoint of the kernel', () => {
  const set = (register: number, value: string): string =>
    `mov edi, ${register}\nmov rsi, ${value}\nmov eax, 8\nsyscall\n`;
  const status = 'mov edi, 6\nmov eax, 9\nsyscall\nmov [rbx+96], rax\n';

  it('on four bytes of data traps after the instruction that writes them', async () => {
    const g = await runs(`
      ${set(0, 'DATA+100')}
      ${set(7, '0xd0001')}
      lea r14, [next]
      mov byte [rbx+103], 7
      after: nop
      next: ${set(7, '0')}
      ${status}`);
    expect([g.s64(DATA + 0x800), g.s64(DATA + 0x810)]).toEqual([1, g.code.at('after')]);
    expect(g.u32(DATA + 96)).toBe(0xffff_0ff1);
  });

  it('on an instruction stops before that instruction', async () => {
    const g = await runs(`
      lea rsi, [f]
      mov edi, 3
      mov eax, 8
      syscall
      ${set(7, '0x80')}
      lea r14, [next]
      f: mov qword [rbx+104], 1
      next: ${set(7, '0')}
      ${status}`);
    expect([g.s64(DATA + 0x800), g.s64(DATA + 0x810)]).toEqual([1, g.code.at('f')]);
    expect(g.u32(DATA + 96)).toBe(0xffff_0ff8);
    expect(g.s64(DATA + 104)).toBe(0);
  });
});

describe('a privileged instruction of the kernel', () => {
  it('reads and writes control registers as far as Xen allows', async () => {
    const g = await runs(`
      mov rax, cr0
      mov [rbx], rax
      mov rax, cr3
      mov [rbx+8], rax
      mov rax, cr4
      mov [rbx+16], rax
      mov rax, -1
      mov cr4, rax
      mov rax, cr4
      mov [rbx+24], rax
      mov eax, 0x12345
      mov cr2, rax
      mov rax, cr2
      mov [rbx+32], rax
      mov rax, ${mfn(L4) * 4096}
      mov cr3, rax
      wbinvd
    `);
    expect(g.words(DATA, 5)).toEqual([0x80050033n, BigInt(mfn(L4) * 4096), 0x660n, 0x66cn, 0x12345n]);
  });

  it('sets TS, which makes the next FPU instruction fault with #NM; Xen clears it then', async () => {
    const g = await runs(`
      mov edi, 1
      mov eax, 5
      syscall
      mov rax, cr0
      mov [rbx], rax
      clts
      mov rax, cr0
      mov [rbx+8], rax
      mov rax, 0x8005003b
      mov cr0, rax
      lea r14, [again]
      f: fninit
      mov qword [rbx+24], 1
      again: mov rax, cr0
      mov [rbx+16], rax`);
    expect(g.words(DATA, 3)).toEqual([0x8005003bn, 0x80050033n, 0x80050033n]);
    expect(g.s64(DATA + 0x800)).toBe(7);
    expect(g.s64(DATA + 24)).toBe(0);
  });

  it('reads and writes the MSRs of the constant profile', async () => {
    const read = (msr: number, at: number): string =>
      `mov ecx, ${msr}\nrdmsr\nmov [rbx+${at}], eax\nmov [rbx+${at + 4}], edx\n`;
    const g = await runs(
      `
      mov ecx, 0xc0000100
      mov eax, 0x1000
      mov edx, 0x7fff
      wrmsr
      mov ecx, 0xc0000102
      wrmsr
      ${read(0xc0000100, 0)}
      ${read(0xc0000102, 8)}
      ${read(0xc0000080, 16)}
      ${read(0x1b, 24)}
      ${read(0x277, 32)}
      ${read(0x179, 40)}
    `,
    );
    expect(g.words(DATA, 6)).toEqual([
      0x7fff_0000_1000n,
      0x7fff_0000_1000n,
      0xd01n,
      0xfee0_0900n,
      0x0501_0007_0406n,
      2n,
    ]);
    expect(g.domain.state.vcpus[0].cpu.fsBase).toBe(0x7fff_0000_1000);
  });

  it("answers the forced CPUID with Xen's leaves, and the native one with the same", async () => {
    const g = await runs(`
      mov eax, 0x40000000
      xor ecx, ecx
      ud2
      ascii "xen"
      cpuid
      mov rdi, DATA
      mov [rdi], eax
      mov [rdi+4], ecx`);
    expect(g.u32(DATA)).toBe(0x4000_0005);
    expect(g.u32(DATA + 4)).toBe(0x6558_4d4d);
    const h = await runs(`
      mov eax, 1
      xor ecx, ecx
      ud2
      ascii "xen"
      cpuid
      mov r8d, ecx
      mov r9d, edx
      mov eax, 1
      xor ecx, ecx
      cpuid
      mov rdi, DATA
      mov [rdi], ecx
      mov [rdi+4], edx
      mov [rdi+8], r8d
      mov [rdi+12], r9d`);
    expect([h.u32(DATA), h.u32(DATA + 4)]).toEqual([h.u32(DATA + 8), h.u32(DATA + 12)]);
    expect(h.u32(DATA) >>> 31).toBe(1);
  });

  it('finds no hardware behind the I/O ports', async () => {
    const g = await runs(
      `
      mov edx, 0x3f8
      in al, dx
      mov [rbx], al
      in eax, 0x80
      mov [rbx+4], eax
      mov al, 0x17
      out 0x70, al
      in al, 0x70
      mov [rbx+8], al
      in al, 0x71
      mov [rbx+9], al
      mov dx, 0xcf8
      mov eax, 0x80001234
      out dx, eax
      in eax, dx
      mov [rbx+12], eax
      cli
      sti`.replace(/^/, 'mov dword [rbx+64], 1\nlea rsi, [rbx+64]\nmov edi, 6\nmov eax, 33\nsyscall\n'),
    );
    expect(g.u8(DATA)).toBe(0xff);
    expect(g.u32(DATA + 4)).toBe(0xffff_ffff);
    expect([g.u8(DATA + 8), g.u8(DATA + 9), g.u32(DATA + 12)]).toEqual([0x17, 0xff, 0x8000_1234]);
  });

  it('that Xen does not emulate is a general protection fault', async () => {
    const gp: [number, number] = [13, 0];
    expect(
      await faults(
        'hlt',
        'cli',
        'sti',
        'in al, 0x80',
        'mov rax, cr8',
        'lidt [rbx]',
        'lgdt [rbx]',
        'invlpg [rbx]',
        'rdmsr',
      ),
    ).toEqual([gp, gp, gp, gp, gp, gp, gp, gp, gp]);
  });

  it('that does not exist is an invalid opcode', async () => {
    expect(await faults('ud2', 'xgetbv', 'xsetbv')).toEqual([
      [6, -1],
      [6, -1],
      [6, -1],
    ]);
  });
});

describe('a single step', () => {
  it('stops after each instruction with BS set in DR6', async () => {
    const g = await runs(`
      lea r14, [stepped]
      pushfq
      pop rax
      or eax, 0x100
      push rax
      popfq
      one: nop
      two: nop
      stepped: mov rax, dr6
      mov [rbx], rax`);
    expect(g.s64(DATA + 0x800)).toBe(1);
    expect(g.s64(DATA + 0x810)).toBe(g.code.at('two'));
    expect(g.big(DATA) & 0x4000n).toBe(0x4000n);
  });

  it('also follows an instruction that Xen emulates', async () => {
    const g = await runs(`
      lea r14, [stepped]
      mov ecx, 0xc0000080
      pushfq
      pop rax
      or eax, 0x100
      push rax
      popfq
      rdmsr
      two: nop
      stepped: nop`);
    // The trap of popfq itself comes one instruction later, after rdmsr.
    expect([g.s64(DATA + 0x800), g.s64(DATA + 0x810)]).toEqual([1, g.code.at('two')]);
  });
});

describe('debug registers', () => {
  it('keep the bits that a guest may set', async () => {
    const g = await runs(`
      mov rax, 0x5000
      mov dr0, rax
      mov rax, dr0
      mov [rbx], rax
      mov rax, dr7
      mov [rbx+8], rax
      mov rax, dr6
      mov [rbx+16], rax
      mov edi, 7
      mov esi, 0x1
      mov eax, 8
      syscall
      mov edi, 7
      mov eax, 9
      syscall
      mov [rbx+24], rax
      mov edi, 0
      mov rsi, 0xffff800000000000
      mov eax, 8
      syscall
      mov [rbx+32], rax`);
    expect(g.words(DATA, 3)).toEqual([0x5000n, 0x400n, 0xffff_0ff0n]);
    expect([g.s64(DATA + 24), g.s64(DATA + 32)]).toEqual([0x401, -1]);
  });
});
