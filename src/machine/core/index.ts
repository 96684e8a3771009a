// The core: what the machine calls. Addresses of guests come as i64, linear addresses as u32, vCPUs as the linear
// address of their state.
import {
  ACCESS_TAG, ALL_SLOW, BUDGET, CURRENT_BLOCK, EXIT_SOFTWARE, GENERATION, GENERATION_LAST, GIVEN, JUMP_CACHE,
  JUMP_ENTRIES, JUMP_GENERATION, JUMP_TAG, MODE, MODE_TLB, MODE_TLB_STRIDE, TLB, TLB_CODE,
  TLB_CODE_ENTRIES, TLB_ENTRIES, TLB_READ, TLB_WRITE, VCPU_BASE, VCPU_STRIDE, VICTIMS, VICTIMS_READ,
  VICTIMS_WRITE, WATCHING,
} from './layout';
import { dirtyBytes, framesBase, retireAll, setEngine, unwind as unwindCpu, vcpuCount } from './engine';
import { getFlags, setFlags } from './flags';
import { codeAddress } from './access';
import { dropAll, dropFrame, setRunning } from './code';
import { EXEC, largePages, walk } from './walk';
import { interpret } from './interp';
import { alignmentChecked } from './watch';
export { fxsave, fxrstor, fninit } from './fp/index';
export { dropAll };
export { conditionOf, fpExec, readAt, step, writeAt } from './region';

export function init(
  frames: usize, count: u32, masks: usize, blocks: usize, dirty: usize, end: usize, vcpus: i32,
): void {
  setEngine(frames, count, masks, blocks, dirty, end, vcpus);
  for (let v = 0; v < vcpus; v++) {
    const cpu: usize = VCPU_BASE + v * VCPU_STRIDE;
    store<u64>(cpu, 1, GENERATION);
    store<u32>(cpu, 2, JUMP_GENERATION);
    setFlags(cpu, 0);
  }
  dropAll();
}

function selectMode(cpu: usize): void {
  const mode = load<u32>(cpu, MODE);
  store<u32>(cpu, <u32>cpu + MODE_TLB + mode * MODE_TLB_STRIDE, TLB);
  store<u32>(cpu, load<u32>(cpu, JUMP_GENERATION) | mode, JUMP_TAG);
  const slow = alignmentChecked(cpu) || load<u32>(cpu, WATCHING) != 0;
  store<u64>(cpu, slow ? ALL_SLOW : load<u64>(cpu, GENERATION), ACCESS_TAG);
}

/** Executes up to `budget` instructions; BUDGET is what is left. Throws for exceptions: then unwind(). */
export function run(cpu: usize, budget: i32): i32 {
  selectMode(cpu);
  store<i32>(cpu, budget, BUDGET);
  store<i32>(cpu, budget, GIVEN);
  store<u32>(cpu, 0, EXIT_SOFTWARE);
  store<u32>(cpu, 0, CURRENT_BLOCK);
  setRunning(cpu);
  const exit = interpret(cpu);
  retireAll(cpu);
  setRunning(0);
  return exit;
}

export function unwind(cpu: usize): void {
  setRunning(0);
  unwindCpu(cpu);
}

/** Linear address, or 0 with the fault fields set. Bits of `intent`: 1 write, 2 execute, 4 user, 8 kernel. */
export function translate(cpu: usize, va: i64, intent: u32): usize {
  const user = (intent & 12) != 0 ? (intent & 4) != 0 : load<u32>(cpu, MODE) != 0;
  const page = walk(cpu, <u64>va, intent & 2 ? EXEC : intent & 1, user);
  if (page == 0) return 0;
  if (intent & 1) touch(page);
  return page + (<u32>va & 4095);
}

/** For the decoder: the second page of an instruction. */
export function codePage(cpu: usize, va: i64): usize {
  return codeAddress(cpu, <u64>va);
}

/** The host writes into this frame: all decoded code of it goes. */
export function touch(at: usize): void {
  const frame = (<u32>at - <u32>framesBase) >> 12;
  store<u8>(dirtyBytes + frame, 1);
  dropFrame(frame);
}

export function flush(cpu: usize): void {
  const generation = load<u64>(cpu, GENERATION) + 1;
  if (generation > <u64>GENERATION_LAST) {
    memory.fill(cpu + MODE_TLB, 0, 2 * MODE_TLB_STRIDE);
    store<u64>(cpu, 1, GENERATION);
  } else store<u64>(cpu, generation, GENERATION);
  flushJumps(cpu);
}

/** A run that goes on now ends after the present block. */
export function endRun(cpu: usize): void {
  const left = load<i32>(cpu, BUDGET);
  store<i32>(cpu, load<i32>(cpu, GIVEN) - left, GIVEN);
  store<i32>(cpu, 0, BUDGET);
}

function flushJumps(cpu: usize): void {
  const generation = load<u32>(cpu, JUMP_GENERATION) + 2;
  if (generation < 2) memory.fill(cpu + JUMP_CACHE, 0, JUMP_ENTRIES * 16);
  store<u32>(cpu, generation < 2 ? 2 : generation, JUMP_GENERATION);
}

export function invlpg(cpu: usize, va: i64): void {
  if (largePages) {
    flush(cpu);
    return;
  }
  for (let mode = 0; mode < 2; mode++) {
    const tlb = cpu + MODE_TLB + mode * MODE_TLB_STRIDE;
    const entry = <usize>((<u64>va >> 8) & ((TLB_ENTRIES - 1) << 4));
    store<u64>(tlb + TLB_READ + entry, 0);
    store<u64>(tlb + TLB_WRITE + entry, 0);
    memory.fill(tlb + VICTIMS_READ, 0, VICTIMS << 4);
    memory.fill(tlb + VICTIMS_WRITE, 0, VICTIMS << 4);
    store<u64>(tlb + TLB_CODE + <usize>((<u64>va >> 8) & ((TLB_CODE_ENTRIES - 1) << 4)), 0);
  }
  flushJumps(cpu);
}

/** No write is known to the TLBs any more: each page's next write marks it dirty. */
export function flushWrites(): void {
  for (let v = 0; v < vcpuCount; v++) {
    for (let mode = 0; mode < 2; mode++) {
      const tlb: usize = VCPU_BASE + v * VCPU_STRIDE + MODE_TLB + mode * MODE_TLB_STRIDE;
      memory.fill(tlb + TLB_WRITE, 0, TLB_ENTRIES * 16);
      memory.fill(tlb + VICTIMS_WRITE, 0, VICTIMS << 4);
    }
  }
}

export function readFlags(cpu: usize): u32 {
  return getFlags(cpu);
}
export function writeFlags(cpu: usize, bits: u32): void {
  setFlags(cpu, bits);
}
