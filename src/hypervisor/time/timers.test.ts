import { describe, expect, it } from 'vitest';
import {
  CLEAR_EVENTS,
  LEAVE_CALLBACK,
  NOW,
  TIMER_EVENTS,
  VIRQ_DATA,
} from '../../../test/support/event-kernel.js';
import { DATA, TinyGuest } from '../../../test/support/tiny-guest.js';

const S = 1e9;
/** The words in memory that the kernel below keeps. */
const W = {
  expires: DATA,
  pending: DATA + 8,
  compared: DATA + 16,
  begunAnew: DATA + 24,
  unstable: DATA + 32,
  watchdog: DATA + 40,
  clock: DATA + 48,
};

/**
 * Compares its TSC with its system time every 0.5 s from a timer interrupt, as Linux 7.2 does. It catches up on missed
 * comparisons, one for each interrupt, and tolerates a difference of 1/2048 of the time since the last comparison.
 * Readings that took more than 50 us are repeated. The mark of a long stop restarts the comparison.
 */
const COMPARING = `
    ${TIMER_EVENTS}
    ${NOW}
    mov [${W.expires}], rax
    mov qword [${W.pending}], 1
    call arm
    mov byte [SHARED+1], 0
  sleep:
    mov edi, 1
    xor esi, esi
    mov eax, SCHED_OP
    syscall
    jmp sleep
  systemtime:
    ${NOW}
    mov cl, [SHARED+61]
    and cl, 2
    je nomark
    mov byte [SHARED+61], 1
    inc qword [${W.pending}]
  nomark:
    ret
  arm:
    call systemtime
    add rax, 4000000
    mov rdi, rax
    mov eax, SET_TIMER_OP
    syscall
    ret
  onevent:
    mov rbx, rax
    ${CLEAR_EVENTS}
    call arm
    ${NOW}
    cmp rax, [${W.expires}]
    jl done
    add qword [${W.expires}], 500000000
    mov r15, [${W.pending}]
  readings:
    call systemtime
    mov r12, rax
    ${NOW}
    mov r13, rax
    call systemtime
    mov r14, rax
    sub r14, r12
    cmp r14, 50000
    jg readings
    mov r8, r12
    sub r8, [${W.watchdog}]
    mov r9, r13
    sub r9, [${W.clock}]
    mov [${W.watchdog}], r12
    mov [${W.clock}], r13
    cmp r15, 0
    je judge
    dec qword [${W.pending}]
    inc qword [${W.begunAnew}]
    jmp done
  judge:
    inc qword [${W.compared}]
    mov r10, r9
    shr r10, 11
    add r10, r14
    sub r9, r8
    jns positive
    neg r9
  positive:
    cmp r9, r10
    jl done
    inc qword [${W.unstable}]
  done:
    mov rax, rbx
    ${LEAVE_CALLBACK}
  ${VIRQ_DATA}`;

describe('a guest that compares two clocks', () => {
  it('finds both right when it catches up after a stop, even if it is kept from running again and again', async () => {
    // One in eleven readings of the host's clock is 3 to 23 us late.
    const host = { looks: 0, ns: 5e9 };
    const monotonic = (): number => {
      host.ns += 300;
      if (++host.looks % 11 === 0) host.ns += 3_000 + ((host.looks * 7) % 20_000);
      return host.ns;
    };
    let g = await TinyGuest.boot(COMPARING, { monotonic });
    const run = (ns: number): void => {
      const { domain } = g;
      for (const end = domain.clock.now() + ns; domain.clock.now() < end; ) {
        const result = domain.run(1e6);
        if (result.state === 'idle') host.ns += Math.max(0, (result.wakeAt ?? 0) - domain.clock.now());
      }
    };
    run(3 * S);
    expect(g.s64(W.compared)).toBeGreaterThanOrEqual(4);
    for (const ns of [0.9 * S, 3 * S, 100 * S, 3600 * S]) {
      g.domain.pause();
      g.domain.elapse(ns);
      g.domain.start();
      // The guest moves in the middle of this.
      run(0.02 * S + ns / 400);
      g = await g.moved();
      while (g.s64(W.expires) < g.domain.clock.now()) run(0.05 * S);
      expect([ns, g.s64(W.unstable)]).toEqual([ns, 0]);
      // By then the guest has been told often enough.
      run(0.1 * S);
      const { state } = g.domain;
      expect([state.vcpus[0].marksOwed, state.mem.getU8(state.vcpus[0].vcpuInfo + 61)]).toEqual([0, 1]);
    }
    expect(g.s64(W.begunAnew)).toBeGreaterThanOrEqual(2 * 3703);
    // The guest compares again, as before.
    g.setU64(W.pending, 0);
    const before = g.s64(W.compared);
    run(3 * S);
    expect(g.s64(W.compared)).toBeGreaterThanOrEqual(before + 5);
    expect(g.s64(W.unstable)).toBe(0);
  });
});

describe('a guest that has been up for more than 2^53 ns (104 days)', () => {
  it('gets its single-shot timers in time, before and after a move', async () => {
    const ticks = DATA;
    const timer = DATA + 64;
    let g = await TinyGuest.boot(`
    ${TIMER_EVENTS}
    call arm
    mov byte [SHARED+1], 0
  sleep:
    mov edi, 1
    xor esi, esi
    mov eax, SCHED_OP
    syscall
    jmp sleep
  arm:
    ${NOW}
    add rax, 4000000
    mov [${timer}], rax
    mov edi, 8
    xor esi, esi
    mov rdx, ${timer}
    mov eax, VCPU_OP
    syscall
    ret
  onevent:
    mov rbx, rax
    ${CLEAR_EVENTS}
    inc qword [${ticks}]
    call arm
    mov rax, rbx
    ${LEAVE_CALLBACK}
  ${VIRQ_DATA}`);
    for (const days of [0, 105, 365, 36_500]) {
      const { clock } = g.domain;
      if (days > 0) clock.advanceTo(days * 86_400 * S + 12_345);
      g.run(20e6);
      g = await g.moved();
      const before = g.s64(ticks);
      g.run(1 * S);
      expect([days, g.s64(ticks) - before >= 240]).toEqual([days, true]);
      expect(g.s64(ticks) - before).toBeLessThanOrEqual(251);
    }
  });
});
