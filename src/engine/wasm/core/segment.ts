// Segments in compatibility mode: bases, limits, rights, the size of the stack pointer, and the targets of branches.
// SDM vol. 3, 5.3 and 5.5; vol. 1, 3.3.7. Long mode has none of this. All addresses in the core are linear, including
// RIP; index.ts converts RIP to the offset that the guest sees, and back. Limits and rights cost nothing as long as
// all usable segments span the whole address space. Otherwise ACCESS_TAG is ALL_SLOW, and every access comes to
// checkSegment().
import {
  CODE_KIND, CS_BASE, CURRENT_OP, ES_BASE, FS_BASE, KIND_CHECKED, KIND_LONG, O_SCALE, RIP, SCALE_SLOT, SEGMENT_LIMITS,
  SEGMENT_RIGHTS, SELECTORS, SS_BASE, ZERO,
} from './layout';
import { GP, raise, SS } from './engine';

/** Is added to the operation's address if the access is to the stack, so that a bad address raises #SS. */
export const STACK: usize = 1;
/** Is added if the access is the one of a string instruction to es:rdi. */
export const EXTRA: usize = 2;
export const NARROW: u64 = 0xffff_ffff;

/** Bits of SEGMENT_RIGHTS. */
const CODE: u32 = 0x800;
const EXPAND_DOWN: u32 = 0x400;
/** Code with this bit can be read, data can be written. */
const READ_WRITE: u32 = 0x200;
const BIG: u32 = 0x40_0000;
const RSP: usize = 0x20;

@inline
export function isLong(cpu: usize): bool {
  return load<u32>(cpu, CODE_KIND) == KIND_LONG;
}

@inline
function rightsOf(cpu: usize, slot: usize): u32 {
  return load<u32>(cpu + ((slot - FS_BASE) >> 1), SEGMENT_RIGHTS);
}

function refuseSegment(cpu: usize, op: usize, slot: usize): void {
  store<u32>(cpu, <u32>op & ~15, CURRENT_OP);
  raise(cpu, slot == SS_BASE ? SS : GP, 0);
}

/** A segment that cannot be used at all is refused before its base is used. */
export function checkUsable(cpu: usize, op: usize, slot: usize): void {
  if (rightsOf(cpu, slot) == 0) refuseSegment(cpu, op, slot);
}

/** Converts an effective address that is cut to 32 or 16 bits to a linear address. `s` is the operation's O_SCALE. */
export function narrowAddress(cpu: usize, op: usize, va: u64, s: u32): u64 {
  const offset = s & SCALE_SLOT ? va & NARROW : va & 0xffff;
  const slot: usize = (s & 0x78) | SCALE_SLOT;
  if (isLong(cpu)) return offset + load<u64>(cpu + slot);
  if (slot == ZERO) return offset;
  checkUsable(cpu, op, slot);
  return (offset + load<u64>(cpu + slot)) & NARROW;
}

/** Where the selector of the segment is whose base is in this slot. Selectors are in the order es cs ss ds fs gs. */
export function selectorOf(slot: usize): usize {
  const number = (slot - FS_BASE) >> 3;
  return <usize>SELECTORS + ((number >= 2 ? number - 2 : number + 4) << 1);
}

/** The slot with the base of the segment that an access uses. */
function slotOf(op: usize): usize {
  if (op & STACK) return SS_BASE;
  if (op & EXTRA) return ES_BASE;
  return (load<u8>(op & ~15, O_SCALE) & 0x78) | SCALE_SLOT;
}

/** Whether limit and rights allow an access in compatibility mode. */
export function segmentAllows(cpu: usize, op: usize, va: u64, size: u32, isWrite: bool): bool {
  const slot = slotOf(op);
  const rights = rightsOf(cpu, slot);
  const limit: u64 = load<u32>(cpu + ((slot - FS_BASE) >> 1), SEGMENT_LIMITS);
  const first = (va - load<u64>(cpu + slot)) & NARROW;
  const last = first + size - 1;
  const isCode = (rights & CODE) != 0;
  let ok = isWrite ? !isCode && (rights & READ_WRITE) != 0 : !isCode || (rights & READ_WRITE) != 0;
  if (!isCode && (rights & EXPAND_DOWN) != 0) ok = ok && first > limit && last <= (rights & BIG ? NARROW : 0xffff);
  else ok = ok && last <= limit;
  return ok;
}

/** Raises an exception if limit or rights forbid an access in compatibility mode. */
export function checkSegment(cpu: usize, op: usize, va: u64, size: u32, isWrite: bool): void {
  if (!segmentAllows(cpu, op, va, size, isWrite)) refuseSegment(cpu, op, slotOf(op));
}

/** The address of the page after that of va. */
@inline
export function nextPage(cpu: usize, va: u64): u64 {
  const next = (va | 4095) + 1;
  return next > NARROW && !isLong(cpu) ? next & NARROW : next;
}

/** The bits of rsp that are used. */
export function stackMask(cpu: usize): u64 {
  if (isLong(cpu)) return ~(<u64>0);
  return rightsOf(cpu, SS_BASE) & BIG ? NARROW : 0xffff;
}

/** The linear address for an offset in the stack segment. */
export function stackAddress(cpu: usize, offset: u64): u64 {
  return isLong(cpu) ? offset : (offset + load<u64>(cpu, SS_BASE)) & NARROW;
}

/** Writes a stack offset into a register. With a 16-bit stack the upper part of the register stays. */
export function setOffset(cpu: usize, register: usize, offset: u64, mask: u64): void {
  if (mask == 0xffff) store<u16>(cpu + register, <u16>offset);
  else store<u64>(cpu + register, offset & mask);
}

export function setStackPointer(cpu: usize, offset: u64, mask: u64): void {
  setOffset(cpu, RSP, offset, mask);
}

/**
 * Sets RIP to a linear address whose offset is cut to the operand's size. Raises #GP if the offset is beyond the
 * limit.
 */
export function goNear(cpu: usize, op: usize, linear: u64, log: u32): void {
  const base = load<u64>(cpu, CS_BASE);
  const offset = (linear - base) & (log == 1 ? 0xffff : NARROW);
  if (load<u32>(cpu, CODE_KIND) >= <u32>KIND_CHECKED && offset > load<u32>(cpu + ((CS_BASE - FS_BASE) >> 1), SEGMENT_LIMITS)) {
    store<u32>(cpu, <u32>op, CURRENT_OP);
    raise(cpu, GP, 0);
  }
  store<u64>(cpu, (offset + base) & NARROW, RIP);
}

/** Raises if the last byte of an instruction of `size` bytes at a linear address is beyond the limit. */
export function checkFetch(cpu: usize, linear: u64, size: u32): void {
  const offset = (linear - load<u64>(cpu, CS_BASE)) & NARROW;
  if (offset + size - 1 > <u64>load<u32>(cpu + ((CS_BASE - FS_BASE) >> 1), SEGMENT_LIMITS)) raise(cpu, GP, 0);
}
