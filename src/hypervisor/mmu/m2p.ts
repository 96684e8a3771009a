/**
 * The machine-to-physical table: 8 bytes for every machine frame, mapped read-only into the guest at
 * 0xffff800000000000 by page tables of Xen's own, to which L4 slot 256 of the guest's tables leads. Both lie in
 * Xen-owned frames after the guest's RAM, so the table is saved with memory and the guest finds it as it left it.
 *
 * It can be read from machine frame 0 up to the next 2 MiB of table, as on a machine whose memory has no gaps. Frames
 * that are not the guest's have no pseudo-physical number; all of the table that only such frames have is one page.
 *
 * Source: RO_MPT_VIRT_START of xen/arch/x86/include/asm/config.h; paging_init and set_gpfn_from_mfn of
 * xen/arch/x86/x86_64/mm.c; share_xen_page_with_guest of xen/arch/x86/mm.c.
 */

import type { CpuEngine } from '../../engine/engine.js';
import { MFN_BASE } from '../../engine/engine.js';

/** Entry of a frame that has no pseudo-physical number: it is free, Xen's, or shared by Xen with the guest. */
export const INVALID_M2P_ENTRY = 0xffff_ffff_ffff_ffffn;

/** Entries at every level below the top: present, accessed, USER, not writable, not executable. */
const ENTRY_LO = 0x25;
const ENTRY_HI = 0x8000_0000;
const FIRST_BYTE = MFN_BASE * 8;
const L2_BYTES = 0x20_0000;

/**
 * Frames needed for the table of `frames` machine frames, and for its page tables: of levels 3 and 2, one of level 1 for
 * each 2 MiB of table; and, with `whole`, one more for all that lies below, and the page that this one shows everywhere.
 */
export function m2pFrames(frames: number, whole: boolean): { data: number; tables: number } {
  const end = FIRST_BYTE + frames * 8;
  const data = Math.ceil((frames * 8) / 4096);
  const l1 = Math.ceil(end / L2_BYTES) - FIRST_BYTE / L2_BYTES;
  return { data, tables: 2 + l1 + (whole ? 2 : 0) };
}

export class M2p {
  constructor(
    private readonly machine: CpuEngine,
    /** Frame index of the first frame of the table itself, and of its page tables. */
    readonly firstFrame: number,
    private readonly tables: number,
    /** It can be read from machine frame 0 on; else, in guests of old, from the guest's first. */
    private readonly whole: boolean,
  ) {}

  /** Index of the frame that shows machine frames below the guest's; without one, the table's own first. */
  get lowestFrame(): number {
    const { tables } = m2pFrames(this.machine.frames, this.whole);
    return this.whole ? this.tables + tables - 1 : this.firstFrame;
  }

  /** Machine frame of the L3 table by which it is mapped. */
  get l3Mfn(): number {
    return MFN_BASE + this.tables;
  }

  /** Builds the page tables and an empty table. Once, at power-on. */
  create(): void {
    const { mem, framesBase, frames } = this.machine;
    const at = framesBase + this.firstFrame * 4096;
    mem.u8.fill(0xff, at, at + m2pFrames(frames, this.whole).data * 4096);
    this.createTables();
  }

  /** Builds the page tables alone: for a guest whose table was saved with page tables of another kind. */
  createTables(): void {
    const { mem, framesBase, frames } = this.machine;
    const { tables } = this;
    const address = (frame: number): number => framesBase + frame * 4096;
    const entry = (at: number, frame: number): void => {
      const mfn = MFN_BASE + frame;
      mem.setU32(at, (mfn << 12) | ENTRY_LO);
      mem.setU32(at + 4, (mfn >>> 20) | ENTRY_HI);
    };
    const size = m2pFrames(frames, this.whole);
    mem.u8.fill(0, address(tables), address(tables + size.tables));
    const l2 = tables + 1;
    entry(address(tables), l2);
    for (let i = 0; i < size.data; i++) {
      const offset = FIRST_BYTE + i * 4096;
      const slot = Math.floor(offset / L2_BYTES);
      const l1 = tables + 2 + slot - FIRST_BYTE / L2_BYTES;
      entry(address(l2) + 8 * slot, l1);
      entry(address(l1) + 8 * ((offset >>> 12) & 511), this.firstFrame + i);
    }
    if (!this.whole) return;
    const page = this.lowestFrame;
    const low = page - 1;
    mem.u8.fill(0xff, address(page), address(page + 1));
    for (let i = 0; i < 512; i++) entry(address(low) + 8 * i, page);
    for (let slot = 0; slot < FIRST_BYTE / L2_BYTES; slot++) entry(address(l2) + 8 * slot, low);
    // And on to the end of the last 2 MiB.
    for (let i = size.data; (i & 511) !== 0; i++) entry(address(low - 1) + 8 * (i & 511), page);
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

  /** Pseudo-physical number of a frame (by index) as the table has it; 2^64-ish where it has none. */
  get(frame: number): number {
    return this.machine.mem.getU64(this.at(frame));
  }
}
