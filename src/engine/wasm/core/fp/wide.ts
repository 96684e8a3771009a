// Numbers with 128 significant bits for the transcendental functions. This is enough for the 64 rounded bits of a
// result to be right except in about one case of 2^50. They are stored in slots of 24 bytes (hi, lo, exp, sign). hi =
// 0 means zero; otherwise its top bit is set. Results are truncated, not rounded.
import { R } from './soft';
import { mul128 } from './soft-arith';

export const SIZE: usize = 24;

export function wset(d: usize, sign: u32, exp: i32, hi: u64, lo: u64): void {
  store<u64>(d, hi);
  store<u64>(d, lo, 8);
  store<i32>(d, exp, 16);
  store<u32>(d, sign, 20);
}

export function wcopy(d: usize, a: usize): void {
  memory.copy(d, a, SIZE);
}

function normalised(d: usize, sign: u32, exp: i32, hi: u64, lo: u64): void {
  if (hi == 0) {
    if (lo == 0) {
      wset(d, sign, -0x100000, 0, 0);
      return;
    }
    hi = lo;
    lo = 0;
    exp -= 64;
  }
  const s = clz(hi);
  if (s) {
    hi = (hi << s) | (lo >> (64 - s));
    lo <<= s;
  }
  wset(d, sign, exp - <i32>s, hi, lo);
}

/** An integer below 2^63 in magnitude. */
export function wint(d: usize, n: i64): void {
  normalised(d, n < 0 ? 1 : 0, 63, <u64>(n < 0 ? -n : n), 0);
}

export function wnegate(d: usize): void {
  store<u32>(d, load<u32>(d, 20) ^ 1, 20);
}

export function wmul(d: usize, a: usize, b: usize): void {
  const ah = load<u64>(a),
    al = load<u64>(a, 8),
    bh = load<u64>(b),
    bl = load<u64>(b, 8);
  const sign = load<u32>(a, 20) ^ load<u32>(b, 20);
  if (ah == 0 || bh == 0) {
    wset(d, sign, -0x100000, 0, 0);
    return;
  }
  mul128(al, bl);
  let low = R.hi;
  let carry: u64 = 0;
  mul128(ah, bl);
  const m1 = R.hi;
  low += R.lo;
  carry += <u64>i32(low < R.lo);
  mul128(al, bh);
  const m2 = R.hi;
  low += R.lo;
  carry += <u64>i32(low < R.lo);
  mul128(ah, bh);
  let lo = R.lo,
    hi = R.hi;
  lo += carry;
  hi += <u64>i32(lo < carry);
  lo += m1;
  hi += <u64>i32(lo < m1);
  lo += m2;
  hi += <u64>i32(lo < m2);
  normalised(d, sign, load<i32>(a, 16) + load<i32>(b, 16) + 1, hi, lo);
}

export function wadd(d: usize, a: usize, b: usize): void {
  if (load<u64>(b) == 0) {
    wcopy(d, a);
    return;
  }
  if (load<u64>(a) == 0) {
    wcopy(d, b);
    return;
  }
  let ea = load<i32>(a, 16),
    eb = load<i32>(b, 16);
  if (
    ea < eb ||
    (ea == eb &&
      (load<u64>(a) < load<u64>(b) || (load<u64>(a) == load<u64>(b) && load<u64>(a, 8) < load<u64>(b, 8))))
  ) {
    const t = a;
    a = b;
    b = t;
    const e = ea;
    ea = eb;
    eb = e;
  }
  const n = ea - eb;
  let bh = load<u64>(b),
    bl = load<u64>(b, 8);
  if (n >= 128) {
    bh = 0;
    bl = 0;
  } else if (n >= 64) {
    bl = bh >> <u64>(n - 64);
    bh = 0;
  } else if (n > 0) {
    bl = (bl >> <u64>n) | (bh << (<u64>(64 - n)));
    bh >>= <u64>n;
  }
  const ah = load<u64>(a),
    al = load<u64>(a, 8),
    sign = load<u32>(a, 20);
  if (sign == load<u32>(b, 20)) {
    let lo = al + bl;
    const c = <u64>i32(lo < al);
    let hi = ah + bh;
    let over = hi < ah;
    hi += c;
    over = over || hi < c;
    if (over) {
      lo = (lo >> 1) | (hi << 63);
      hi = (hi >> 1) | 0x8000000000000000;
      ea++;
    }
    wset(d, sign, ea, hi, lo);
    return;
  }
  const lo = al - bl;
  normalised(d, sign, ea, ah - bh - <u64>i32(al < bl), lo);
}

/** a / b, bit by bit. */
export function wdiv(d: usize, a: usize, b: usize): void {
  const sign = load<u32>(a, 20) ^ load<u32>(b, 20);
  let h = load<u64>(a),
    l = load<u64>(a, 8);
  if (h == 0) {
    wset(d, sign, -0x100000, 0, 0);
    return;
  }
  const dh = load<u64>(b),
    dl = load<u64>(b, 8);
  let qh: u64 = 0,
    ql: u64 = 0,
    carry: u64 = 0;
  for (let i = 0; i < 128; i++) {
    qh = (qh << 1) | (ql >> 63);
    ql <<= 1;
    if (carry || h > dh || (h == dh && l >= dl)) {
      h = h - dh - <u64>i32(l < dl);
      l -= dl;
      ql |= 1;
    }
    carry = h >> 63;
    h = (h << 1) | (l >> 63);
    l <<= 1;
  }
  normalised(d, sign, load<i32>(a, 16) - load<i32>(b, 16), qh, ql);
}

/** a / n for 0 < n < 2^31. */
export function wdivInt(d: usize, a: usize, n: u64): void {
  const h = load<u64>(a),
    l = load<u64>(a, 8);
  const qh = h / n;
  let r = h % n;
  let t = (r << 32) | (l >> 32);
  const q1 = t / n;
  r = t % n;
  t = (r << 32) | (l & 0xffffffff);
  normalised(d, load<u32>(a, 20), load<i32>(a, 16), qh, (q1 << 32) | (t / n));
}
