/** The outer values of a host without Xen: invented, and unlike those of any other host. */
import type { OuterValues } from '../platform.js';

/** Frame numbers of a pretended machine of 4 GiB and more: where this host keeps a domain's rings. */
const FIRST_FRAME = 0x4_0000;
/** Ports of the store below, those of the console from here on. */
const FIRST_CONSOLE_PORT = 64;

const pick = (from: number, to: number): number => from + Math.floor(Math.random() * (to - from));

export const inventOuterValues = (): OuterValues => ({
  storePort: pick(1, FIRST_CONSOLE_PORT),
  consolePort: pick(FIRST_CONSOLE_PORT, 2 * FIRST_CONSOLE_PORT),
  storeFrame: pick(FIRST_FRAME, 2 * FIRST_FRAME),
  consoleFrame: pick(2 * FIRST_FRAME, 3 * FIRST_FRAME),
});
