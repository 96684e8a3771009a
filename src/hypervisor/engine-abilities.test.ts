/**
 * Tests a guest on an engine that does not count instructions: it takes the host's time, and its slices end by time.
 */
import { describe, expect, it } from 'vitest';
import { CLEAR_EVENTS, LEAVE_CALLBACK, TIMER_EVENTS, VIRQ_DATA } from '../../test/support/event-kernel.js';
import { DATA, TinyGuest } from '../../test/support/tiny-guest.js';
import type { CpuEngine, CreateEngine } from '../engine/engine.js';
import { wasmEngine } from '../engine/engines.js';

const S = 1e9;

/** An engine that refuses slices by instructions; `closed` says whether it has been closed. */
function uncounted(): { create: CreateEngine; slices: number; closed: boolean } {
  const seen = {
    slices: 0,
    closed: false,
    async create(config: Parameters<CreateEngine>[0]): Promise<CpuEngine> {
      const engine = await wasmEngine()(config);
      const slice = engine.slice.bind(engine);
      return Object.assign(engine, {
        abilities: { ...engine.abilities, exactCounts: false },
        slice(vcpu: number, instructions: number, now: number, untilNs: number): void {
          if (instructions !== Number.POSITIVE_INFINITY || !(untilNs > now))
            throw new Error(`a slice of ${instructions} instructions, of ${untilNs - now} ns`);
          seen.slices++;
          slice(vcpu, instructions, now, untilNs);
        },
        close(): void {
          seen.closed = true;
        },
      });
    },
  };
  return seen;
}

/** Counts at DATA; a timer ticks each millisecond, and its handler counts at DATA + 8. */
const TICKING = `
    ${TIMER_EVENTS}
    mov byte [SHARED+1], 0
    call tick
  again:
    inc qword [DATA]
    jmp again
  tick:
    rdtsc
    shl rdx, 32
    or rax, rdx
    add rax, 1000000
    mov rdi, rax
    mov eax, SET_TIMER_OP
    syscall
    ret
  onevent:
    ${CLEAR_EVENTS}
    inc qword [${DATA + 8}]
    call tick
    ${LEAVE_CALLBACK}
  ${VIRQ_DATA}`;

describe('an engine that does not count instructions', () => {
  it('is refused, with the reason, for a guest whose time counts them, and is closed', async () => {
    const engine = uncounted();
    await expect(TinyGuest.boot('jmp poweroff', { engine: engine.create })).rejects.toThrow(
      'time counts instructions, which this engine does not',
    );
    expect(engine.closed).toBe(true);
  });

  it('runs a guest by the time of the host, and through a long stop', async () => {
    const engine = uncounted();
    let ns = 0;
    const monotonic = (): number => (ns += 20_000);
    const g = await TinyGuest.boot(TICKING, { engine: engine.create, monotonic });
    const { domain } = g;
    // Each reading of the clock takes 20 us here.
    while (g.s64(DATA + 8) < 5) expect(g.run(2e6)).toEqual({ state: 'running' });
    expect(engine.slices).toBeGreaterThan(5);
    const [count, ticks] = [g.s64(DATA), g.s64(DATA + 8)];
    expect(count).toBeGreaterThan(0);
    domain.pause();
    const before = domain.clock.now();
    domain.elapse(30 * S);
    domain.start();
    while (g.s64(DATA + 8) < ticks + 4) g.run(2e6);
    // The guest has taken the timer event that told it of the stop, and the one that came due.
    expect(domain.clock.now() - before).toBeGreaterThanOrEqual(30 * S);
    expect(domain.clock.now() - before).toBeLessThan(31 * S);
  });
});
