// Binary floating point in integers, for every format the processor has.
//
// A number taken apart is (-1)^sign * sig/2^63 * 2^exp with the top bit of sig set, whatever its
// format was. An operation leaves its exact result in R as 128 bits (the last one sticky: "more
// follows"); roundTo() then rounds it once, to the precision and range asked for. So each operation
// is written once for float, double and extended. Rules: SDM volume 1, 4.8 and 4.9.
import { DE, IE, OE, PE, UE, ZE } from './state';

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

/** First operand. */
export class A {
  static sign: u32 = 0;
  static exp: i32 = 0;
  static sig: u64 = 0;
  static cls: i32 = 0;
  static den: bool = false;
}

/** Second operand. */
export class B {
  static sign: u32 = 0;
  static exp: i32 = 0;
  static sig: u64 = 0;
  static cls: i32 = 0;
  static den: bool = false;
}

/** Result. */
export class R {
  static sign: u32 = 0;
  static exp: i32 = 0;
  static hi: u64 = 0;
  static lo: u64 = 0;
}

/** The mode an operation runs in, and the exceptions it met. */
export class Env {
  static rc: u32 = 0; // 0 nearest, 1 down, 2 up, 3 to zero
  static masks: u32 = 0x3f; // same bits as the flags
  static ftz: bool = false;
  static flags: u32 = 0;
  static up: bool = false; // the last rounding went away from zero
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

/** Takes a number apart into A. `se` is sign and exponent of an extended one, whose significand is `bits`. */
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
  if (sig == 0) {
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

/** Takes two numbers of one format apart: a into A, b into B. */
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

/** Rounds R.hi:R.lo to its upper `p` bits; true if that changed the value. */
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

/** Shifts R right by n, keeping what falls out as the sticky bit. */
function shiftSticky(n: i32): void {
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
 * Rounds R (top bit of R.hi set) to p bits in the range of exponents emin..emax and returns the
 * class of the result. Tininess is detected after rounding. A denormal result has R.exp = emin and
 * the top bit of R.hi clear. `adjust` is what the exponent of a result is moved by when underflow or
 * overflow is not masked (x87 registers: 24576); 0 where no such result is wanted.
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
        // No result will be written; but "inexact" is judged as if exponents had no bound.
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

/** Rounds R, of class `cls`, to float or double and returns its bits. NaN: the default one. */
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

// --- 128-bit helpers

/** a * b into R.hi:R.lo. */
export function mul128(a: u64, b: u64): void {
  const al = a & 0xffffffff,
    ah = a >> 32,
    bl = b & 0xffffffff,
    bh = b >> 32;
  const ll = al * bl;
  const mid = ah * bl + (ll >> 32);
  const mid2 = al * bh + (mid & 0xffffffff);
  R.hi = ah * bh + (mid >> 32) + (mid2 >> 32);
  R.lo = (mid2 << 32) | (ll & 0xffffffff);
}

/** Remainder of the last div128. */
export class Rem {
  static value: u64 = 0;
}

/** (hi:lo) / d where hi < d and the top bit of d is set; remainder in Rem.value. Knuth's algorithm D, two digits. */
export function div128(hi: u64, lo: u64, d: u64): u64 {
  const d1 = d >> 32,
    d0 = d & 0xffffffff;
  let q1 = hi / d1,
    r = hi % d1;
  while (q1 >> 32 != 0 || q1 * d0 > ((r << 32) | (lo >> 32))) {
    q1--;
    r += d1;
    if (r >> 32 != 0) break;
  }
  const mid = ((hi << 32) | (lo >> 32)) - q1 * d;
  let q0 = mid / d1;
  r = mid % d1;
  while (q0 >> 32 != 0 || q0 * d0 > ((r << 32) | (lo & 0xffffffff))) {
    q0--;
    r += d1;
    if (r >> 32 != 0) break;
  }
  Rem.value = ((mid << 32) | (lo & 0xffffffff)) - q0 * d;
  return (q1 << 32) | q0;
}

// --- exact operations on finite numbers: A op B into R

function addFinite(): i32 {
  if (A.exp < B.exp || (A.exp == B.exp && A.sig < B.sig)) swap();
  const d = A.exp - B.exp;
  R.hi = B.sig;
  R.lo = 0;
  shiftSticky(d);
  R.sign = A.sign;
  R.exp = A.exp;
  if (A.sign == B.sign) {
    R.hi += A.sig;
    if (R.hi < A.sig) {
      R.lo = (R.lo >> 1) | (R.lo & 1) | (R.hi << 63);
      R.hi = (R.hi >> 1) | 0x8000000000000000;
      R.exp++;
    }
    return FINITE;
  }
  const borrow = <u64>i32(R.lo != 0);
  R.hi = A.sig - R.hi - borrow;
  R.lo = 0 - R.lo;
  if ((R.hi | R.lo) == 0) {
    R.sign = Env.rc == 1 ? 1 : 0;
    return ZERO;
  }
  normalise();
  return FINITE;
}

/** Moves the top bit of R (not zero) to bit 127. */
export function normalise(): void {
  if (R.hi == 0) {
    R.hi = R.lo;
    R.lo = 0;
    R.exp -= 64;
  }
  const s = clz(R.hi);
  if (s) {
    R.hi = (R.hi << s) | (R.lo >> (64 - s));
    R.lo <<= s;
    R.exp -= <i32>s;
  }
}

function mulFinite(): i32 {
  R.exp = A.exp + B.exp + 1;
  mul128(A.sig, B.sig);
  normalise();
  return FINITE;
}

function divFinite(): i32 {
  R.exp = A.exp - B.exp;
  const d = B.sig;
  if (A.sig >= d) {
    R.hi = div128(A.sig >> 1, A.sig << 63, d);
  } else {
    R.hi = div128(A.sig, 0, d);
    R.exp--;
  }
  const r = Rem.value;
  if (r == 0) R.lo = 0;
  else {
    const twice = r << 1;
    if (r >> 63 || twice > d) R.lo = 0x8000000000000001;
    else R.lo = twice == d ? 0x8000000000000000 : 1;
  }
  return FINITE;
}

/** A op B into R where neither is a NaN or unsupported. Returns the class of R; QNAN: invalid, the default NaN. */
export function arith(kind: i32): i32 {
  if (kind == ADD || kind == SUB) {
    if (kind == SUB) B.sign ^= 1;
    if (A.cls == FINITE && B.cls == FINITE) return addFinite();
    if (A.cls == INF || B.cls == INF) {
      if (A.cls == INF && B.cls == INF && A.sign != B.sign) {
        Env.flags |= IE;
        return QNAN;
      }
      R.sign = A.cls == INF ? A.sign : B.sign;
      return INF;
    }
    if (A.cls == ZERO && B.cls == ZERO) {
      R.sign = A.sign == B.sign ? A.sign : Env.rc == 1 ? 1 : 0;
      return ZERO;
    }
    if (A.cls == ZERO) swap();
    R.sign = A.sign;
    R.exp = A.exp;
    R.hi = A.sig;
    R.lo = 0;
    return FINITE;
  }
  R.sign = A.sign ^ B.sign;
  if (kind == MUL) {
    if (A.cls == FINITE && B.cls == FINITE) return mulFinite();
    if (A.cls == INF || B.cls == INF) {
      if (A.cls == ZERO || B.cls == ZERO) {
        Env.flags |= IE;
        return QNAN;
      }
      return INF;
    }
    return ZERO;
  }
  if (A.cls == FINITE && B.cls == FINITE) return divFinite();
  if (A.cls == INF) {
    if (B.cls == INF) {
      Env.flags |= IE;
      return QNAN;
    }
    return INF;
  }
  if (B.cls == INF) return ZERO;
  if (B.cls == ZERO) {
    if (A.cls == ZERO) {
      Env.flags |= IE;
      return QNAN;
    }
    Env.flags |= ZE;
    return INF;
  }
  return ZERO;
}

/** Square root of A into R; as arith(). */
export function root(): i32 {
  R.sign = A.sign;
  if (A.cls == ZERO) return ZERO;
  if (A.sign) {
    Env.flags |= IE;
    return QNAN;
  }
  if (A.cls == INF) return INF;
  // N = sig * 2^63 or 2^62 so that the exponent is even; the root then has 64 bits.
  const odd = A.exp & 1;
  R.exp = (A.exp - odd) >> 1;
  let hi = odd ? A.sig : A.sig >> 1;
  let lo = odd ? <u64>0 : A.sig << 63;
  let q: u64 = 0,
    rem: u64 = 0,
    carry: u64 = 0;
  for (let i = 0; i < 64; i++) {
    // rem = rem * 4 + next two bits of N; rem has at most 66 bits, the upper ones in carry
    carry = rem >> 62;
    rem = (rem << 2) | (hi >> 62);
    hi = (hi << 2) | (lo >> 62);
    lo <<= 2;
    const trialHigh = q >> 62;
    const trial = (q << 2) | 1;
    q <<= 1;
    if (carry > trialHigh || (carry == trialHigh && rem >= trial)) {
      rem -= trial;
      q |= 1;
    }
  }
  R.hi = q;
  // The remainder is at most 2q, 65 bits; its top bit is lost above only if it is not zero anyway.
  // (q + 1/2)^2 = q^2 + q + 1/4: the next bit is set if the remainder exceeds q.
  R.lo = carryRoot(rem, q);
  return FINITE;
}

/** Bits after the 64 of a root: half if the remainder exceeds q, then sticky. A root is never half way. */
function carryRoot(rem: u64, q: u64): u64 {
  // The remainder r = N - q^2 < 2^65 was kept modulo 2^64. If r >= 2^64 then r mod 2^64 <= 2q - 2^64 < q.
  if (rem == 0 && !rootOverflow(q)) return 0;
  return rem > q || rootOverflow(q) ? 0xc000000000000000 : 0x4000000000000000;
}

function rootOverflow(q: u64): bool {
  // r = N - q^2 >= 2^64 ?  Compare N's upper half with q^2's: found from A and q again.
  const hi = A.exp & 1 ? A.sig : A.sig >> 1;
  const lo = A.exp & 1 ? <u64>0 : A.sig << 63;
  const savedHi = R.hi,
    savedLo = R.lo;
  mul128(q, q);
  const dHi = hi - R.hi - <u64>i32(lo < R.lo);
  R.hi = savedHi;
  R.lo = savedLo;
  return dHi != 0;
}

/** Flags DE if an operand that counts is denormal. */
export function denormals(both: bool): void {
  if (A.den || (both && B.den)) Env.flags |= DE;
}
