// The x87 register stack and the way an instruction ends: exceptions into the status word, results
// into registers only if no unmasked exception forbids it. SDM volume 1, 8.1 and 8.5.
import { A, B, Env, F80, FINITE, INF, QNAN, R, roundTo, SNAN, swap, unpack, ZERO } from './soft';
import { C1, ES, FCW, FSW, FTW, IE, SF, ST } from './state';

/** An extended value on its way into a register. */
export class V {
  static se: u32 = 0;
  static sig: u64 = 0;
}

/** What fpCommit does once the engine has stored a memory result. */
export class Pending {
  static fsw: u32 = 0;
  static pop: bool = false;
  static fop: i32 = -1; // opcode to remember, or -1
  static clearMasks: u32 = 0; // FNSTENV sets all exception masks, FNSAVE initialises: see x87.ts
}

export function top(cpu: usize): i32 {
  return (load<u16>(cpu + FSW) >> 11) & 7;
}

/** Address of ST(i). */
export function st(cpu: usize, i: i32): usize {
  return cpu + ST + ((<usize>((top(cpu) + i) & 7)) << 4);
}

export function isEmpty(cpu: usize, i: i32): bool {
  return ((load<u8>(cpu + FTW) >> ((top(cpu) + i) & 7)) & 1) == 0;
}

// ST(i)'s bit of the tag byte.
function bit(cpu: usize, i: i32): u32 {
  const n = <u32>((top(cpu) + i) & 7);
  const one: u32 = 1;
  return one << n;
}

export function setTop(cpu: usize, t: i32): void {
  store<u16>(cpu + FSW, (load<u16>(cpu + FSW) & 0xc7ff) | <u16>((t & 7) << 11));
}

export function setEmpty(cpu: usize, i: i32): void {
  store<u8>(cpu + FTW, load<u8>(cpu + FTW) & <u8>~bit(cpu, i));
}

export function pop(cpu: usize): void {
  setEmpty(cpu, 0);
  setTop(cpu, top(cpu) + 1);
}

/** V into ST(i), which becomes valid. */
export function write(cpu: usize, i: i32): void {
  const p = st(cpu, i);
  store<u64>(p, V.sig);
  store<u16>(p, <u16>V.se, 8);
  store<u8>(cpu + FTW, load<u8>(cpu + FTW) | <u8>bit(cpu, i));
}

export function read(cpu: usize, i: i32): void {
  const p = st(cpu, i);
  V.sig = load<u64>(p);
  V.se = load<u16>(p, 8);
}

/** ST(i) taken apart into A. */
export function unpackSt(cpu: usize, i: i32): void {
  const p = st(cpu, i);
  unpack(F80, load<u64>(p), <u32>load<u16>(p, 8));
}

export function set(se: u32, sig: u64): void {
  V.se = se;
  V.sig = sig;
}

export function setIndefinite(): void {
  set(0xffff, 0xc000000000000000);
}

/** Reads the control word for the operation that follows. */
export function begin(cpu: usize): void {
  const fcw = <u32>load<u16>(cpu + FCW);
  Env.rc = (fcw >> 10) & 3;
  Env.masks = fcw & 0x3f;
  Env.ftz = false;
  Env.daz = false;
  Env.flags = 0;
  Env.up = false;
}

/** Significant bits that the control word asks of add, subtract, multiply, divide and square root. */
export function precision(cpu: usize): i32 {
  const pc = (load<u16>(cpu + FCW) >> 8) & 3;
  return pc == 0 ? 24 : pc == 2 ? 53 : 64;
}

/** R, of class `cls`, rounded into V. */
export function packV(cls: i32, p: i32): void {
  if (cls == FINITE) cls = roundTo(p, -16382, 16383, 24576);
  const sign = R.sign << 15;
  if (cls == FINITE) set(R.hi >> 63 ? sign | <u32>(R.exp + 16383) : sign, R.hi);
  else if (cls == ZERO) set(sign, 0);
  else if (cls == INF) set(sign | 0x7fff, 0x8000000000000000);
  else setIndefinite();
}

/** A into V as it is (normal numbers, denormals, zero, infinity; NaNs made quiet). */
export function packA(): void {
  const sign = A.sign << 15;
  if (A.cls == ZERO) set(sign, 0);
  else if (A.cls == INF) set(sign | 0x7fff, 0x8000000000000000);
  else if (A.cls == FINITE) {
    if (A.exp >= -16382) set(sign | <u32>(A.exp + 16383), A.sig);
    else set(sign, A.sig >> <u64>(-16382 - A.exp));
  } else if (A.cls <= SNAN) set(sign | 0x7fff, A.sig | 0x4000000000000000);
  else setIndefinite();
}

/** If A or B is a NaN or unsupported: true, with the result in V and IE flagged where due. */
export function nans(): bool {
  if (A.cls < QNAN && B.cls < QNAN) return false;
  if (A.cls > SNAN || B.cls > SNAN) {
    Env.flags |= IE;
    setIndefinite();
    return true;
  }
  if (A.cls == SNAN || B.cls == SNAN) Env.flags |= IE;
  // The larger significand; a quiet NaN before a signalling one; of two equal ones the positive.
  let first = true;
  if (A.cls < QNAN) first = false;
  else if (B.cls >= QNAN) {
    if (A.cls != B.cls) first = A.cls == QNAN;
    else if (A.sig != B.sig) first = A.sig > B.sig;
    else first = A.sign < B.sign;
  }
  if (!first) swap();
  packA();
  if (!first) swap();
  return true;
}

/**
 * Ends an instruction: Env's exceptions, C1 and the pending bit into the status word. True if results
 * may be written (no unmasked invalid, denormal or divide by zero).
 */
export function settle(cpu: usize): bool {
  const flags = Env.flags;
  const unmasked = flags & ~Env.masks & 0x3f;
  let fsw = (<u32>load<u16>(cpu + FSW) & ~C1) | flags;
  if (Env.up) fsw |= C1;
  if (unmasked) fsw |= ES;
  store<u16>(cpu + FSW, <u16>fsw);
  return (unmasked & 7) == 0;
}

/** Stack underflow: true if masked, and then V is the indefinite. */
export function underflow(cpu: usize): bool {
  Env.flags = IE | SF;
  Env.up = false;
  setIndefinite();
  return settle(cpu);
}

/** Pushes V; handles stack overflow. Env holds the exceptions of making V. */
export function push(cpu: usize): void {
  if (!isEmpty(cpu, 7)) {
    Env.flags = IE | SF;
    Env.up = true;
    setIndefinite();
  }
  if (!settle(cpu)) return;
  setTop(cpu, top(cpu) - 1);
  write(cpu, 0);
}
