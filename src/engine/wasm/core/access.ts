// Loads and stores by guest address, through the TLBs. The inlined fast paths are one comparison each. Everything
// else is here once: TLB misses, accesses that cross pages, pages with decoded code, non-canonical addresses,
// alignment checks. Invariant: a store changes nothing unless all of it can be done.
import {
  ACCESS_TAG, CURRENT_OP, FAULT_ADDRESS, FAULT_CODE, GENERATION, MODE, O_BASE, O_SCALE, TLB, TLB_CODE,
  TLB_CODE_ENTRIES, TLB_ENTRIES, TLB_READ, TLB_WRITE, VICTIM_NEXT, VICTIMS, VICTIMS_READ, VICTIMS_WRITE, ZERO,
} from './layout';
import { codeMasks, dirtyBytes, framesBase, GP, raise, raisePageFault, SS } from './engine';
import { canonical, EXEC, NOT_CANONICAL, noteWrite, READ, walk, WRITE } from './walk';
import { checkAlignment, noteAccess } from './watch';
import { checkSegment, isLong, nextPage, segmentAllows, STACK } from './segment';
export { EXTRA, STACK } from './segment';

@inline
function entryOf(va: u64): usize {
  return <usize>(va >> 8) & ((TLB_ENTRIES - 1) << 4);
}

function refuse(cpu: usize, op: usize): void {
  const code = load<u32>(cpu, FAULT_CODE);
  if (code != NOT_CANONICAL) raisePageFault(cpu, load<u64>(cpu, FAULT_ADDRESS), code);
  const at = op & ~15;
  const base = load<u8>(at, O_BASE);
  const bySegment = (load<u8>(at, O_SCALE) & 0xf8) != ZERO;
  raise(cpu, op & STACK || ((base == 0x20 || base == 0x28) && !bySegment) ? SS : GP, 0);
}

/**
 * Looks for the page among the entries that were evicted last. If it is there, it is exchanged with the entry at
 * `at`.
 */
export function recall(at: usize, victims: usize, tag: u64): bool {
  for (let v = victims; v < victims + (VICTIMS << 4); v += 16) {
    if (load<u64>(v) != tag) continue;
    const addend = load<u32>(v, 8);
    store<u64>(v, load<u64>(at));
    store<u32>(v, load<u32>(at, 8), 8);
    store<u64>(at, tag);
    store<u32>(at, addend, 8);
    return true;
  }
  return false;
}

/** Writes a new entry at `at`. The entry that was there is kept among the victims. */
export function fill(at: usize, victims: usize, tag: u64, page: usize): void {
  const old = load<u64>(at);
  if (((old ^ tag) & 0xfff) == 0) {
    const next = load<u32>(victims, VICTIM_NEXT);
    store<u64>(victims + next, old);
    store<u32>(victims + next, load<u32>(at, 8), 8);
    store<u32>(victims, (next + 16) & ((VICTIMS - 1) << 4), VICTIM_NEXT);
  }
  store<u64>(at, tag);
  store<u32>(at, <u32>page - <u32>(tag & ~0xfff), 8);
}

/** Returns the linear address of the page of va for reading, and fills the TLB. */
function pageForRead(cpu: usize, op: usize, va: u64): usize {
  const tlb: usize = load<u32>(cpu, TLB);
  const at = tlb + TLB_READ + entryOf(va);
  const tag = (va & ~0xfff) | load<u64>(cpu, GENERATION);
  if (load<u64>(at) == tag || recall(at, tlb + VICTIMS_READ, tag)) return <usize>(load<u32>(at, 8) + <u32>(va & ~0xfff));
  const page = walk(cpu, va, READ, load<u32>(cpu, MODE) != 0);
  if (page == 0) refuse(cpu, op);
  fill(at, tlb + VICTIMS_READ, tag, page);
  return page;
}

/** Does the same for writing. The frame counts as written from now on. */
function pageForWrite(cpu: usize, op: usize, va: u64): usize {
  const tlb: usize = load<u32>(cpu, TLB);
  const at = tlb + TLB_WRITE + entryOf(va);
  const tag = (va & ~0xfff) | load<u64>(cpu, GENERATION);
  if (load<u64>(at) == tag || recall(at, tlb + VICTIMS_WRITE, tag)) return <usize>(load<u32>(at, 8) + <u32>(va & ~0xfff));
  const page = walk(cpu, va, WRITE, load<u32>(cpu, MODE) != 0);
  if (page == 0) refuse(cpu, op);
  const frame = (<u32>page - <u32>framesBase) >> 12;
  store<u8>(dirtyBytes + frame, 1);
  if (load<u64>(codeMasks + (frame << 3)) == 0) fill(at, tlb + VICTIMS_WRITE, tag, page);
  return page;
}

/**
 * Before any page is looked up, refuses an access that extends into non-canonical addresses or, in compatibility
 * mode, one that its segment does not allow.
 */
@inline
function checkEnd(cpu: usize, op: usize, va: u64, size: u32, isWrite: bool): void {
  if (!isLong(cpu)) {
    checkSegment(cpu, op, va, size, isWrite);
    return;
  }
  if ((<u32>va & 4095) + size <= 4096 || canonical((va | 4095) + 1)) return;
  store<u32>(cpu, NOT_CANONICAL, FAULT_CODE);
  refuse(cpu, op);
}

/**
 * x87 operands of more than 8 bytes are transferred in pieces. If such an operand extends into non-canonical
 * addresses, or beyond the limit of its segment, after its first piece, the first page is checked first. AMD processors
 * do this; no manual says which of the faults occurs.
 */
export function checkFirstPiece(cpu: usize, op: usize, va: u64, size: u32, stores: bool): void {
  if (isLong(cpu) ? (<u32>va & 4095) + size <= 4096 || canonical((va | 4095) + 1) : segmentAllows(cpu, op, va, size, stores)) return;
  // FXSAVE and FXRSTOR are refused as a whole. The first piece of others is the significand of a number or a word of
  // an environment.
  if (size == 512) return;
  const piece: u32 = size == 10 ? 8 : size == 14 || size == 94 ? 2 : 4;
  if ((<u32>va & 4095) + piece > 4096 || (!isLong(cpu) && !segmentAllows(cpu, op, va, piece, stores))) return;
  if (stores) pageForWrite(cpu, op, va);
  else pageForRead(cpu, op, va);
}

export function slowRead(cpu: usize, op: usize, va: u64, size: u32): u64 {
  store<u32>(cpu, <u32>op & ~15, CURRENT_OP);
  checkEnd(cpu, op, va, size, false);
  const page = pageForRead(cpu, op, va);
  checkAlignment(cpu, va, size);
  noteAccess(cpu, va, size, false);
  const offset = <u32>va & 4095;
  if (offset + size <= 4096) {
    const at = page + offset;
    return size == 8 ? load<u64>(at) : size == 4 ? load<u32>(at) : size == 2 ? load<u16>(at) : load<u8>(at);
  }
  const second = pageForRead(cpu, op, nextPage(cpu, va));
  let v: u64 = 0;
  for (let i: u32 = 0; i < size; i++) {
    v |= <u64>load<u8>(offset + i < 4096 ? page + offset + i : second + offset + i - 4096) << (i << 3);
  }
  return v;
}

export function slowWrite(cpu: usize, op: usize, va: u64, v: u64, size: u32): void {
  store<u32>(cpu, <u32>op & ~15, CURRENT_OP);
  checkEnd(cpu, op, va, size, true);
  const page = pageForWrite(cpu, op, va);
  checkAlignment(cpu, va, size);
  noteAccess(cpu, va, size, true);
  const offset = <u32>va & 4095;
  if (offset + size <= 4096) {
    const at = page + offset;
    noteWrite(at, size);
    if (size == 8) store<u64>(at, v);
    else if (size == 4) store<u32>(at, <u32>v);
    else if (size == 2) store<u16>(at, <u16>v);
    else store<u8>(at, <u8>v);
    return;
  }
  const second = pageForWrite(cpu, op, nextPage(cpu, va));
  noteWrite(page + offset, 4096 - offset);
  noteWrite(second, size - (4096 - offset));
  for (let i: u32 = 0; i < size; i++) {
    store<u8>(offset + i < 4096 ? page + offset + i : second + offset + i - 4096, <u8>(v >> (i << 3)));
  }
}

/** Raises the exception that a store of `size` bytes (up to a page) at va would raise. */
export function slowProbe(cpu: usize, op: usize, va: u64, size: u32): void {
  store<u32>(cpu, <u32>op & ~15, CURRENT_OP);
  checkEnd(cpu, op, va, size, true);
  pageForWrite(cpu, op, va);
  checkAlignment(cpu, va, size);
  if ((<u32>va & 4095) + size > 4096) pageForWrite(cpu, op, nextPage(cpu, va));
}

@inline
export function read<T>(cpu: usize, tlb: usize, tag: u64, op: usize, va: u64): T {
  const at = tlb + TLB_READ + entryOf(va);
  if (load<u64>(at) == (((va + (sizeof<T>() - 1)) & ~0xfff) | tag)) {
    return load<T>(<usize>(load<u32>(at, 8) + <u32>va));
  }
  return <T>slowRead(cpu, op, va, sizeof<T>());
}

@inline
export function write<T>(cpu: usize, tlb: usize, tag: u64, op: usize, va: u64, v: T): void {
  const at = tlb + TLB_WRITE + entryOf(va);
  if (load<u64>(at) == (((va + (sizeof<T>() - 1)) & ~0xfff) | tag)) {
    store<T>(<usize>(load<u32>(at, 8) + <u32>va), v);
  } else slowWrite(cpu, op, va, <u64>v, sizeof<T>());
}

@inline
export function probe<T>(cpu: usize, tlb: usize, tag: u64, op: usize, va: u64): void {
  const at = tlb + TLB_WRITE + entryOf(va);
  if (load<u64>(at) != (((va + (sizeof<T>() - 1)) & ~0xfff) | tag)) slowProbe(cpu, op, va, sizeof<T>());
}

/** Access operands whose size (2^log bytes) is known only at run time. Values that are read are zero-extended. */
export function readSized(cpu: usize, op: usize, va: u64, log: u32): u64 {
  const at = <usize>load<u32>(cpu, TLB) + TLB_READ + entryOf(va);
  const size: u32 = 1 << log;
  if (load<u64>(at) != (((va + (size - 1)) & ~0xfff) | load<u64>(cpu, ACCESS_TAG))) return slowRead(cpu, op, va, size);
  const p = <usize>(load<u32>(at, 8) + <u32>va);
  return log == 3 ? load<u64>(p) : log == 2 ? load<u32>(p) : log == 1 ? load<u16>(p) : load<u8>(p);
}

export function writeSized(cpu: usize, op: usize, va: u64, v: u64, log: u32): void {
  const at = <usize>load<u32>(cpu, TLB) + TLB_WRITE + entryOf(va);
  const size: u32 = 1 << log;
  if (load<u64>(at) != (((va + (size - 1)) & ~0xfff) | load<u64>(cpu, ACCESS_TAG))) {
    slowWrite(cpu, op, va, v, size);
    return;
  }
  const p = <usize>(load<u32>(at, 8) + <u32>va);
  if (log == 3) store<u64>(p, v);
  else if (log == 2) store<u32>(p, <u32>v);
  else if (log == 1) store<u16>(p, <u16>v);
  else store<u8>(p, <u8>v);
}

/** Copies up to a page from guest memory to the linear address `to`. */
export function readBytes(cpu: usize, op: usize, va: u64, to: usize, size: u32): void {
  checkEnd(cpu, op, va, size, false);
  noteAccess(cpu, va, size, false);
  const page = pageForRead(cpu, op, va);
  const offset = <u32>va & 4095;
  if (offset + size <= 4096) {
    memory.copy(to, page + offset, size);
    return;
  }
  const second = pageForRead(cpu, op, nextPage(cpu, va));
  memory.copy(to, page + offset, 4096 - offset);
  memory.copy(to + (4096 - offset), second, size - (4096 - offset));
}

export function writeBytes(cpu: usize, op: usize, va: u64, from: usize, size: u32): void {
  checkEnd(cpu, op, va, size, true);
  noteAccess(cpu, va, size, true);
  const page = pageForWrite(cpu, op, va);
  const offset = <u32>va & 4095;
  if (offset + size <= 4096) {
    noteWrite(page + offset, size);
    memory.copy(page + offset, from, size);
    return;
  }
  const second = pageForWrite(cpu, op, nextPage(cpu, va));
  noteWrite(page + offset, 4096 - offset);
  noteWrite(second, size - (4096 - offset));
  memory.copy(page + offset, from, 4096 - offset);
  memory.copy(second, from + (4096 - offset), size - (4096 - offset));
}

/** Return the linear address of va, valid for reading or writing up to the end of its page. */
export function readable(cpu: usize, op: usize, va: u64): usize {
  return pageForRead(cpu, op, va) + <usize>(<u32>va & 4095);
}
export function writable(cpu: usize, op: usize, va: u64): usize {
  return pageForWrite(cpu, op, va) + <usize>(<u32>va & 4095);
}

/** Returns the linear address of the instruction byte at va, or 0 with the fault fields set. */
export function codeAddress(cpu: usize, va: u64): usize {
  const at = <usize>load<u32>(cpu, TLB) + TLB_CODE + (<usize>(va >> 8) & ((TLB_CODE_ENTRIES - 1) << 4));
  const tag = (va & ~0xfff) | load<u64>(cpu, GENERATION);
  if (load<u64>(at) == tag) return <usize>(load<u32>(at, 8) + <u32>va);
  const page = walk(cpu, va, EXEC, load<u32>(cpu, MODE) != 0);
  if (page == 0) return 0;
  store<u64>(at, tag);
  store<u32>(at, <u32>page - <u32>(va & ~0xfff), 8);
  return page + (<u32>va & 4095);
}
