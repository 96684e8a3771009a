// Binary floating point with integers, for every format that the processor has.
//
// An unpacked number is (-1)^sign * sig/2^63 * 2^exp with the top bit of sig set, whatever its format was. An
// operation leaves its exact result in R as 128 bits (the last one is sticky: "more follows"). roundTo() then rounds
// it once, to the required precision and range. So each operation is written once for float, double and extended.
// Rules: SDM volume 1, 4.8 and 4.9.
import { OE, PE, UE } from './state';

export const F32: i32 = 0;
export const F64: i32 = 1;
export const F80: i32 = 2;

export const ZERO: i32 = 0;
export const FINITE: i32 = 1;
export const INF: i32 = 2;
export const QNAN: i32 = 3;
export const SNAN: i32 = 4;
export const BAD: i32 = 5; // extended only: unnormal, pseudo-infinity, pseudo-NaN

export const ADD: i32 = 0;
export const MUL: i32 = 1;
export const SUB: i32 = 2;
export const DIV: i32 = 4;

/** The first operand. */
export class A {
  static sign: u32 = 0;
  static exp: i32 = 0;
  static sig: u64 = 0;
  static cls: i32 = 0;
  static den: bool = false;
}

/** The second operand. */
export class B {
  static sign: u32 = 0;
  static exp: i32 = 0;
  static sig: u64 = 0;
  static cls: i32 = 0;
  static den: bool = false;
}

/** The result. */
export class R {
  static sign: u32 = 0;
  static exp: i32 = 0;
  static hi: u64 = 0;
  static lo: u64 = 0;
}

/** The mode in which an operation runs, and the exceptions that it has met. */
export class Env {
  static rc: u32 = 0; // 0 nearest, 1 down, 2 up, 3 to zero
  static masks: u32 = 0x3f; // same bits as the flags
  static ftz: bool = false;
  static daz: bool = false; // denormal floats and doubles are read as zero
  static flags: u32 = 0;
  static up: bool = false; // the last rounding was away from zero
}

export function swap(): void {
  const sign = A.sign,
    exp = A.exp,
    sig = A.sig,
    cls = A.cls,
    den = A.den;
  A.sign = B.sign;
  A.exp = B.exp;
  A.sig = B.sig;
  A.cls = B.cls;
  A.den = B.den;
  B.sign = sign;
  B.exp = exp;
  B.sig = sig;
  B.cls = cls;
  B.den = den;
}

/** Unpacks a number into A. `se` is sign and exponent of an extended number, whose significand is `bits`. */
export function unpack(fmt: i32, bits: u64, se: u32): void {
  A.den = false;
  let e: i32, max: i32, min: i32;
  let sig: u64;
  if (fmt == F80) {
    A.sign = (se >> 15) & 1;
    e = <i32>(se & 0x7fff);
    A.sig = bits;
    if (e == 0x7fff) {
      if (!(bits >> 63)) A.cls = BAD;
      else if (bits << 1 == 0) A.cls = INF;
      else A.cls = (bits >> 62) & 1 ? QNAN : SNAN;
      return;
    }
    if (e != 0) {
      A.cls = bits >> 63 ? FINITE : BAD;
      A.exp = e - 16383;
      return;
    }
    sig = bits;
    min = -16382;
  } else {
    if (fmt == F64) {
      A.sign = <u32>(bits >> 63);
      e = <i32>(bits >> 52) & 0x7ff;
      sig = (bits & 0xfffffffffffff) << 11;
      max = 0x7ff;
      min = -1022;
    } else {
      A.sign = <u32>(bits >> 31) & 1;
      e = <i32>(bits >> 23) & 0xff;
      sig = (bits & 0x7fffff) << 40;
      max = 0xff;
      min = -126;
    }
    if (e == max) {
      A.sig = sig | 0x8000000000000000;
      A.cls = sig == 0 ? INF : (sig >> 62) & 1 ? QNAN : SNAN;
      return;
    }
    if (e != 0) {
      A.sig = sig | 0x8000000000000000;
      A.cls = FINITE;
      A.exp = e + min - 1;
      return;
    }
  }
  if (sig == 0 || (Env.daz && fmt != F80)) {
    A.sig = 0;
    A.cls = ZERO;
    return;
  }
  const shift = <i32>clz(sig);
  A.sig = sig << shift;
  A.exp = min - shift;
  A.cls = FINITE;
  A.den = true;
}

/** Unpacks two numbers of one format: a into A, b into B. */
export function unpack2(fmt: i32, a: u64, b: u64): void {
  unpack(fmt, b, 0);
  swap();
  unpack(fmt, a, 0);
}

// --- rounding

function away(odd: bool, half: bool, sticky: bool): bool {
  switch (Env.rc) {
    case 0:
      return half && (sticky || odd);
    case 1:
      return R.sign != 0 && (half || sticky);
    case 2:
      return R.sign == 0 && (half || sticky);
    default:
      return false;
  }
}

/** Rounds R.hi:R.lo to its upper `p` bits. Returns true if that changed the value. */
export function roundSig(p: i32): bool {
  let half: bool, sticky: bool;
  Env.up = false;
  if (p == 64) {
    half = R.lo >> 63 != 0;
    sticky = R.lo << 1 != 0;
    R.lo = 0;
    if (!half && !sticky) return false;
    if (away((R.hi & 1) != 0, half, sticky)) {
      Env.up = true;
      if (++R.hi == 0) {
        R.hi = 0x8000000000000000;
        R.exp++;
      }
    }
    return true;
  }
  const s = <u64>(64 - p);
  const ulp = (<u64>1) << s;
  const below = R.hi & (ulp - 1);
  half = ((below >> (s - 1)) & 1) != 0;
  sticky = (below & ((ulp >> 1) - 1)) != 0 || R.lo != 0;
  R.lo = 0;
  R.hi &= ~(ulp - 1);
  if (!half && !sticky) return false;
  if (away((R.hi & ulp) != 0, half, sticky)) {
    Env.up = true;
    R.hi += ulp;
    if (R.hi == 0) {
      R.hi = 0x8000000000000000;
      R.exp++;
    }
  }
  return true;
}

/** Shifts R right by n. Bits that are shifted out are kept in the sticky bit. */
export function shiftSticky(n: i32): void {
  if (n >= 128) {
    R.lo = <u64>i32((R.hi | R.lo) != 0);
    R.hi = 0;
  } else if (n >= 64) {
    const m = <u64>(n - 64);
    const lost = R.lo != 0 || (m != 0 && R.hi << (64 - m) != 0);
    R.lo = (R.hi >> m) | <u64>i32(lost);
    R.hi = 0;
  } else if (n > 0) {
    const m = <u64>n;
    const lost = R.lo << (64 - m) != 0;
    R.lo = (R.hi << (64 - m)) | (R.lo >> m) | <u64>i32(lost);
    R.hi >>= m;
  }
}

/**
 * Rounds R (the top bit of R.hi is set) to p bits within the exponents emin..emax and returns the class of the
 * result. Tininess is detected after rounding. A denormal result has R.exp = emin and the top bit of R.hi clear.
 * `adjust` is added to or subtracted from the exponent of a result if underflow or overflow is not masked (x87
 * registers: 24576); 0 if no such result is wanted.
 */
export function roundTo(p: i32, emin: i32, emax: i32, adjust: i32): i32 {
  if (R.exp < emin) {
    let tiny = true;
    if (R.exp == emin - 1) {
      const hi = R.hi,
        lo = R.lo,
        exp = R.exp;
      roundSig(p);
      tiny = R.exp < emin;
      R.hi = hi;
      R.lo = lo;
      R.exp = exp;
    }
    if (tiny) {
      if (!(Env.masks & UE)) {
        Env.flags |= UE;
        if (adjust) {
          R.exp += adjust;
          if (R.exp < emin) {
            Env.flags |= PE;
            Env.up = false;
            return ZERO;
          }
          if (roundSig(p)) Env.flags |= PE;
          return FINITE;
        }
        // No result will be written, but "inexact" is determined as if exponents were unbounded.
        if (roundSig(p)) Env.flags |= PE;
        return ZERO;
      }
      if (Env.ftz) {
        Env.flags |= UE | PE;
        return ZERO;
      }
    }
    shiftSticky(emin - R.exp);
    R.exp = emin;
    if (roundSig(p)) Env.flags |= tiny ? UE | PE : PE;
    return R.hi == 0 ? ZERO : FINITE;
  }
  const inexact = roundSig(p);
  if (R.exp > emax) {
    Env.flags |= OE;
    if (!(Env.masks & OE)) {
      if (inexact) Env.flags |= PE;
      R.exp -= adjust;
      if (adjust && R.exp <= emax) return FINITE;
      if (adjust) Env.flags |= PE;
      Env.up = true;
      return INF;
    }
    Env.flags |= PE;
    if (Env.rc == 0 || Env.rc == 2 - R.sign) {
      Env.up = true;
      return INF;
    }
    Env.up = false;
    R.exp = emax;
    R.hi = ~(<u64>0) << (<u64>(64 - p));
    return FINITE;
  }
  if (inexact) Env.flags |= PE;
  return FINITE;
}

/** Rounds R, of class `cls`, to float or double and returns its bits. A NaN becomes the default one. */
export function pack(fmt: i32, cls: i32): u64 {
  if (fmt == F64) {
    if (cls == FINITE) cls = roundTo(53, -1022, 1023, 0);
    const sign = (<u64>R.sign) << 63;
    if (cls == FINITE)
      return R.hi >> 63 ? sign | ((<u64>(R.exp + 1023)) << 52) | ((R.hi << 1) >> 12) : sign | (R.hi >> 11);
    if (cls == ZERO) return sign;
    if (cls == INF) return sign | 0x7ff0000000000000;
    return 0xfff8000000000000;
  }
  if (cls == FINITE) cls = roundTo(24, -126, 127, 0);
  const sign = (<u64>R.sign) << 31;
  if (cls == FINITE)
    return R.hi >> 63 ? sign | ((<u64>(R.exp + 127)) << 23) | ((R.hi << 1) >> 41) : sign | (R.hi >> 40);
  if (cls == ZERO) return sign;
  if (cls == INF) return sign | 0x7f800000;
  return 0xffc00000;
}
