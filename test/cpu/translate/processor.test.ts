/**
 * Compares translated code with the processor: the named cases and random sequences of the differential test, with
 * every block translated before it runs for the first time. With STILLPOINT_TIER=translate, differential.test.ts does
 * the same at length.
 */
import { execFileSync } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const seed = Number(process.env.STILLPOINT_CPU_SEED ?? randomInt(2 ** 31));
const SEQUENCES = 3000;

/** Runs the child process of the differential test with a machine that translates at once. Returns its output. */
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
  'named cases give the same results as on the processor when translated at once',
  { timeout: 120_000 },
  () => {
    const wrong = said('cases').filter((line) => Array.isArray(line.found) && line.found.length > 0);
    expect(wrong).toEqual([]);
  },
);

test.skipIf(!here)(
  `${SEQUENCES} random sequences give the same results as on the processor when translated at once`,
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
