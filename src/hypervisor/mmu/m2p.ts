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

import type { CpuEngine, FrameMap, GuestRam } from '../../engine/engine.js';

/**
 * The entry of a frame without a pseudo-physical number: it is free, belongs to Xen, or is shared by Xen with the
 * guest.
 */
export const INVALID_M2P_ENTRY = 0xffff_ffff_ffff_ffffn;

/** Entries at every level below the top: present, accessed, USER, not writable, not executable. */
const ENTRY_LO = 0x25;
const ENTRY_HI = 0x8000_0000;
/**
 * The number of machine frames whose entries are in one page of the table. Runs of the map begin at a multiple of it.
 */
const FRAMES_PER_PAGE = 512;
const ENTRIES = 512;
/** The number of machine frames for which one L2 table is enough: 512 GiB. */
const MOST_FRAMES = FRAMES_PER_PAGE * ENTRIES * ENTRIES;

const pagesOf = (count: number): number => Math.ceil(count / FRAMES_PER_PAGE);

/** Which of the table's own pages, in their order, tells of the same frames as page `page` of all; -1: none does. */
function dataPage(map: FrameMap, page: number): number {
  let before = 0;
  for (const { mfn, count } of map.runs) {
    const at = page - mfn / FRAMES_PER_PAGE;
    if (at < 0) return -1;
    if (at < pagesOf(count)) return before + at;
    before += pagesOf(count);
  }
  return -1;
}

/** Pieces of the table, 2 MiB each and counted from frame 0 on, that tell of any frame that there is. */
function usedPieces(map: FrameMap): Set<number> {
  const pieces = new Set<number>();
  for (const { mfn, count } of map.runs) {
    const first = mfn / FRAMES_PER_PAGE;
    const last = first + pagesOf(count) - 1;
    for (let i = Math.floor(first / ENTRIES); i <= Math.floor(last / ENTRIES); i++) pieces.add(i);
  }
  return pieces;
}

/**
 * The number of frames for the table of these machine frames and for its page tables: one of level 3, one of level 2,
 * and one of level 1 for each 2 MiB of table. With `whole`, also one more for all frames that do not exist, and the
 * page that this one shows everywhere. Throws RangeError if the frames are too far apart.
 */
export function m2pFrames(map: FrameMap, whole: boolean): { data: number; tables: number } {
  if (map.endMfn > MOST_FRAMES) throw new RangeError(`machine frame ${map.endMfn} is too far up`);
  let data = 0;
  for (const { count } of map.runs) data += pagesOf(count);
  return { data, tables: 2 + usedPieces(map).size + (whole ? 2 : 0) };
}

export class M2p {
  private readonly ram: GuestRam;

  constructor(
    private readonly engine: CpuEngine,
    /** The frame index of the first frame of the table itself, and of its page tables. */
    readonly firstFrame: number,
    private readonly tables: number,
    /** It can be read from machine frame 0 on; else, in guests of old, only where it tells of frames that there are. */
    private readonly whole: boolean,
  ) {
    this.ram = engine.ram;
  }

  /** Index of the frame that shows machine frames that do not exist. */
  private get emptyPage(): number {
    return this.tables + m2pFrames(this.ram.map, this.whole).tables - 1;
  }

  /** Index of the frame that tells of a machine frame; where none does, the table's own first. */
  pageOf(mfn: number): number {
    const page = dataPage(this.ram.map, Math.floor(mfn / FRAMES_PER_PAGE));
    return page >= 0 ? this.firstFrame + page : this.whole ? this.emptyPage : this.firstFrame;
  }

  /** The machine frame of the L3 table through which it is mapped. */
  get l3Mfn(): number {
    return this.ram.mfnOf(this.tables);
  }

  /** Builds the page tables and an empty table. To be called once, at power-on. */
  create(): void {
    const { ram } = this;
    ram.bytes(this.firstFrame, m2pFrames(ram.map, this.whole).data).fill(0xff);
    this.createTables();
  }

  /** Builds only the page tables, for a guest whose table was saved with page tables of another kind. */
  createTables(): void {
    const { ram, tables, whole } = this;
    const { mem, map } = ram;
    const entry = (table: number, index: number, frame: number): void => {
      const at = ram.linearOf(table) + 8 * index;
      const mfn = ram.mfnOf(frame);
      mem.setU32(at, (mfn << 12) | ENTRY_LO);
      mem.setU32(at + 4, (mfn >>> 20) | ENTRY_HI);
    };
    ram.bytes(tables, m2pFrames(map, whole).tables).fill(0);
    const used = usedPieces(map);
    const l2 = tables + 1;
    let l1 = l2;
    entry(tables, 0, l2);
    const empty = this.emptyPage;
    if (whole) {
      ram.bytes(empty, 1).fill(0xff);
      for (let i = 0; i < ENTRIES; i++) entry(empty - 1, i, empty);
    }
    const pieces = Math.ceil(pagesOf(map.endMfn) / ENTRIES);
    for (let piece = 0; piece < pieces; piece++) {
      if (!used.has(piece)) {
        if (whole) entry(l2, piece, empty - 1);
        continue;
      }
      entry(l2, piece, ++l1);
      for (let i = 0; i < ENTRIES; i++) {
        const page = dataPage(map, piece * ENTRIES + i);
        if (page >= 0) entry(l1, i, this.firstFrame + page);
        else if (whole) entry(l1, i, empty);
      }
    }
  }

  /** Linear address of a frame's entry. Runs end with a page of the table, so that entries lie by index. */
  private at(frame: number): number {
    return this.ram.linearOf(this.firstFrame) + frame * 8;
  }

  /** Sets the entry of a frame (by index). The 64 bits are given as two halves. */
  set(frame: number, lo: number, hi: number): void {
    const at = this.at(frame);
    this.ram.mem.setU32(at, lo);
    this.ram.mem.setU32(at + 4, hi);
    this.engine.touch(at);
  }

  invalidate(frame: number): void {
    this.ram.mem.setBig(this.at(frame), INVALID_M2P_ENTRY);
    this.engine.touch(this.at(frame));
  }

  /** Pseudo-physical number of a frame (by index) as the table has it; 2^64-ish where it has none. */
  get(frame: number): number {
    return this.ram.mem.getU64(this.at(frame));
  }
}
