// One element of an SSE arithmetic operation on float or double.
//
// When rounding to nearest, the processor's sum, product, quotient and root are the same as WebAssembly's.
// WebAssembly does not say whether the result was inexact. For exponents that are far from the limits an error-free
// transformation (2Sum, Dekker's product) finds that out; once MXCSR.PE is set, even that is not needed. Everything
// else (other rounding modes, NaNs, denormals, exponents near the limits) goes through soft.ts.
import { ADD, A, B, DIV, Env, F32, F64, FINITE, MUL, pack, QNAN, SNAN, SUB, unpack, unpack2, ZERO } from './soft';
import { arith, root } from './soft-arith';
import { DE, IE, PE } from './state';

/**
 * Set by begin(). `on`: native operations give the right result. `sticky`: PE is already set, so inexactness need not
 * be determined.
 */
export class Fast {
  static on: bool = false;
  static sticky: bool = false;
}

const QUIET64: u64 = 0x0008000000000000;
const QUIET32: u64 = 0x00400000;
const EXPONENT64: u64 = 0x7ff0000000000000;
const EXPONENT32: u64 = 0x7f800000;

/** Reads MXCSR for the following operation. */
export function begin(mxcsr: u32): void {
  Env.rc = (mxcsr >> 13) & 3;
  Env.masks = (mxcsr >> 7) & 0x3f;
  Env.ftz = (mxcsr & 0x8000) != 0;
  Env.daz = (mxcsr & 0x40) != 0;
  Env.flags = 0;
  Fast.on = (mxcsr & 0x7000) == 0x1000;
  Fast.sticky = (mxcsr & PE) != 0;
}

function quiet(fmt: i32, bits: u64): u64 {
  return fmt == F64 ? bits | QUIET64 : bits | QUIET32;
}

function soft(kind: i32, fmt: i32, a: u64, b: u64): u64 {
  unpack2(fmt, a, b);
  if (A.cls >= QNAN || B.cls >= QNAN) {
    if (A.cls == SNAN || B.cls == SNAN) Env.flags |= IE;
    return quiet(fmt, A.cls >= QNAN ? a : b);
  }
  const den = A.den || B.den;
  const before = Env.flags;
  Env.flags = 0;
  const cls = arith(kind);
  const here = Env.flags;
  // Invalid and divide by zero come before the denormal operand, which is then not reported.
  if (den && here == 0) Env.flags = DE;
  Env.flags |= before;
  // After an unmasked exception that was detected before rounding there is nothing to round.
  if (Env.flags & ~Env.masks & 7) return 0;
  return pack(fmt, cls);
}

// Exponent fields: normal and far from both ends, so that no error term is lost.
// @ts-ignore: decorator
@inline
function middle64(x: f64): bool {
  return <u32>((<i32>(reinterpret<u64>(x) >> 52) & 0x7ff) - 543) < 960;
}

// @ts-ignore: decorator
@inline
function sumSafe64(x: f64): bool {
  return <u32>((<i32>(reinterpret<u64>(x) >> 52) & 0x7ff) - 1) < 0x7fa || x == 0;
}

// @ts-ignore: decorator
@inline
function sumSafe32(x: f32): bool {
  return <u32>((<i32>(reinterpret<u32>(x) >> 23) & 0xff) - 1) < 0xfa || x == 0;
}

// @ts-ignore: decorator
@inline
function middle32(x: f32): bool {
  return <u32>((<i32>(reinterpret<u32>(x) >> 23) & 0xff) - 2) < 0xfb;
}

// The error of the product p = x * y.
function productError(x: f64, y: f64, p: f64): f64 {
  const cx = x * 134217729.0, cy = y * 134217729.0;
  const xh = cx - (cx - x), yh = cy - (cy - y);
  const xl = x - xh, yl = y - yh;
  return xl * yl - (p - xh * yh - xl * yh - xh * yl);
}

function sum64(x: f64, y: f64): bool {
  const s = x + y;
  if (!(sumSafe64(x) && sumSafe64(y) && sumSafe64(s))) return false;
  if (!Fast.sticky) {
    const t = s - x;
    if (x - (s - t) + (y - t) != 0) Env.flags |= PE;
  }
  Native.f64 = s;
  return true;
}

class Native {
  static f64: f64 = 0;
  static f32: f32 = 0;
}

export function add64(a: u64, b: u64): u64 {
  if (Fast.on && sum64(reinterpret<f64>(a), reinterpret<f64>(b))) return reinterpret<u64>(Native.f64);
  return soft(ADD, F64, a, b);
}

export function sub64(a: u64, b: u64): u64 {
  if (Fast.on && sum64(reinterpret<f64>(a), -reinterpret<f64>(b))) return reinterpret<u64>(Native.f64);
  return soft(SUB, F64, a, b);
}

export function mul64(a: u64, b: u64): u64 {
  if (Fast.on) {
    const x = reinterpret<f64>(a), y = reinterpret<f64>(b);
    const p = x * y;
    if (middle64(x) && middle64(y) && middle64(p)) {
      if (!Fast.sticky && productError(x, y, p) != 0) Env.flags |= PE;
      return reinterpret<u64>(p);
    }
    if ((x == 0 && sumSafe64(y)) || (y == 0 && sumSafe64(x))) return reinterpret<u64>(p);
  }
  return soft(MUL, F64, a, b);
}

export function div64(a: u64, b: u64): u64 {
  if (Fast.on) {
    const x = reinterpret<f64>(a), y = reinterpret<f64>(b);
    const q = x / y;
    if (middle64(x) && middle64(y) && middle64(q)) {
      if (!Fast.sticky) {
        const p = q * y;
        if (p != x || productError(q, y, p) != 0) Env.flags |= PE;
      }
      return reinterpret<u64>(q);
    }
    if (x == 0 && middle64(y)) return reinterpret<u64>(q);
  }
  return soft(DIV, F64, a, b);
}

export function add32(a: u64, b: u64): u64 {
  if (Fast.on) {
    const x = reinterpret<f32>(<u32>a), y = reinterpret<f32>(<u32>b);
    const s = x + y;
    if (sumSafe32(x) && sumSafe32(y) && sumSafe32(s)) {
      if (!Fast.sticky) {
        const t = s - x;
        if (x - (s - t) + (y - t) != 0) Env.flags |= PE;
      }
      return <u64>reinterpret<u32>(s);
    }
  }
  return soft(ADD, F32, a, b);
}

export function sub32(a: u64, b: u64): u64 {
  if (Fast.on) {
    const x = reinterpret<f32>(<u32>a), y = -reinterpret<f32>(<u32>b);
    const s = x + y;
    if (sumSafe32(x) && sumSafe32(y) && sumSafe32(s)) {
      if (!Fast.sticky) {
        const t = s - x;
        if (x - (s - t) + (y - t) != 0) Env.flags |= PE;
      }
      return <u64>reinterpret<u32>(s);
    }
  }
  return soft(SUB, F32, a, b);
}

export function mul32(a: u64, b: u64): u64 {
  if (Fast.on) {
    const x = reinterpret<f32>(<u32>a), y = reinterpret<f32>(<u32>b);
    const p = x * y;
    if ((middle32(x) && middle32(y) && middle32(p)) || (x == 0 && sumSafe32(y)) || (y == 0 && sumSafe32(x))) {
      if (<f64>x * <f64>y != <f64>p) Env.flags |= PE;
      return <u64>reinterpret<u32>(p);
    }
  }
  return soft(MUL, F32, a, b);
}

export function div32(a: u64, b: u64): u64 {
  if (Fast.on) {
    const x = reinterpret<f32>(<u32>a), y = reinterpret<f32>(<u32>b);
    const q = x / y;
    if (middle32(y) && ((middle32(x) && middle32(q)) || x == 0)) {
      if (<f64>q * <f64>y != <f64>x) Env.flags |= PE;
      return <u64>reinterpret<u32>(q);
    }
  }
  return soft(DIV, F32, a, b);
}

export function sqrt(fmt: i32, a: u64): u64 {
  if (Fast.on) {
    if (fmt == F64) {
      const x = reinterpret<f64>(a);
      if (x > 0 && middle64(x)) {
        const s = Math.sqrt(x);
        if (!Fast.sticky) {
          const p = s * s;
          if (p != x || productError(s, s, p) != 0) Env.flags |= PE;
        }
        return reinterpret<u64>(s);
      }
    } else {
      const x = reinterpret<f32>(<u32>a);
      if (x > 0 && middle32(x)) {
        const s = Mathf.sqrt(x);
        if (<f64>s * <f64>s != <f64>x) Env.flags |= PE;
        return <u64>reinterpret<u32>(s);
      }
    }
  }
  unpack(fmt, a, 0);
  if (A.cls >= QNAN) {
    if (A.cls == SNAN) Env.flags |= IE;
    return quiet(fmt, a);
  }
  if (A.den && !A.sign) Env.flags |= DE;
  const cls = root();
  if (Env.flags & ~Env.masks & 7) return 0;
  return pack(fmt, cls);
}

/**
 * Compares A and B: -1, 0, 1, or 2 if unordered. Sets DE for a denormal operand, and IE for NaNs depending on
 * `quietInvalid`.
 */
export function order(fmt: i32, a: u64, b: u64, quietInvalid: bool): i32 {
  if (fmt == F64) {
    const x = reinterpret<f64>(a), y = reinterpret<f64>(b);
    if (x == x && y == y && (a & EXPONENT64 || x == 0) && (b & EXPONENT64 || y == 0)) return x < y ? -1 : i32(x > y);
  } else {
    const x = reinterpret<f32>(<u32>a), y = reinterpret<f32>(<u32>b);
    if (x == x && y == y && (a & EXPONENT32 || x == 0) && (b & EXPONENT32 || y == 0)) return x < y ? -1 : i32(x > y);
  }
  unpack2(fmt, a, b);
  return orderUnpacked(quietInvalid);
}

export function orderUnpacked(quietInvalid: bool): i32 {
  if (A.cls >= QNAN || B.cls >= QNAN) {
    if (quietInvalid || A.cls >= SNAN || B.cls >= SNAN) Env.flags |= IE;
    return 2;
  }
  if (A.den || B.den) Env.flags |= DE;
  if (A.cls == ZERO && B.cls == ZERO) return 0;
  if (A.cls == ZERO) return B.sign ? 1 : -1;
  if (A.sign != B.sign || B.cls == ZERO) return A.sign ? -1 : 1;
  const larger = A.sign ? -1 : 1;
  if (A.cls != B.cls) return A.cls > B.cls ? larger : -larger; // one is infinite
  if (A.cls != FINITE) return 0;
  if (A.exp != B.exp) return A.exp > B.exp ? larger : -larger;
  if (A.sig != B.sig) return A.sig > B.sig ? larger : -larger;
  return 0;
}

/** MIN and MAX return the second operand unless the first one is strictly smaller (larger). */
export function minmax(fmt: i32, a: u64, b: u64, max: bool): u64 {
  const r = order(fmt, a, b, true) == (max ? 1 : -1) ? a : b;
  if (!Env.daz) return r;
  // The result is the operand as it was compared.
  if (fmt == F64) return r & EXPONENT64 ? r : r & 0x8000000000000000;
  return r & EXPONENT32 ? r : r & 0x80000000;
}

/** CMPxx with predicate 0..7. The result is all ones or zero. */
export function compare(fmt: i32, a: u64, b: u64, predicate: i32): u64 {
  const p = predicate & 3;
  const o = order(fmt, a, b, p == 1 || p == 2);
  let yes: bool;
  if (p == 0) yes = o == 0;
  else if (p == 1) yes = o == -1;
  else if (p == 2) yes = o == -1 || o == 0;
  else yes = o == 2;
  return yes != ((predicate & 4) != 0) ? ~(<u64>0) : 0;
}
