// movs, stos, lods, scas and cmps with their repeat prefixes. After every element the state is in rcx, rsi and rdi,
// so after a fault in the middle, or a stop after CHUNK elements, the instruction continues when it is executed
// again. Each CHUNK counts as one instruction. SDM vol. 2, REP.
import { ES_BASE, O_R1, O_SCALE, SCALE_ADDR32, SCALE_SLOT, SYSTEM_FLAGS, WATCHING } from './layout';
import { noteWrite } from './walk';
import { EXTRA, readable, readSized, writable, writeSized } from './access';
import { checkUsable, isLong, NARROW } from './segment';
import { flagsSub } from './flags';
import { getSized, setSized, signedSized } from './operands';
import { G } from './ops';
import { watched } from './watch';

const CHUNK: u64 = 0x10000;
const RAX = 0;
const RCX = 8;
const RSI = 0x30;
const RDI = 0x38;
const DIRECTION: u32 = 0x400;

@inline
function setCounter(cpu: usize, register: usize, v: u64, wrap: u64): void {
  if (wrap == 0xffff) store<u16>(cpu + register, <u16>v);
  else store<u64>(cpu + register, v & wrap);
}

/** How many whole elements fit into a page from `offset` upwards. */
@inline
function fit(offset: u32, log: u32): u64 {
  return (4096 - (offset & 4095)) >> log;
}

/** Returns true if the instruction is complete. */
export function stringOperation(cpu: usize, op: usize, kind: i32, log: u32): bool {
  const repeat = load<u8>(op, O_R1);
  const scale = load<u8>(op, O_SCALE);
  const narrow = (scale & SCALE_ADDR32) != 0;
  const short = narrow && (scale & SCALE_SLOT) == 0;
  const wrap: u64 = short ? 0xffff : narrow ? NARROW : ~(<u64>0);
  const slot: usize = (scale & 0x78) | SCALE_SLOT;
  const segment = load<u64>(cpu + slot);
  const long = isLong(cpu);
  const extra: u64 = long ? 0 : load<u64>(cpu, ES_BASE);
  const all: u64 = long ? ~(<u64>0) : NARROW;
  const down = (load<u32>(cpu, SYSTEM_FLAGS) & DIRECTION) != 0;
  const step: u64 = down ? 0 - (<u64>1 << log) : <u64>1 << log;
  let count: u64 = repeat != 0 ? load<u64>(cpu, RCX) & wrap : 1;
  if (count == 0) return true;
  if (!long) {
    if (kind != G.STOS && kind != G.SCAS) checkUsable(cpu, op, slot);
    if (kind != G.LODS) checkUsable(cpu, op, ES_BASE);
  }
  // Elements are processed one by one if a breakpoint may trap between two of them, or if offsets may wrap within a
  // page, which is rare.
  const exact = watched(cpu) || (!long && (short || ((segment | extra) & 4095) != 0));
  let left = exact && load<u32>(cpu, WATCHING) != 0 ? 1 : CHUNK;
  let rsi = load<u64>(cpu, RSI) & wrap;
  let rdi = load<u64>(cpu, RDI) & wrap;
  while (count != 0) {
    if (left == 0) return false;
    let done: u64 = 1;
    let stop = false;
    const bulk = repeat != 0 && !down && !exact && kind <= G.STOS;
    if (kind == G.MOVS) {
      const from = (rsi + segment) & all;
      const to = (rdi + extra) & all;
      done = bulk ? min(min(count, left), min(fit(<u32>from, log), fit(<u32>to, log))) : 0;
      if (done > 1) {
        const source = readable(cpu, op, from);
        const target = writable(cpu, op | EXTRA, to);
        const size = <usize>(done << log);
        noteWrite(target, <u32>size);
        if (target <= source || target >= source + size) memory.copy(target, source, size);
        else copyUpwards(target, source, size, log);
      } else {
        done = 1;
        const v = readSized(cpu, op, from, log);
        writeSized(cpu, op | EXTRA, to, v, log);
      }
      rsi = (rsi + step * done) & wrap;
      rdi = (rdi + step * done) & wrap;
    } else if (kind == G.STOS) {
      const to = (rdi + extra) & all;
      done = bulk ? min(min(count, left), fit(<u32>to, log)) : 0;
      const v = load<u64>(cpu, RAX);
      if (done > 1) {
        const target = writable(cpu, op | EXTRA, to);
        noteWrite(target, <u32>(done << log));
        fillUpwards(target, v, <usize>(done << log), log);
      } else {
        done = 1;
        writeSized(cpu, op | EXTRA, to, v, log);
      }
      rdi = (rdi + step * done) & wrap;
    } else if (kind == G.LODS) {
      setSized(cpu, RAX, <i64>readSized(cpu, op, (rsi + segment) & all, log), log);
      rsi = (rsi + step) & wrap;
    } else {
      const shift = 64 - (8 << log);
      let a: i64;
      let b: i64;
      if (kind == G.SCAS) {
        b = signedSized(<i64>readSized(cpu, op | EXTRA, (rdi + extra) & all, log), log);
        a = getSized(cpu, RAX, log);
      } else {
        a = signedSized(<i64>readSized(cpu, op, (rsi + segment) & all, log), log);
        b = signedSized(<i64>readSized(cpu, op | EXTRA, (rdi + extra) & all, log), log);
        rsi = (rsi + step) & wrap;
      }
      rdi = (rdi + step) & wrap;
      flagsSub(cpu, a, b, shift);
      stop = (a == b) == (repeat == 2);
    }
    if (kind == G.MOVS || kind == G.LODS || kind == G.CMPS) setCounter(cpu, RSI, rsi, wrap);
    if (kind != G.LODS) setCounter(cpu, RDI, rdi, wrap);
    if (repeat == 0) return true;
    count -= done;
    left -= done;
    setCounter(cpu, RCX, count, wrap);
    if (stop) return true;
  }
  return true;
}

/**
 * Copies element by element. This is needed if the target overlaps the source from above, because what was written is
 * read again.
 */
function copyUpwards(target: usize, source: usize, size: usize, log: u32): void {
  for (let i: usize = 0; i < size; i += 1 << log) {
    if (log == 3) store<u64>(target + i, load<u64>(source + i));
    else if (log == 2) store<u32>(target + i, load<u32>(source + i));
    else if (log == 1) store<u16>(target + i, load<u16>(source + i));
    else store<u8>(target + i, load<u8>(source + i));
  }
}

function fillUpwards(target: usize, v: u64, size: usize, log: u32): void {
  const byte = v & 0xff;
  const all = byte * 0x0101_0101_0101_0101;
  const used: u64 = log == 3 ? ~(<u64>0) : (<u64>1 << (8 << log)) - 1;
  if (((v ^ all) & used) == 0) {
    memory.fill(target, <u8>v, size);
    return;
  }
  for (let i: usize = 0; i < size; i += 1 << log) {
    if (log == 3) store<u64>(target + i, v);
    else if (log == 2) store<u32>(target + i, <u32>v);
    else store<u16>(target + i, <u16>v);
  }
}
