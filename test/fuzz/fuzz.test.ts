import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import type { FuzzResult } from './fuzz.js';

/** Of each target; more in `npm run soak -- fuzz`. */
const INPUTS = 120;

it('whatever a guest or another host sends, nothing breaks but its sender', () => {
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
    // The coverage is really seen, and inputs that go new ways are kept.
    expect(ways, name).toBeGreaterThan(10);
    expect(kept, name).toBeGreaterThan(0);
    expect(kept, name).toBeLessThan(INPUTS);
  }
}, 600_000);
