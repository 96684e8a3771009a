// x87 arithmetic, comparisons, remainder, scaling and rounding. SDM volume 1, 8.3; volume 2 per
// instruction.
import { A, ADD, B, DIV, Env, F80, FINITE, INF, MUL, QNAN, R, roundSig, SNAN, SUB, swap, unpack, ZERO } from './soft';
import { arith, div128, normalise, Rem, root } from './soft-arith';
import { orderUnpacked } from './sse-number';
import { C0, C1, C2, C3, DE, EFLAGS, FSW, IE, PE, ZE } from './state';
import { begin, isEmpty, nans, packA, packV, pop, precision, set, setIndefinite, settle, setTop, st, top, underflow, unpackSt, write } from './x87-stack';

/**
 * Performs an arithmetic instruction on A and B into V. `ModRM.reg` says which: add, mul, (com, comp), sub,
 * subr, div, divr.
 */
export function arithmetic(cpu: usize, reg: i32): void {
  if (reg == 5 || reg == 7) swap();
  if (nans()) return;
  const den = A.den || B.den;
  const cls = arith(reg == 0 ? ADD : reg == 1 ? MUL : reg < 6 ? SUB : DIV);
  if (den && Env.flags == 0) Env.flags = DE;
  if (Env.flags & ~Env.masks & 7) return;
  packV(cls, precision(cpu));
}

/** Performs arithmetic on ST(0) and ST(rm), and writes the result into ST(to). */
export function arithmeticSt(cpu: usize, reg: i32, rm: i32, to: i32, popAfter: bool): void {
  begin(cpu);
  let done: bool;
  if (isEmpty(cpu, 0) || isEmpty(cpu, rm)) done = underflow(cpu);
  else {
    unpackSt(cpu, rm);
    swap();
    unpackSt(cpu, 0);
    arithmetic(cpu, reg);
    done = settle(cpu);
  }
  if (!done) return;
  write(cpu, to);
  if (popAfter) pop(cpu);
}

/** Performs arithmetic on ST(0) and the operand in A. */
export function arithmeticMemory(cpu: usize, reg: i32): void {
  if (isEmpty(cpu, 0)) {
    if (underflow(cpu)) write(cpu, 0);
    return;
  }
  swap();
  unpackSt(cpu, 0);
  arithmetic(cpu, reg);
  if (settle(cpu)) write(cpu, 0);
}

function conditions(cpu: usize, o: i32): void {
  const bits: u32 = o == 2 ? C0 | C2 | C3 : o == 0 ? C3 : o < 0 ? C0 : 0;
  store<u16>(cpu + FSW, <u16>((<u32>load<u16>(cpu + FSW) & ~(C0 | C1 | C2 | C3)) | bits));
}

/**
 * Compares ST(0) with the operand in A, which is valid unless `empty`. Returns false if an unmasked exception
 * stops the instruction.
 */
export function compareMemory(cpu: usize, quiet: bool, empty: bool): bool {
  if (empty || isEmpty(cpu, 0)) {
    const go = underflow(cpu);
    conditions(cpu, 2);
    return go;
  }
  swap();
  unpackSt(cpu, 0);
  const o = orderUnpacked(!quiet);
  const go = settle(cpu);
  conditions(cpu, o);
  return go;
}

export function compareSt(cpu: usize, rm: i32, quiet: bool, pops: i32): void {
  begin(cpu);
  const empty = isEmpty(cpu, rm);
  unpackSt(cpu, rm);
  if (!compareMemory(cpu, quiet, empty)) return;
  while (pops-- > 0) pop(cpu);
}

/** FCOMI, FUCOMI and their popping forms. */
export function compareFlags(cpu: usize, rm: i32, quiet: bool, popAfter: bool): void {
  begin(cpu);
  let o = 2;
  let go: bool;
  if (isEmpty(cpu, 0) || isEmpty(cpu, rm)) go = underflow(cpu);
  else {
    unpackSt(cpu, rm);
    swap();
    unpackSt(cpu, 0);
    o = orderUnpacked(!quiet);
    Env.up = (load<u16>(cpu + FSW) & C1) != 0; // C1 stays
    go = settle(cpu);
  }
  const flags: u32 = o == 2 ? 0x45 : o == 0 ? 0x40 : o < 0 ? 1 : 0;
  store<u32>(cpu + EFLAGS, (load<u32>(cpu + EFLAGS) & ~0x8d5) | flags);
  if (popAfter && go) pop(cpu);
}

export function test(cpu: usize): void {
  begin(cpu);
  unpack(F80, 0, 0);
  compareMemory(cpu, false, false);
}

export function examine(cpu: usize): void {
  unpackSt(cpu, 0);
  const p = st(cpu, 0);
  const sign = load<u16>(p, 8) >> 15 ? C1 : 0;
  let bits: u32;
  if (isEmpty(cpu, 0)) bits = C3 | C0;
  else if (A.cls == ZERO) bits = C3;
  else if (A.cls == INF) bits = C2 | C0;
  else if (A.cls == FINITE) bits = load<u16>(p, 8) & 0x7fff ? C2 : C3 | C2;
  else if (A.cls <= SNAN) bits = C0;
  else bits = 0;
  store<u16>(cpu + FSW, <u16>((<u32>load<u16>(cpu + FSW) & ~(C0 | C1 | C2 | C3)) | bits | sign));
}

export function changeSign(cpu: usize, absolute: bool): void {
  begin(cpu);
  if (isEmpty(cpu, 0)) {
    if (underflow(cpu)) write(cpu, 0);
    return;
  }
  settle(cpu);
  const p = st(cpu, 0);
  const se = load<u16>(p, 8);
  store<u16>(p, absolute ? se & 0x7fff : se ^ 0x8000, 8);
}

/**
 * Loads ST(0) into A for an instruction with one operand. Returns true if the instruction has ended already.
 */
export function unary(cpu: usize): bool {
  begin(cpu);
  if (isEmpty(cpu, 0)) {
    if (underflow(cpu)) write(cpu, 0);
    return true;
  }
  unpackSt(cpu, 0);
  if (A.cls >= QNAN) {
    if (A.cls != QNAN) Env.flags |= IE;
    packA();
    if (settle(cpu)) write(cpu, 0);
    return true;
  }
  return false;
}

/** Rounds R, a number of class `cls`, into ST(0) and ends the instruction. */
export function finishR(cpu: usize, cls: i32, p: i32): void {
  if (!(Env.flags & ~Env.masks & 7)) packV(cls, p);
  if (settle(cpu)) write(cpu, 0);
}

export function squareRoot(cpu: usize): void {
  if (unary(cpu)) return;
  if (A.den && !A.sign) Env.flags |= DE;
  finishR(cpu, root(), precision(cpu));
}

export function roundInteger(cpu: usize): void {
  if (unary(cpu)) return;
  if (A.den) Env.flags |= DE;
  if (Env.flags & ~Env.masks) {
    settle(cpu);
    return;
  }
  R.sign = A.sign;
  R.exp = A.exp;
  R.hi = A.sig;
  R.lo = 0;
  let cls = A.cls;
  if (cls == FINITE && A.exp < 63) {
    if (A.exp >= 0) {
      if (roundSig(A.exp + 1)) Env.flags |= PE;
    } else {
      const half = A.exp == -1;
      const sticky = !half || A.sig << 1 != 0;
      Env.flags |= PE;
      const one =
        Env.rc == 0 ? half && sticky : Env.rc == 1 ? A.sign != 0 : Env.rc == 2 ? A.sign == 0 : false;
      Env.up = one;
      if (one) {
        R.exp = 0;
        R.hi = 0x8000000000000000;
      } else cls = ZERO;
    }
    const up = Env.up;
    if (!(Env.flags & ~Env.masks & 7)) {
      packV(cls, 64);
      Env.up = up;
    }
    if (settle(cpu)) write(cpu, 0);
    return;
  }
  finishR(cpu, cls, 64);
}

/**
 * Loads ST(0) into A and ST(1) into B. Returns true if the instruction has ended already (a register was
 * empty or held a NaN); its result, if there is one, is in ST(0).
 */
function binary(cpu: usize): bool {
  begin(cpu);
  if (isEmpty(cpu, 0) || isEmpty(cpu, 1)) {
    if (underflow(cpu)) write(cpu, 0);
    return true;
  }
  unpackSt(cpu, 1);
  swap();
  unpackSt(cpu, 0);
  if (nans()) {
    if (settle(cpu)) write(cpu, 0);
    return true;
  }
  return false;
}

export function scale(cpu: usize): void {
  if (binary(cpu)) return;
  const den = A.den || B.den;
  R.sign = A.sign;
  R.exp = A.exp;
  R.hi = A.sig;
  R.lo = 0;
  let cls = A.cls;
  if (B.cls == INF) {
    if ((A.cls == INF && B.sign) || (A.cls == ZERO && !B.sign)) {
      Env.flags |= IE;
      cls = QNAN;
    } else cls = B.sign ? (A.cls == INF ? INF : ZERO) : A.cls == ZERO ? ZERO : INF;
  } else if (cls == FINITE && B.cls == FINITE) {
    let n = 0;
    if (B.exp >= 0) n = B.exp > 16 ? 0x20000 : <i32>(B.sig >> <u64>(63 - B.exp));
    R.exp += B.sign ? -n : n;
  }
  if (den && !(Env.flags & IE)) Env.flags |= DE;
  finishR(cpu, cls, 64);
}

/** FXTRACT: the exponent replaces ST(0), and the significand is pushed. */
export function extract(cpu: usize): void {
  begin(cpu);
  if (isEmpty(cpu, 0) || !isEmpty(cpu, 7)) {
    const over = !isEmpty(cpu, 0);
    Env.flags = IE | 0x40;
    Env.up = over;
    setIndefinite();
    if (!settle(cpu)) return;
    write(cpu, 0);
    setTop(cpu, top(cpu) - 1);
    write(cpu, 0);
    return;
  }
  unpackSt(cpu, 0);
  if (A.cls >= QNAN) {
    if (A.cls != QNAN) Env.flags |= IE;
    packA();
    if (!settle(cpu)) return;
    write(cpu, 0);
    setTop(cpu, top(cpu) - 1);
    write(cpu, 0);
    return;
  }
  if (A.den) Env.flags |= DE;
  if (A.cls == ZERO) Env.flags |= ZE;
  if (!settle(cpu)) return;
  const sign = A.sign << 15;
  if (A.cls == ZERO) set(0xffff, 0x8000000000000000);
  else if (A.cls == INF) set(0x7fff, 0x8000000000000000);
  else integer(A.exp);
  write(cpu, 0);
  if (A.cls == ZERO) set(sign, 0);
  else if (A.cls == INF) set(sign | 0x7fff, 0x8000000000000000);
  else set(sign | 16383, A.sig);
  setTop(cpu, top(cpu) - 1);
  write(cpu, 0);
}

/** Puts a small integer into V. */
export function integer(n: i32): void {
  if (n == 0) {
    set(0, 0);
    return;
  }
  const m = <u64>abs(n);
  const s = clz(m);
  set((n < 0 ? 0x8000 : 0) | (16383 + 63 - <u32>s), m << s);
}

/**
 * FPREM (the quotient is truncated) and FPREM1 (it is rounded to nearest). One instruction lowers the
 * exponent by at most 63, and sets C2 if a further one is needed.
 */
export function remainder(cpu: usize, nearest: bool): void {
  const clear = ~(C0 | C1 | C2 | C3);
  store<u16>(cpu + FSW, load<u16>(cpu + FSW) & <u16>~C2);
  if (binary(cpu)) return;
  if (A.cls == INF || B.cls == ZERO) {
    Env.flags |= IE;
    setIndefinite();
    if (settle(cpu)) {
      write(cpu, 0);
    }
    return;
  }
  if (A.den || B.den) Env.flags |= DE;
  if (!settle(cpu)) return;
  let bits: u32 = 0;
  if (A.cls != ZERO && B.cls != INF) {
    bits = reduce(nearest);
    if (R.hi == 0) set(A.sign << 15, 0);
    else {
      Env.flags &= DE;
      R.lo = 0;
      packV(FINITE, 64);
    }
  } else {
    // The remainder is the dividend itself. A denormal dividend underflows if underflow is not masked.
    R.sign = A.sign;
    R.exp = A.exp;
    R.hi = A.sig;
    R.lo = 0;
    packV(A.cls, 64);
  }
  store<u16>(cpu + FSW, <u16>((<u32>load<u16>(cpu + FSW) & clear) | bits));
  if (Env.flags) {
    // C1 is the lowest bit of the quotient. An unmasked underflow does not change it, because a remainder is
    // never rounded.
    const keep = bits & C1;
    settle(cpu);
    store<u16>(cpu + FSW, <u16>(<u32>load<u16>(cpu + FSW) | keep));
  }
  write(cpu, 0);
}

// Computes A mod B, both finite. The remainder is in R.hi (normalised), R.sign and R.exp. Returns the
// condition bits.
function reduce(nearest: bool): u32 {
  R.sign = A.sign;
  R.lo = 0;
  let d = A.exp - B.exp;
  const least = nearest ? -1 : 0;
  if (least > d) {
    R.hi = A.sig;
    R.exp = A.exp;
    return 0;
  }
  if (d >= 64) {
    // A partial remainder: a multiple of B * 2^(d-n) is subtracted. The value of n is the one that AMD's and
    // Intel's processors use.
    const n = (d & 31) | 32;
    longDivide(n, A.exp - n);
    return C2;
  }
  let q: u64;
  if (d < 0) {
    // FPREM1 only: the quotient is 0 or 1. A comparison of 2A (whose exponent is one less) with B decides.
    q = 0;
    R.hi = A.sig >> 1;
    R.lo = A.sig << 63;
    R.exp = B.exp;
  } else {
    q = longDivide(d, B.exp);
    R.lo = 0;
  }
  if (nearest) {
    // Compares R (in units of B.exp, not normalised yet) with half of B.
    let hi = Quotient.rest,
      lo: u64 = 0;
    if (d < 0) {
      hi = R.hi;
      lo = R.lo;
    }
    const half = B.sig >> 1,
      halfLow = B.sig << 63;
    const above = hi > half || (hi == half && lo > halfLow);
    const tie = hi == half && lo == halfLow;
    if (above || (tie && (q & 1) != 0)) {
      // the remainder is B - R with the other sign
      const borrow = <u64>i32(lo != 0);
      R.hi = B.sig - hi - borrow;
      R.lo = 0 - lo;
      R.sign ^= 1;
      q++;
    } else {
      R.hi = hi;
      R.lo = lo;
    }
    R.exp = B.exp;
    shiftUp();
  }
  return (q & 4 ? C0 : 0) | (q & 2 ? C3 : 0) | (q & 1 ? C1 : 0);
}

class Quotient {
  static rest: u64 = 0;
}

// Divides A.sig * 2^n by B.sig (0 <= n <= 63). The remainder goes into R.hi, and before it is normalised into
// Quotient.rest.
function longDivide(n: i32, exp: i32): u64 {
  let q: u64 = 0,
    a = A.sig;
  const b = B.sig;
  if (a >= b) {
    a -= b;
    q = 1;
  }
  if (n > 0) {
    // Because a < b, the quotient a * 2^n / b has at most n bits.
    const s = <u64>n;
    q = (q << s) + div128(a >> (64 - s), a << s, b);
    a = Rem.value;
  }
  Quotient.rest = a;
  R.hi = a;
  R.lo = 0;
  R.exp = exp;
  shiftUp();
  return q;
}

function shiftUp(): void {
  if ((R.hi | R.lo) != 0) normalise();
}
