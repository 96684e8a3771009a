/**
 * The guest's grant table, version 1, and who uses which grant: the back ends (as domain 0), and the guest itself if
 * it maps its own grants.
 *
 * Invariant: an entry is read once, checked and pinned at the moment of use. GTF_reading and GTF_writing are set
 * exactly while the grant is pinned for reading or writing. A frame that is pinned for writing belongs to the guest
 * and is not a page table.
 * Source: xen/common/grant_table.c (_set_status_v1, reduce_status_for_pin, map_grant_ref).
 */

import type { CpuEngine } from '../../engine/engine.js';
import {
  GNTST_bad_gntref,
  GNTST_bad_page,
  GNTST_eagain,
  GNTST_general_error,
  GNTST_okay,
  GNTTAB_RESERVED_XENSTORE,
  GrantEntryV1,
  GTF_permit_access,
  GTF_reading,
  GTF_readonly,
  GTF_sub_page,
  GTF_type_mask,
  GTF_writing,
} from '../../xen/grant-table.js';
import { type FrameTable, Owner } from '../mmu/frames.js';

const ENTRIES_PER_FRAME = 4096 / GrantEntryV1.sizeof;
/** The number of frames to which a guest may grow its table, if nothing else is said: libxl's default. */
export const GRANT_FRAMES = 64;
/** The maximum number of grants that the guest itself may have mapped. */
const MAX_HANDLES = 4096;
const MAX_PINS = 0xffff;

/** A grant that the guest has mapped (maptrack). `flags` are those of the request; 0 means that the handle is free. */
interface Handle {
  flags: number;
  ref: number;
}

export class GrantTable {
  nrFrames = 0;
  private readonly readers: Uint16Array;
  private readonly writers: Uint16Array;
  private readonly pinDomid: Uint16Array;
  private readonly pinFrame: Int32Array;
  readonly handles: Handle[] = [];

  constructor(
    private readonly engine: CpuEngine,
    private readonly frames: FrameTable,
    /** The frame index of the first of `maxFrames` frames. */
    readonly firstFrame: number,
    /** The number of frames to which the guest may grow its table. */
    readonly maxFrames: number,
    /** Sets a frame's M2P entry to "shared". */
    private readonly share: (frame: number) => void,
  ) {
    const entries = maxFrames * ENTRIES_PER_FRAME;
    this.readers = new Uint16Array(entries);
    this.writers = new Uint16Array(entries);
    this.pinDomid = new Uint16Array(entries);
    this.pinFrame = new Int32Array(entries);
  }

  get entries(): number {
    return this.nrFrames * ENTRIES_PER_FRAME;
  }

  /** Linear address of an entry. */
  private at(ref: number): number {
    return this.engine.ram.linearOf(this.firstFrame) + ref * GrantEntryV1.sizeof;
  }

  /** Grows the table to `count` frames; new ones are empty. */
  grow(count: number): void {
    for (; this.nrFrames < count; this.nrFrames++) {
      const frame = this.firstFrame + this.nrFrames;
      const at = this.engine.ram.linearOf(frame);
      this.engine.ram.mem.u8.fill(0, at, at + 4096);
      this.engine.touch(at);
      this.frames.setOwner(frame, Owner.shared);
      this.share(frame);
    }
  }

  /** MFN of the table's frame `i`. */
  mfn(i: number): number {
    return this.engine.ram.mfnOf(this.firstFrame + i);
  }

  /** Fills in an entry, as the domain builder does for the console and xenstore pages. */
  seed(ref: number, domid: number, mfn: number): void {
    const at = this.at(ref);
    const { mem } = this.engine.ram;
    mem.setU16(at + GrantEntryV1.flags, GTF_permit_access);
    mem.setU16(at + GrantEntryV1.domid, domid);
    mem.setU32(at + GrantEntryV1.frame, mfn);
    this.engine.touch(at);
  }

  /** Pins a grant for `domid`. Returns a frame index, or a (negative) GNTST_ error. */
  acquire(ref: number, domid: number, write: boolean, mapping: boolean): number {
    if (!(ref < this.entries)) return GNTST_bad_gntref;
    const pinned = this.readers[ref] + this.writers[ref] > 0;
    if (pinned && (this.pinDomid[ref] !== domid || this.readers[ref] + this.writers[ref] >= MAX_PINS)) {
      return GNTST_general_error;
    }
    const { mem } = this.engine.ram;
    const at = this.at(ref);
    if (!pinned || (write && this.writers[ref] === 0)) {
      const flags = mem.getU16(at + GrantEntryV1.flags);
      const mask = GTF_type_mask | (mapping ? GTF_sub_page : 0);
      if (
        !pinned &&
        ((flags & mask) !== GTF_permit_access || mem.getU16(at + GrantEntryV1.domid) !== domid)
      ) {
        return GNTST_general_error;
      }
      if (write && flags & GTF_readonly) return GNTST_general_error;
      let frame = this.pinFrame[ref];
      if (!pinned) {
        frame = this.engine.ram.frameOf(mem.getU32(at + GrantEntryV1.frame));
        if (frame < 0 || this.frames.owner[frame] !== Owner.guest) return GNTST_bad_page;
      }
      if (write && this.frames.type[frame] !== 0) return GNTST_general_error;
      const next = flags | GTF_reading | (write ? GTF_writing : 0);
      if (next !== flags) {
        mem.setU16(at + GrantEntryV1.flags, next);
        this.engine.touch(at);
      }
      this.pinDomid[ref] = domid;
      this.pinFrame[ref] = frame;
    }
    const frame = this.pinFrame[ref];
    if (write) {
      this.writers[ref]++;
      this.frames.writers[frame]++;
    } else this.readers[ref]++;
    return frame;
  }

  /** Removes a pin. Does nothing if the grant is not pinned in that way. */
  release(ref: number, write: boolean): void {
    if (write) {
      if (this.writers[ref] === 0) return;
      this.writers[ref]--;
      this.frames.writers[this.pinFrame[ref]]--;
    } else {
      if (this.readers[ref] === 0) return;
      this.readers[ref]--;
    }
    let clear = 0;
    if (this.writers[ref] === 0) clear |= GTF_writing;
    if (this.writers[ref] + this.readers[ref] === 0) clear |= GTF_reading;
    const at = this.at(ref) + GrantEntryV1.flags;
    const flags = this.engine.ram.mem.getU16(at);
    if (flags & clear) {
      this.engine.ram.mem.setU16(at, flags & ~clear);
      this.engine.touch(at);
    }
  }

  /** The frame of a pinned grant. */
  pinnedFrame(ref: number): number {
    return this.pinFrame[ref];
  }
  isPinned(ref: number): boolean {
    return this.readers[ref] + this.writers[ref] > 0;
  }

  /** Allocates a handle for one of the guest's own mappings, or returns -1 if there are too many. */
  newHandle(flags: number, ref: number): number {
    let handle = this.handles.findIndex((h) => h.flags === 0);
    if (handle < 0) handle = this.handles.length;
    if (handle >= MAX_HANDLES) return -1;
    this.handles[handle] = { flags, ref };
    return handle;
  }

  /** Exchanges two entries that are not in use. */
  swap(a: number, b: number): number {
    if (!(a < this.entries) || !(b < this.entries)) return GNTST_bad_gntref;
    if (a === b) return GNTST_okay;
    // The entries of console and xenstore stay mapped.
    if (Math.min(a, b) <= GNTTAB_RESERVED_XENSTORE || this.isPinned(a) || this.isPinned(b))
      return GNTST_eagain;
    const { mem } = this.engine.ram;
    for (const half of [0, 4]) {
      const kept = mem.getU32(this.at(a) + half);
      mem.setU32(this.at(a) + half, mem.getU32(this.at(b) + half));
      mem.setU32(this.at(b) + half, kept);
    }
    this.engine.touch(this.at(a));
    this.engine.touch(this.at(b));
    return GNTST_okay;
  }

  /** The pins, for a record: the grants in use, by whom, how often, and their frames. */
  pins(): { ref: number; domid: number; frame: number; readers: number; writers: number }[] {
    const all = [];
    for (let ref = 0; ref < this.entries; ref++) {
      if (!this.isPinned(ref)) continue;
      const readers = this.readers[ref];
      const writers = this.writers[ref];
      all.push({ ref, domid: this.pinDomid[ref], frame: this.pinFrame[ref], readers, writers });
    }
    return all;
  }

  /** Restores a pin from a record. The flags are already in the guest's table. */
  restorePin(pin: { ref: number; domid: number; frame: number; readers: number; writers: number }): void {
    if (pin.ref >= this.entries || pin.frame >= this.frames.frames) {
      throw new RangeError(`grant ${pin.ref} of frame ${pin.frame} is not in the table`);
    }
    this.readers[pin.ref] = pin.readers;
    this.writers[pin.ref] = pin.writers;
    this.pinDomid[pin.ref] = pin.domid;
    this.pinFrame[pin.ref] = pin.frame;
    this.frames.writers[pin.frame] += pin.writers;
  }
}

export interface GrantState {
  readonly grants: GrantTable;
}
