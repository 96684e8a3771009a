// A child process of fuzz.test.ts and soak/fuzz.ts: `short.js SEED INPUTS SECONDS`. Coverage is measured for the whole
// process, so no test runner may be in it. Each target gets so many inputs, or ends early after an equal share of the
// seconds. Prints a line of JSON for each target.
import { fuzz } from './fuzz.js';
import { targets } from './targets.js';

const [seed, inputs, seconds] = process.argv.slice(2).map(Number);
const all = await targets();
for (const target of all) {
  const end = performance.now() + (1000 * seconds) / all.length;
  const result = await fuzz(target, seed, (made) => made >= inputs || performance.now() > end);
  process.stdout.write(`${JSON.stringify({ name: target.name, ...result })}\n`);
}
process.exit(0);
