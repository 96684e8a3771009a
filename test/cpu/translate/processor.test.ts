/**
 * Translated code against the processor: the named cases and random sequences of the differential test, every block
 * translated before it runs for the first time. STILLPOINT_TIER=translate lets differential.test.ts do the same at length.
 */
import { execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const seed = Number(process.env.STILLPOINT_CPU_SEED ?? randomInt(2 ** 31));
const SEQUENCES = 3000;

/** The differential test's child, with its machine translating at once: what it says. */
function said(...args: string[]): Record<string, unknown>[] {
  const text = execFileSync(process.execPath, ['build/test/cpu/differential.js', ...args], {
    cwd: root,
    env: { ...process.env, STILLPOINT_TIER: 'translate' },
    encoding: 'utf8',
  });
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

const here = process.arch === 'x64' && process.platform === 'linux';

test.skipIf(!here)(
  'translated at once, the named cases are as on the processor',
  { timeout: 120_000 },
  () => {
    const wrong = said('cases').filter((line) => Array.isArray(line.found) && line.found.length > 0);
    expect(wrong).toEqual([]);
  },
);

test.skipIf(!here)(
  `translated at once, ${SEQUENCES} random sequences are as on the processor`,
  { timeout: 300_000 },
  () => {
    const lines = said(`${seed}`, '0', `${SEQUENCES}`);
    expect(
      lines.filter((line) => line.failed !== undefined),
      `STILLPOINT_CPU_SEED=${seed}`,
    ).toEqual([]);
    expect(lines.some((line) => line.done === true)).toBe(true);
  },
);
