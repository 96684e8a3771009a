import { describe, expect, it } from 'vitest';
import { LEAVE_CALLBACK, NOW, setCallbacks } from '../../../test/support/event-kernel.js';
import { DATA, L4, mfn, TinyGuest } from '../../../test/support/tiny-guest.js';

const S = 1e9;
const HOUR = 3600 * S;
const DAY = 24 * HOUR;
const CONTEXT = 0x5_0000;
/** The words in memory that the kernel below keeps. */
const W = {
  jiffies: DATA,
  periodBegan: DATA + 8,
  touched: DATA + 16,
  stalls: DATA + 24,
  ticks: [DATA + 32, DATA + 40],
  last: DATA + 48,
  longest: DATA + 56,
  work: DATA + 64,
  stood: DATA + 72,
  since: DATA + 80,
  putOff: DATA + 88,
  lockups: DATA + 96,
};
/** The number of instructions for which vCPU 0, the only one that does so, masks events. */
const MASKED = 30_000;

/** Does what Linux does when it reads its clock and finds the mark of a long stop: it postpones all its watchdogs. */
const readClock = (vcpu: number, label: string): string => `
    mov al, [SHARED+${64 * vcpu + 61}]
    and al, 2
    je ${label}
    mov byte [SHARED+${64 * vcpu + 61}], 1
    mov qword [${W.touched}], 1
    ${vcpu === 1 ? `mov qword [${W.putOff}], 1` : ''}
  ${label}:
`;
/**
 * The timer interrupt's handler. vCPU 0 keeps the common time (jiffies). Both vCPUs check by that time whether a period
 * began too long ago, and vCPU 1 also checks whether its own thread last ran too long ago. `open`: for how many
 * instructions the handler lets events in before it sets the next timer.
 */
const timer = (vcpu: number, early: boolean, open: number): string => `
  onevent${vcpu}:
    push rax
    push rdx
    mov byte [SHARED+${64 * vcpu}], 0
    mov qword [SHARED+${64 * vcpu + 8}], 0
    and byte [SHARED+2048], ${vcpu === 0 ? 0xf7 : 0xef}
    ${early ? readClock(vcpu, `early${vcpu}`) : ''}
    ${NOW}
    mov r9, rax
    ${
      vcpu === 0
        ? `mov [${W.jiffies}], rax
    mov rdx, rax
    sub rdx, [${W.last}]
    mov [${W.last}], rax
    cmp rdx, [${W.longest}]
    jb shorter
    mov [${W.longest}], rdx
  shorter:`
        : ''
    }
    mov rdx, [${W.jiffies}]
    sub rdx, [${W.periodBegan}]
    mov rax, ${21 * S}
    cmp rdx, rax
    jl fine${vcpu}
    cmp qword [${W.touched}], 0
    jne fine${vcpu}
    inc qword [${W.stalls}]
  fine${vcpu}:
    ${
      vcpu === 1
        ? `mov rdx, r9
    sub rdx, [${W.since}]
    cmp rdx, rax
    jl alive
    cmp qword [${W.putOff}], 0
    jne alive
    inc qword [${W.lockups}]
  alive:`
        : ''
    }
    ${
      open > 0
        ? `mov byte [SHARED+${64 * vcpu + 1}], 0
    mov rdx, ${open / 2}
  open${vcpu}:
    dec rdx
    jg open${vcpu}
    mov byte [SHARED+${64 * vcpu + 1}], 1`
        : ''
    }
    inc qword [${W.ticks[vcpu]}]
    mov rdx, [${W.work}]
  work${vcpu}:
    dec rdx
    jg work${vcpu}
    ${readClock(vcpu, `late${vcpu}`)}
    ${NOW}
    cmp rax, r9
    jne went${vcpu}
    inc qword [${W.stood}]
  went${vcpu}:
    add rax, 4000000
    mov rdi, rax
    mov eax, SET_TIMER_OP
    syscall
    pop rdx
    pop rax
    ${LEAVE_CALLBACK}
`;
const bindTimer = (vcpu: number): string => `
    lea rsi, [virq${vcpu}]
    mov edi, 1
    mov eax, EVENT_CHANNEL_OP
    syscall
    ${NOW}
    add rax, 4000000
    mov rdi, rax
    mov eax, SET_TIMER_OP
    syscall
    mov byte [SHARED+${64 * vcpu + 1}], 0
`;
const YIELD = 'xor edi, edi\nxor esi, esi\nmov eax, SCHED_OP\nsyscall\n';
const BLOCK = 'mov edi, 1\nxor esi, esi\nmov eax, SCHED_OP\nsyscall\n';

/**
 * A kernel of two vCPUs with the stall detector of Linux's RCU: vCPU 1 begins one period after another, notes the
 * common time for each, and ends what was postponed; vCPU 0, which alone advances the common time, reads its clock and
 * then takes no timer interrupt for a while. The kernel also has the soft lockup watchdog: what vCPU 1 postponed ends
 * when its thread runs. `early`: a timer interrupt reads the clock that has the mark before it checks (clock source
 * xen), or else only when it sets the next timer (tsc). `asleep`: both vCPUs sleep except in their timer interrupts.
 */
async function judging(
  early: boolean,
  { work = 1, asleep = false, masked = MASKED, open = 0 } = {},
): Promise<TinyGuest> {
  const g = await TinyGuest.boot(
    `
    ${setCallbacks('onevent0')}
    ${bindTimer(0)}
    xor edi, edi
    mov esi, 1
    mov rdx, ${CONTEXT}
    mov eax, VCPU_OP
    syscall
    mov edi, 1
    mov esi, 1
    xor edx, edx
    mov eax, VCPU_OP
    syscall
  loop0:
    mov byte [SHARED+1], 1
    ${readClock(0, 'looked')}
    mov r12, ${asleep ? 1 : masked / 2}
  masked:
    dec r12
    jne masked
    mov byte [SHARED+1], 0
    ${asleep ? BLOCK : YIELD}
    mov r12, ${asleep ? 1 : 3000}
  open:
    dec r12
    jne open
    jmp loop0
  second:
    ${bindTimer(1)}
  loop1:
    mov byte [SHARED+65], 1
    mov r13, [${W.jiffies}]
    mov [${W.periodBegan}], r13
    mov qword [${W.touched}], 0
    ${NOW}
    mov [${W.since}], rax
    mov qword [${W.putOff}], 0
    mov byte [SHARED+65], 0
    ${asleep ? BLOCK : ''}
    mov r12, ${asleep ? 1 : 50}
  pause:
    dec r12
    jne pause
    jmp loop1
    ${timer(0, early, open)}
    ${timer(1, early, open)}
  virq0: dd 0, 0, 0
  virq1: dd 0, 1, 0
    `,
    { vcpus: 2, nsPerInstruction: 100 },
  );
  g.setU64(W.work, work);
  const context = (at: number, value: number): void => g.setU64(CONTEXT + at, value);
  context(512, 4);
  context(520 + 128, g.code.at('second'));
  context(520 + 144, 0x200);
  context(520 + 152, 0xb000);
  context(4968, 0xe02b);
  context(4976, 0xb000);
  context(4984 + 24, mfn(L4) * 4096);
  context(5112, g.code.at('onevent1'));
  g.run(200 * masked + 20e6);
  return g;
}
const ticks = (g: TinyGuest): number[] => W.ticks.map((at) => g.s64(at));

describe('a long stop', () => {
  it.each([
    ['before it checks', true],
    ['only after it has checked', false],
  ])(
    'is known to all vCPUs before one checks for a stall, where a timer interrupt reads its clock %s',
    async (_, early) => {
      const g = await judging(early);
      const { domain } = g;
      for (let i = 0; i < 24; i++) {
        g.run(5e6 + 370_000 * i);
        const before = ticks(g);
        const at = domain.clock.now();
        domain.pause();
        const ns = [30 * S, 1000 * S, HOUR][i % 3];
        domain.elapse(ns);
        domain.start();
        expect(domain.clock.now() - at).toBe(ns);
        const after = ticks(g);
        g.run(12e6);
        expect([i, g.s64(W.stalls), g.s64(W.lockups)]).toEqual([i, 0, 0]);
        // For each step, each vCPU took one interrupt that told it of the stop, and at most one after it.
        const least = 2 * Math.ceil(ns / (1800 * S));
        for (const [vcpu, count] of after.entries()) {
          expect(count - before[vcpu]).toBeGreaterThanOrEqual(least);
          expect(count - before[vcpu]).toBeLessThanOrEqual(least + 1);
        }
      }
      expect(g.s64(W.longest)).toBeLessThan(1801 * S);
      // No two timer interrupts have read the same time: a kernel takes that for a broken clock.
      expect(g.s64(W.stood)).toBe(0);
    },
  );

  it.each([
    ['for so long that others have to run meanwhile', { masked: 900_000 }],
    ['until just before it sets its next timer', { open: 8000 }],
  ])('is told again before the clock continues, where a vCPU masks events %s', async (_, options) => {
    const g = await judging(false, options);
    const { domain } = g;
    for (let i = 0; i < 24; i++) {
      g.run(5e6 + 370_000 * i);
      domain.pause();
      domain.elapse([30 * S, 1000 * S][i % 2]);
      domain.start();
      g.run(12e6);
      expect([i, g.s64(W.lockups)]).toEqual([i, 0]);
    }
  });

  it('of more than an hour passes in parts while vCPUs compute: they run in between, and so may other guests', async () => {
    const g = await judging(false);
    const { domain } = g;
    const at = domain.clock.now();
    domain.pause();
    domain.elapse(DAY);
    domain.start();
    let parts = 0;
    for (let before = at; ; ) {
      const now = domain.clock.now();
      if (now - before > S) {
        parts++;
        expect(now - before).toBeLessThanOrEqual(HOUR + 2e6);
        // The next part does not come before other processes had their turn.
        const began = g.s64(W.periodBegan);
        domain.run(150e6);
        expect(domain.clock.now() - now).toBeLessThan(S);
        expect(g.s64(W.periodBegan)).toBeGreaterThan(began);
      }
      if (now - at >= DAY) break;
      before = domain.clock.now();
      domain.run(1e6);
    }
    expect(parts).toBe(24);
    expect(domain.clock.now() - at).toBeGreaterThanOrEqual(DAY);
    expect(domain.clock.now() - at).toBeLessThan(DAY + 6 * S);
    expect([g.s64(W.stalls), domain.takeOwed()]).toEqual([0, 0]);
    expect(g.s64(W.longest)).toBeLessThan(1801 * S);
  });

  it('of months passes in turns in which nothing else of the guest runs, or at once when it is paused', async () => {
    const g = await judging(false, { work: 6000, asleep: true });
    const { domain } = g;
    for (const paused of [false, true]) {
      while (domain.state.vcpus.some((v) => !v.blocked)) domain.run(1e5);
      const at = domain.clock.now();
      domain.pause();
      domain.elapse(12 * DAY);
      domain.start();
      const seen = domain.clock.now() - at;
      expect(seen).toBeGreaterThan(DAY);
      expect(seen).toBeLessThan(12 * DAY);
      const began = g.s64(W.periodBegan);
      expect(domain.run(1e6)).toEqual({ state: 'running' });
      expect(g.s64(W.periodBegan)).toBe(began);
      if (paused) {
        domain.pause();
        domain.start();
      } else {
        while (domain.clock.now() - at < 12 * DAY) domain.run(1e6);
        expect(g.s64(W.stalls)).toBe(0);
      }
      expect(domain.clock.now() - at).toBeGreaterThanOrEqual(12 * DAY);
      expect(domain.clock.now() - at).toBeLessThan(12 * DAY + S);
      g.run(12e6);
      expect(g.s64(W.periodBegan)).toBeGreaterThan(began);
    }
  });

  it('delays what the guest signals to back ends until it runs: until then they stand still', async () => {
    const g = await judging(true);
    const { domain } = g;
    const port = domain.storePort;
    let heard = 0;
    domain.backend.bindBackend(port, () => heard++);
    for (const next of ['run', 'pause'] as const) {
      domain.pause();
      domain.elapse(30 * S);
      heard = 0;
      // vCPU 0 does the same from its timer interrupt.
      domain.state.events.send(port);
      domain.state.events.send(port);
      expect(heard).toBe(0);
      domain.start();
      expect(heard).toBe(0);
      if (next === 'run') domain.run(1e6);
      else domain.pause();
      expect(heard).toBe(1);
      domain.start();
      domain.state.events.send(port);
      expect(heard).toBe(2);
    }
  });

  it('ends even if a vCPU takes no timer event', async () => {
    const g = await judging(true);
    const { domain } = g;
    g.run(20e6);
    domain.state.mem.setU8(domain.state.sharedInfo + 2560, 0xff);
    const at = domain.clock.now();
    domain.pause();
    domain.elapse(HOUR);
    domain.start();
    while (domain.clock.now() - at < HOUR) domain.run(1e6);
    expect(domain.clock.now() - at).toBeLessThan(HOUR + S);
  });
});
