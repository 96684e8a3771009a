// npm run soak -- twin [MOVES [SEED]]: one guest twice with the same inputs: one stays, the other is moved MOVES times
// (1000) at hard places between unlike hosts. Both must end in the same state, byte for byte. It runs with 1, 2 and 4
// vCPUs.

import { debian, haveDebian, work } from '../test/twin/guests.js';
import { PLACES } from '../test/twin/points.js';
import { prove } from '../test/twin/proof.js';
import { soaked } from './lib/soaked.js';

const moves = Number(process.argv[2] ?? 1000);
const seed = Number(process.argv[3] ?? Date.now() % 1e9);
const END_NS = 300e9;

if (!haveDebian()) {
  console.error("twin: Debian's kernel is needed: npm run guests");
  process.exit(2);
}
console.log(`seed ${seed}`);
let total = 0;
let failures = 0;
for (const [vcpus, share] of [
  [1, 0.3],
  [2, 0.3],
  [4, 0.4],
]) {
  const began = performance.now();
  const result = await prove({
    spec: debian(vcpus),
    cues: work(6),
    endNs: END_NS,
    moves: Math.ceil(moves * share),
    seed: seed + vcpus,
    progress: (n) => {
      if (n % 50 === 0) console.log(`${vcpus} vCPUs: ${n} moves, ${seconds(began)} s`);
    },
  });
  total += result.moved.moves;
  const places = [...result.places].map(([name, n]) => `${n} ${name}`).join(', ');
  console.log(`${vcpus} vCPUs: ${result.moved.moves} moves in ${seconds(began)} s: ${places}`);
  const ended = result.still.ended?.state === 'shutdown' && result.still.ended.reason === 'poweroff';
  if (!ended)
    console.log(
      `${vcpus} vCPUs: the guest that stayed did not power off: ${result.still.output.slice(-500)}`,
    );
  if (result.difference !== undefined) console.log(`${vcpus} vCPUs: ${result.difference}`);
  const unmet = PLACES.filter(({ name }) => !result.places.has(name)).map(({ name }) => name);
  if (unmet.length > 0) console.log(`${vcpus} vCPUs: no move came ${unmet.join(', or ')}`);
  if (!ended || result.difference !== undefined || (moves >= 1000 && unmet.length > 0)) failures++;
}
soaked([{ property: 'a moved guest ends as its twin that stayed, byte for byte', cases: total, failures }]);

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(1);
}
