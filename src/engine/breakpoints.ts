/** Hardware breakpoints as DR7 enables them, for a vCPU of any engine. SDM volume 3, 17.2. */
import type { EngineVcpu } from './engine.js';

/** L0 to G3 of DR7. */
const ENABLED = 0xff;
const ON_EXECUTION = 0;

/**
 * The enabled breakpoints (of four, as bits) for which `fits` returns true; its arguments are a breakpoint's number
 * and kind (R/W).
 */
function select(v: EngineVcpu, fits: (i: number, kind: number) => boolean): number {
  const control = v.dr(7);
  let found = 0;
  for (let i = 0; i < 4; i++) {
    if (((control >>> (2 * i)) & 3) !== 0 && fits(i, (control >>> (16 + 4 * i)) & 3)) found |= 1 << i;
  }
  return found;
}

export const breakpointsOn = (v: EngineVcpu): boolean => (v.dr(7) & ENABLED) !== 0;

/** The instruction breakpoints at rip, in the form of DR6. */
export const instructionHits = (v: EngineVcpu): number =>
  select(v, (i, kind) => kind === ON_EXECUTION && v.dr(i) === v.linear(v.rip));

/** True if a breakpoint is enabled that data accesses can hit. */
export const watchesData = (v: EngineVcpu): boolean => select(v, (_, kind) => kind !== ON_EXECUTION) !== 0;

/** Length of a data breakpoint in bytes, by its LEN field. */
const LENGTHS = [1, 2, 8, 4];
const ON_WRITE = 1;
const ON_ACCESS = 3;

/**
 * The data breakpoints that an access to `bytes` bytes at `va` hits. For accesses that are emulated for the
 * processor.
 */
export const dataHits = (v: EngineVcpu, va: number, bytes: number, write: boolean): number =>
  breakpointsOn(v)
    ? select(v, (i, kind) => {
        if (kind !== ON_ACCESS && !(kind === ON_WRITE && write)) return false;
        const length = LENGTHS[(v.dr(7) >>> (18 + 4 * i)) & 3];
        const at = v.dr(i);
        const first = at - (((at % length) + length) % length);
        return va < first + length && first < va + bytes;
      })
    : 0;
