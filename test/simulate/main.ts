/**
 * Simulated lives in a process of their own, with the arguments KIND FIRST COUNT [EVERY]: each EVERY-th seed from FIRST on.
 * It prints one line of JSON a second, and one at the end. `KIND --seed N` runs that life alone and prints it in full, as
 * small as it can be made.
 */
import { definedLifeOf, lifeOf, live } from './life.js';
import { kindOf, shrink, told } from './shrink.js';

const [kind, ...args] = process.argv.slice(2);
/** `lives` or `defined`: of guests that are defined, too. */
const madeOf = kind === 'defined' ? definedLifeOf : lifeOf;

async function one(seed: number): Promise<number> {
  const life = madeOf(seed);
  const outcome = await live(life, true);
  console.log(told({ life, outcome }));
  if (outcome.violations.length === 0) {
    console.log('nothing is wrong');
    return 0;
  }
  console.log('\n== as small as it can be made\n');
  console.log(told(await shrink(life)));
  return 1;
}

async function many(first: number, count: number, every: number): Promise<number> {
  // There are many errors here, and nobody looks at their stacks.
  Error.stackTraceLimit = 0;
  let lives = 0;
  let steps = 0;
  let said = performance.now();
  const failures: { seed: number; kind: string; says: string }[] = [];
  const say = (): void => {
    console.log(JSON.stringify({ lives, steps, failures }));
    failures.length = 0;
    said = performance.now();
  };
  for (let seed = first; lives < count; seed += every, lives++) {
    const outcome = await live(madeOf(seed));
    steps += outcome.steps;
    const [says] = outcome.violations;
    if (says !== undefined) failures.push({ seed, kind: kindOf(says), says });
    if (performance.now() - said > 1_000) say();
  }
  say();
  return 0;
}

process.exitCode =
  args[0] === '--seed'
    ? await one(Number(args[1]))
    : await many(Number(args[0]), Number(args[1]), Number(args[2] ?? 1));
