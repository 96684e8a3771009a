/**
 * Page tables of the guest: what makes a frame a table of a level, how entries are changed, and the walk to an
 * entry. Types and counts live in the frame table (frames.ts) and follow Xen's rules for them; mappings of pages
 * that are no tables are not counted, since the guest is alone in its container.
 *
 * Departures from Xen, all invisible to a guest that follows the ABI: writable mappings are not counted, so a
 * frame that is mapped writable may become a table; USER and GLOBAL of L1 entries stay as the guest wrote them,
 * because the processor here ignores the USER bit for the guest's kernel.
 * Source: promote_l1..l4_table, get_page_from_l1e..l4e, mod_l1..l4_entry of xen/arch/x86/mm.c.
 */
import { type Machine, MFN_BASE } from '../machine/machine.js';
import { EBUSY, EINVAL, EPERM } from '../xen/errno.js';
import type { LinearMemory } from '../xen/memory.js';
import {
  ENTRIES_PER_TABLE,
  HYPERVISOR_L4_END,
  HYPERVISOR_L4_FIRST,
  PTE_ACCESSED,
  PTE_AVAIL,
  PTE_DIRTY,
  PTE_FRAME_HI_MASK,
  PTE_GLOBAL,
  PTE_PRESENT,
  PTE_PSE,
  PTE_RW,
  PTE_USER,
} from '../xen/paging.js';
import { type FrameTable, Owner } from './frames.js';

/** Bits that an unprivileged guest may not set: cache attributes everywhere, GLOBAL and PSE above L1. */
const L1_DISALLOW_MASK = 0x098;
const TABLE_DISALLOW_MASK = 0x198;
/** The all-ones frame number of a 52-bit physical address: INVALID_MFN as an entry can hold it. */
const INVALID_ENTRY_MFN = 0xff_ffff_ffff;

/** Frame number of the entry whose halves are given. */
export const entryMfn = (lo: number, hi: number): number =>
  (hi & PTE_FRAME_HI_MASK) * 0x10_0000 + (lo >>> 12);

const isXenSlot = (slot: number): boolean => slot >= HYPERVISOR_L4_FIRST && slot < HYPERVISOR_L4_END;

/** Bits that may change without a look at the frame: accessed, dirty, global, user, free ones; above L1 also RW. */
const FREE_LO = PTE_ACCESSED | PTE_DIRTY | PTE_GLOBAL | PTE_USER | PTE_AVAIL;
const FREE_HI = 0xfff0_0000;

/** Whether a present entry names the same frame in the same way as the old one (the fast path of mod_l1_entry). */
const sameMapping = (level: number, lo: number, hi: number, oldLo: number, oldHi: number): boolean =>
  ((lo ^ oldLo) & ~(level === 1 ? FREE_LO : FREE_LO | PTE_RW)) === 0 && ((hi ^ oldHi) & ~FREE_HI) === 0;

export class PageTables {
  private readonly mem: LinearMemory;
  private readonly framesBase: number;
  /** Set when a present entry above the lowest level was changed: translations of any address may be out of date. */
  private upperChanged = false;

  constructor(
    private readonly machine: Machine,
    private readonly frames: FrameTable,
  ) {
    this.mem = machine.mem;
    this.framesBase = machine.framesBase;
  }

  /** Index of a frame of the guest's own RAM, or -1. */
  guestFrame(mfn: number): number {
    const frame = mfn - MFN_BASE;
    return frame >= 0 && frame < this.frames.frames && this.frames.owner[frame] === Owner.guest ? frame : -1;
  }

  /** Linear address of a frame by its index. */
  address(frame: number): number {
    return this.framesBase + frame * 4096;
  }

  /** Index of the frame at a linear address. */
  frameAt(linear: number): number {
    return Math.floor((linear - this.framesBase) / 4096);
  }

  /** Takes a type reference: the frame is a table of `level` from now on. 0, or -EINVAL and others as Xen's. */
  getType(mfn: number, level: number): number {
    const frame = this.guestFrame(mfn);
    if (frame < 0) return -EINVAL;
    const { type, count } = this.frames;
    if (count[frame] > 0) {
      if (type[frame] !== level || count[frame] === 0xffff_ffff) return -EINVAL;
      count[frame]++;
      return 0;
    }
    if (this.frames.writers[frame] !== 0) return -EINVAL;
    type[frame] = level;
    count[frame] = 1;
    const rc = level === 1 ? this.promoteL1(frame) : this.promoteTable(frame, level);
    if (rc !== 0) {
      type[frame] = 0;
      count[frame] = 0;
      // From here on every change of it is seen.
    } else this.machine.forbidWriting(frame);
    return rc;
  }

  /** Drops a type reference; the last one drops those that the table's entries hold. */
  putType(frame: number): void {
    const { type, count } = this.frames;
    if (count[frame] === 0) return;
    if (--count[frame] > 0) return;
    const level = type[frame];
    if (level > 1) this.putEntries(frame, level, ENTRIES_PER_TABLE);
    type[frame] = 0;
  }

  /** Flushes what changed entries of upper levels make wrong. To be called once at the end of a list of changes. */
  flushUpper(): void {
    if (!this.upperChanged) return;
    this.upperChanged = false;
    this.machine.flushTlbAll();
  }

  private promoteL1(frame: number): number {
    const at = this.address(frame);
    for (let i = 0; i < ENTRIES_PER_TABLE; i++) {
      const lo = this.mem.getU32(at + 8 * i);
      if (lo & PTE_PRESENT) {
        const rc = this.checkL1(lo, this.mem.getU32(at + 8 * i + 4));
        if (rc !== 0) return rc;
      }
    }
    return 0;
  }

  private promoteTable(frame: number, level: number): number {
    const at = this.address(frame);
    let adjusted = false;
    for (let i = 0; i < ENTRIES_PER_TABLE; i++) {
      if (level === 4 && isXenSlot(i)) continue;
      const lo = this.mem.getU32(at + 8 * i);
      if (!(lo & PTE_PRESENT)) continue;
      const rc = this.getEntry(frame, level, lo, this.mem.getU32(at + 8 * i + 4));
      if (rc !== 0) {
        this.putEntries(frame, level, i);
        return rc;
      }
      if (!(lo & PTE_USER)) {
        this.mem.setU32(at + 8 * i, lo | PTE_USER);
        adjusted = true;
      }
    }
    if (adjusted) this.machine.touch(at);
    return 0;
  }

  /** The type reference that a present entry of a table of `level` takes. */
  private getEntry(table: number, level: number, lo: number, hi: number): number {
    if (lo & TABLE_DISALLOW_MASK) return -EINVAL;
    const mfn = entryMfn(lo, hi);
    const rc = this.getType(mfn, level - 1);
    if (rc !== -EINVAL || lo & PTE_RW) return rc;
    // A linear page table: a read-only entry that names a table of the same level, perhaps the table itself.
    const child = this.guestFrame(mfn);
    if (child < 0 || this.frames.type[child] !== level) return -EINVAL;
    if (child !== table) this.frames.count[child]++;
    return 0;
  }

  private putEntry(table: number, lo: number, hi: number): void {
    const child = entryMfn(lo, hi) - MFN_BASE;
    if (child < 0 || child >= this.frames.frames || child === table) return;
    this.putType(child);
  }

  private putEntries(frame: number, level: number, end: number): void {
    const at = this.address(frame);
    for (let i = 0; i < end; i++) {
      if (level === 4 && isXenSlot(i)) continue;
      const lo = this.mem.getU32(at + 8 * i);
      if (lo & PTE_PRESENT) this.putEntry(frame, lo, this.mem.getU32(at + 8 * i + 4));
    }
  }

  /** What Xen checks of a present L1 entry (get_page_from_l1e). 0 or the error. */
  checkL1(lo: number, hi: number): number {
    if (lo & L1_DISALLOW_MASK) return -EINVAL;
    const mfn = entryMfn(lo, hi);
    const frame = mfn - MFN_BASE;
    if (frame < 0 || frame >= this.frames.frames) return mfn === INVALID_ENTRY_MFN ? -EINVAL : -EPERM;
    const owner = this.frames.owner[frame];
    if (owner !== Owner.guest && owner !== Owner.shared) return -EBUSY;
    if (lo & PTE_RW && this.frames.type[frame] !== 0) return -EBUSY;
    return 0;
  }

  /**
   * Changes the entry at linear address `at` in the typed table `frame`. With `preserve` the accessed and dirty
   * bits that are set stay set. 0 or the error; the entry is unchanged then.
   */
  modify(frame: number, at: number, lo: number, hi: number, preserve: boolean): number {
    const level = this.frames.type[frame];
    const oldLo = this.mem.getU32(at);
    const oldHi = this.mem.getU32(at + 4);
    if (level === 4 && isXenSlot((at & 4095) >>> 3)) return -EINVAL;
    let value = lo;
    if (lo & PTE_PRESENT) {
      if (level > 1) value = lo | PTE_USER;
      if (sameMapping(level, value, hi, oldLo, oldHi)) {
        if (lo & (level === 1 ? L1_DISALLOW_MASK : TABLE_DISALLOW_MASK)) return -EINVAL;
        this.write(level, at, preserve ? value | (oldLo & (PTE_ACCESSED | PTE_DIRTY)) : value, hi);
        return 0;
      }
      const rc = level === 1 ? this.checkL1(lo, hi) : this.getEntry(frame, level, lo, hi);
      if (rc !== 0) return rc;
    }
    if (preserve) value |= oldLo & (PTE_ACCESSED | PTE_DIRTY);
    this.write(level, at, value, hi);
    if (level > 1 && oldLo & PTE_PRESENT) this.putEntry(frame, oldLo, oldHi);
    return 0;
  }

  private write(level: number, at: number, lo: number, hi: number): void {
    const old = this.mem.getU32(at);
    if (old & PTE_PRESENT) {
      const frame = entryMfn(old, this.mem.getU32(at + 4)) - MFN_BASE;
      if (level > 1) this.upperChanged = true;
      else if (frame >= 0 && frame < this.frames.frames) this.machine.tableChanged(frame);
    }
    this.mem.setU32(at, lo);
    this.mem.setU32(at + 4, hi);
    this.machine.touch(at);
  }

  /** Linear address of the L1 entry of `va` under the L4 in frame `root` (an MFN), or -1. */
  walkL1(root: number, va: number): number {
    let table = root - MFN_BASE;
    // The walk works on the low 48 bits, as two halves.
    const low = va >>> 0;
    const high = Math.floor(va / 0x1_0000_0000) & 0xffff;
    for (let level = 4; ; level--) {
      if (table < 0 || table >= this.frames.frames) return -1;
      const shift = 12 + 9 * (level - 1);
      const index =
        shift >= 32 ? (high >>> (shift - 32)) & 511 : ((low >>> shift) | (high << (32 - shift))) & 511;
      const at = this.address(table) + 8 * index;
      if (level === 1) return at;
      if (level === 4 && isXenSlot(index)) return -1;
      const lo = this.mem.getU32(at);
      if (!(lo & PTE_PRESENT) || lo & PTE_PSE) return -1;
      table = entryMfn(lo, this.mem.getU32(at + 4)) - MFN_BASE;
    }
  }
}
