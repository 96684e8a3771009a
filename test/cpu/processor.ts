/**
 * The processor that the tests run on. Where the manuals leave open what happens, those of AMD and Intel differ; ours does
 * as AMD's, and on one of Intel's the comparison leaves out just that, at the places that ask for `INTEL`.
 */
import { readFileSync } from 'node:fs';

export const INTEL =
  process.platform === 'linux' && /GenuineIntel/.test(readFileSync('/proc/cpuinfo', 'latin1'));
