// Functions that translated regions call. Invariant: only step() raises. If an access cannot be done here, the
// functions return 0 and nothing has changed; the region then leaves the whole instruction to the interpreter.
import {
  BLOCK_VA, BUDGET, CURRENT_OP, GENERATION, KILLS, MODE, R_EXIT, R_GOTO, SCRATCH, TLB, TLB_ENTRIES, TLB_READ, TLB_WRITE,
  VICTIMS_READ, VICTIMS_WRITE,
} from './layout';
import { fill, recall } from './access';
import { watched } from './watch';
import { codeMasks, dirtyBytes, framesBase } from './engine';
import { READ, walk, WRITE } from './walk';
import { pieces } from './code';
import { AGAIN, generic } from './generic';
import { stop } from './interp';
export { conditionOf } from './flags';
export { fpExec } from './fp/index';

/** Where an operand that crosses a page boundary is assembled. */
const JOINED: usize = SCRATCH + 0x1e0;

@inline
function entryOf(va: u64): usize {
  return <usize>(va >> 8) & ((TLB_ENTRIES - 1) << 4);
}

function pageToRead(cpu: usize, va: u64): usize {
  const tlb: usize = load<u32>(cpu, TLB);
  const at = tlb + TLB_READ + entryOf(va);
  const tag = (va & ~0xfff) | load<u64>(cpu, GENERATION);
  if (load<u64>(at) == tag || recall(at, tlb + VICTIMS_READ, tag)) return <usize>(load<u32>(at, 8) + <u32>(va & ~0xfff));
  const page = walk(cpu, va, READ, load<u32>(cpu, MODE) != 0);
  if (page != 0) fill(at, tlb + VICTIMS_READ, tag, page);
  return page;
}

/**
 * Returns a linear address at which `size` bytes (up to 16) can be read, or 0 if the interpreter has to do the
 * access.
 */
export function readAt(cpu: usize, va: u64, size: u32): usize {
  if (watched(cpu)) return 0;
  const page = pageToRead(cpu, va);
  if (page == 0) return 0;
  const offset = <u32>va & 4095;
  if (offset + size <= 4096) return page + offset;
  const second = pageToRead(cpu, (va | 4095) + 1);
  if (second == 0) return 0;
  const first = 4096 - offset;
  memory.copy(cpu + JOINED, page + offset, first);
  memory.copy(cpu + JOINED + first, second, size - first);
  return cpu + JOINED;
}

/**
 * Returns a linear address at which `size` bytes can be written and read, or 0 if the interpreter has to do the
 * access.
 */
export function writeAt(cpu: usize, va: u64, size: u32): usize {
  const offset = <u32>va & 4095;
  if (offset + size > 4096 || watched(cpu)) return 0;
  const tlb: usize = load<u32>(cpu, TLB);
  const at = tlb + TLB_WRITE + entryOf(va);
  const tag = (va & ~0xfff) | load<u64>(cpu, GENERATION);
  if (load<u64>(at) == tag || recall(at, tlb + VICTIMS_WRITE, tag)) return <usize>(load<u32>(at, 8) + <u32>va);
  const page = walk(cpu, va, WRITE, load<u32>(cpu, MODE) != 0);
  if (page == 0) return 0;
  const frame = (<u32>page - <u32>framesBase) >> 12;
  store<u8>(dirtyBytes + frame, 1);
  const code = load<u64>(codeMasks + (frame << 3));
  if (code == 0) fill(at, tlb + VICTIMS_WRITE, tag, page);
  else if ((code & pieces(offset, size)) != 0) return 0;
  return page + offset;
}

/**
 * Executes one generic operation of the present block. The vCPU's memory must be up to date. Returns 0, or what the
 * region has to return.
 */
export function step(cpu: usize, op: usize, code: u32): u32 {
  store<u32>(cpu, <u32>op, CURRENT_OP);
  const kills = load<u32>(KILLS);
  const left = load<i32>(cpu, BUDGET);
  const r = generic(cpu, op, code);
  // The region may have lost its code, or the run may have been told to end.
  if (r == 0) return load<u32>(KILLS) == kills && load<i32>(cpu, BUDGET) == left ? 0 : <u32>op + 16;
  if (r == AGAIN) {
    store<u64>(cpu, stop(cpu, op, false), BLOCK_VA);
    return R_GOTO;
  }
  stop(cpu, op, true);
  return (<u32>r << 4) | R_EXIT;
}
