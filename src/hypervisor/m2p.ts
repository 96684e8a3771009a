/**
 * The machine-to-physical table: 8 bytes for every machine frame, mapped read-only into the guest at
 * 0xffff800000000000 by page tables of Xen's own. Both lie in Xen-owned frames after the guest's RAM, so the
 * table is saved with memory and the guest finds it as it left it.
 *
 * Departure: guest user space cannot read it, as if the assist m2p_strict were on always.
 * Source: RO_MPT_VIRT_START of xen/arch/x86/include/asm/config.h; set_gpfn_from_mfn.
 */
import { type Machine, MFN_BASE } from '../machine/machine.js';

/** Entry of a frame that has no pseudo-physical number. */
export const INVALID_M2P_ENTRY = 0xffff_ffff_ffff_ffffn;
/** Entry of a frame that belongs to Xen and is shared with the guest. */
const SHARED_M2P_ENTRY = 0xffff_ffff_ffff_fffen;

/** Present, accessed, not writable, not executable; upper levels the same but executable has no meaning there. */
const LEAF_LO = 0x21;
const TABLE_LO = 0x21;
const NX_HI = 0x8000_0000;
const FIRST_BYTE = MFN_BASE * 8;
const L2_BYTES = 0x20_0000;

/** Frames needed for the table of `frames` machine frames, and for its page tables. */
export function m2pFrames(frames: number): { data: number; tables: number } {
  const end = FIRST_BYTE + frames * 8;
  const data = Math.ceil((frames * 8) / 4096);
  const l1 = Math.ceil(end / L2_BYTES) - Math.floor(FIRST_BYTE / L2_BYTES);
  return { data, tables: 2 + l1 };
}

export class M2p {
  constructor(
    private readonly machine: Machine,
    /** Frame index of the first frame of the table itself. */
    readonly firstFrame: number,
  ) {}

  /** Builds the page tables at frame index `tables` and an empty table. Once, at power-on. */
  create(tables: number): void {
    const { mem, framesBase, frames } = this.machine;
    const address = (frame: number): number => framesBase + frame * 4096;
    const entry = (at: number, frame: number, lo: number, hi: number): void => {
      const mfn = MFN_BASE + frame;
      mem.setU32(at, (mfn << 12) | lo);
      mem.setU32(at + 4, (mfn >>> 20) | hi);
    };
    const size = m2pFrames(frames);
    mem.u8.fill(0, address(tables), address(tables + size.tables));
    mem.u8.fill(0xff, address(this.firstFrame), address(this.firstFrame + size.data));
    const l2 = tables + 1;
    entry(address(tables), l2, TABLE_LO, 0);
    for (let i = 0; i < size.data; i++) {
      const offset = FIRST_BYTE + i * 4096;
      const slot = Math.floor(offset / L2_BYTES);
      const l1 = tables + 2 + slot - Math.floor(FIRST_BYTE / L2_BYTES);
      entry(address(l2) + 8 * slot, l1, TABLE_LO, 0);
      entry(address(l1) + 8 * ((offset >>> 12) & 511), this.firstFrame + i, LEAF_LO, NX_HI);
    }
  }

  /** Puts the page tables into the slots of the address space that are Xen's. Also after a restore. */
  install(tables: number): void {
    const { mem, xenSlots } = this.machine;
    for (let i = 0; i < 16; i++) mem.setBig(xenSlots + 8 * i, 0n);
    const mfn = MFN_BASE + tables;
    mem.setU32(xenSlots, (mfn << 12) | TABLE_LO);
    mem.setU32(xenSlots + 4, mfn >>> 20);
    this.machine.flushTlbAll();
  }

  private at(frame: number): number {
    return this.machine.framesBase + this.firstFrame * 4096 + frame * 8;
  }

  /** Sets the entry of a frame (by index) to 64 bits given as halves. */
  set(frame: number, lo: number, hi: number): void {
    const at = this.at(frame);
    this.machine.mem.setU32(at, lo);
    this.machine.mem.setU32(at + 4, hi);
    this.machine.touch(at);
  }

  invalidate(frame: number): void {
    this.machine.mem.setBig(this.at(frame), INVALID_M2P_ENTRY);
    this.machine.touch(this.at(frame));
  }

  share(frame: number): void {
    this.machine.mem.setBig(this.at(frame), SHARED_M2P_ENTRY);
    this.machine.touch(this.at(frame));
  }

  /** Pseudo-physical number of a frame (by index) as the table has it; 2^64-ish where it has none. */
  get(frame: number): number {
    return this.machine.mem.getU64(this.at(frame));
  }
}
