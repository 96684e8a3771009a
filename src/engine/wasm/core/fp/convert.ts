// Conversions between float, double and integers, for SSE and x87. SDM volume 1, 4.8.4 and 11.5.
import { A, Env, F32, F64, FINITE, INF, pack, QNAN, R, roundSig, SNAN, unpack, ZERO } from './soft';
import { DE, IE, PE } from './state';

/**
 * Rounds A to an integer of `bits` bits in two's complement. If it is out of range, infinite or a NaN, sets IE and
 * returns the integer indefinite (only the top bit is set). Env.up says whether the result was rounded away from
 * zero.
 */
export function toInteger(bits: i32, truncate: bool): i64 {
  const indefinite = (<i64>-1) << (<i64>(bits - 1));
  Env.up = false;
  if (A.cls == ZERO) return 0;
  if (A.cls != FINITE || A.exp >= bits) {
    Env.flags |= IE;
    return indefinite;
  }
  const rc = Env.rc;
  if (truncate) Env.rc = 3;
  R.sign = A.sign;
  let value: u64;
  let inexact: bool;
  if (A.exp < 0) {
    // Below one, the integer is 0 or 1.
    const half = A.exp == -1;
    const sticky = !half || A.sig << 1 != 0;
    value =
      Env.rc == 0 ? u64(half && sticky) : Env.rc == 1 ? <u64>A.sign : Env.rc == 2 ? <u64>(A.sign ^ 1) : 0;
    Env.up = value != 0;
    inexact = true;
  } else {
    R.exp = A.exp;
    R.hi = A.sig;
    R.lo = 0;
    inexact = A.exp < 63 ? roundSig(A.exp + 1) : false;
    value = R.exp > 63 ? 0 : R.hi >> <u64>(63 - R.exp);
    if (R.exp > 63) {
      Env.rc = rc;
      Env.flags |= IE;
      return indefinite;
    }
  }
  Env.rc = rc;
  const limit = ((<u64>1) << (<u64>(bits - 1))) - <u64>(A.sign ^ 1);
  if (value > limit) {
    Env.up = false;
    Env.flags |= IE;
    return indefinite;
  }
  if (inexact) Env.flags |= PE;
  return A.sign ? -(<i64>value) : <i64>value;
}

/** Unpacks a signed integer into A. */
export function fromInteger(value: i64): void {
  A.den = false;
  A.sign = u32(value < 0);
  if (value == 0) {
    A.cls = ZERO;
    A.sig = 0;
    return;
  }
  const magnitude = value < 0 ? <u64>-value : <u64>value;
  const s = clz(magnitude);
  A.cls = FINITE;
  A.sig = magnitude << s;
  A.exp = 63 - <i32>s;
}

export function f32ToInt(a: u64, bits: i32, truncate: bool): i64 {
  unpack(F32, a & 0xffffffff, 0);
  return toInteger(bits, truncate);
}

export function f64ToInt(a: u64, bits: i32, truncate: bool): i64 {
  const x = reinterpret<f64>(a);
  if (Math.abs(x) < 2147483520 && !Env.daz) {
    const t =
      truncate || Env.rc == 3
        ? Math.trunc(x)
        : Env.rc == 0
          ? nearest<f64>(x)
          : Env.rc == 1
            ? Math.floor(x)
            : Math.ceil(x);
    if (t != x) Env.flags |= PE;
    return <i64>t;
  }
  unpack(F64, a, 0);
  return toInteger(bits, truncate);
}

export function intToFloat(fmt: i32, value: i64): u64 {
  fromInteger(value);
  copyToR();
  return pack(fmt, A.cls);
}

function copyToR(): void {
  R.sign = A.sign;
  R.exp = A.exp;
  R.hi = A.sig;
  R.lo = 0;
}

export function f32ToF64(a: u64): u64 {
  a &= 0xffffffff;
  const e = <u32>(a >> 23) & 0xff;
  if (e != 0 && e != 0xff) return reinterpret<u64>(<f64>reinterpret<f32>(<u32>a));
  unpack(F32, a, 0);
  if (A.cls == ZERO) return (<u64>A.sign) << 63;
  if (A.cls == INF) return reinterpret<u64>(<f64>reinterpret<f32>(<u32>a));
  if (A.cls >= QNAN) {
    if (A.cls == SNAN) Env.flags |= IE;
    return ((<u64>A.sign) << 63) | 0x7ff8000000000000 | ((A.sig << 1) >> 12);
  }
  Env.flags |= DE;
  return reinterpret<u64>(<f64>reinterpret<f32>(<u32>a));
}

export function f64ToF32(a: u64): u64 {
  if (Env.rc == 0 && Env.masks & PE) {
    // Normal as a float and not near the limits: the native conversion, which was inexact if converting back gives
    // another number.
    const x = reinterpret<f64>(a);
    if (<u32>((<i32>(a >> 52) & 0x7ff) - 903) < 240 || x == 0) {
      const r = <f32>x;
      if (<f64>r != x) Env.flags |= PE;
      return <u64>reinterpret<u32>(r);
    }
  }
  unpack(F64, a, 0);
  if (A.cls >= QNAN) {
    if (A.cls == SNAN) Env.flags |= IE;
    return ((<u64>A.sign) << 31) | 0x7fc00000 | ((A.sig << 1) >> 41);
  }
  if (A.den) {
    Env.flags |= DE;
    if (!(Env.masks & DE)) return 0;
  }
  copyToR();
  return pack(F32, A.cls);
}
