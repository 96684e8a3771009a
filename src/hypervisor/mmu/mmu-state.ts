/** What of a domain the code works on that reads and writes the guest's memory, its page tables and its reservation. */
import type { CpuEngine, GuestRam } from '../../engine/engine.js';
import type { LinearMemory } from '../../xen/memory.js';
import type { FrameTable } from './frames.js';
import type { GuestMemory } from './guest-memory.js';
import type { M2p } from './m2p.js';
import type { PageTables } from './page-tables.js';

/** The guest's memory, and the engine that executes in it. */
export interface MemoryState {
  readonly engine: CpuEngine;
  readonly ram: GuestRam;
  readonly mem: LinearMemory;
  /** Linear address of shared_info. */
  readonly sharedInfo: number;
}

/** How structures are copied from and to addresses of the guest. */
export interface CopyState {
  readonly guest: GuestMemory;
}

/** Who owns each frame, and which frames are page tables. */
export interface FrameState {
  readonly frames: FrameTable;
  readonly tables: PageTables;
}

/** The guest's memory, and what each of its frames is. */
export interface MmuState extends MemoryState, FrameState {}

/** The machine-to-physical table. */
export interface M2pState {
  readonly m2p: M2p;
}

/** An entry of the memory map that XENMEM_memory_map returns (struct e820entry). */
export interface MemoryRange {
  /** 64 bits, as the guest may have given them. */
  readonly start: bigint;
  readonly bytes: bigint;
  /** 1 RAM, 2 reserved. */
  readonly type: number;
}

/** How much memory the domain may have, and what its memory map says. */
export interface ReservationState {
  /** The maximum number of frames in the reservation (max_pages). */
  readonly maxPages: number;
  /** The memory map. A guest may set its own. */
  memoryMap: readonly MemoryRange[];
}
