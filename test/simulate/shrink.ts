/** Makes a failing life as small as possible: it leaves out steps as long as the same failure remains. */
import { type Life, live, type Outcome } from './life.js';

/** The failure without names and numbers. */
export const kindOf = (violation: string): string =>
  violation
    .replaceAll(/[0-9a-f]+(-[0-9a-f]+){4}/g, 'ID')
    .replaceAll(/\d+(\.\d+)?/g, 'N')
    .replaceAll(/\b[ABC]\b/g, 'H')
    .slice(0, 120);

export async function shrink(life: Life, tries = 600): Promise<{ life: Life; outcome: Outcome }> {
  let best = { life, outcome: await live(life, true) };
  const wanted = kindOf(best.outcome.violations[0] ?? '');
  for (let size = Math.ceil(life.steps.length / 2); size >= 1 && tries > 0; ) {
    let smaller = false;
    for (let at = 0; at < best.life.steps.length && tries > 0; ) {
      const steps = best.life.steps.filter((_, i) => i < at || i >= at + size);
      const without = { seed: life.seed, steps };
      tries--;
      const outcome = await live(without, true);
      if (outcome.violations.length > 0 && kindOf(outcome.violations[0]) === wanted) {
        best = { life: without, outcome };
        smaller = true;
      } else at += size;
    }
    if (size === 1 && !smaller) break;
    if (!smaller || size > 1) size = Math.max(1, size >> 1);
  }
  return best;
}

/** Describes a life, its trace and its failure for people. */
export function told({ life, outcome }: { life: Life; outcome: Outcome }): string {
  return [
    `seed ${life.seed}, ${life.steps.length} steps:`,
    ...life.steps.map((step) => `    ${JSON.stringify(step)}`),
    'what happened (virtual ms):',
    ...outcome.trace.map((line) => `  ${line}`),
    ...outcome.violations.map((violation) => `wrong: ${violation}`),
  ].join('\n');
}
