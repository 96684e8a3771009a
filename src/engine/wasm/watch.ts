/** Data breakpoints of the instruction that runs: the core looks at its accesses (core/watch.ts). */
import type { LinearMemory } from '../../xen/memory.js';
import { watchesData } from '../breakpoints.js';
import { WATCH_HITS, WATCHING } from './core/layout.js';
import type { Vcpu } from './vcpu.js';

/** Begins to look at the accesses of one instruction. */
export function watch(v: Vcpu, mem: LinearMemory): void {
  mem.setU32(v.gprs + WATCHING, watchesData(v) ? 1 : 0);
  mem.setU32(v.gprs + WATCH_HITS, 0);
}

/** Ends it; the data breakpoints that were hit, as DR6 shows them. */
export function endWatch(v: Vcpu, mem: LinearMemory): number {
  mem.setU32(v.gprs + WATCHING, 0);
  return mem.getU32(v.gprs + WATCH_HITS);
}
