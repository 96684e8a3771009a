/** Tests that the simulator finds what it is for: faults that the control plane once had are put back one by one. */
import { afterEach, describe, expect, it } from 'vitest';
import { lifeOf, live } from './life.js';
import { UNDOINGS } from './undoings.js';

/** Whether a small life shows the fault may depend on its network's delays, so that many seeds are tried. */
const SEEDS = 100;
/** The number of whole lives within which each of the two faults that lost guests must be found. */
const LIVES = 150;

let back: (() => void) | undefined;
afterEach(() => {
  back?.();
  back = undefined;
});

describe.each(UNDOINGS)('$name:', ({ life, says, apply }) => {
  it('is found when its correction is undone, and not before', async () => {
    const wrong = async (): Promise<boolean> => {
      for (let offset = 0; offset < SEEDS; offset++) {
        const { violations } = await live({ ...life, seed: life.seed + offset });
        if (violations.some((violation) => says.test(violation))) return true;
      }
      return false;
    };
    expect(await wrong()).toBe(false);
    back = apply();
    expect(await wrong()).toBe(true);
  });
});

it.each(UNDOINGS.slice(0, 2))(`within ${LIVES} lives: $name`, async ({ says, apply }) => {
  back = apply();
  for (let seed = 1; seed <= LIVES; seed++) {
    const { violations } = await live(lifeOf(seed));
    if (violations.some((violation) => says.test(violation))) return;
  }
  throw new Error('it is not found');
});

/** Whole lives that once went wrong. */
it.each([
  54, 67, 90, 105, 139, 165, 170, 1015, 1158, 1442, 2425, 4585, 4828, 7237, 28_518, 59_231, 70_055, 73_749,
  126_436, 153_657, 165_852, 181_562, 204_288, 218_999, 281_460, 361_986, 462_695, 484_124, 587_189, 610_064,
  650_068, 675_531, 759_462, 909_344,
])('the life of seed %i, which once went wrong, goes well', async (seed) => {
  expect((await live(lifeOf(seed))).violations).toEqual([]);
});

it.each([101_411, 102_159])('the short life of seed %i, which once went wrong, goes well', async (seed) => {
  expect((await live(lifeOf(seed, 24))).violations).toEqual([]);
});

it('a seed always gives the same life, word for word', async () => {
  const [one, other] = [await live(lifeOf(17), true), await live(lifeOf(17), true)];
  expect(one.trace.length).toBeGreaterThan(50);
  expect(other.trace).toEqual(one.trace);
});
