import { describe, expect, test } from 'vitest';
import { standaloneClock } from './clock.js';
import { machineSuspends, Suspends } from './suspends.js';

const S = 1e9;

describe('a machine that is suspended', () => {
  /** The machine's two clocks, and the time that one reading of them takes. */
  const machine = () => {
    const clocks = { monotonic: 100 * S, boottime: (5_000 * S) as number | undefined, reading: 0 };
    const suspends = new Suspends(
      () => {
        clocks.monotonic += clocks.reading;
        if (clocks.boottime !== undefined) clocks.boottime += clocks.reading;
        return clocks.boottime;
      },
      () => clocks.monotonic,
    );
    const pass = (ns: number, suspended = 0) => {
      clocks.monotonic += ns;
      if (clocks.boottime !== undefined) clocks.boottime += ns + suspended;
      suspends.look();
    };
    return { clocks, suspends, pass };
  };

  test('has each of its suspends counted once', () => {
    const { suspends, pass } = machine();
    for (let i = 0; i < 10; i++) pass(S);
    expect(suspends.totalNs).toBe(0);
    pass(S, 60 * S);
    pass(S);
    pass(S, 3600 * S);
    for (let i = 0; i < 10; i++) pass(S);
    expect(suspends.totalNs).toBe(3660 * S);
  });

  test('is not taken as suspended when the clocks were read apart, were set in steps, or cannot be read', () => {
    const { clocks, suspends, pass } = machine();
    for (let i = 0; i < 100; i++) pass(S, (i % 2 === 0 ? 1 : -1) * 1.9 * S);
    expect(suspends.totalNs).toBe(0);
    clocks.reading = 40 * S;
    pass(S);
    clocks.reading = 0;
    pass(S);
    expect(suspends.totalNs).toBe(0);
    clocks.boottime = undefined;
    pass(S);
    expect(suspends.totalNs).toBe(0);
  });

  test('gives its guests the time that it missed', () => {
    const missed = { totalNs: 0 };
    const clock = standaloneClock({ uptimeS: 0, wallClockS: 0, tscKhz: 0 }, missed);
    const before = clock.uptime();
    missed.totalNs = 60 * S;
    expect(clock.uptime() - before).toBeGreaterThanOrEqual(60 * S);
  });

  test('is this machine: its clocks can be read', () => {
    const suspends = machineSuspends();
    suspends.look();
    expect(suspends.totalNs).toBe(0);
    expect(machineSuspends()).toBe(suspends);
  });
});
