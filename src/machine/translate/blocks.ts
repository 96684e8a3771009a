/** Decoded blocks as the translator reads them from the arena, and how they are found. */
import {
  B_COUNT,
  B_FIRST,
  B_FRAME2,
  B_HASH_NEXT,
  B_LIVE,
  B_START,
  BLOCK_HASH,
  BLOCK_HASH_ENTRIES,
  BLOCK_HEADER,
  JUMP_CACHE,
  JUMP_ENTRIES,
  JUMP_TAG,
} from '../core/layout.js';
import { Op } from '../core/ops.js';
import { endsBlock, type Operation, readOperation } from './operation.js';

export interface Block {
  /** Linear address of the header: the block's name everywhere. */
  readonly at: number;
  /** Linear address of its code. */
  readonly start: number;
  /** Instructions. */
  readonly count: number;
  /** The last one ends the block: a jump, or what is left to the interpreter. */
  readonly operations: readonly Operation[];
}

export class Blocks {
  readonly view: DataView;

  constructor(memory: ArrayBufferLike) {
    this.view = new DataView(memory);
  }

  isLive(at: number): boolean {
    return this.view.getUint32(at + B_LIVE, true) !== 0 && this.view.getUint32(at + B_FRAME2, true) === 0;
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

  /** The live block whose code starts at this linear address; 0: none. */
  find(start: number): number {
    const { view } = this;
    const slot = BLOCK_HASH + (((start ^ (start >>> 16)) & (BLOCK_HASH_ENTRIES - 1)) << 2);
    let block = view.getUint32(slot, true);
    while (block !== 0 && view.getUint32(block + B_START, true) !== start)
      block = view.getUint32(block + B_HASH_NEXT, true);
    return block;
  }

  /** The block that the jump cache knows at a guest address; 0: none. */
  cached(cpu: number, va: bigint): number {
    const { view } = this;
    const at = cpu + jumpEntryOffset(va);
    const known =
      view.getBigUint64(at, true) === BigInt.asUintN(64, va) &&
      view.getUint32(at + 12, true) === view.getUint32(cpu + JUMP_TAG, true);
    return known ? view.getUint32(at + 8, true) : 0;
  }
}

export function jumpEntryOffset(va: bigint): number {
  return JUMP_CACHE + (Number((va ^ (BigInt.asUintN(64, va) >> 12n)) & BigInt(JUMP_ENTRIES - 1)) << 4);
}
