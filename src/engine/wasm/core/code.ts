// Decoded code and the frames that it came from. Invariant: a frame with decoded code has no entry in any write TLB,
// so every store to it comes here. A block whose bytes were stored to is dead before its next execution. A dead block
// keeps its memory, because links may still lead to it; its first operation then leads back to the lookup. When the
// arena is full, all decoded code is dropped at once.
import {
  ARENA, B_BYTES, B_COUNT, B_FIRST, B_FRAME2, B_FRAME2_NEXT, B_FRAME_NEXT, B_HASH_NEXT, B_HEAT, B_LIVE, B_REGION,
  B_START, B_USES, BLOCK_HASH, BLOCK_HASH_ENTRIES, BLOCK_HEADER, CURRENT_BLOCK, CURRENT_OP, FP_DESCRIPTORS, FP_NEXT,
  HEAT_FIRST, HOT_COUNT, KIND_LONG, JUMP_CACHE, JUMP_ENTRIES, KILLS, MODE_TLB, MODE_TLB_STRIDE, O_DISP, SCRATCH_BLOCK, TLB_ENTRIES,
  TLB_WRITE, VCPU_BASE, VCPU_STRIDE, VICTIMS, VICTIMS_WRITE,
} from './layout';
import { codeMasks, frameBlocks, frameCount, framesBase, hostDropped, vcpuCount } from './engine';
import { Op } from './ops';

export let arenaNext: usize = ARENA;
/** The vCPU that runs, or 0 between runs. */
export let running: usize = 0;

export function setRunning(cpu: usize): void {
  running = cpu;
}

@inline
function hashSlot(start: u32): usize {
  return <usize>BLOCK_HASH + (<usize>((start ^ (start >> 16)) & (BLOCK_HASH_ENTRIES - 1)) << 2);
}

/** Returns the live block that starts at this linear address and was decoded for this kind of code, or 0. */
export function findBlock(start: u32, kind: u32): usize {
  let block: usize = load<u32>(hashSlot(start));
  while (block != 0 && (load<u32>(block, B_START) != start || load<u32>(block, B_LIVE) != kind + 1)) {
    block = load<u32>(block, B_HASH_NEXT);
  }
  return block;
}

/**
 * The number of executions after which a block counts as warm if it is of a kind that is not translated. Nothing is done
 * with it then.
 */
const NEVER_HOT: u32 = 0x7fff_ffff;

/**
 * Which 64-byte pieces of a page the bytes [offset, offset + size) touch. The size is at least 1; the range is cut at
 * the page's end.
 */
export function pieces(offset: u32, size: u32): u64 {
  const first: u64 = offset >> 6;
  const last = min<u64>((offset + size - 1) >> 6, 63);
  return (((<u64>2 << (last - first)) - 1) << first);
}

/** Removes the frame from all write TLBs. */
export function forbidWriting(frame: u32): void {
  for (let v = 0; v < vcpuCount; v++) {
    for (let mode = 0; mode < 2; mode++) {
      const tlb: usize = VCPU_BASE + v * VCPU_STRIDE + MODE_TLB + mode * MODE_TLB_STRIDE;
      forbidIn(tlb + TLB_WRITE, TLB_ENTRIES, frame);
      forbidIn(tlb + VICTIMS_WRITE, VICTIMS, frame);
    }
  }
}

function forbidIn(first: usize, entries: usize, frame: u32): void {
  const page = <u32>framesBase + (frame << 12);
  for (let at = first; at < first + (entries << 4); at += 16) {
    const tag = load<u64>(at);
    if (tag != 0 && (<u32>tag & 0xffff_f000) + load<u32>(at, 8) == page) store<u64>(at, 0);
  }
}

function claim(frame: u32, mask: u64): void {
  const at = codeMasks + (frame << 3);
  const before = load<u64>(at);
  if (before == 0) forbidWriting(frame);
  store<u64>(at, before | mask);
}

/**
 * Registers the block that was just decoded to arenaNext: it starts at the linear address `start` and has `slots`
 * operations for this kind of code.
 */
export function addBlock(start: u32, slots: u32, kind: u32): usize {
  const block = arenaNext;
  arenaNext = block + BLOCK_HEADER + (slots << 4);
  const bytes = load<u32>(block, B_BYTES);
  const second = load<u32>(block, B_FRAME2);
  store<u32>(block, start, B_START);
  store<u32>(block, kind + 1, B_LIVE);
  store<u32>(block, kind == KIND_LONG ? load<u32>(HEAT_FIRST) : NEVER_HOT, B_HEAT);
  store<u32>(block, 0, B_REGION);
  store<u32>(block, 0, B_USES);
  const slot = hashSlot(start);
  store<u32>(block, load<u32>(slot), B_HASH_NEXT);
  store<u32>(slot, <u32>block);
  const frame = (start - <u32>framesBase) >> 12;
  const head = frameBlocks + (frame << 2);
  store<u32>(block, load<u32>(head), B_FRAME_NEXT);
  store<u32>(head, <u32>block);
  claim(frame, pieces(start & 4095, bytes));
  if (second != 0) {
    const frame2 = (second - <u32>framesBase) >> 12;
    if (frame2 != frame) {
      const head2 = frameBlocks + (frame2 << 2);
      store<u32>(block, load<u32>(head2), B_FRAME2_NEXT);
      store<u32>(head2, <u32>block);
    }
    claim(frame2, pieces(0, bytes - (4096 - (start & 4095))));
  }
  return block;
}

/** The running block is losing its bytes: makes whatever follows the present instruction be looked up anew. */
function leaveAfterPresent(block: usize): void {
  const op: usize = load<u32>(running, CURRENT_OP);
  const last = block + BLOCK_HEADER;
  if (op < last) return;
  let done: u32 = 0;
  for (let at = last; at <= op; at += 16) done++;
  if (done >= load<u32>(block, B_COUNT)) return;
  const next = op + 16;
  store<u16>(next, Op.LEAVE);
  store<u32>(next, load<u32>(block, B_COUNT) - done, O_DISP);
}

export function kill(block: usize): void {
  if (load<u32>(block, B_LIVE) == 0) return;
  store<u32>(block, 0, B_LIVE);
  const slot = hashSlot(load<u32>(block, B_START));
  let at: usize = load<u32>(slot);
  if (at == block) store<u32>(slot, load<u32>(block, B_HASH_NEXT));
  else {
    while (load<u32>(at, B_HASH_NEXT) != <u32>block) at = load<u32>(at, B_HASH_NEXT);
    store<u32>(at, load<u32>(block, B_HASH_NEXT), B_HASH_NEXT);
  }
  if (running != 0) {
    const present: usize = load<u32>(running, CURRENT_BLOCK);
    if (present == block || (present == SCRATCH_BLOCK && scratchSource == block)) leaveAfterPresent(present);
  }
  // The present instruction may be the first one. It must still be found there if it faults or continues.
  store<u16>(block + BLOCK_HEADER, Op.DEAD);
  store<u32>(block, 0, B_REGION);
  store<u32>(KILLS, load<u32>(KILLS) + 1);
  if (load<u32>(block, B_USES) != 0) hostDropped(block);
}

/** The block that SCRATCH_BLOCK is a copy of. */
let scratchSource: usize = 0;

/** Copies a block's first operations, so that they can be interpreted although a translated region starts there. */
function copyBlock(block: usize, operations: u32): void {
  memory.copy(SCRATCH_BLOCK, block, BLOCK_HEADER + (operations << 4));
  scratchSource = block;
  if (load<u16>(SCRATCH_BLOCK + BLOCK_HEADER) == Op.TRANSLATED) {
    store<u16>(SCRATCH_BLOCK + BLOCK_HEADER, load<u16>(block, B_FIRST));
  }
}

/** Copies a whole block, including its links to the next ones. */
export function plainBlock(block: usize): usize {
  copyBlock(block, load<u32>(block, B_COUNT) + 2);
  return SCRATCH_BLOCK;
}

/** Copies the first `count` instructions of a block, followed by an operation that ends the budget. */
export function cutBlock(block: usize, count: u32): usize {
  copyBlock(block, count);
  store<u32>(SCRATCH_BLOCK, count, B_COUNT);
  const end: usize = SCRATCH_BLOCK + BLOCK_HEADER + (count << 4);
  store<u64>(end, Op.BUDGET_END);
  return SCRATCH_BLOCK;
}

/** Drops all blocks of a frame. */
export function dropFrame(frame: u32): void {
  const head = frameBlocks + (frame << 2);
  let block: usize = load<u32>(head);
  while (block != 0) {
    kill(block);
    const first = (load<u32>(block, B_START) - <u32>framesBase) >> 12 == frame;
    block = first ? load<u32>(block, B_FRAME_NEXT) : load<u32>(block, B_FRAME2_NEXT);
  }
  store<u32>(head, 0);
  store<u64>(codeMasks + (frame << 3), 0);
}

/** To be called when bytes of a frame are stored to. */
@inline
export function codeStored(frame: u32, offset: u32, size: u32): void {
  const mask = load<u64>(codeMasks + (frame << 3));
  if (mask != 0 && (mask & pieces(offset, size)) != 0) dropFrame(frame);
}

/** Drops all decoded code. It must not be called while a block runs. */
export function dropAll(): void {
  memory.fill(BLOCK_HASH, 0, BLOCK_HASH_ENTRIES * 4);
  memory.fill(codeMasks, 0, <usize>frameCount << 3);
  memory.fill(frameBlocks, 0, <usize>frameCount << 2);
  arenaNext = ARENA;
  store<u32>(HOT_COUNT, 0);
  store<u32>(KILLS, load<u32>(KILLS) + 1);
  hostDropped(0);
  store<u32>(FP_NEXT, FP_DESCRIPTORS);
  for (let v = 0; v < vcpuCount; v++) {
    const cpu: usize = VCPU_BASE + v * VCPU_STRIDE;
    memory.fill(cpu + JUMP_CACHE, 0, JUMP_ENTRIES * 16);
    store<u32>(cpu, 0, CURRENT_BLOCK);
  }
}
