// What the parts of the core share: the addresses of the tables whose place depends on the size of RAM, the imports,
// and raise(), the only way out of an instruction that cannot complete. raise() throws through WebAssembly, so that
// handlers need not test for faults; everything that the machine needs to know is in memory by then. Invariant:
// before raise() an instruction has changed nothing.
import { BLOCK_HEADER, BLOCK_VA, BUDGET, CURRENT_BLOCK, CURRENT_OP, EXIT_CR2, EXIT_ERROR, EXIT_LENGTH, EXIT_VECTOR, CR2, GIVEN, RETIRED, RIP } from './layout';

/** Throws and never returns. */
@external('env', 'raise')
declare function throwOut(): void;
/**
 * Decodes the block at the linear address `at` (guest address va) to `to`, and fills B_COUNT, B_BYTES, B_FRAME2 and
 * the operations. Returns the number of operations, or 0 if the fetch faulted.
 */
@external('env', 'decode')
export declare function decodeBlock(cpu: usize, va: i64, at: usize, to: usize): i32;
/** Translates the blocks in HOT_LIST. This changes nothing for the guest. */
@external('env', 'translate')
export declare function hostTranslate(cpu: usize): void;
/** A block that is part of a translated region has lost its bytes; 0 means that all blocks have. */
@external('env', 'dropped')
export declare function hostDropped(block: usize): void;
@external('env', 'now')
export declare function hostNow(): f64;
@external('env', 'cpuid')
export declare function hostCpuid(cpu: usize): void;

export let framesBase: usize = 0;
export let frameCount: u32 = 0;
/** Machine frame number of the first frame; those of the others follow. */
export let firstMfn: u64 = 0;
/** One u64 for each frame: from which of its 64-byte pieces code was decoded. */
export let codeMasks: usize = 0;
/** One u32 for each frame: the first of its blocks. */
export let frameBlocks: usize = 0;
/** One byte for each frame. */
export let dirtyBytes: usize = 0;
export let arenaEnd: usize = 0;
export let vcpuCount: i32 = 0;

export function setEngine(
  frames: usize, count: u32, mfn: u32, masks: usize, blocks: usize, dirty: usize, end: usize, vcpus: i32,
): void {
  framesBase = frames;
  frameCount = count;
  firstMfn = mfn;
  codeMasks = masks;
  frameBlocks = blocks;
  dirtyBytes = dirty;
  arenaEnd = end;
  vcpuCount = vcpus;
}

/** Is added to EXIT_VECTOR before a throw that is an exit and not an exception. */
export const LEAVING: u32 = 0x100;

/** Exit codes; see machine.ts. */
export const EXIT_BUDGET = 0;
export const EXIT_SYSCALL = 1;
export const EXIT_EXCEPTION = 2;
export const EXIT_PRIVILEGED = 3;
export const EXIT_DESCRIPTOR = 4;
export const EXIT_FORCED = 5;
export const EXIT_HALTED = 6;
/** Internal: flags that run() has to examine again (TF, AC) have changed. */
export const EXIT_RECHECK = 7;

export const DE: u32 = 0;
export const BR: u32 = 5;
export const UD: u32 = 6;
export const NM: u32 = 7;
export const SS: u32 = 12;
export const GP: u32 = 13;
export const PF: u32 = 14;
export const MF: u32 = 16;
export const AC: u32 = 17;

/** Leaves the present instruction undone, with an exception. */
export function raise(cpu: usize, vector: u32, error: u32): void {
  store<u32>(cpu, vector, EXIT_VECTOR);
  store<u32>(cpu, error, EXIT_ERROR);
  throwOut();
}

/** Leaves the present instruction undone, with an exit that is not an exception. */
export function leave(cpu: usize, reason: u32): void {
  store<u32>(cpu, LEAVING + reason, EXIT_VECTOR);
  throwOut();
}

export function raisePageFault(cpu: usize, va: u64, error: u32): void {
  store<u64>(cpu, va, EXIT_CR2);
  store<u64>(cpu, va, CR2);
  raise(cpu, PF, error);
}

/** Offset of an operation's instruction in its block, in bytes. */
export function offsetOf(block: usize, op: usize): u32 {
  let offset: u32 = 0;
  for (let at = block + BLOCK_HEADER; at < op; at += 16) offset += load<u8>(at, 7);
  return offset;
}

/**
 * How many instructions of the present block, starting with the one at `op`, were already taken off BUDGET but not
 * executed.
 */
function notDone(cpu: usize, op: usize): i32 {
  const block: usize = load<u32>(cpu, CURRENT_BLOCK);
  return load<i32>(block) - <i32>((op - block - BLOCK_HEADER) >> 4);
}

function retire(cpu: usize, budget: i32): void {
  store<u64>(cpu, load<u64>(cpu, RETIRED) + <u64>(load<i32>(cpu, GIVEN) - budget), RETIRED);
  store<i32>(cpu, budget, GIVEN);
}

/** Brings RETIRED up to date during a run, before the instruction at `op`. */
export function retireUpTo(cpu: usize, op: usize): void {
  retire(cpu, load<i32>(cpu, BUDGET) + notDone(cpu, op));
}

/** To be called at the end of a run. */
export function retireAll(cpu: usize): void {
  retire(cpu, load<i32>(cpu, BUDGET));
}

/** To be called after a throw: sets rip and the budget to what they were before the instruction that raised. */
export function unwind(cpu: usize): void {
  const block: usize = load<u32>(cpu, CURRENT_BLOCK);
  if (block != 0) {
    const op: usize = load<u32>(cpu, CURRENT_OP);
    store<u64>(cpu, load<u64>(cpu, BLOCK_VA) + offsetOf(block, op), RIP);
    store<u32>(cpu, load<u8>(op, 7), EXIT_LENGTH);
    store<i32>(cpu, load<i32>(cpu, BUDGET) + notDone(cpu, op), BUDGET);
  }
  retireAll(cpu);
}
