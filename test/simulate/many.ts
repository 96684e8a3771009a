/** Many short lives for `npm test`; those of the soak are longer. */
import { lifeOf, live } from './life.js';
import { shrink, told } from './shrink.js';

/** The greatest number of steps in a life, not counting those that create its guests. */
const MOST_STEPS = 12;

/**
 * Runs lives with these seeds. Fails with the first that goes wrong, as small as it can be made. Resolves with all
 * answers.
 */
export async function liveThrough(
  first: number,
  count: number,
  lives = lifeOf,
): Promise<Map<string, number>> {
  const answers = new Map<string, number>();
  const { stackTraceLimit } = Error;
  // There are many errors here, and nobody looks at their stacks.
  Error.stackTraceLimit = 0;
  try {
    for (let seed = first; seed < first + count; seed++) {
      const life = lives(seed, MOST_STEPS);
      const outcome = await live(life);
      if (outcome.violations.length > 0) throw new Error(told(await shrink(life)));
      for (const [answer, times] of outcome.answers) answers.set(answer, (answers.get(answer) ?? 0) + times);
    }
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
  return answers;
}
