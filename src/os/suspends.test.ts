import { describe, expect, test } from 'vitest';
import { machineSuspends, Suspends } from './suspends.js';

const MS = 1e6;
const S = 1e9;

/** The two clocks of a machine, and half the time that one reading of them takes. */
function machine(stepNs = 0) {
  const clocks = { monotonic: 100 * S, lead: 4_900 * S, reading: 0, readable: true };
  const suspends = new Suspends(
    {
      stepNs,
      read() {
        clocks.monotonic += clocks.reading;
        const now = clocks.monotonic + clocks.lead;
        clocks.monotonic += clocks.reading;
        if (!clocks.readable) return undefined;
        return stepNs === 0 ? now : Math.floor(now / stepNs) * stepNs;
      },
    },
    () => clocks.monotonic,
  );
  const pass = (ns: number, suspended = 0): number => {
    clocks.monotonic += ns;
    clocks.lead += suspended;
    return suspends.look();
  };
  return { clocks, suspends, pass };
}

describe('a machine that is suspended', () => {
  test('has them counted in whole ns, although the middle between two readings may be half a ns', () => {
    const { pass } = machine();
    for (let odd = 1; odd < 8; odd++) expect(Number.isInteger(pass(2 * MS, 3 * S + odd / 2))).toBe(true);
  });

  test('has each suspend counted once, however short, to the microsecond', () => {
    const { suspends, pass } = machine();
    let told = 0;
    const stop = suspends.onSuspend(() => told++);
    for (let i = 0; i < 10; i++) expect(pass(2 * MS)).toBe(0);
    expect(pass(2 * MS, 5 * MS)).toBeCloseTo(5 * MS, -3);
    expect(pass(2 * MS)).toBeCloseTo(5 * MS, -3);
    expect(pass(2 * MS, 3600 * S)).toBeCloseTo(3600 * S + 5 * MS, -4);
    expect(told).toBe(2);
    stop();
    pass(2 * MS, S);
    expect(told).toBe(2);
  });

  test('is not taken for suspended while a reading takes long, whatever interrupts it', () => {
    const { clocks, pass } = machine();
    let random = 12345;
    for (let i = 0; i < 10_000; i++) {
      random = (random * 1103515245 + 12345) % 2 ** 31;
      clocks.reading = random % (i % 100 === 0 ? 40 * S : 2 * MS);
      expect(pass(random % S)).toBe(0);
    }
    clocks.reading = 20 * S;
    pass(S, S);
    clocks.reading = 0;
    // What one reading could not tell, the next one can.
    expect(pass(S)).toBeCloseTo(S, -8);
    clocks.readable = false;
    expect(pass(S, S)).toBeCloseTo(S, -8);
  });

  test('is also recognised by /proc/uptime, which advances in steps', () => {
    const { pass } = machine(10 * MS);
    for (let i = 0; i < 1000; i++) expect(pass(1.7 * MS)).toBe(0);
    const found = pass(2 * MS, 700 * MS);
    expect(Math.abs(found - 700 * MS)).toBeLessThan(11 * MS);
  });

  test('is this machine: its clocks can be read, and it does not count as suspended while it is busy', () => {
    const suspends = machineSuspends();
    for (let i = 0; i < 100_000; i++) suspends.look();
    expect(suspends.totalNs).toBe(0);
    expect(machineSuspends()).toBe(suspends);
  });
});
