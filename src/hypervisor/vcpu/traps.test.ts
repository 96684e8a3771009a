import { describe, expect, it } from 'vitest';
import { DATA, HOLE, L4, mfn, STACK, TinyGuest, USER_STACK } from '../../../test/support/tiny-guest.js';

/** A kernel with handlers for the named vectors; each handler saves rsp, rcx, r11 and the top 11 words of its stack. */
const kernel = (vectors: readonly number[], body: string, options = ''): string => `
    lea rdi, [traps]
    mov eax, SET_TRAP_TABLE
    syscall
    lea rdi, [onevent]
    lea rsi, [onfailsafe]
    lea rdx, [onsyscall]
    mov eax, SET_CALLBACKS
    syscall
    ${options}
    ${body}
  faulted:
    mov rdi, DATA
    mov [rdi], rsp
    mov [rdi+8], rcx
    mov [rdi+16], r11
    mov rsi, rsp
    add rdi, 24
    mov ecx, 11
    cld
    rep movsq
    pushfq
    pop rax
    mov [rdi], rax
    jmp poweroff
  onevent:
    mov r15, 1
    jmp faulted
  onfailsafe:
    mov r15, 2
    jmp faulted
  onsyscall:
    mov r15, 3
    jmp faulted
  traps:
    ${vectors.map((v) => `db ${v}, ${v === 0x80 || v === 0x21 ? 3 : 4}\ndw 0xe030\ndd 0\ndq faulted`).join('\n')}
    zero 16
`;
const frame = (g: TinyGuest) => {
  const [rsp, rcx, r11, ...words] = g.words(DATA, 14);
  return { rsp, rcx, r11, words, flags: g.big(DATA + 14 * 8) };
};
const boot = async (source: string): Promise<TinyGuest> => {
  const g = await TinyGuest.boot(source);
  expect(g.run()).toMatchObject({ state: 'shutdown', reason: 'poweroff' });
  return g;
};
const USER_MODE = (entry: string) => `
    lea rsi, [baseptr]
    ${'' /* one mmuext_op: NEW_USER_BASEPTR of the same tables */}
    mov rdi, rsi
    mov esi, 1
    xor edx, edx
    mov r10d, 0x7ff0
    mov eax, MMUEXT_OP
    syscall
    mov edi, 0xe02b
    mov rsi, 0x8000
    mov eax, STACK_SWITCH
    syscall
    mov eax, 0xe02b
    push rax
    mov eax, USER_STACK
    push rax
    mov eax, 0x246
    push rax
    mov eax, 0xe033
    push rax
    lea rax, [${entry}]
    push rax
    push 0
    mov eax, 0x1111
    push rax
    mov eax, 0x2222
    push rax
    mov eax, 0x3333
    push rax
    mov eax, IRET
    syscall
  baseptr:
    dq 15, ${mfn(L4)}, 0
`;

describe('the frame of an exception in the kernel', () => {
  it('is that of a page fault: rcx, r11, error code, rip, cs and event mask, rflags, rsp, ss', async () => {
    const g = await boot(
      kernel([14], `mov rcx, 0x1234\nmov r11, 0x5678\nmov rax, HOLE\nstc\nfault: mov [rax+8], rcx`),
    );
    const f = frame(g);
    expect(f.rsp).toBe(BigInt(STACK - 64));
    const rip = g.code.labels.get('fault');
    expect(f.words.slice(0, 8)).toEqual([
      0x1234n,
      0x5678n,
      2n,
      rip,
      0xe030n | (1n << 32n),
      f.words[5],
      BigInt(STACK),
      0xe02bn,
    ]);
    // Events were masked: IF is clear in the frame and set in the processor; the carry flag is kept.
    expect(f.words[5] & 0x3201n).toBe(1n);
    expect(f.rcx).toBe(g.code.labels.get('faulted'));
    expect(f.r11 & 0x200n).toBe(0x200n);
    const { state } = g.domain;
    expect(state.mem.getS64(state.sharedInfo + 16)).toBe(HOLE + 8);
  });

  it('has no error code for an invalid opcode, and its stack is aligned to 16 bytes', async () => {
    const g = await boot(kernel([6], `mov byte [SHARED+1], 0\nsub rsp, 8\nfault: ud2`));
    const f = frame(g);
    expect(f.rsp).toBe(BigInt(STACK - 16 - 56));
    expect(f.words[2]).toBe(g.code.labels.get('fault'));
    expect(f.words[3]).toBe(0xe030n);
    expect(f.words[4] & 0x200n).toBe(0x200n);
    expect(f.words[5]).toBe(BigInt(STACK - 8));
    // TI_IF is set, so events are masked in the handler.
    expect(g.domain.state.mem.getU8(g.domain.state.sharedInfo + 1)).toBe(1);
  });

  it('of a breakpoint or an `int n` has the rip after the instruction', async () => {
    const g = await boot(kernel([3], `int3\nafter: nop`));
    expect(frame(g).words[2]).toBe(g.code.labels.get('after'));
    const h = await boot(kernel([0x21], `int 0x21\nafter: nop`));
    expect(frame(h).words[2]).toBe(h.code.labels.get('after'));
  });

  it('of an `int n` that its gate does not allow is that of a general protection fault on the instruction', async () => {
    const g = await boot(kernel([13], `fault: int 0x33\nnop`));
    const f = frame(g);
    expect(f.words[2]).toBe(BigInt(0x33 * 8 + 2));
    expect(f.words[3]).toBe(g.code.labels.get('fault'));
  });

  it('of a misaligned operand exists if AC is set: CR0.AM is set in every guest', async () => {
    const g = await boot(
      kernel([17], `mov rbx, DATA\npushfq\nor qword [rsp], 0x40000\npopfq\nfault: mov rax, [rbx+1]\nnop`),
    );
    const f = frame(g);
    expect(f.words[2]).toBe(0n);
    expect(f.words[3]).toBe(g.code.labels.get('fault'));
    // A fault sets RF in the frame.
    expect(f.words[5] & 0x5_0000n).toBe(0x5_0000n);
  });

  it('clears TF, NT, RF and AC in the handler, but keeps them in the frame', async () => {
    const g = await boot(kernel([6], `pushfq\nor qword [rsp], 0x44000\npopfq\nud2`));
    const f = frame(g);
    expect(f.words[4] & 0x44000n).toBe(0x44000n);
    expect(f.flags & 0x44000n).toBe(0n);
  });
});

describe('user mode', () => {
  it("enters the kernel on the kernel's stack, with RPL 3 in the frame and the kernel's GS base", async () => {
    const g = await boot(
      kernel(
        [14],
        `${USER_MODE('user')}\nuser: mov rbx, rsp\nmov rcx, 0x77\nmov rax, HOLE\nfault: mov rdx, [rax]`,
      ),
    );
    const f = frame(g);
    expect(f.rsp).toBe(BigInt(0x8000 - 64));
    expect(f.words.slice(0, 5)).toEqual([0x77n, 0x2222n, 4n, g.code.labels.get('fault'), 0xe033n]);
    expect(f.words[5] & 0x200n).toBe(0x200n);
    expect(f.words.slice(6, 8)).toEqual([BigInt(USER_STACK), 0xe02bn]);
  });

  it('is entered with the registers of the iret frame', async () => {
    const g = await boot(
      kernel(
        [],
        `${USER_MODE('user')}\nuser: mov rdx, DATA\nmov [rdx+200], rax\nmov [rdx+208], rcx\nmov [rdx+216], r11\nsyscall`,
      ),
    );
    expect(g.words(DATA + 200, 3)).toEqual([0x3333n, 0x1111n, 0x2222n]);
  });

  it('is also entered by an iret in a multicall: it is the last call, and RAX is its result, sign-extended from 32 bits', async () => {
    // The last hypercall of USER_MODE becomes the middle one of three.
    const enter = USER_MODE('user').replace('mov eax, IRET\n', 'lea rdi, [calls]\nmov esi, 3\nmov eax, 13\n');
    const run = (rax: string): Promise<TinyGuest> =>
      boot(
        kernel(
          [],
          `${enter.replace('0x3333', rax)}
  user: mov rdx, DATA
    mov [rdx+200], rax
    mov [rdx+208], rcx
    mov [rdx+216], r11
    mov rax, [calls+64+8]
    mov [rdx+224], rax
    mov rax, [calls+128+8]
    mov [rdx+232], rax
    syscall
  calls:
    dq 17, 0, 0, 0, 0, 0, 0, 0
    dq IRET, 0, 0, 0, 0, 0, 0, 0
    dq 17, 0x1234, 0, 0, 0, 0, 0, 0`,
        ),
      );
    expect((await run('0x3333')).words(DATA + 200, 5)).toEqual([0x3333n, 0x1111n, 0x2222n, 0x3333n, 0x1234n]);
    expect((await run('0xdead0000')).words(DATA + 200, 1)).toEqual([0xffff_ffff_dead_0000n]);
  });

  it('makes system calls to the syscall callback, with DF clear and rip in rcx', async () => {
    const g = await boot(kernel([], `${USER_MODE('user')}\nuser: std\nsyscall\nafter: nop`));
    const f = frame(g);
    expect(g.domain.state.vcpus[0].cpu.reg(15)).toBe(3);
    expect(f.words[0]).toBe(g.code.labels.get('after'));
    expect(f.words[1]).toBe(f.words[4] & ~0n);
    expect(f.words[2]).toBe(g.code.labels.get('after'));
    expect(f.words[4] & 0x400n).toBe(0x400n);
    expect(f.flags & 0x400n).toBe(0n);
  });

  it("uses int 0x80 without a check of the gate, as Xen's direct trap does", async () => {
    const g = await boot(kernel([0x80], `${USER_MODE('user')}\nuser: int 0x80\nafter: nop`));
    expect(frame(g).words[2]).toBe(g.code.labels.get('after'));
  });
});

describe('an event', () => {
  it('is delivered when the guest unmasks it, and masks further ones', async () => {
    const g = await boot(
      kernel(
        [],
        `lea rsi, [ipi]
    mov edi, 7
    mov eax, EVENT_CHANNEL_OP
    syscall
    mov eax, [ipi+4]
    mov [ipi], eax
    mov edi, 4
    mov eax, EVENT_CHANNEL_OP
    syscall
    mov byte [SHARED+1], 0
    ; the next return from Xen finds it pending
    xor edi, edi
    xor esi, esi
    mov eax, XEN_VERSION
    syscall
    after: jmp after
    ipi: dd 0, 0`,
      ),
    );
    expect(g.domain.state.vcpus[0].cpu.reg(15)).toBe(1);
    const f = frame(g);
    expect(f.words[2]).toBe(g.code.labels.get('after'));
    expect(f.words[3]).toBe(0xe030n);
    expect(g.domain.state.mem.getU8(g.domain.state.sharedInfo + 1)).toBe(1);
  });
});

describe('a guest to which no exception can be delivered', () => {
  const crash = async (source: string): Promise<string> => {
    const g = await TinyGuest.boot(source);
    const end = g.run();
    expect(end).toMatchObject({ state: 'shutdown', reason: 'crash' });
    const report = g.domain.crashReport();
    expect(report.vcpus[0].registers.length).toBeGreaterThan(16);
    return report.message;
  };

  it('because it has no handler crashes, and the report names the exception', async () => {
    expect(await crash('ud2')).toMatch(/unhandled exception, vector 6/);
    expect(await crash(`mov rax, HOLE\nmov [rax], al`)).toMatch(
      /unhandled page fault at 0x0000000000900000, error code 2/,
    );
  });

  it("because its stack is not writable, or lies in Xen's range, crashes", async () => {
    expect(await crash(kernel([6], `mov rsp, HOLE+64\nud2`))).toMatch(/stack .* cannot be written/);
    expect(await crash(kernel([6], `mov rsp, 0xffff800000001000\nud2`))).toMatch(
      /hypervisor's own address range/,
    );
  });

  it('crashes if it returns to user mode without page tables', async () => {
    expect(
      await crash(
        'mov eax, 0xe033\npush 0\npush 0\npush 0\npush rax\npush 0\npush 0\npush 0\npush 0\npush 0\nmov eax, IRET\nsyscall',
      ),
    ).toMatch(/without page tables of user mode/);
  });
});
