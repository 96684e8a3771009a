import { expect, test } from 'vitest';
import { standaloneClock } from './clock.js';

const S = 1e9;

test('a machine that was suspended gives its guests the time that they missed', () => {
  const missed = { totalNs: 0, look: () => missed.totalNs };
  const clock = standaloneClock({ uptimeS: 0, wallClockS: 0, tscKhz: 0 }, missed);
  const before = clock.uptime();
  missed.totalNs = 60 * S;
  expect(clock.uptime() - before).toBeGreaterThanOrEqual(60 * S);
  expect((clock.awake?.() ?? 0) - before).toBeLessThan(60 * S);
  expect(clock.suspended?.()).toBe(60 * S);
});
