/**
 * The processor on which the tests run. Where the manuals leave something open, AMD and Intel processors differ. Our
 * machine does as AMD's; on an Intel processor the comparison leaves out just that, at the places that use `INTEL`.
 */
import { readFileSync } from 'node:fs';

export const INTEL =
  process.platform === 'linux' && /GenuineIntel/.test(readFileSync('/proc/cpuinfo', 'latin1'));
