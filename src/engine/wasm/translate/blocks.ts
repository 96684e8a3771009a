/** Decoded blocks as the translator reads them from the arena, and how to find them. */
import {
  B_COUNT,
  B_FIRST,
  B_FRAME2,
  B_HASH_NEXT,
  B_HEAT,
  B_LIVE,
  B_START,
  B_USES,
  BLOCK_HASH,
  BLOCK_HASH_ENTRIES,
  BLOCK_HEADER,
  CR3_KERNEL,
  CR3_USER,
  HEAT_FIRST,
  JUMP_CACHE,
  JUMP_ENTRIES,
  JUMP_TAG,
  MODE,
} from '../core/layout.js';
import { Op } from '../core/ops.js';
import { endsBlock, type Operation, readOperation } from './operation.js';

export interface Block {
  /** Linear address of the header. It identifies the block everywhere. */
  readonly at: number;
  /** Linear address of its code. */
  readonly start: number;
  /** Instructions. */
  readonly count: number;
  /** The last operation ends the block: a jump, or an operation that is left to the interpreter. */
  readonly operations: readonly Operation[];
}

/** Bits of page-table entries. */
/** B_LIVE of long-mode code. Other code is not translated. */
export const LIVE = 1;
const PRESENT = 1;
const LARGE = 0x80;
/** The number of page-table levels, and how many bits of an address each one uses. */
const LEVELS = 4;
const LEVEL_BITS = 9;
const PAGE = 4096;
/** How often a block must have been executed for hot() to list it. */
const OFTEN = 16;

/** Where the frames lie, how many there are, and the machine frame number of the first. */
export interface Frames {
  readonly base: number;
  readonly count: number;
  readonly firstMfn: number;
}

export class Blocks {
  readonly view: DataView;

  constructor(
    memory: ArrayBufferLike,
    private readonly frames: Frames,
  ) {
    this.view = new DataView(memory);
  }

  isLive(at: number): boolean {
    return this.view.getUint32(at + B_LIVE, true) === LIVE && this.view.getUint32(at + B_FRAME2, true) === 0;
  }

  read(at: number): Block {
    const { view } = this;
    const count = view.getUint32(at + B_COUNT, true);
    const operations: Operation[] = [];
    for (let i = 0; ; i++) {
      const slot = at + BLOCK_HEADER + 16 * i;
      let code = view.getUint16(slot, true);
      if (code === Op.TRANSLATED) code = view.getUint32(at + B_FIRST, true);
      const operation = readOperation(view, slot, i, code);
      operations.push(operation);
      if (endsBlock(operation) && i >= count - 1) break;
      if (i > count) throw new Error(`the block at ${at} does not end`);
    }
    return { at, start: view.getUint32(at + B_START, true), count, operations };
  }

  /**
   * The linear addresses at which live blocks start, at most `most` of them. Blocks that were executed more often
   * come first.
   */
  hot(most: number): Uint32Array {
    const { view } = this;
    const first = view.getUint32(HEAT_FIRST, true);
    /** Blocks are sorted only by the logarithm of how often they were executed, because the guest waits for this. */
    const byHeat: number[][] = Array.from({ length: 32 }, () => []);
    for (let slot = BLOCK_HASH; slot < BLOCK_HASH + 4 * BLOCK_HASH_ENTRIES; slot += 4) {
      for (let at = view.getUint32(slot, true); at !== 0; at = view.getUint32(at + B_HASH_NEXT, true)) {
        if (view.getUint32(at + B_LIVE, true) !== LIVE) continue;
        const heat = view.getInt32(at + B_HEAT, true);
        const warm = heat > first || view.getUint32(at + B_USES, true) !== 0;
        const executed = warm ? 0x7fff_ffff : first - heat;
        if (executed >= OFTEN) byHeat[31 - Math.clz32(executed)].push(view.getUint32(at + B_START, true));
      }
    }
    return Uint32Array.from(byHeat.reverse().flat().slice(0, most));
  }

  /** The live block whose code starts at this linear address, or 0. */
  find(start: number): number {
    const { view } = this;
    const slot = BLOCK_HASH + (((start ^ (start >>> 16)) & (BLOCK_HASH_ENTRIES - 1)) << 2);
    let block = view.getUint32(slot, true);
    while (
      block !== 0 &&
      (view.getUint32(block + B_START, true) !== start || view.getUint32(block + B_LIVE, true) !== LIVE)
    )
      block = view.getUint32(block + B_HASH_NEXT, true);
    return block;
  }

  /**
   * The decoded block at a guest address, if the jump cache or the page tables lead to one; otherwise 0. It is only a
   * guess: access rights are not checked.
   */
  at(cpu: number, va: bigint): number {
    const known = this.cached(cpu, va);
    if (known !== 0) return known;
    const page = this.codePage(cpu, va);
    return page === 0 ? 0 : this.find(page + Number(va & 4095n));
  }

  /** The linear address of the page at a guest address, or 0. */
  private codePage(cpu: number, va: bigint): number {
    const { view } = this;
    const root = view.getUint32(cpu + MODE, true) === 0 ? CR3_KERNEL : CR3_USER;
    let table = this.frame(view.getUint32(cpu + root, true));
    const page = Number(BigInt.asUintN(LEVELS * LEVEL_BITS, va >> 12n));
    for (let level = LEVELS - 1; level >= 0; level--) {
      if (table === 0) return 0;
      const at = table + 8 * (Math.floor(page / 2 ** (LEVEL_BITS * level)) % 512);
      const low = view.getUint32(at, true);
      if ((low & PRESENT) === 0 || (level > 0 && (low & LARGE) !== 0)) return 0;
      table = this.frame((view.getUint32(at + 4, true) & 0xf_ffff) * 2 ** 20 + (low >>> 12));
    }
    return table;
  }

  private frame(mfn: number): number {
    const { base, count, firstMfn } = this.frames;
    const frame = mfn - firstMfn;
    return frame >= 0 && frame < count ? base + frame * PAGE : 0;
  }

  /** The block that the jump cache has for a guest address, or 0. */
  private cached(cpu: number, va: bigint): number {
    const { view } = this;
    const at = cpu + jumpEntryOffset(va);
    const known =
      view.getBigUint64(at, true) === BigInt.asUintN(64, va) &&
      view.getUint32(at + 12, true) === view.getUint32(cpu + JUMP_TAG, true);
    return known ? view.getUint32(at + 8, true) : 0;
  }
}

function jumpEntryOffset(va: bigint): number {
  return JUMP_CACHE + (Number((va ^ (BigInt.asUintN(64, va) >> 12n)) & BigInt(JUMP_ENTRIES - 1)) << 4);
}
