// npm run soak -- fuzz [SECONDS [SEED]]: runs all targets of test/fuzz for so many seconds (600), an equal share for
// each, guided by the coverage of our own code. A failure prints its input.
import { spawnSync } from 'node:child_process';
import type { FuzzResult } from '../test/fuzz/fuzz.js';
import { soaked } from './lib/soaked.js';

const seconds = Number(process.argv[2] ?? 600);
const seed = Number(process.argv[3] ?? Date.now() % 1e9);
console.log(`seed ${seed}`);
const r = spawnSync(process.execPath, ['build/test/fuzz/short.js', String(seed), '1e12', String(seconds)], {
  encoding: 'utf8',
  stdio: ['ignore', 'pipe', 'inherit'],
  maxBuffer: 1 << 28,
});
/** What test/fuzz/short.ts reports about a target. */
type FuzzRow = FuzzResult & { readonly name: string };
const rows = r.stdout
  .trim()
  .split('\n')
  .filter(Boolean)
  .map((line) => JSON.parse(line) as FuzzRow);
for (const { name, inputs, kept, ways, failures } of rows) {
  console.log(`${name}: ${inputs} inputs, ${ways} ways through our code, ${kept} inputs kept`);
  for (const failure of failures) console.log(failure);
}
if (r.status !== 0)
  rows.push({ name: `all of it (status ${r.status})`, inputs: 1, kept: 0, ways: 0, failures: ['it ended'] });
soaked(
  rows.map(({ name, inputs, failures }) => ({
    property: `${name}: whatever comes, only its sender is harmed`,
    cases: inputs,
    failures: failures.length,
  })),
);
