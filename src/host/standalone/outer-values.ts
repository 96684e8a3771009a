/**
 * The outer values of a host without Xen. They are invented at random, so that a guest that moves meets other
 * ones.
 */
import type { OuterValues } from '../platform.js';

/** The first frame number that a domain's rings may get: those of a pretended machine of 4 GiB and more. */
const FIRST_FRAME = 0x4_0000;
/** Ports of the xenstore ring are below this number; ports of the console's ring begin with it. */
const FIRST_CONSOLE_PORT = 64;

const pick = (from: number, to: number): number => from + Math.floor(Math.random() * (to - from));

export const inventOuterValues = (): OuterValues => ({
  storePort: pick(1, FIRST_CONSOLE_PORT),
  consolePort: pick(FIRST_CONSOLE_PORT, 2 * FIRST_CONSOLE_PORT),
  storeFrame: pick(FIRST_FRAME, 2 * FIRST_FRAME),
  consoleFrame: pick(2 * FIRST_FRAME, 3 * FIRST_FRAME),
});
