/**
 * The guest's page tables: what makes a frame a table of a level, how entries are changed, and the walk to an entry.
 * Types and counts are in the frame table (frames.ts) and follow Xen's rules. Mappings of pages that are not tables
 * are not counted, because the guest is alone in its container.
 *
 * Every present entry has USER, as on Xen: the guest's kernel and its user mode run at the same privilege level, and
 * only their two top tables separate them. What the guest meant by USER in an entry of the lowest level is kept in
 * GLOBAL (a user page) and in bit 52 (a kernel page), and the guest finds these bits when it reads the entry back.
 *
 * There is one difference from Xen, which a guest that follows the ABI cannot see: writable mappings are not counted,
 * so a frame that is mapped writable may become a table.
 * Source: adjust_guest_l1e..l4e of xen/arch/x86/pv/mm.h; promote_l1..l4_table, get_page_from_l1e..l4e,
 * get_lN_linear_pagetable, mod_l1..l4_entry of xen/arch/x86/mm.c.
 */

import { ALL_VCPUS, type CpuEngine, type EngineTables, type GuestRam } from '../../engine/engine.js';
import { EBUSY, EINVAL, EPERM } from '../../xen/errno.js';
import type { LinearMemory } from '../../xen/memory.js';
import {
  ENTRIES_PER_TABLE,
  HYPERVISOR_L4_END,
  HYPERVISOR_L4_FIRST,
  PTE_ACCESSED,
  PTE_AVAIL,
  PTE_DIRTY,
  PTE_FRAME_HI_MASK,
  PTE_GLOBAL,
  PTE_GUEST_KERNEL_HI,
  PTE_PRESENT,
  PTE_PSE,
  PTE_RW,
  PTE_USER,
} from '../../xen/paging.js';
import { type FrameTable, Owner } from './frames.js';
import { addressOk } from './guest-memory.js';
import {
  LINEAR_SLOT,
  linearHi,
  linearLo,
  READ_ONLY_M2P_SLOT,
  type ReservedEntry,
  SHARED_ENTRIES,
} from './reserved-slots.js';

/** Bits that an unprivileged guest may not set: cache attributes on all levels, GLOBAL and PSE above L1. */
const L1_DISALLOW_MASK = 0x098;
const TABLE_DISALLOW_MASK = 0x198;
/** The all-ones frame number of a 52-bit physical address: INVALID_MFN as an entry can hold it. */
const INVALID_ENTRY_MFN = 0xff_ffff_ffff;

/** The frame number of an entry, which is given as two halves. */
export const entryMfn = (lo: number, hi: number): number =>
  (hi & PTE_FRAME_HI_MASK) * 0x10_0000 + (lo >>> 12);

/**
 * Slots of a top table that belong to Xen. The guest's own entries in them are lost when the table becomes a top
 * table.
 */
const isXenSlot = (slot: number): boolean => slot >= HYPERVISOR_L4_FIRST && slot < HYPERVISOR_L4_END;

/**
 * Bits that may change without checking the frame: accessed, dirty, global, user, and available bits. RW is not one
 * of them, not even above L1: a linear page table is mapped by an entry of its own level and must not become
 * writable.
 */
const FREE_LO = PTE_ACCESSED | PTE_DIRTY | PTE_GLOBAL | PTE_USER | PTE_AVAIL;
const FREE_HI = 0xfff0_0000;

/** Whether a present entry maps the same frame in the same way as the old one (the fast path of mod_l1_entry). */
const sameMapping = (lo: number, hi: number, oldLo: number, oldHi: number): boolean =>
  ((lo ^ oldLo) & ~FREE_LO) === 0 && ((hi ^ oldHi) & ~FREE_HI) === 0;

/** Bits that Xen adds to the lower half of a present entry, by level (adjust_guest_l2e..l4e). */
const ADDED_LO = [0, 0, PTE_USER, PTE_USER, PTE_USER | PTE_ACCESSED];
/** The bits with which an entry of the lowest level says, to the guest and to Xen, whose page it is. */
const L1_OWNER_LO = PTE_USER | PTE_GLOBAL;

/**
 * The lower half of a present L1 entry as Xen stores it (adjust_guest_l1e): always with USER, and with GLOBAL if the
 * guest's user mode may access the page. That it may not is stored in the upper half, l1Hi().
 */
const l1Lo = (lo: number, hi: number): number =>
  lo & PTE_USER && !(hi & PTE_GUEST_KERNEL_HI) ? lo | PTE_GLOBAL : lo | PTE_USER;
/** The upper half: bit 52 marks a page of the guest's kernel, which is a page whose entry was written without USER. */
const l1Hi = (lo: number, hi: number): number => (lo & PTE_USER ? hi : hi | PTE_GUEST_KERNEL_HI);

/** The maximum number of linear entries that Xen counts, to a table and in one. */
const MOST_LINEAR = 0x7fff;

export class PageTables {
  private readonly mem: LinearMemory;
  private readonly ram: GuestRam;
  /** What the engine is told of them. */
  private readonly tables: EngineTables;
  /**
   * Set when a present entry above the lowest level was changed: cached translations of any address may then be out
   * of date.
   */
  private upperChanged = false;
  /**
   * VMASST_TYPE_m2p_strict. If it is off, a top table shows the machine-to-physical table after it was first loaded
   * for a kernel. If it is on, it shows it from when it becomes a table until it is loaded for user mode.
   */
  m2pStrict = false;

  constructor(
    private readonly engine: CpuEngine,
    private readonly frames: FrameTable,
    /** Slot 256 of a kernel's top table. */
    private readonly m2pEntry: ReservedEntry,
  ) {
    this.ram = engine.ram;
    this.mem = engine.ram.mem;
    this.tables = engine.tables;
  }

  /** The index of a frame of the guest's own RAM, or -1. */
  guestFrame(mfn: number): number {
    const frame = this.ram.frameOf(mfn);
    return frame >= 0 && this.frames.owner[frame] === Owner.guest ? frame : -1;
  }

  /**
   * Takes a type reference: the frame is a table of `level` from now on. Returns 0, or -EINVAL or another error as
   * Xen does.
   */
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
      // From now on every change of it is noticed.
    } else this.tables.typed(frame, level);
    return rc;
  }

  /** Drops a type reference. The last one also drops the references that the table's entries hold. */
  putType(frame: number): void {
    const { type, count } = this.frames;
    if (count[frame] === 0) return;
    if (--count[frame] > 0) return;
    const level = type[frame];
    if (level > 1) this.putEntries(frame, level, ENTRIES_PER_TABLE);
    type[frame] = 0;
    this.tables.untyped(frame);
  }

  /**
   * Flushes translations that changed entries of upper levels have made invalid. To be called once after a list of
   * changes.
   */
  flushUpper(): void {
    if (!this.upperChanged) return;
    this.upperChanged = false;
    this.tables.flush(ALL_VCPUS);
  }

  private promoteL1(frame: number): number {
    const at = this.ram.linearOf(frame);
    let adjusted = false;
    let rc = 0;
    // Nearly all entries of nearly all tables are empty. The loop is kept small so that V8 optimises it well.
    for (let i = 0; i < ENTRIES_PER_TABLE && rc === 0; i++) {
      const lo = this.mem.getU32(at + 8 * i);
      if (lo & PTE_PRESENT) {
        rc = this.checkL1(lo, this.mem.getU32(at + 8 * i + 4));
        if (rc === 0 && (lo & L1_OWNER_LO) !== L1_OWNER_LO) adjusted = this.adjustL1(at + 8 * i) || adjusted;
      }
    }
    if (adjusted) this.engine.touch(at);
    return rc;
  }

  /** Changes the present entry at `at` to the form in which Xen stores it. Returns true if that is another value. */
  private adjustL1(at: number): boolean {
    const lo = this.mem.getU32(at);
    const hi = this.mem.getU32(at + 4);
    const wanted = l1Lo(lo, hi);
    if (wanted === lo) return false;
    this.mem.setU32(at, wanted);
    this.mem.setU32(at + 4, l1Hi(lo, hi));
    return true;
  }

  private promoteTable(frame: number, level: number): number {
    const at = this.ram.linearOf(frame);
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
      const added = ADDED_LO[level];
      if ((lo & added) !== added) {
        this.mem.setU32(at + 8 * i, lo | added);
        adjusted = true;
      }
    }
    if (level === 4) this.fillReserved(frame, this.m2pStrict);
    else if (adjusted) this.engine.touch(at);
    return 0;
  }

  /** Puts Xen's entries into the slots that are Xen's; whatever the guest had there is gone. Of what is no table yet. */
  private fillReserved(frame: number, showsM2p: boolean): void {
    const at = this.ram.linearOf(frame);
    const start = at + 8 * HYPERVISOR_L4_FIRST;
    this.mem.u8.fill(0, start, at + 8 * HYPERVISOR_L4_END);
    for (const { slot, lo, hi } of SHARED_ENTRIES) {
      this.mem.setU32(at + 8 * slot, lo);
      this.mem.setU32(at + 8 * slot + 4, hi);
    }
    const mfn = this.ram.mfnOf(frame);
    this.mem.setU32(at + 8 * LINEAR_SLOT, linearLo(mfn));
    this.mem.setU32(at + 8 * LINEAR_SLOT + 4, linearHi(mfn));
    if (showsM2p) {
      this.mem.setU32(at + 8 * READ_ONLY_M2P_SLOT, this.m2pEntry.lo);
      this.mem.setU32(at + 8 * READ_ONLY_M2P_SLOT + 4, this.m2pEntry.hi);
    }
    this.engine.touch(at);
  }

  /** A top table is about to be loaded for a vCPU's kernel or user mode: decides whether it shows the M2P. */
  beforeLoad(mfn: number, user: boolean): void {
    const frame = this.guestFrame(mfn);
    if (user && this.m2pStrict) this.write(frame, 4, this.ram.linearOf(frame) + 8 * READ_ONLY_M2P_SLOT, 0, 0);
    else if (!user && !this.m2pStrict) this.showM2p(frame);
  }

  private showM2p(frame: number): void {
    const at = this.ram.linearOf(frame) + 8 * READ_ONLY_M2P_SLOT;
    const { lo, hi } = this.m2pEntry;
    if (this.mem.getU32(at) === lo && this.mem.getU32(at + 4) === hi) return;
    this.write(frame, 4, at, lo, hi);
  }

  /**
   * Makes of all tables what they would be if the guest had lived here from the beginning, before the engine is told of
   * them: for a guest that was saved when
   * entries were kept as the guest wrote them, and Xen's slots were no part of its memory.
   */
  adoptTables(kernelRoots: ReadonlySet<number>): void {
    const { type } = this.frames;
    for (const frame of this.frames.tables()) {
      const at = this.ram.linearOf(frame);
      const level = type[frame];
      for (let i = 0; i < ENTRIES_PER_TABLE; i++) {
        const lo = this.mem.getU32(at + 8 * i);
        if (!(lo & PTE_PRESENT)) continue;
        if (level === 1) this.adjustL1(at + 8 * i);
        else this.mem.setU32(at + 8 * i, lo | ADDED_LO[level]);
      }
      if (level === 4) this.fillReserved(frame, kernelRoots.has(this.ram.mfnOf(frame)));
      else this.engine.touch(at);
    }
  }

  /** Takes the type reference for a present entry of a table of `level`. */
  private getEntry(table: number, level: number, lo: number, hi: number): number {
    if (lo & TABLE_DISALLOW_MASK) return -EINVAL;
    const mfn = entryMfn(lo, hi);
    const rc = this.getType(mfn, level - 1);
    if (rc !== -EINVAL || lo & PTE_RW) return rc;
    // A linear page table: a read-only entry that names a table of the same level, possibly the table itself.
    const child = this.guestFrame(mfn);
    if (child < 0 || this.frames.type[child] !== level) return -EINVAL;
    if (child === table) return 0;
    // A table that another one names in this way must not name a third one, because chains of them would keep each
    // other alive.
    const { linear, count } = this.frames;
    const entries = linear.get(table) ?? 0;
    const uses = linear.get(child) ?? 0;
    if (entries < 0 || entries >= MOST_LINEAR || uses > 0 || uses <= -MOST_LINEAR) return -EINVAL;
    if (count[child] === 0xffff_ffff) return -EINVAL;
    this.frames.addLinear(table, 1);
    this.frames.addLinear(child, -1);
    count[child]++;
    return 0;
  }

  private putEntry(table: number, level: number, lo: number, hi: number): void {
    const child = this.ram.frameOf(entryMfn(lo, hi));
    if (child < 0 || child === table) return;
    if (this.frames.type[child] === level) {
      this.frames.addLinear(table, -1);
      this.frames.addLinear(child, 1);
    }
    this.putType(child);
  }

  /** Counts all linear entries again, for a guest that was saved without these counts. */
  countLinear(): void {
    const { frames } = this;
    for (const table of frames.tables()) {
      const level = frames.type[table];
      if (level === 1) continue;
      const at = this.ram.linearOf(table);
      for (let i = 0; i < ENTRIES_PER_TABLE; i++) {
        const lo = this.mem.getU32(at + 8 * i);
        if (!(lo & PTE_PRESENT) || (level === 4 && isXenSlot(i))) continue;
        const child = this.ram.frameOf(entryMfn(lo, this.mem.getU32(at + 8 * i + 4)));
        if (child < 0 || child === table || frames.type[child] !== level) continue;
        frames.addLinear(table, 1);
        frames.addLinear(child, -1);
      }
    }
  }

  private putEntries(frame: number, level: number, end: number): void {
    const at = this.ram.linearOf(frame);
    for (let i = 0; i < end; i++) {
      if (level === 4 && isXenSlot(i)) continue;
      const lo = this.mem.getU32(at + 8 * i);
      if (lo & PTE_PRESENT) this.putEntry(frame, level, lo, this.mem.getU32(at + 8 * i + 4));
    }
  }

  /** Xen's checks of a present L1 entry (get_page_from_l1e). Returns 0 or the error. */
  checkL1(lo: number, hi: number): number {
    if (lo & L1_DISALLOW_MASK) return -EINVAL;
    const mfn = entryMfn(lo, hi);
    const frame = this.ram.frameOf(mfn);
    if (frame < 0) return mfn === INVALID_ENTRY_MFN ? -EINVAL : -EPERM;
    const owner = this.frames.owner[frame];
    if (owner !== Owner.guest && owner !== Owner.shared) return -EBUSY;
    if (lo & PTE_RW && this.frames.type[frame] !== 0) return -EBUSY;
    return 0;
  }

  /**
   * Changes the entry at the linear address `at` in the typed table `frame`. With `preserve`, accessed and dirty bits
   * that are set stay set. Returns 0, or an error; the entry is then unchanged.
   */
  modify(frame: number, at: number, lo: number, hi: number, preserve: boolean): number {
    const level = this.frames.type[frame];
    const oldLo = this.mem.getU32(at);
    const oldHi = this.mem.getU32(at + 4);
    if (level === 4 && isXenSlot((at & 4095) >>> 3)) return -EINVAL;
    let valueLo = lo;
    let valueHi = hi;
    if (lo & PTE_PRESENT) {
      if (level === 1) {
        valueLo = l1Lo(lo, hi);
        valueHi = l1Hi(lo, hi);
      } else valueLo = lo | ADDED_LO[level];
      if (sameMapping(valueLo, valueHi, oldLo, oldHi)) {
        if (lo & (level === 1 ? L1_DISALLOW_MASK : TABLE_DISALLOW_MASK)) return -EINVAL;
        this.write(
          frame,
          level,
          at,
          preserve ? valueLo | (oldLo & (PTE_ACCESSED | PTE_DIRTY)) : valueLo,
          valueHi,
        );
        return 0;
      }
      const rc = level === 1 ? this.checkL1(lo, hi) : this.getEntry(frame, level, lo, hi);
      if (rc !== 0) return rc;
    }
    if (preserve) valueLo |= oldLo & (PTE_ACCESSED | PTE_DIRTY);
    this.write(frame, level, at, valueLo, valueHi);
    if (level > 1 && oldLo & PTE_PRESENT) this.putEntry(frame, level, oldLo, oldHi);
    return 0;
  }

  /** Writes an entry that Xen itself makes into a typed L1 table: the mapping of a grant, or none. */
  replaceL1(at: number, lo: number, hi: number): void {
    if (lo & PTE_PRESENT) this.write(this.ram.frameAt(at), 1, at, l1Lo(lo, hi), l1Hi(lo, hi));
    else this.write(this.ram.frameAt(at), 1, at, lo, hi);
  }

  /** Sets the entry at linear address `at`, which is in the table `frame`. */
  private write(frame: number, level: number, at: number, lo: number, hi: number): void {
    if (level > 1 && this.mem.getU32(at) & PTE_PRESENT) this.upperChanged = true;
    this.tables.setEntry(frame, (at & 4095) >>> 3, level, lo, hi);
  }

  /** The linear address of the L1 entry for `va` under the L4 table in frame `root` (an MFN), or -1. */
  walkL1(root: number, va: number): number {
    if (!addressOk(va)) return -1;
    const { ram, mem } = this;
    let table = ram.address(root);
    // The walk uses the low 48 bits, as two halves.
    const low = va >>> 0;
    const high = Math.floor(va / 0x1_0000_0000) & 0xffff;
    for (let shift = 39; ; shift -= 9) {
      if (table < 0) return -1;
      const index =
        shift >= 32 ? (high >>> (shift - 32)) & 511 : ((low >>> shift) | (high << (32 - shift))) & 511;
      const at = table + 8 * index;
      if (shift === 12) return at;
      const lo = mem.getU32(at);
      if (!(lo & PTE_PRESENT) || lo & PTE_PSE) return -1;
      table = ram.address(entryMfn(lo, mem.getU32(at + 4)));
    }
  }
}
