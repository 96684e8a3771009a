import { describe, expect, it } from 'vitest';
import { DATA, mfn, TinyGuest } from '../../../test/support/tiny-guest.js';

const GDT = 0x6_0000;
const P = 0x8000;
/** Descriptors that are present and have level 0 or 3; Xen raises all of them to 3. */
const flat = (type: number, flags = 0): bigint =>
  BigInt(0xffff) | (BigInt(type | P) << 32n) | (BigInt(flags) << 32n);
const DATA_SEGMENT = flat(0x9200 & 0xff00);
const CODE_64 = flat(0x9a00 & 0xff00, 0x20_0000);

const kernel = (body: string): string => `
    lea rdi, [traps]
    mov eax, SET_TRAP_TABLE
    syscall
    lea rdi, [gdt]
    mov esi, 8
    mov eax, 2
    syscall
    mov rbx, DATA
    mov [rbx+504], rax
    lea r14, [bad]
    ${body}
    jmp poweroff
  bad:
    jmp poweroff
  fault:
    mov rax, [rsp+16]
    mov [rbx+496], rax
    jmp r14
  gdt: dq ${mfn(GDT >>> 12)}
  traps:
    db 13, 4
    dw 0xe030
    dd 0
    dq fault
    db 11, 4
    dw 0xe030
    dd 0
    dq fault
    zero 16
`;
async function run(body: string, ...descriptors: bigint[]): Promise<TinyGuest> {
  const g = await TinyGuest.boot(kernel(body));
  for (const [i, descriptor] of descriptors.entries()) g.setU64(GDT + 8 * (i + 1), descriptor);
  expect(g.run()).toMatchObject({ reason: 'poweroff' });
  return g;
}

describe('an instruction that needs no privilege without UMIP', () => {
  it('smsw returns the CR0 that the kernel reads', async () => {
    const g = await run(`
      db 0x0f, 0x01, 0xe0             ; smsw eax
      mov [rbx], rax
      mov rax, cr0
      mov [rbx+8], rax`);
    expect(g.big(DATA)).toBe(g.big(DATA + 8));
    expect(g.big(DATA)).toBe(0x8005_0033n);
  });
});

describe("the guest's own descriptors", () => {
  it('are raised to privilege level 3 when the table is set', async () => {
    const g = await run('', DATA_SEGMENT);
    expect(g.s64(DATA + 504)).toBe(0);
    expect((g.big(GDT + 8) >> 45n) & 3n).toBe(3n);
  });

  it('of system segments are refused', async () => {
    const g = await run('', flat(0x8900 & 0xff00));
    expect(g.s64(DATA + 504)).toBe(-22);
  });

  it('can be changed by update_descriptor, which adjusts them', async () => {
    const g = await run(
      `
      mov rdi, ${mfn(GDT >>> 12) * 4096 + 16}
      mov rsi, ${DATA_SEGMENT}
      mov eax, 10
      syscall
      mov [rbx], rax
      mov rdi, ${mfn(GDT >>> 12) * 4096 + 20}
      mov eax, 10
      syscall
      mov [rbx+8], rax`,
      DATA_SEGMENT,
    );
    expect([g.s64(DATA), g.s64(DATA + 8)]).toEqual([0, -22]);
    expect((g.big(GDT + 16) >> 45n) & 3n).toBe(3n);
  });
});

describe('segment registers', () => {
  it("load what the tables hold; FS and GS get the descriptor's base", async () => {
    const g = await run(
      `
      mov eax, 0xb
      mov ds, eax
      mov ax, ds
      mov [rbx], ax
      mov fs, eax
      mov rax, 0
      mov gs, eax
      mov ax, 0xe02b
      mov ss, ax
      mov ax, ss
      mov [rbx+8], ax`,
      DATA_SEGMENT | (0x12_3456n << 16n) | (0x78n << 56n),
    );
    expect([g.u32(DATA) & 0xffff, g.u32(DATA + 8) & 0xffff]).toEqual([0xb, 0xe02b]);
    const { cpu } = g.domain.state.vcpus[0];
    expect([cpu.fs, cpu.fsBase, cpu.gs, cpu.gsBase]).toEqual([0xb, 0x7812_3456, 0, 0]);
  });

  it('refuse a selector that names no descriptor, with that selector as error code', async () => {
    const beyond = await run('mov eax, 0x1003\nmov ds, eax\nmov qword [rbx], 1', DATA_SEGMENT);
    expect([beyond.s64(DATA), beyond.s64(DATA + 496)]).toEqual([0, 0x1000]);
    const absent = await run('mov eax, 0x13\nmov ds, eax', DATA_SEGMENT, DATA_SEGMENT & ~(BigInt(P) << 32n));
    expect(absent.s64(DATA + 496)).toBe(0x10);
    const xen = await run('mov eax, 0xe008\nmov ds, eax');
    expect(xen.s64(DATA + 496)).toBe(0xe008);
  });
});

describe('iretq to the same level', () => {
  it('takes rip, flags and stack from the frame', async () => {
    const g = await run(`
      mov rcx, 0xa000
      mov eax, 0xe02b
      push rax
      push rcx
      mov eax, 0x247
      push rax
      mov eax, 0xe033
      push rax
      lea rax, [there]
      push rax
      iretq
      ud2
      there: mov [rbx], rsp
      pushfq
      pop rax
      mov [rbx+8], rax`);
    expect(g.s64(DATA)).toBe(0xa000);
    expect(g.s64(DATA + 8) & 0x45).toBe(0x45);
  });

  it('to a selector that may not be entered is #GP on the instruction', async () => {
    const g = await run(`
      mov eax, 0xe02b
      push rax
      push rsp
      pushfq
      mov eax, 0xe008
      push rax
      push rbx
      iretq`);
    expect(g.s64(DATA + 496)).toBe(0xe008);
  });
});

describe('LAR, LSL, VERR and VERW', () => {
  it('report descriptors that level 3 may use, and only those', async () => {
    const g = await run(
      `
      mov ecx, 0xb
      lar eax, ecx
      mov [rbx], eax
      lsl eax, ecx
      mov [rbx+4], eax
      verr cx
      setz byte [rbx+8]
      verw cx
      setz byte [rbx+9]
      mov ecx, 0x13
      verw cx
      setz byte [rbx+10]
      mov ecx, 0xe008
      lar eax, ecx
      setz byte [rbx+11]
      mov ecx, 0xe033
      lsl eax, ecx
      mov [rbx+12], eax`,
      DATA_SEGMENT,
      CODE_64,
    );
    expect([g.u32(DATA), g.u32(DATA + 4)]).toEqual([0xf200, 0xffff]);
    expect([8, 9, 10, 11].map((i) => g.u8(DATA + i))).toEqual([1, 1, 0, 0]);
    expect(g.u32(DATA + 12)).toBe(0xffff_ffff);
  });
});

describe('far transfers', () => {
  it('go to 64-bit code of the guest, and back', async () => {
    const g = await run(
      `
      lea rax, [target]
      mov [rbx+64], eax
      mov word [rbx+68], 0x13
      db 0xff, 0x5b, 0x40       ; call far dword [rbx+64]
      mov [rbx+8], rsp
      jmp done
      target: mov ax, cs
      mov [rbx], ax
      db 0xcb                   ; retf, 32 bits
      done: nop`,
      DATA_SEGMENT,
      CODE_64,
    );
    expect(g.u32(DATA) & 0xffff).toBe(0x13);
    expect(g.s64(DATA + 8)).toBe(0x9000);
  });

  /** A call, a jump and an LSS through far pointers with REX.W; the stack that they leave, and what LSS loads. */
  const WIDE = `
      lea rax, [target]
      mov [rbx+64], eax
      mov word [rbx+68], 0x13    ; the selector, if the offset has 32 bits
      mov [rbx+80], rax
      mov word [rbx+88], 0x13    ; the selector, if it has 64
      mov r12, rsp
      mov rax, rbx
      add rax, r13
      db 0x48, 0xff, 0x58, 0x40  ; call far [rax+64], REX.W
      mov [rbx+8], rsp
      mov dword [rbx+96], 0x87654321
      mov word [rbx+100], 0
      mov word [rbx+104], 0
      db 0x48, 0x0f, 0xb4, 0x4b, 0x60 ; lfs rcx, [rbx+96]
      mov [rbx+16], rcx
      lea rax, [done]
      mov [rbx+64], eax
      mov [rbx+80], rax
      mov rax, rbx
      add rax, r13
      db 0x48, 0xff, 0x68, 0x40  ; jmp far [rax+64]
      target: mov ax, cs
      mov [rbx], ax
      mov rax, r12
      sub rax, rsp
      mov [rbx+24], rax
      mov rax, [rsp]
      mov [rbx+32], rax
      db 0x48, 0xcb              ; retf, 64 bits
      done: mov ax, cs
      mov [rbx+40], ax`;
  const wide = async (vendor: string, at: number): Promise<TinyGuest> => {
    const g = await TinyGuest.boot(kernel(`mov r13d, ${at}\n${WIDE}`));
    const [leaf] = g.domain.state.identity.cpuid;
    g.domain.state.identity.cpuid[0] = { ...leaf, ebx: Buffer.from(vendor).readUInt32LE() };
    g.setU64(GDT + 8, DATA_SEGMENT);
    g.setU64(GDT + 16, CODE_64);
    expect(g.run()).toMatchObject({ reason: 'poweroff' });
    return g;
  };

  it('with REX.W read a 32-bit offset on an AMD processor, a 64-bit one on an Intel processor, and push 64 bits', async () => {
    for (const [vendor, at] of [
      ['Auth', 0],
      ['Hygo', 0],
      ['Genu', 16],
    ] as const) {
      const g = await wide(vendor, at);
      expect([g.u32(DATA) & 0xffff, g.u32(DATA + 40) & 0xffff]).toEqual([0x13, 0x13]);
      expect([g.s64(DATA + 24), g.s64(DATA + 8)]).toEqual([16, 0x9000]);
      expect(g.big(DATA + 16)).toBe(0x8765_4321n);
    }
    // With the other size the selector is read from the wrong place, which is a general protection fault.
    expect((await wide('Auth', 16)).s64(DATA + 24)).toBe(0);
    expect((await wide('Genu', 0)).s64(DATA + 24)).toBe(0);
  });
});
