import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import type { FuzzResult } from './fuzz.js';

/** The number of inputs for each target; `npm run soak -- fuzz` takes more. */
const INPUTS = 120;

it('whatever a guest or another host sends, only its sender breaks', () => {
  const r = spawnSync(process.execPath, ['build/test/fuzz/short.js', '2026', String(INPUTS), '6000'], {
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    encoding: 'utf8',
  });
  expect(r.stderr).toBe('');
  const results = r.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as FuzzResult & { name: string });
  expect(results.length).toBe(10);
  for (const { name, failures, inputs, kept, ways } of results) {
    expect(failures, name).toEqual([]);
    expect(inputs, name).toBe(INPUTS);
    // Coverage is really measured, and inputs that take new paths are kept.
    expect(ways, name).toBeGreaterThan(10);
    expect(kept, name).toBeGreaterThan(0);
    expect(kept, name).toBeLessThan(INPUTS);
  }
}, 600_000);
