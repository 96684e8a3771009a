import { describe, expect, it } from 'vitest';
import {
  CLEAR_EVENTS,
  LEAVE_CALLBACK,
  NOW,
  TIMER_EVENTS,
  VIRQ_DATA,
} from '../../../test/support/event-kernel.js';
import { CallingGuest, DATA, TinyGuest } from '../../../test/support/tiny-guest.js';
import { EINVAL, ENOSPC } from '../../xen/errno.js';

/** A kernel that counts its upcalls and notes the TSC at each of them. */
const ticking = (body: string): string => `
    ${TIMER_EVENTS}
    mov rbx, DATA
    mov byte [SHARED+1], 0
    ${body}
  sleep:
    mov edi, 1
    xor esi, esi
    mov eax, SCHED_OP
    syscall
    jmp sleep
  onevent:
    ${CLEAR_EVENTS}
    rdtsc
    shl rdx, 32
    or rax, rdx
    mov rcx, [rbx]
    inc qword [rbx]
    mov [rbx+8+rcx*8], rax
    ${LEAVE_CALLBACK}
  ${VIRQ_DATA}`;
const SET_TIMER = 'mov rdi, rax\nmov eax, SET_TIMER_OP\nsyscall\n';

describe('the clock of a guest', () => {
  it('gives the same time by its published record (vcpu_time_info) as by the TSC', async () => {
    const c = await CallingGuest.boot();
    const { state } = c.guest.domain;
    const time = state.vcpus[0].vcpuInfo + 32;
    expect(state.mem.getU32(time) & 1).toBe(0);
    expect(state.mem.getU64(time + 8)).toBe(state.mem.getU64(time + 16));
    expect([state.mem.getU32(time + 24), state.mem.getU8(time + 28), state.mem.getU8(time + 29)]).toEqual([
      0x8000_0000, 1, 1,
    ]);
  });

  it('has its wall clock as of system time 0, in whole seconds and nanoseconds', async () => {
    const g = await TinyGuest.boot('jmp poweroff', { wallClock: () => 5e18 + 123_457_024 });
    const { state } = g.domain;
    const wc = state.sharedInfo + 3072;
    expect(state.mem.getU32(wc) % 2).toBe(0);
    expect(state.mem.getU32(wc + 4) + state.mem.getU32(wc + 12) * 2 ** 32).toBe(5_000_000_000);
    expect(state.mem.getU32(wc + 8)).toBeGreaterThan(123_450_000);
  });
});

describe('a guest that was kept waiting', () => {
  const mark = (g: TinyGuest): number => g.domain.state.mem.getU8(g.domain.state.vcpus[0].vcpuInfo + 32 + 29);

  it('is told of a stop of 2 s or more, and of a host that kept it from running for so long', async () => {
    const g = await TinyGuest.boot('sleep: jmp sleep');
    g.run(1e6);
    const { domain } = g;
    for (const [ns, told] of [
      [1.9e9, 1],
      [2e9, 3],
    ] as const) {
      domain.pause();
      domain.elapse(ns);
      domain.start();
      expect(mark(g)).toBe(told);
    }
    // The guest clears the mark; a slice is not a stop.
    domain.state.mem.setU8(domain.state.vcpus[0].vcpuInfo + 32 + 29, 1);
    g.run(1e6);
    g.run(1e6);
    expect(mark(g)).toBe(1);
    domain.clock.advanceTo(domain.clock.now() + 3e9);
    g.run(1e6);
    expect(mark(g)).toBe(3);
  });
});

describe('a guest whose host clock jumps', () => {
  /**
   * Reads its clock all the time; notes the longest gap, the sum of all gaps above 1 s, and what its record said then.
   */
  const READER = `
    mov rbx, DATA
    ${NOW}
    mov [rbx], rax
  again:
    ${NOW}
    mov rcx, rax
    sub rcx, [rbx]
    mov [rbx], rax
    mov rdx, 1000000000
    cmp rcx, rdx
    jb again
    add [rbx+8], rcx
    inc qword [rbx+16]
    mov al, [SHARED+61]
    mov [rbx+24], al
    mov byte [SHARED+61], 1
    jmp again`;
  /** A host's clock that advances by 2 us with each reading, and by `jumps[n]` before reading number n. */
  const host = (jumps: Readonly<Record<number, number>>) => {
    const clock = { looks: 0, ns: 7e9 };
    const monotonic = (): number => {
      clock.ns += 2_000 + (jumps[clock.looks++] ?? 0);
      return clock.ns;
    };
    return { clock, monotonic };
  };
  const seen = (g: TinyGuest) => ({ sum: g.s64(DATA + 8), gaps: g.s64(DATA + 16), mark: g.u8(DATA + 24) });

  it('finds the mark of a long stop, while it runs, before it can see the jump, once for each jump', async () => {
    // Both readings are made by the guest itself in the middle of a slice, which has some hundreds of them.
    const { clock, monotonic } = host({ 5000: 40e9, 30000: 3600e9 });
    const g = await TinyGuest.boot(READER, { monotonic });
    const inSlice: boolean[] = [];
    while (clock.looks < 40_000) {
      const before = clock.looks;
      g.run(2e6);
      for (const at of [5_000, 30_000]) if (before < at && at < clock.looks - 1) inSlice.push(true);
    }
    expect(inSlice).toEqual([true, true]);
    const { sum, gaps, mark } = seen(g);
    expect([gaps, mark]).toEqual([2, 3]);
    expect(sum).toBeGreaterThanOrEqual(3640e9);
    expect(sum).toBeLessThan(3640.01e9);
  });

  it('is told nothing if its host is only slow, or while it sleeps', async () => {
    const slow = host(Object.fromEntries(Array.from({ length: 100 }, (_, i) => [400 * i, 1.9e9])));
    const g = await TinyGuest.boot(READER, { monotonic: slow.monotonic });
    while (slow.clock.looks < 40_000) g.run(2e6);
    expect(seen(g).mark).toBe(1);
    const quiet = host({});
    const s = await TinyGuest.boot(ticking(`${NOW}mov rdx, 100000000000\nadd rax, rdx\n${SET_TIMER}`), {
      monotonic: quiet.monotonic,
    });
    expect(s.run(2e6)).toMatchObject({ state: 'idle' });
    quiet.clock.ns += 100.5e9;
    s.run(2e6);
    expect(s.s64(DATA)).toBe(1);
    expect(s.u8(0x80_0000 + 61) & 2).toBe(0);
  });

  it('counts as kept from running, if it slept, from the time at which it was to wake', async () => {
    const { clock, monotonic } = host({});
    const g = await TinyGuest.boot(ticking(`${NOW}mov rdx, 100000000000\nadd rax, rdx\n${SET_TIMER}`), {
      monotonic,
    });
    expect(g.run(2e6)).toMatchObject({ state: 'idle' });
    const { state } = g.domain;
    const [stolen, blocked] = [1, 2].map((i) => state.vcpus[0].runstateTime[i]);
    clock.ns += 300e9;
    g.run(2e6);
    expect(state.mem.getU8(state.vcpus[0].vcpuInfo + 61) & 2).toBe(2);
    expect(state.vcpus[0].runstateTime[1] - stolen).toBeGreaterThan(199.9e9);
    expect(state.vcpus[0].runstateTime[1] - stolen).toBeLessThan(200.1e9);
    expect(state.vcpus[0].runstateTime[2] - blocked).toBeLessThan(100.1e9);
  });

  it('has the jump in its state if it is paused then', async () => {
    const { clock, monotonic } = host({});
    const g = await TinyGuest.boot(READER, { monotonic });
    for (let i = 0; i < 5; i++) g.run(2e6);
    const before = g.domain.clock.now();
    clock.ns += 50e9;
    g.domain.pause();
    expect(g.domain.clock.now() - before).toBeGreaterThanOrEqual(50e9);
    expect(g.domain.state.mem.getU8(g.domain.state.vcpus[0].vcpuInfo + 61)).toBe(3);
  });
});

describe('a timer', () => {
  it('fires once, at its deadline, and wakes a sleeping guest', async () => {
    const g = await TinyGuest.boot(ticking(`${NOW}add rax, 1000000\nmov [rbx+400], rax\n${SET_TIMER}`));
    expect(g.run(50e6)).toMatchObject({ state: 'idle', wakeAt: undefined });
    expect(g.s64(DATA)).toBe(1);
    const late = g.s64(DATA + 8) - g.s64(DATA + 400);
    expect(late).toBeGreaterThanOrEqual(0);
    expect(late).toBeLessThan(100);
  });

  it('fires at once if its deadline is past, after 100 ms if it is far in the future, and never if it is zero', async () => {
    const past = await TinyGuest.boot(ticking(`mov eax, 5\n${SET_TIMER}`));
    past.run(1e6);
    expect(past.s64(DATA)).toBe(1);
    const far = await TinyGuest.boot(ticking(`mov rax, 0x0008000000000000\n${SET_TIMER}`));
    far.run(99e6);
    expect(far.s64(DATA)).toBe(0);
    far.run(2e6);
    expect(far.s64(DATA)).toBe(1);
    const stopped = await TinyGuest.boot(
      ticking(`${NOW}add rax, 100000\n${SET_TIMER}xor eax, eax\n${SET_TIMER}`),
    );
    expect(stopped.run(10e6)).toMatchObject({ state: 'idle', wakeAt: undefined });
    expect(stopped.s64(DATA)).toBe(0);
  });

  it('that is periodic ticks while the guest runs and not while it sleeps', async () => {
    const g = await TinyGuest.boot(
      ticking(`
      mov qword [rbx+512], 2000000
      mov edi, 6
      xor esi, esi
      lea rdx, [rbx+512]
      mov eax, VCPU_OP
      syscall
    busy:
      cmp qword [rbx], 3
      jb busy`),
    );
    expect(g.run(100e6)).toMatchObject({ state: 'idle', wakeAt: undefined });
    expect(g.s64(DATA)).toBe(3);
    expect(g.s64(DATA + 24) - g.s64(DATA + 16)).toBeLessThan(2_010_000);
    const c = await CallingGuest.boot();
    c.guest.setU64(DATA, 999_999);
    expect(c.call(24, 6, 0, DATA)).toBe(-EINVAL);
  });
});

describe('a poll', () => {
  const poll = (ports: number, timeout: string): string => `
      ${NOW}
      ${timeout}
      mov [rbx+512+16], rax
      lea rax, [virq+8]
      mov [rbx+512], rax
      mov qword [rbx+520], ${ports}
      mov byte [SHARED+1], 1
      mov edi, 3
      lea rsi, [rbx+512]
      mov eax, SCHED_OP
      syscall
      ${NOW}
      mov [rbx+600], rax
      jmp poweroff`;
  it('ends when its time-out has passed', async () => {
    const g = await TinyGuest.boot(ticking(poll(1, 'add rax, 5000000')));
    expect(g.run()).toMatchObject({ reason: 'poweroff' });
    const late = g.s64(DATA + 600) - g.s64(DATA + 512 + 16);
    expect(late).toBeGreaterThanOrEqual(0);
    expect(late).toBeLessThan(100);
  });

  it('ends when a port becomes pending, even if the port is masked', async () => {
    const g = await TinyGuest.boot(
      ticking(`${NOW}add rax, 1000000\n${SET_TIMER}mov qword [SHARED+2560], -1\n${poll(1, 'xor eax, eax')}`),
    );
    expect(g.run()).toMatchObject({ reason: 'poweroff' });
    expect(g.s64(DATA)).toBe(0);
  });
});

describe('a watchdog', () => {
  it('ends the domain unless it is reset in time', async () => {
    const c = await CallingGuest.boot();
    const watchdog = (id: number, seconds: number): number => {
      c.guest.setU32(DATA, id);
      c.guest.setU32(DATA + 4, seconds);
      return c.call(29, 6, DATA);
    };
    expect(watchdog(0, 2)).toBe(1);
    expect(watchdog(0, 2)).toBe(2);
    // Xen returns -ENOSPC as an unsigned 32-bit number here.
    expect(watchdog(0, 2)).toBe(2 ** 32 - ENOSPC);
    expect(watchdog(3, 2)).toBe(-EINVAL);
    expect(watchdog(2, 0)).toBe(0);
    c.guest.domain.clock.advanceTo(3e9);
    expect(c.guest.run()).toMatchObject({ reason: 'watchdog' });
  });
});

describe('runstate', () => {
  it('adds up to the time that has passed', async () => {
    const g = await TinyGuest.boot(
      ticking(`
      ${NOW}add rax, 3000000
      ${SET_TIMER}
      lea rax, [rbx+1024]
      mov [rbx+512], rax
      mov edi, 5
      xor esi, esi
      lea rdx, [rbx+512]
      mov eax, VCPU_OP
      syscall`),
    );
    g.run(10e6);
    const [state, entry, running, runnable, blocked, offline] = g.words(DATA + 1024, 6).map(Number);
    expect(state).toBe(2);
    expect(running + runnable + blocked + offline).toBe(entry);
    expect(blocked).toBeGreaterThan(2_900_000);
  });
});
