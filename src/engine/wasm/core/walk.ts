// The page walker: 4-level tables of the guest's over synthetic machine frames. SDM vol. 3, 4.5-4.8. Guest kernel and
// guest user both run at CPL 3: they need the user bit on every level. CR0.WP, EFER.NXE are on.
// Invariant: accessed and dirty bits are set only by a walk that succeeds, and count as writes to the table.
import { CR3_KERNEL, CR3_USER, FAULT_ADDRESS, FAULT_CODE } from './layout';
import { dirtyBytes, firstMfn, frameCount, framesBase } from './engine';
import { codeStored } from './code';

export const READ: u32 = 0;
export const WRITE: u32 = 1;
export const EXEC: u32 = 2;

/** Error code bits of a page fault. */
const PRESENT: u32 = 1;
const RESERVED: u32 = 8;
/** In FAULT_CODE instead of an error code: the address is not canonical. */
export const NOT_CANONICAL: u32 = 0x10000;

const WRITABLE: u64 = 2;
const USER: u64 = 4;
const ACCESSED: u64 = 0x20;
const DIRTY: u64 = 0x40;
const LARGE: u64 = 0x80;

/** A table entry with PS was used: invlpg must then drop everything. */
export let largePages: bool = false;
/** The guest's kernel has code in the lower half, so that jumps to there may be known. */
export let lowKernelCode: bool = false;
/** Bits of an entry by which the guest gets any further. */
export const WAY: u64 = 5;

@inline
export function canonical(va: u64): bool {
  return <i64>(va << 16) >> 16 == <i64>va;
}

/** Linear address of the frame an entry names, 0 if there is none. */
@inline
function frameOf(entry: u64): usize {
  const frame = ((entry >> 12) & 0xff_ffff_ffff) - firstMfn;
  return frame < <u64>frameCount ? framesBase + (<usize>frame << 12) : 0;
}

function fail(cpu: usize, va: u64, code: u32): usize {
  store<u32>(cpu, code, FAULT_CODE);
  store<u64>(cpu, va, FAULT_ADDRESS);
  return 0;
}

/**
 * An entry names a frame that is none. What Xen has for itself need not be anywhere: where the guest may not go in any
 * case, that is all that it learns.
 */
function noFrame(cpu: usize, va: u64, code: u32, rights: u64): usize {
  return fail(cpu, va, code | PRESENT | ((rights & USER) != 0 ? RESERVED : 0));
}

/** A frame's bytes at `at` were or will be written. */
export function noteWrite(at: usize, size: u32): void {
  const frame = <u32>(at - framesBase) >> 12;
  store<u8>(dirtyBytes + frame, 1);
  codeStored(frame, <u32>at & 4095, size);
}

function mark(at: usize, bits: u64): void {
  const entry = load<u64>(at);
  if ((entry & bits) == bits) return;
  noteWrite(at, 8);
  store<u64>(at, entry | bits);
}

/** Linear address of the 4 KiB page that holds va, 0 with FAULT_CODE and FAULT_ADDRESS set if access is refused. */
export function walk(cpu: usize, va: u64, intent: u32, user: bool): usize {
  if (!canonical(va)) return fail(cpu, va, NOT_CANONICAL);
  const code: u32 = ((intent & WRITE) << 1) | ((intent & EXEC) << 3) | (user ? 4 : 0);
  let table = frameOf((user ? load<u64>(cpu, CR3_USER) : load<u64>(cpu, CR3_KERNEL)) << 12);
  if (table == 0) return fail(cpu, va, code | RESERVED | PRESENT);
  let rights: u64 = WRITABLE | USER;
  let noExecute: u64 = 0;
  let at1: usize = 0, at2: usize = 0, at3: usize = 0;
  let at: usize = 0;
  let entry: u64 = 0;
  let page: usize = 0;
  for (let level = 39; ; level -= 9) {
    at = table + ((<usize>(va >> level) & 511) << 3);
    entry = load<u64>(at);
    if ((entry & 1) == 0) return fail(cpu, va, code);
    rights &= entry;
    noExecute |= entry >> 63;
    if (level == 12) {
      page = frameOf(entry);
      break;
    }
    if (entry & LARGE) {
      const size = (<u64>1 << level) - 1;
      if (level == 39 || (entry & size & 0xffff_ffff_e000) != 0) return fail(cpu, va, code | RESERVED | PRESENT);
      largePages = true;
      page = frameOf((entry & ~size) | (va & size));
      break;
    }
    if (level == 39) at1 = at;
    else if (level == 30) at2 = at;
    else at3 = at;
    table = frameOf(entry);
    if (table == 0) return noFrame(cpu, va, code, rights);
  }
  if (page == 0) return noFrame(cpu, va, code, rights);
  if ((rights & USER) == 0 || (intent == WRITE && (rights & WRITABLE) == 0) || (intent == EXEC && noExecute != 0)) {
    return fail(cpu, va, code | PRESENT);
  }
  mark(at1, ACCESSED);
  if (at2 != 0) mark(at2, ACCESSED);
  if (at3 != 0) mark(at3, ACCESSED);
  mark(at, intent == WRITE ? ACCESSED | DIRTY : ACCESSED);
  if (intent == EXEC && !user && <i64>va >= 0) lowKernelCode = true;
  return page;
}
