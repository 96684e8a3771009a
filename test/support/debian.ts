/** What tests want of Debian's packages. */
import { NoPackages } from '../../scripts/lib/debian.js';

/**
 * What `wanted` gives, or undefined, with a word of why `what` is not tested, where its packages cannot be had. With CI
 * set, as .ci/run does, their lack is an error: nothing is skipped in silence there.
 */
export async function orSkipped<T>(
  what: string,
  wanted: Promise<T>,
  ci = process.env['CI'] !== undefined,
): Promise<T | undefined> {
  try {
    return await wanted;
  } catch (error) {
    if (!(error instanceof NoPackages) || ci) throw error;
    console.warn(`stillpoint: not tested: ${what}: ${error.message}`);
    return undefined;
  }
}
