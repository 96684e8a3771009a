// The x87 register stack, and how an instruction ends: exceptions go into the status word, and results go
// into registers unless an unmasked exception forbids it. SDM volume 1, 8.1 and 8.5.
import { A, B, Env, F80, FINITE, INF, QNAN, R, roundTo, SNAN, swap, unpack, ZERO } from './soft';
import { C1, ES, FCW, FSW, FTW, IE, SF, ST } from './state';

/** An extended value that is about to be written into a register. */
export class V {
  static se: u32 = 0;
  static sig: u64 = 0;
}

/** What fpCommit must do once the engine has stored a memory result. */
export class Pending {
  static fsw: u32 = 0;
  static pop: bool = false;
  static fop: i32 = -1; // the opcode to remember, or -1
  static clearMasks: u32 = 0; // FNSTENV sets all exception masks, and FNSAVE initialises: see x87.ts
}

export function top(cpu: usize): i32 {
  return (load<u16>(cpu + FSW) >> 11) & 7;
}

/** The address of ST(i). */
export function st(cpu: usize, i: i32): usize {
  return cpu + ST + ((<usize>((top(cpu) + i) & 7)) << 4);
}

export function isEmpty(cpu: usize, i: i32): bool {
  return ((load<u8>(cpu + FTW) >> ((top(cpu) + i) & 7)) & 1) == 0;
}

// The bit of ST(i) in the tag byte.
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

/** Writes V into ST(i), which becomes valid. */
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

/** Loads ST(i) into A, taken apart into sign, exponent and significand. */
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

/** Sets rounding and masks for the operation that follows, as the control word says. */
export function begin(cpu: usize): void {
  const fcw = <u32>load<u16>(cpu + FCW);
  Env.rc = (fcw >> 10) & 3;
  Env.masks = fcw & 0x3f;
  Env.ftz = false;
  Env.daz = false;
  Env.flags = 0;
  Env.up = false;
}

/**
 * The number of significant bits that the control word demands of addition, subtraction, multiplication,
 * division and square root.
 */
export function precision(cpu: usize): i32 {
  const pc = (load<u16>(cpu + FCW) >> 8) & 3;
  return pc == 0 ? 24 : pc == 2 ? 53 : 64;
}

/** Rounds R, a number of class `cls`, into V. */
export function packV(cls: i32, p: i32): void {
  if (cls == FINITE) cls = roundTo(p, -16382, 16383, 24576);
  const sign = R.sign << 15;
  if (cls == FINITE) set(R.hi >> 63 ? sign | <u32>(R.exp + 16383) : sign, R.hi);
  else if (cls == ZERO) set(sign, 0);
  else if (cls == INF) set(sign | 0x7fff, 0x8000000000000000);
  else setIndefinite();
}

/** Copies A into V as it is (normal numbers, denormals, zero, infinity); a NaN becomes quiet. */
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

/**
 * Returns true if A or B is a NaN or an unsupported value. The result is then in V, and IE is flagged where
 * it must be.
 */
export function nans(): bool {
  if (A.cls < QNAN && B.cls < QNAN) return false;
  if (A.cls > SNAN || B.cls > SNAN) {
    Env.flags |= IE;
    setIndefinite();
    return true;
  }
  if (A.cls == SNAN || B.cls == SNAN) Env.flags |= IE;
  // A quiet NaN is chosen before a signalling one. Of two NaNs of one kind the one with the larger
  // significand is chosen, and of two equal ones the positive.
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
 * Ends an instruction: the exceptions of Env, C1 and the pending bit go into the status word. Returns true if
 * results may be written, which an unmasked invalid, denormal or zero-divide exception forbids.
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

/** Raises a stack underflow. Returns true if it is masked; V is then the indefinite value. */
export function underflow(cpu: usize): bool {
  Env.flags = IE | SF;
  Env.up = false;
  setIndefinite();
  return settle(cpu);
}

/** Pushes V and handles stack overflow. Env holds the exceptions that making V has raised. */
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
