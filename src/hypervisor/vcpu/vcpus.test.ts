import { describe, expect, it } from 'vitest';
import { LEAVE_CALLBACK } from '../../../test/support/event-kernel.js';
import { CODE, DATA, L4, mfn, TinyGuest } from '../../../test/support/tiny-guest.js';

const CONTEXT = 0x5_0000;
/** Offsets of fields in vcpu_guest_context. */
const C = {
  flags: 512,
  regs: 520,
  trapCtxt: 720,
  kernelSs: 4968,
  kernelSp: 4976,
  ctrlreg: 4984,
  event: 5112,
};
const R = { rip: 128, cs: 136, rflags: 144, rsp: 152, ss: 160 };

/** A kernel in which vCPU 0 starts vCPU 1; then they run `first` and `second`. */
const source = (first: string, second: string, event = 'onevent: jmp onevent'): string => `
    mov edi, 0
    mov esi, 1
    mov rdx, ${CONTEXT}
    mov eax, VCPU_OP
    syscall
    mov rbx, DATA
    mov [rbx], rax
    mov edi, 1
    mov esi, 1
    xor edx, edx
    mov eax, VCPU_OP
    syscall
    mov [rbx+8], rax
    ${first}
  second:
    ${second}
  ${event}
`;
const boot = async (first: string, second: string, event?: string): Promise<TinyGuest> => {
  const g = await TinyGuest.boot(source(first, second, event), { vcpus: 2 });
  g.setU64(CONTEXT + C.flags, 4);
  g.setU64(CONTEXT + C.regs + R.rip, g.code.at('second'));
  g.setU64(CONTEXT + C.regs + R.rflags, 0x200);
  g.setU64(CONTEXT + C.regs + R.rsp, 0xb000);
  g.setU64(CONTEXT + C.kernelSs, 0xe02b);
  g.setU64(CONTEXT + C.kernelSp, 0xb000);
  g.setU64(CONTEXT + C.ctrlreg + 24, mfn(L4) * 4096);
  g.setU64(CONTEXT + C.event, g.code.at('onevent'));
  return g;
};

describe('a second vCPU', () => {
  it('starts where its context says, and both vCPUs make progress', async () => {
    const g = await boot(
      `loop1: inc qword [rbx+64]\ncmp qword [rbx+72], 100000\njb loop1\njmp poweroff`,
      `mov rbx, DATA\nloop2: inc qword [rbx+72]\njmp loop2`,
    );
    expect(g.run()).toMatchObject({ state: 'shutdown', reason: 'poweroff' });
    expect([g.s64(DATA), g.s64(DATA + 8)]).toEqual([0, 0]);
    expect(g.s64(DATA + 64)).toBeGreaterThan(10_000);
    const { state } = g.domain;
    const [a, b] = state.vcpus;
    // Of each second of virtual time one vCPU runs for a part, and the other waits.
    expect(a.runstateTime[0] + b.runstateTime[0]).toBeLessThanOrEqual(state.clock.now());
    expect(b.runstateTime[1]).toBeGreaterThan(0);
  });

  it('that sleeps is woken by an IPI and sleeps again', async () => {
    const g = await boot(
      `
      mov qword [ipi], 1
      lea rsi, [ipi]
      mov edi, 7
      mov eax, EVENT_CHANNEL_OP
      syscall
      mov eax, [ipi+4]
      mov [ipi], eax
      mov r12, 5
    send:
      lea rsi, [ipi]
      mov edi, 4
      mov eax, EVENT_CHANNEL_OP
      syscall
      mov r13, [rbx+64]
      inc r13
    wait:
      mov rax, [rbx+72]
      cmp rax, [rbx+64]
      je wait
      mov [rbx+64], rax
      dec r12
      jne send
      jmp poweroff
    ipi: dq 0`,
      `
    sleep:
      mov edi, 1
      xor esi, esi
      mov eax, SCHED_OP
      syscall
      jmp sleep`,
      `onevent:
      mov rbx, DATA
      mov byte [SHARED+64], 0
      mov qword [SHARED+72], 0
      mov qword [SHARED+2048], 0
      inc qword [rbx+72]
      ${LEAVE_CALLBACK}`,
    );
    expect(g.run()).toMatchObject({ state: 'shutdown', reason: 'poweroff' });
    expect(g.s64(DATA + 72)).toBe(5);
  });

  it('with a context that Xen refuses does not start', async () => {
    const g = await boot('jmp poweroff', 'ud2');
    g.setU64(CONTEXT + C.ctrlreg + 24, mfn(CODE >>> 12) * 4096);
    g.run();
    expect([g.s64(DATA), g.s64(DATA + 8)]).toEqual([-22, -22]);
    const h = await boot('jmp poweroff', 'ud2');
    h.setU64(CONTEXT + C.kernelSp, 0x8000_0000_0000n);
    h.run();
    expect(h.s64(DATA)).toBe(-22);
    const user = await boot('jmp poweroff', 'ud2');
    user.setU64(CONTEXT + C.flags, 0);
    user.run();
    expect(user.s64(DATA)).toBe(-22);
  });

  it('whose selectors cannot be loaded starts in the failsafe callback', async () => {
    const g = await boot(
      'loop1: cmp qword [rbx+72], 0\nje loop1\njmp poweroff',
      'ud2',
      `onevent: ud2
      failsafe:
      mov rbx, DATA
      mov rax, [rsp+16]
      mov [rbx+80], rax
      mov rax, [rsp+48]
      mov [rbx+88], rax
      inc qword [rbx+72]
      stop: jmp stop`,
    );
    g.setU64(CONTEXT + C.regs + 176, 0x33);
    g.setU64(CONTEXT + C.event + 8, g.code.at('failsafe'));
    expect(g.run()).toMatchObject({ reason: 'poweroff' });
    // The frame holds rcx, r11, ds, es, fs, gs, rip and more.
    expect([g.s64(DATA + 80), g.s64(DATA + 88)]).toEqual([0x33, g.code.at('second')]);
  });

  it('whose timer is due together with that of the first runs in the same order after a move', async () => {
    // Both sleep until the same instant; the one that wakes first takes ticket 0.
    const sleep = `
      mov edi, 3
      lea rsi, [poll]
      mov eax, SCHED_OP
      syscall
      mov rbx, DATA
      mov eax, 1
      lock xadd [rbx+64], rax`;
    const first = `${sleep}\nmov [rbx+72], rax\nwait: cmp qword [rbx+64], 2\njb wait\njmp poweroff`;
    const second = `${sleep}\nmov [rbx+80], rax\nstay: jmp stay\npoll: dq 0, 0, 400000`;
    const tickets = async (move: boolean): Promise<number[]> => {
      let g = await boot(first, second);
      g.run(200_000);
      expect(g.domain.state.vcpus.map((v) => v.blocked)).toEqual([true, true]);
      if (move) g = await g.moved();
      expect(g.run()).toMatchObject({ state: 'shutdown' });
      return [g.s64(DATA + 72), g.s64(DATA + 80)];
    };
    expect(await tickets(true)).toEqual(await tickets(false));
  });
});
