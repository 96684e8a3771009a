/**
 * Hardware breakpoints: what DR7 asks for. SDM volume 3, 17.2. While any is on, the machine goes step by step; data
 * accesses are looked at by core/watch.ts.
 */

import type { LinearMemory } from '../../xen/memory.js';
import { WATCH_HITS, WATCHING } from './core/layout.js';
import type { Vcpu } from './vcpu.js';

/** L0 to G3 of DR7. */
const ENABLED = 0xff;
const ON_EXECUTION = 0;

/** Which of the four, as bits, are on and fulfil `fits`, which is given number and kind (R/W). */
function select(v: Vcpu, fits: (i: number, kind: number) => boolean): number {
  const control = v.dr(7);
  let found = 0;
  for (let i = 0; i < 4; i++) {
    if (((control >>> (2 * i)) & 3) !== 0 && fits(i, (control >>> (16 + 4 * i)) & 3)) found |= 1 << i;
  }
  return found;
}

export const breakpointsOn = (v: Vcpu): boolean => (v.dr(7) & ENABLED) !== 0;

/** The instruction breakpoints that rip is at, as DR6 shows them. */
export const instructionHits = (v: Vcpu): number =>
  select(v, (i, kind) => kind === ON_EXECUTION && v.dr(i) === v.linear(v.rip));

/** Begins to look at the accesses of one instruction. */
export function watch(v: Vcpu, mem: LinearMemory): void {
  mem.setU32(v.gprs + WATCHING, select(v, (_, kind) => kind !== ON_EXECUTION) !== 0 ? 1 : 0);
  mem.setU32(v.gprs + WATCH_HITS, 0);
}

/** Bytes of a data breakpoint, by its LEN field. */
const LENGTHS = [1, 2, 8, 4];
const ON_WRITE = 1;
const ON_ACCESS = 3;

/** The data breakpoints that an access to `bytes` bytes at `va` hits, which somebody does for the processor. */
export const dataHits = (v: Vcpu, va: number, bytes: number, write: boolean): number =>
  breakpointsOn(v)
    ? select(v, (i, kind) => {
        if (kind !== ON_ACCESS && !(kind === ON_WRITE && write)) return false;
        const length = LENGTHS[(v.dr(7) >>> (18 + 4 * i)) & 3];
        const at = v.dr(i);
        const first = at - (((at % length) + length) % length);
        return va < first + length && first < va + bytes;
      })
    : 0;

/** Ends it; the data breakpoints that were hit, as DR6 shows them. */
export function endWatch(v: Vcpu, mem: LinearMemory): number {
  mem.setU32(v.gprs + WATCHING, 0);
  return mem.getU32(v.gprs + WATCH_HITS);
}
