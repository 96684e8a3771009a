// Exact arithmetic on unpacked numbers: A op B into R with 128 bits (see soft.ts), and the 128-bit integer steps for
// it. Special operands: IEEE 754 and SDM volume 1, 4.8.5.
import { A, ADD, B, Env, FINITE, INF, MUL, QNAN, R, shiftSticky, SUB, swap, ZERO } from './soft';
import { IE, ZE } from './state';

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

/** The remainder of the last div128. */
export class Rem {
  static value: u64 = 0;
}

/**
 * Divides (hi:lo) by d, where hi < d and the top bit of d is set. The remainder goes to Rem.value. Knuth's algorithm
 * D with two digits.
 */
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

/** Shifts R (which is not zero) until its top bit is bit 127. */
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

/**
 * Computes A op B into R if neither is a NaN or unsupported. Returns the class of R. QNAN means that the operation is
 * invalid; the result is then the default NaN.
 */
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

/** Computes the square root of A into R. Returns the same as arith(). */
export function root(): i32 {
  R.sign = A.sign;
  if (A.cls == ZERO) return ZERO;
  if (A.sign) {
    Env.flags |= IE;
    return QNAN;
  }
  if (A.cls == INF) return INF;
  // N = sig * 2^63 or 2^62, so that the exponent is even. The root then has 64 bits.
  const odd = A.exp & 1;
  R.exp = (A.exp - odd) >> 1;
  let hi = odd ? A.sig : A.sig >> 1;
  let lo = odd ? <u64>0 : A.sig << 63;
  let q: u64 = 0,
    rem: u64 = 0,
    carry: u64 = 0;
  for (let i = 0; i < 64; i++) {
    // rem = rem * 4 + next two bits of N. rem has at most 66 bits; the upper ones are in carry.
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

/**
 * The bits after the 64 of a root: the half bit is set if the remainder exceeds q, then a sticky bit. A root is never
 * exactly half way.
 */
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
