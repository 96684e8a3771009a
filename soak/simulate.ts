// npm run soak -- simulate [LIVES [FIRST]]: so many simulated lives (1 000 000) of hosts, guests and faults, from seed
// FIRST (1) on, with one process for each core. A life that goes wrong is printed, as small as it can be made.
// npm run soak -- simulate --seed N: only the life of that seed, printed in full.
// npm run soak -- simulate defined ...: the same with guests that are defined, and started with their hosts.
import { spawn, spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { createInterface } from 'node:readline';
import { soaked } from './lib/soaked.js';

const MAIN = 'build/test/simulate/main.js';
const given = process.argv.slice(2);
const kind = given[0] === 'defined' ? 'defined' : 'lives';
const [first, second] = kind === 'defined' ? given.slice(1) : given;
if (first === '--seed')
  process.exit(spawnSync(process.execPath, [MAIN, kind, '--seed', second], { stdio: 'inherit' }).status ?? 1);

/** What a process reports about its lives so far. */
interface Said {
  readonly lives: number;
  readonly steps: number;
  readonly failures: readonly { readonly seed: number; readonly kind: string; readonly says: string }[];
}

const lives = Number(first ?? 1_000_000);
const from = Number(second ?? 1);
const workers = availableParallelism();
const began = performance.now();
const done = new Map<number, Said>();
const kinds = new Map<string, number[]>();
let told = began;

/** True if it came to its end. */
const worker = (n: number): Promise<boolean> => {
  const share = Math.ceil((lives - n) / workers);
  const child = spawn(process.execPath, [MAIN, kind, String(from + n), String(share), String(workers)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  createInterface(child.stdout).on('line', (line) => {
    const said = JSON.parse(line) as Said;
    done.set(n, said);
    for (const { seed, kind, says } of said.failures) {
      const seeds = kinds.get(kind) ?? [];
      kinds.set(kind, [...seeds, seed]);
      if (seeds.length === 0) console.log(`seed ${seed}: ${says}`);
    }
    if (performance.now() - told < 60_000) return;
    told = performance.now();
    console.log(`${sum((one) => one.lives)} lives`);
  });
  return new Promise((over) => child.once('exit', (status) => over(status === 0)));
};
const sum = (what: (said: Said) => number): number =>
  [...done.values()].reduce((all, said) => all + what(said), 0);

const ended = await Promise.all(Array.from({ length: workers }, (_, n) => worker(n)));
const seconds = (performance.now() - began) / 1000;
const steps = sum((one) => one.steps);
const perStep = ((seconds * 1000 * workers) / steps).toFixed(2);
console.log(`${steps} steps in ${seconds.toFixed(0)} s: ${perStep} ms of a core each`);
for (const [kind, seeds] of kinds) {
  console.log(
    `\n${seeds.length} of ${kind}\nnpm run soak -- simulate${kind === 'defined' ? ' defined' : ''} --seed ${seeds[0]}`,
  );
  spawnSync(process.execPath, [MAIN, kind, '--seed', String(seeds[0])], { stdio: 'inherit' });
}
soaked([
  {
    property: 'every guest lives once or has an end, nothing is left over, what people were told was true',
    cases: sum((one) => one.lives),
    failures: [...kinds.values()].reduce((all, seeds) => all + seeds.length, 0),
  },
  {
    property: 'simulated lives come to their end',
    cases: workers,
    failures: ended.filter((ok) => !ok).length,
  },
]);
