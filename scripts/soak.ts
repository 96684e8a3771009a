// npm run soak -- NAME [arguments]: a long test run, by soak/NAME.ts; it prints its seed and its results.
// npm run soak: all of them, two at a time, within an hour on two cores, and a table of properties, cases and failures.
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { SoakRow } from '../soak/lib/soaked.js';
import { endProcessesBelow } from './lib/processes.js';
import { ROOT } from './lib/root.js';
import { budgetOf, minutesOfAll } from './lib/soak-budgets.js';

process.chdir(ROOT);
const names = readdirSync('soak')
  .filter((f) => /^[\w-]+[.]ts$/.test(f))
  .map((f) => f.slice(0, -3))
  .sort();
const [name, ...rest] = process.argv.slice(2);
if (name !== undefined && !names.includes(name)) {
  console.error(`usage: npm run soak [-- NAME]\nsoaks: ${names.join(', ')}`);
  process.exit(2);
}
spawnSync(process.execPath, ['build/scripts/fetch-guests.js'], { stdio: ['ignore', 2, 2] });
if (name !== undefined)
  process.exit(
    spawnSync(process.execPath, [`build/soak/${name}.js`, ...rest], { stdio: 'inherit' }).status ?? 1,
  );

const dir = mkdtempSync(join(tmpdir(), 'stillpoint-soak-'));
const rows: (SoakRow & { soak: string })[] = [];

/**
 * Ends all processes that a soak has left in its directory: guests continue when their daemons are killed, and would
 * take a core from the following soaks.
 */
function clear(own: string): void {
  endProcessesBelow(own);
  for (const line of readFileSync('/proc/self/mounts', 'utf8').split('\n')) {
    const at = line.split(' ')[1];
    if (at?.startsWith(`${own}/`)) spawnSync('umount', ['-l', at]);
  }
  rmSync(own, { recursive: true, force: true, maxRetries: 3 });
}

/**
 * Runs one soak and shows its output when it has ended. Returns the rows that it reported, or one that says that it
 * reported none.
 */
async function soakOne(soak: string): Promise<void> {
  const { minutes, takes, args } = budgetOf(soak);
  const began = performance.now();
  const table = join(dir, soak);
  writeFileSync(table, '');
  const log = openSync(`${table}.log`, 'w');
  // The name is short, because the path of a guest's socket begins with it. Guests with other users must be able to
  // enter it.
  const own = mkdtempSync(join(tmpdir(), 'soak-'));
  chmodSync(own, 0o711);
  const child = spawn(process.execPath, [`build/soak/${soak}.js`, ...args], {
    stdio: ['ignore', log, log],
    env: { ...process.env, STILLPOINT_SOAK_TABLE: table, TMPDIR: own },
    detached: true,
  });
  const timer = setTimeout(
    () => child.pid !== undefined && process.kill(-child.pid, 'SIGKILL'),
    minutes * 60_000,
  );
  const status = await new Promise((done) => child.once('exit', done));
  clearTimeout(timer);
  closeSync(log);
  clear(own);
  const taken = (performance.now() - began) / 60_000;
  console.log(
    `\n== ${soak}, ${taken.toFixed(1)} minutes (${takes} expected)\n${readFileSync(`${table}.log`, 'utf8')}`,
  );
  const found = readFileSync(table, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as SoakRow);
  // A soak that ends without a report has failed.
  if (found.length === 0)
    found.push({
      property: `comes to its end within ${minutes} minutes, and says what it tried`,
      cases: 1,
      failures: 1,
    });
  else if (status !== 0 && found.every((row) => row.failures === 0)) found[0] = { ...found[0], failures: 1 };
  rows.push(...found.map((row) => ({ soak, ...row })));
}

console.log(`about ${minutesOfAll(names).toFixed(0)} minutes, on two cores with nothing else to do`);
const began = performance.now();
const waiting = names.filter((soak) => budgetOf(soak).alone !== true);
// The longest come first, so that no core is idle at the end.
waiting.sort((a, b) => budgetOf(b).takes - budgetOf(a).takes);
for (const soak of names) if (!waiting.includes(soak)) await soakOne(soak);
const worker = async (): Promise<void> => {
  for (let soak = waiting.shift(); soak !== undefined; soak = waiting.shift()) await soakOne(soak);
};
await Promise.all([worker(), worker()]);
rmSync(dir, { recursive: true });
console.log(
  `\n${'soak'.padEnd(10)}${'property'.padEnd(84)}${'cases'.padStart(10)}${'failures'.padStart(10)}`,
);
for (const row of rows)
  console.log(
    `${row.soak.padEnd(10)}${row.property.padEnd(84)}${String(row.cases).padStart(10)}${String(row.failures).padStart(10)}`,
  );
console.log(`${((performance.now() - began) / 60_000).toFixed(0)} minutes`);
process.exit(rows.some((row) => row.failures > 0) ? 1 : 0);
