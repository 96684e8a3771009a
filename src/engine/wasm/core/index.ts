// The functions of the core that the machine calls. Guest addresses are passed as i64 (or as f64 where no bigint is
// to be allocated), linear addresses as u32, vCPUs as the linear address of their state.
import {
  ACCESS_TAG, ALL_SLOW, BUDGET, CODE_KIND, CS_BASE, CURRENT_BLOCK, EXIT_SOFTWARE, GENERATION, GENERATION_LAST, GENERATIONS, GIVEN, JUMP_CACHE,
  JUMP_ENTRIES, JUMP_GENERATIONS, JUMP_STEP, JUMP_TAG, MODE, MODE_TLB, MODE_TLB_STRIDE, RIP, SEGMENTS_CHECKED, STALE_COUNT, STALE_LIST, STALE_MARKS,
  STALE_MARKS_BYTES, STALE_MOST, TLB, TLB_CODE,
  TLB_CODE_ENTRIES, TLB_ENTRIES, TLB_READ, TLB_WRITE, VCPU_BASE, VCPU_STRIDE, VICTIMS, VICTIMS_READ,
  VICTIMS_WRITE, WATCHING,
} from './layout';
import { codeMasks, dirtyBytes, firstMfn, frameCount, framesBase, retireAll, setEngine, unwind as unwindCpu, vcpuCount } from './engine';
import { getFlags, setFlags } from './flags';
import { codeAddress } from './access';
import { dropAll, dropFrame, forbidWriting, setRunning } from './code';
import { EXEC, largePages, lowKernelCode, walk, WAY } from './walk';
import { interpret, prepareBlock } from './interp';
import { isLong, NARROW } from './segment';
import { alignmentChecked } from './watch';
export { fxsave, fxrstor, fninit } from './fp/index';
export { dropAll, forbidWriting, prepareBlock };
export { conditionOf, fpExec, readAt, step, writeAt } from './region';

export function init(
  frames: usize, count: u32, mfn: u32, masks: usize, blocks: usize, dirty: usize, end: usize, vcpus: i32,
): void {
  setEngine(frames, count, mfn, masks, blocks, dirty, end, vcpus);
  for (let v = 0; v < vcpus; v++) {
    const cpu: usize = VCPU_BASE + v * VCPU_STRIDE;
    for (let mode = 0; mode < 2; mode++) {
      store<u64>(cpu + (mode << 3), 1, GENERATIONS);
      store<u32>(cpu + (mode << 2), JUMP_STEP, JUMP_GENERATIONS);
    }
    setFlags(cpu, 0);
  }
  dropAll();
}

function selectMode(cpu: usize): void {
  const mode = load<u32>(cpu, MODE);
  store<u32>(cpu, <u32>cpu + MODE_TLB + mode * MODE_TLB_STRIDE, TLB);
  const kind = load<u32>(cpu, CODE_KIND);
  store<u32>(cpu, load<u32>(cpu + (mode << 2), JUMP_GENERATIONS) | (kind << 1) | mode, JUMP_TAG);
  const generation = load<u64>(cpu + (mode << 3), GENERATIONS);
  store<u64>(cpu, generation, GENERATION);
  const slow = alignmentChecked(cpu) || load<u32>(cpu, WATCHING) != 0 || (kind != 0 && load<u32>(cpu, SEGMENTS_CHECKED) != 0);
  store<u64>(cpu, slow ? ALL_SLOW : generation, ACCESS_TAG);
}

/** In compatibility mode the guest's rip is relative to the code segment's base. Inside the core it is linear. */
function enterSegment(cpu: usize): void {
  if (!isLong(cpu)) store<u64>(cpu, (load<u64>(cpu, RIP) + load<u64>(cpu, CS_BASE)) & NARROW, RIP);
}

function leaveSegment(cpu: usize): void {
  if (!isLong(cpu)) store<u64>(cpu, (load<u64>(cpu, RIP) - load<u64>(cpu, CS_BASE)) & NARROW, RIP);
}

/** Executes up to `budget` instructions. BUDGET is what is left. Throws for exceptions; unwind() has to follow. */
export function run(cpu: usize, budget: i32): i32 {
  selectMode(cpu);
  store<i32>(cpu, budget, BUDGET);
  store<i32>(cpu, budget, GIVEN);
  store<u32>(cpu, 0, EXIT_SOFTWARE);
  store<u32>(cpu, 0, CURRENT_BLOCK);
  setRunning(cpu);
  enterSegment(cpu);
  const exit = interpret(cpu);
  leaveSegment(cpu);
  retireAll(cpu);
  setRunning(0);
  return exit;
}

export function unwind(cpu: usize): void {
  setRunning(0);
  unwindCpu(cpu);
  leaveSegment(cpu);
}

/**
 * Returns the linear address, or 0 with the fault fields set. Bits of `intent`: 1 write, 2 execute, 4 user, 8 kernel.
 * The address is a number, because a bigint would be allocated for every call.
 */
export function translate(cpu: usize, address: f64, intent: u32): usize {
  const va = <i64>address;
  const user = (intent & 12) != 0 ? (intent & 4) != 0 : load<u32>(cpu, MODE) != 0;
  const page = walk(cpu, <u64>va, intent & 2 ? EXEC : intent & 1, user);
  if (page == 0) return 0;
  if (intent & 1) touch(page);
  return page + (<u32>va & 4095);
}

/** For the decoder: finds the second page of an instruction. */
export function codePage(cpu: usize, va: i64): usize {
  return codeAddress(cpu, isLong(cpu) ? <u64>va : <u64>va & NARROW);
}

/** To be called when the host writes into this frame: all code that was decoded from it is dropped. */
export function touch(at: usize): void {
  const frame = (<u32>at - <u32>framesBase) >> 12;
  store<u8>(dirtyBytes + frame, 1);
  dropFrame(frame);
}

export function flush(cpu: usize): void {
  flushMode(cpu, 0);
  flushMode(cpu, 1);
  forgetStale(cpu);
}

/**
 * The host sets an entry of a page table (by the frame that the table is, and its index there). If the entry was
 * present, translations by it are out of date from now on: all that lead to the frame that it named or, if it is not of
 * the lowest level, any.
 */
export function setEntry(table: u32, index: u32, level: u32, lo: u32, hi: u32): void {
  const at = framesBase + (<usize>table << 12) + (<usize>index << 3);
  const old = load<u64>(at);
  if ((old & 1) != 0) {
    if (level > 1) anyChanged();
    else {
      const frame = ((old >> 12) & 0xff_ffff_ffff) - firstMfn;
      if (frame < <u64>frameCount) mappingChanged(<u32>frame);
    }
  }
  store<u64>(at, <u64>lo | (<u64>hi << 32));
  touch(at);
}

/** Each vCPU has to flush all translations. */
function anyChanged(): void {
  for (let v = 0; v < vcpuCount; v++) store<u32>(VCPU_BASE + v * VCPU_STRIDE, STALE_MOST + 1, STALE_COUNT);
}

/** Each vCPU has this frame in its list of frames to flush. */
function mappingChanged(frame: u32): void {
  for (let v = 0; v < vcpuCount; v++) {
    const cpu: usize = VCPU_BASE + v * VCPU_STRIDE;
    const count = load<u32>(cpu, STALE_COUNT);
    if (count > <u32>STALE_MOST) continue;
    store<u32>(cpu, count + 1, STALE_COUNT);
    if (count == <u32>STALE_MOST) continue;
    store<u32>(cpu + (<usize>count << 2), frame, STALE_LIST);
    store<u8>(cpu + (<usize>frame & (STALE_MARKS_BYTES - 1)), 1, STALE_MARKS);
  }
}

/**
 * Forgets the translations that setEntry() has made out of date. All other cached translations are the same as a page walk
 * would find.
 */
export function flushStale(cpu: usize): void {
  const count = load<u32>(cpu, STALE_COUNT);
  if (count == 0) return;
  if (count > <u32>STALE_MOST) {
    flush(cpu);
    return;
  }
  let code = false;
  for (let i: u32 = 0; i < count; i++) {
    const frame = load<u32>(cpu + (<usize>i << 2), STALE_LIST);
    if (load<u64>(codeMasks + (<usize>frame << 3)) != 0) code = true;
  }
  for (let mode: u32 = 0; mode < 2; mode++) {
    const generation = load<u64>(cpu + (<usize>mode << 3), GENERATIONS);
    const tlb = cpu + MODE_TLB + mode * MODE_TLB_STRIDE;
    dropMarked(cpu, generation, tlb + TLB_READ, TLB_ENTRIES);
    dropMarked(cpu, generation, tlb + TLB_WRITE, TLB_ENTRIES);
    dropMarked(cpu, generation, tlb + TLB_CODE, TLB_CODE_ENTRIES);
    dropMarked(cpu, generation, tlb + VICTIMS_READ, VICTIMS);
    dropMarked(cpu, generation, tlb + VICTIMS_WRITE, VICTIMS);
    if (code) flushJumps(cpu, mode);
  }
  forgetStale(cpu);
}

function dropMarked(cpu: usize, generation: u64, first: usize, entries: usize): void {
  for (let at = first; at < first + (entries << 4); at += 16) {
    const tag = load<u64>(at);
    if ((tag & 0xfff) != generation) continue;
    const frame = ((<u32>tag & 0xffff_f000) + load<u32>(at, 8) - <u32>framesBase) >> 12;
    if (load<u8>(cpu + (frame & (STALE_MARKS_BYTES - 1)), STALE_MARKS) != 0) store<u64>(at, 0);
  }
}

function forgetStale(cpu: usize): void {
  if (load<u32>(cpu, STALE_COUNT) == 0) return;
  store<u32>(cpu, 0, STALE_COUNT);
  memory.fill(cpu + STALE_MARKS, 0, STALE_MARKS_BYTES);
}

/** Forgets the translations of one mode: 0 is the kernel's, 1 the user's. */
export function flushMode(cpu: usize, mode: u32): void {
  const at = cpu + (<usize>mode << 3);
  const generation = load<u64>(at, GENERATIONS) + 1;
  if (generation > <u64>GENERATION_LAST) {
    memory.fill(cpu + MODE_TLB + mode * MODE_TLB_STRIDE, 0, MODE_TLB_STRIDE);
    store<u64>(at, 1, GENERATIONS);
  } else store<u64>(at, generation, GENERATIONS);
  flushJumps(cpu, mode);
}

/** Removes entries for addresses in the lower half. */
function forgetLower(first: usize, entries: usize): void {
  for (let at = first; at < first + (entries << 4); at += 16) if (load<i64>(at) > 0) store<u64>(at, 0);
}

/**
 * The kernel changes from the top table at `before` to the one at `after` (linear addresses), and no translation that it
 * has is out of date: where both show the guest the same upper half, translations of that half are kept. False: they
 * do not, and nothing was done.
 */
export function keepUpperHalf(cpu: usize, before: usize, after: usize): bool {
  if (lowKernelCode) return false;
  for (let slot: usize = 2048; slot < 4096; slot += 8) {
    const one = load<u64>(before + slot);
    const other = load<u64>(after + slot);
    if (one != other && ((one & WAY) == WAY || (other & WAY) == WAY)) return false;
  }
  const tlb = cpu + MODE_TLB;
  forgetLower(tlb + TLB_READ, TLB_ENTRIES);
  forgetLower(tlb + TLB_WRITE, TLB_ENTRIES);
  forgetLower(tlb + VICTIMS_READ, VICTIMS);
  forgetLower(tlb + VICTIMS_WRITE, VICTIMS);
  forgetLower(tlb + TLB_CODE, TLB_CODE_ENTRIES);
  return true;
}

/** Makes the present run end after the present block. */
export function endRun(cpu: usize): void {
  const left = load<i32>(cpu, BUDGET);
  store<i32>(cpu, load<i32>(cpu, GIVEN) - left, GIVEN);
  store<i32>(cpu, 0, BUDGET);
}

function flushJumps(cpu: usize, mode: u32): void {
  const at = cpu + (<usize>mode << 2);
  const generation = load<u32>(at, JUMP_GENERATIONS) + JUMP_STEP;
  if (generation < <u32>JUMP_STEP) memory.fill(cpu + JUMP_CACHE, 0, JUMP_ENTRIES * 16);
  store<u32>(at, generation < <u32>JUMP_STEP ? JUMP_STEP : generation, JUMP_GENERATIONS);
}

export function invlpg(cpu: usize, address: f64): void {
  const va = <i64>address;
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
    flushJumps(cpu, mode);
  }
}

/** Removes all entries for writing from the TLBs, so that the next write to each page marks it dirty. */
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
