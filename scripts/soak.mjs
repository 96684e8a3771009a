// npm run soak -- NAME [arguments]: a long run, by soak/NAME.mjs; it prints its seed and what it found.
// npm run soak: all of them one after the other, and one table of properties, cases tried and failures.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
const names = readdirSync('soak')
  .filter((f) => f.endsWith('.mjs'))
  .map((f) => f.slice(0, -4))
  .sort();
const [name, ...rest] = process.argv.slice(2);
if (name !== undefined && !names.includes(name)) {
  console.error(`usage: npm run soak [-- NAME]\nsoaks: ${names.join(', ')}`);
  process.exit(2);
}
spawnSync(process.execPath, ['scripts/setup.mjs'], { stdio: ['ignore', 2, 2] });
spawnSync(process.execPath, ['scripts/fetch-guests.mjs'], { stdio: ['ignore', 2, 2] });
const run = (soak, args, env = {}) =>
  spawnSync(process.execPath, [`soak/${soak}.mjs`, ...args], {
    stdio: 'inherit',
    env: { ...process.env, ...env },
  }).status ?? 1;
if (name !== undefined) process.exit(run(name, rest));

const dir = mkdtempSync(join(tmpdir(), 'stillpoint-soak-'));
const rows = [];
for (const soak of names) {
  console.log(`\n== ${soak}`);
  const began = performance.now();
  const table = join(dir, soak);
  writeFileSync(table, '');
  const status = run(soak, [], { STILLPOINT_SOAK_TABLE: table });
  const found = readFileSync(table, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  // One that ends without a word of what it tried has failed.
  if (found.length === 0) found.push({ property: `${soak} comes to its end`, cases: 1, failures: 1 });
  else if (status !== 0 && found.every((row) => row.failures === 0)) found[0].failures = 1;
  const seconds = (performance.now() - began) / 1000;
  rows.push(...found.map((row) => ({ soak, seconds, ...row })));
}
rmSync(dir, { recursive: true });
console.log(
  `\n${'soak'.padEnd(10)}${'property'.padEnd(76)}${'cases'.padStart(12)}${'failures'.padStart(10)}`,
);
for (const row of rows)
  console.log(
    `${row.soak.padEnd(10)}${row.property.padEnd(76)}${String(row.cases).padStart(12)}${String(row.failures).padStart(10)}`,
  );
process.exit(rows.some((row) => row.failures > 0) ? 1 : 0);
