// The child process of the differential test. `differential.ts SEED FROM TO` runs these sequences natively and on the
// machine, `differential.ts SEED FROM TO compat` those of compatibility mode, `differential.ts cases` the named cases.
// It prints lines of JSON, for sequences one line a batch; a failing sequence is minimised first. It is a process of
// its own because a bug of ours in native code kills it; its last line says where that happened.
import { CASES, trialOf } from './cases.js';
import { COMPAT_BATCH, compatTrial, explainCompat, runCompat } from './compat-rig.js';
import { installSegments } from './compat-segments.js';
import { BATCH } from './layout.js';
import { explain, minimise } from './minimise.js';
import { type Counts, openRig, runRange, runTrials, sequenceOf, windowOf } from './rig.js';

const say = (o: object): void => void process.stdout.write(`${JSON.stringify(o)}\n`);
const MAX_REPORTS = Number(process.env.STILLPOINT_CPU_REPORTS ?? 10);

const rig = await openRig();
if (process.argv[2] === 'cases') {
  for (const c of CASES) say({ name: c.name, found: runTrials(rig, [trialOf(c)])[0] });
} else if (process.argv[5] === 'compat') {
  const [seed, from, to] = process.argv.slice(2).map(Number);
  if (!installSegments(rig.native))
    throw new Error('the system makes no entries of the local descriptor table');
  const counts: Counts = new Map();
  let reports = 0;
  for (let start = from; start < to && reports < MAX_REPORTS; start += COMPAT_BATCH) {
    say({ at: start });
    const end = Math.min(to, start + COMPAT_BATCH);
    const trials = Array.from({ length: end - start }, (_, i) => compatTrial(seed, start + i));
    for (const { names } of trials) for (const n of names) counts.set(n, (counts.get(n) ?? 0) + 1);
    for (const [i, found] of runCompat(rig, trials).entries()) {
      if (found.length === 0 || reports++ >= MAX_REPORTS) continue;
      const alone = runCompat(rig, [trials[i]])[0].length > 0;
      const text = alone
        ? explainCompat(rig, trials[i])
        : `it does not fail alone, only in its batch:\n${found.join('\n')}`;
      say({ failed: start + i, text });
    }
  }
  say({ done: true, counts: [...counts] });
} else {
  const [seed, from, to] = process.argv.slice(2).map(Number);
  const counts: Counts = new Map();
  let reports = 0;
  for (let start = from; start < to && reports < MAX_REPORTS; start += BATCH) {
    say({ at: start });
    for (const index of runRange(rig, seed, start, Math.min(to, start + BATCH), counts)) {
      if (reports++ >= MAX_REPORTS) break;
      const trial = { ...sequenceOf(seed, index), window: windowOf(seed, index) };
      // A sequence that fails only after those before it is reported as such.
      const alone = runTrials(rig, [trial])[0].length > 0;
      const text = alone ? explain(rig, minimise(rig, trial)) : 'it does not fail alone, only in its batch';
      say({ failed: index, text });
    }
  }
  say({ done: true, counts: [...counts], regions: rig.guest.machine.translation.regions });
}
