// Child process of the differential test: `differential.ts SEED FROM TO` runs these sequences natively and on
// the machine. One line of JSON a batch on standard output; a failing sequence is minimised first.
// A process of its own, because a mistake of ours in native code kills it; the last line says where it was.
import { BATCH } from './layout.js';
import { explain, minimise } from './minimise.js';
import { openRig, runRange, runTrials, sequenceOf, windowOf } from './rig.js';

const [seed, from, to] = process.argv.slice(2).map(Number);
const say = (o: object): void => void process.stdout.write(`${JSON.stringify(o)}\n`);
const MAX_REPORTS = Number(process.env.STILLPOINT_CPU_REPORTS ?? 10);

const rig = await openRig();
let reports = 0;
for (let start = from; start < to && reports < MAX_REPORTS; start += BATCH) {
  say({ at: start });
  for (const index of runRange(rig, seed, start, Math.min(to, start + BATCH))) {
    if (reports++ >= MAX_REPORTS) break;
    const trial = { ...sequenceOf(seed, index), window: windowOf(seed, index) };
    // A sequence that fails only after those before it says so.
    const alone = runTrials(rig, [trial])[0].length > 0;
    const text = alone ? explain(rig, minimise(rig, trial)) : 'it does not fail alone, only in its batch';
    say({ failed: index, text });
  }
}
say({ done: true });
