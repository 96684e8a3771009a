/** What tests need of Debian's packages. */
import { NoPackages } from '../../scripts/lib/debian.js';

/**
 * Returns what `wanted` gives. If its packages are not available, it returns undefined and prints why `what` is not
 * tested. Where CI is set, as .ci/run does, their absence is an error: nothing is skipped silently there.
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
