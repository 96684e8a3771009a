// Arithmetic flags are kept as operands and computed only when they are needed (lazy flags). Values are sign-extended
// to 64 bits, which preserves both the signed and the unsigned order, so comparisons do not depend on the size.
//
//   F_KIND bits 0-5  64 minus the operand's size in bits: a shift by this number moves its sign to bit 63
//   K_CF             CF is bit 0 of F_C
//   K_AF             AF is inverted
//   K_OF             OF is bit 11 of F_C
//   K_SUM            the result is in F_R, OF is that of an addition of F_A and F_B, CF is F_R < F_A
//   K_BITS           all six flags are in F_BITS
//
// Without K_SUM and K_BITS the result is F_A - F_B and CF is F_A < F_B. This represents comparison and subtraction;
// logic as (result, 0); inc as F_A - (-1); dec as F_A - 1. Undefined flags have the values that present processors
// leave in them. SDM vol. 1, 3.4.3.1.
import { F_A, F_B, F_BITS, F_C, F_KIND, F_R } from './layout';

export const K_CF: i32 = 0x40;
export const K_AF: i32 = 0x80;
export const K_OF: i32 = 0x100;
export const K_SUM: i32 = 0x200;
export const K_BITS: i32 = 0x400;

export const CF: u32 = 1;
export const PF_: u32 = 4;
export const AF: u32 = 0x10;
export const ZF: u32 = 0x40;
export const SF: u32 = 0x80;
export const OF: u32 = 0x800;
export const ARITHMETIC: u32 = 0x8d5;

@inline
export function shiftOf<T>(): i32 {
  return 64 - 8 * sizeof<T>();
}

@inline
export function flagsSub(cpu: usize, a: i64, b: i64, shift: i32): void {
  store<i64>(cpu, a, F_A);
  store<i64>(cpu, b, F_B);
  store<i32>(cpu, shift, F_KIND);
}

@inline
export function flagsLogic(cpu: usize, r: i64, shift: i32): void {
  flagsSub(cpu, r, 0, shift);
}

@inline
export function flagsAdd(cpu: usize, a: i64, b: i64, r: i64, shift: i32): void {
  store<i64>(cpu, a, F_A);
  store<i64>(cpu, b, F_B);
  store<i64>(cpu, r, F_R);
  store<i32>(cpu, shift | K_SUM, F_KIND);
}

/** r = a + b + carry. */
@inline
export function flagsAdc(cpu: usize, a: i64, b: i64, r: i64, carry: u32, shift: i32): void {
  store<i64>(cpu, a, F_A);
  store<i64>(cpu, b, F_B);
  store<i64>(cpu, r, F_R);
  store<u32>(cpu, <u32>(carry ? <u64>r <= <u64>a : <u64>r < <u64>a), F_C);
  store<i32>(cpu, shift | K_SUM | K_CF, F_KIND);
}

/** r = a - b - borrow, as a + ~b + (1 - borrow). */
@inline
export function flagsSbb(cpu: usize, a: i64, b: i64, r: i64, borrow: u32, shift: i32): void {
  store<i64>(cpu, a, F_A);
  store<i64>(cpu, ~b, F_B);
  store<i64>(cpu, r, F_R);
  store<u32>(cpu, <u32>(borrow ? <u64>a <= <u64>b : <u64>a < <u64>b), F_C);
  store<i32>(cpu, shift | K_SUM | K_CF | K_AF, F_KIND);
}

@inline
export function flagsIncDec(cpu: usize, a: i64, b: i64, shift: i32): void {
  store<u32>(cpu, carry(cpu), F_C);
  store<i64>(cpu, a, F_A);
  store<i64>(cpu, b, F_B);
  store<i32>(cpu, shift | K_CF | (b < 0 ? K_AF : 0), F_KIND);
}

/** The result is r; CF (bit 0) and OF (bit 11) are given; AF is 0. */
@inline
export function flagsShift(cpu: usize, r: i64, bits: u32, shift: i32): void {
  store<i64>(cpu, r, F_A);
  store<i64>(cpu, 0, F_B);
  store<u32>(cpu, bits, F_C);
  store<i32>(cpu, shift | K_CF | K_OF, F_KIND);
}

@inline
export function setFlags(cpu: usize, bits: u32): void {
  store<u32>(cpu, bits & ARITHMETIC, F_BITS);
  store<i32>(cpu, K_BITS, F_KIND);
}

/** Sets only CF (bit 0) and OF (bit 11). */
export function changeCarryAndOverflow(cpu: usize, bits: u32): void {
  const kind = load<i32>(cpu, F_KIND);
  if (kind & K_BITS) store<u32>(cpu, (load<u32>(cpu, F_BITS) & ~(CF | OF)) | bits, F_BITS);
  else {
    store<u32>(cpu, bits, F_C);
    store<i32>(cpu, kind | K_CF | K_OF, F_KIND);
  }
}

/** Sets only CF. */
export function changeCarry(cpu: usize, bit: u32): void {
  const kind = load<i32>(cpu, F_KIND);
  if (kind & (K_BITS | K_CF)) store<u32>(cpu, (load<u32>(cpu, F_C) & ~CF) | bit, F_C);
  else {
    store<u32>(cpu, bit, F_C);
    store<i32>(cpu, kind | K_CF, F_KIND);
  }
}

export function carry(cpu: usize): u32 {
  const kind = load<i32>(cpu, F_KIND);
  if (kind < K_CF) return <u32>(load<u64>(cpu, F_A) < load<u64>(cpu, F_B));
  if (kind & K_BITS) return load<u32>(cpu, F_BITS) & 1;
  if (kind & K_CF) return load<u32>(cpu, F_C) & 1;
  return <u32>(load<u64>(cpu, F_R) < load<u64>(cpu, F_A));
}

/** Returns CF, PF, AF, ZF, SF and OF at their positions in rflags. */
export function getFlags(cpu: usize): u32 {
  const kind = load<i32>(cpu, F_KIND);
  if (kind & K_BITS) return load<u32>(cpu, F_BITS);
  const shift: i64 = kind & 63;
  const a = load<i64>(cpu, F_A);
  const b = load<i64>(cpu, F_B);
  const sum = (kind & K_SUM) != 0;
  const r = sum ? load<i64>(cpu, F_R) : a - b;
  let f = carry(cpu);
  if ((popcnt<u32>(<u32>r & 0xff) & 1) == 0) f |= PF_;
  f |= (<u32>(a ^ b ^ r) ^ (kind & K_AF ? AF : 0)) & AF;
  if (r << shift == 0) f |= ZF;
  if (r << shift < 0) f |= SF;
  if (kind & K_OF) f |= load<u32>(cpu, F_C) & OF;
  else if (((a ^ r) & (sum ? b ^ r : a ^ b)) << shift < 0) f |= OF;
  return f;
}

function slowCondition(cpu: usize, cc: u32): bool {
  const f = getFlags(cpu);
  let r: bool;
  switch (cc >> 1) {
    case 0: r = (f & OF) != 0; break;
    case 1: r = (f & CF) != 0; break;
    case 2: r = (f & ZF) != 0; break;
    case 3: r = (f & (CF | ZF)) != 0; break;
    case 4: r = (f & SF) != 0; break;
    case 5: r = (f & PF_) != 0; break;
    case 6: r = ((f >> 7) & 1) != ((f >> 11) & 1); break;
    default: r = (f & ZF) != 0 || ((f >> 7) & 1) != ((f >> 11) & 1);
  }
  return r != ((cc & 1) != 0);
}

/** Evaluates a condition code as in opcodes 70-7F. A constant cc is reduced to a few comparisons at compile time. */
@inline
export function condition(cpu: usize, cc: u32): bool {
  const kind = load<i32>(cpu, F_KIND);
  const a = load<i64>(cpu, F_A);
  const b = load<i64>(cpu, F_B);
  if (cc == 4 && kind < K_SUM) return a == b;
  if (cc == 5 && kind < K_SUM) return a != b;
  if (cc == 2 && kind < K_CF) return <u64>a < <u64>b;
  if (cc == 3 && kind < K_CF) return <u64>a >= <u64>b;
  if (cc == 6 && kind < K_CF) return <u64>a <= <u64>b;
  if (cc == 7 && kind < K_CF) return <u64>a > <u64>b;
  if (cc == 8 && kind < K_SUM) return (a - b) << (<i64>kind & 63) < 0;
  if (cc == 9 && kind < K_SUM) return (a - b) << (<i64>kind & 63) >= 0;
  if (cc == 12 && kind < K_OF) return a < b;
  if (cc == 13 && kind < K_OF) return a >= b;
  if (cc == 14 && kind < K_OF) return a <= b;
  if (cc == 15 && kind < K_OF) return a > b;
  return slowCondition(cpu, cc);
}

/** Does the same for a cc that is known only at run time. */
export function conditionOf(cpu: usize, cc: u32): bool {
  const kind = load<i32>(cpu, F_KIND);
  if (kind >= K_CF) return slowCondition(cpu, cc);
  const a = load<i64>(cpu, F_A);
  const b = load<i64>(cpu, F_B);
  switch (cc) {
    case 2: return <u64>a < <u64>b;
    case 3: return <u64>a >= <u64>b;
    case 4: return a == b;
    case 5: return a != b;
    case 6: return <u64>a <= <u64>b;
    case 7: return <u64>a > <u64>b;
    case 8: return (a - b) << (<i64>kind & 63) < 0;
    case 9: return (a - b) << (<i64>kind & 63) >= 0;
    case 12: return a < b;
    case 13: return a >= b;
    case 14: return a <= b;
    case 15: return a > b;
    default: return slowCondition(cpu, cc);
  }
}
