// The x87 functions: powers, logarithms and the arctangent (sines are in x87-trigonometry.ts). They are
// computed as series of 128-bit numbers, and rounded once at the end. Results are the correctly rounded
// values of the function; those of a processor may differ by one unit in the last place. Special operands
// follow the tables of SDM volume 2 for each instruction. Temporaries are in the scratch area, which is free
// because these instructions have no memory operand.
import { A, B, Env, FINITE, INF, QNAN, R, swap, ZERO } from './soft';
import { DE, IE, PE, SCRATCH, UE, ZE } from './state';
import { SIZE, wadd, wcopy, wdiv, wdivInt, wint, wmul, wnegate, wset } from './wide';
import { finishR, unary } from './x87-arith';
import { begin, isEmpty, nans, packV, pop, settle, underflow, unpackSt, write } from './x87-stack';

export function slot(cpu: usize, i: usize): usize {
  return cpu + SCRATCH + i * SIZE;
}

export function toR(w: usize): i32 {
  R.sign = load<u32>(w, 20);
  R.exp = load<i32>(w, 16);
  R.hi = load<u64>(w);
  R.lo = load<u64>(w, 8) | 1; // the results of transcendental functions are never exact
  return R.hi == 0 ? ZERO : FINITE;
}

/**
 * Makes w smaller by the least possible amount. It stands for results that are just below the argument, by a
 * difference that 128 bits cannot show.
 */
export function below(w: usize): void {
  const hi = load<u64>(w), sign = load<u32>(w, 20), exp = load<i32>(w, 16);
  if (hi << 1 != 0) wset(w, sign, exp, hi - 1, ~(<u64>0));
  else wset(w, sign, exp - 1, ~(<u64>0), ~(<u64>0));
}

function fromA(w: usize): void {
  wset(w, A.sign, A.exp, A.cls == FINITE ? A.sig : 0, 0);
}

function fromB(w: usize): void {
  wset(w, B.sign, B.exp, B.cls == FINITE ? B.sig : 0, 0);
}

// --- Exponential ---

export function exponential(cpu: usize): void {
  if (unary(cpu)) return;
  if (A.den) Env.flags |= DE;
  R.sign = A.sign;
  if (A.cls == INF && A.sign) {
    R.exp = 0;
    R.hi = 0x8000000000000000;
    R.lo = 0;
    finishR(cpu, FINITE, 64);
    return;
  }
  if (A.cls != FINITE) {
    finishR(cpu, A.cls, 64);
    return;
  }
  if (A.exp >= 0) {
    // The results for +1 and -1 are exact, yet flagged as inexact. The instruction is not defined beyond
    // them: the argument is kept.
    Env.flags |= PE;
    R.exp = A.exp == 0 && A.sig << 1 == 0 && A.sign ? -1 : A.exp;
    R.hi = A.sig;
    R.lo = 0;
    if (A.exp == 0 && A.sig << 1 == 0 && !A.sign) {
      // AMD's processors reach 1 from below.
      R.exp = -1;
      R.hi = ~(<u64>0);
      R.lo = R.hi;
    }
    finishR(cpu, FINITE, 64);
    return;
  }
  const x = slot(cpu, 0), s = slot(cpu, 1), one = slot(cpu, 2);
  fromA(x);
  wset(s, 0, -1, 0xb17217f7d1cf79ab, 0xc9e3b39803f2f6af);
  wmul(x, x, s);
  wint(one, 1);
  wcopy(s, one);
  // e^x - 1 = x (1 + x/2 (1 + x/3 (1 + ...)))
  for (let k: u64 = A.exp < -16 ? 10 : 34; k >= 2; k--) {
    wmul(s, s, x);
    wdivInt(s, s, k);
    wadd(s, s, one);
  }
  wmul(s, s, x);
  finishR(cpu, toR(s), 64);
}

// --- Logarithms ---

// Puts log2((1 + z) / (1 - z)) = 2/ln 2 * (z + z^3/3 + ...), for |z| < 0.18, into s.
function logSeries(cpu: usize, z: usize, s: usize): void {
  const z2 = slot(cpu, 8), t = slot(cpu, 9);
  wmul(z2, z, z);
  wset(s, 0, -0x100000, 0, 0);
  for (let k: i64 = 53; k >= 1; k -= 2) {
    wint(t, 1);
    wdivInt(t, t, <u64>k);
    wmul(s, s, z2);
    wadd(s, s, t);
  }
  wmul(s, s, z);
  wset(t, 0, 1, 0xb8aa3b295c17f0bb, 0xbe87fed0691d3e89);
  wmul(s, s, t);
}

function finishBinary(cpu: usize, cls: i32): void {
  if (!(Env.flags & ~Env.masks & 7)) packV(cls, 64);
  if (!settle(cpu)) return;
  write(cpu, 1);
  pop(cpu);
}

// Loads ST(0) into A and ST(1) into B. Returns true if the instruction has ended already.
function two(cpu: usize): bool {
  begin(cpu);
  let done: bool;
  if (isEmpty(cpu, 0) || isEmpty(cpu, 1)) done = underflow(cpu);
  else {
    unpackSt(cpu, 1);
    swap();
    unpackSt(cpu, 0);
    if (!nans()) return false;
    done = settle(cpu);
  }
  if (done) {
    write(cpu, 1);
    pop(cpu);
  }
  return true;
}

/** FYL2X: ST(1) * log2(ST(0)). */
export function logarithm(cpu: usize): void {
  if (two(cpu)) return;
  const one = A.cls == FINITE && A.exp == 0 && A.sig << 1 == 0;
  if ((A.sign && A.cls != ZERO) || (A.cls == ZERO && B.cls == ZERO) || (A.cls == INF && B.cls == ZERO) || (one && B.cls == INF)) {
    Env.flags |= IE;
    finishBinary(cpu, QNAN);
    return;
  }
  const den = A.den || B.den;
  if (A.cls == ZERO) {
    if (B.cls == FINITE) Env.flags |= ZE;
    R.sign = B.sign ^ 1;
    finishBinary(cpu, INF);
    return;
  }
  if (den) Env.flags |= DE;
  const less = A.cls == FINITE && A.exp < 0;
  R.sign = B.sign ^ (less ? 1 : 0);
  if (A.cls == INF || B.cls == INF) {
    finishBinary(cpu, INF);
    return;
  }
  if (one || B.cls == ZERO) {
    finishBinary(cpu, ZERO);
    return;
  }
  const m = slot(cpu, 0), z = slot(cpu, 1), s = slot(cpu, 2), t = slot(cpu, 3);
  let e = A.exp;
  let me = 0;
  if (A.sig > 0xb504f333f9de6484) {
    me = -1;
    e++;
  }
  wint(t, e);
  if (A.sig << 1 == 0) {
    // ST(0) is a power of two: the product is exact, but is flagged as inexact all the same.
    fromB(z);
    wmul(s, t, z);
    const cls = toR(s);
    R.lo = load<u64>(s, 8);
    if (!(Env.flags & ~Env.masks)) Env.flags |= R.exp < -16382 ? UE | PE : PE;
    finishBinary(cpu, cls);
    return;
  }
  wset(m, 0, me, A.sig, 0);
  wint(z, -1);
  wadd(s, m, z);
  wint(z, 1);
  wadd(m, m, z);
  wdiv(z, s, m);
  logSeries(cpu, z, s);
  wadd(s, s, t);
  fromB(t);
  wmul(s, s, t);
  finishBinary(cpu, toR(s));
}

/** FYL2XP1: ST(1) * log2(ST(0) + 1). */
export function logarithm1(cpu: usize): void {
  if (two(cpu)) return;
  const minusOne = A.cls == FINITE && A.sign && A.exp >= 0;
  if ((A.cls == ZERO && B.cls == INF) || (A.cls == INF && (A.sign || B.cls == ZERO))) {
    Env.flags |= IE;
    finishBinary(cpu, QNAN);
    return;
  }
  if (A.den || B.den) Env.flags |= DE;
  R.sign = A.sign ^ B.sign;
  if (A.cls == INF || B.cls == INF) {
    finishBinary(cpu, INF);
    return;
  }
  if (A.cls == ZERO || B.cls == ZERO) {
    finishBinary(cpu, ZERO);
    return;
  }
  if (minusOne) {
    // The instruction is not defined at -1 and below. The argument is kept, as AMD's processors do.
    if (!(Env.flags & ~Env.masks)) Env.flags |= PE;
    R.sign = 1;
    R.exp = A.exp;
    R.hi = A.sig;
    R.lo = 0;
    finishBinary(cpu, FINITE);
    return;
  }
  const x = slot(cpu, 0), z = slot(cpu, 1), s = slot(cpu, 2), t = slot(cpu, 3), e = slot(cpu, 4);
  fromA(x);
  wint(t, 1);
  wset(e, 0, 0, 0, 0);
  if (A.exp >= -2) {
    // 1 + x is not near one: it is split as FYL2X splits its operand.
    wadd(x, x, t);
    let n = load<i32>(x, 16);
    store<i32>(x, 0, 16);
    if (load<u64>(x) > 0xb504f333f9de6484) {
      n++;
      store<i32>(x, -1, 16);
    }
    wint(e, n);
    wint(t, -1);
    wadd(x, x, t);
  }
  wint(t, 2);
  wadd(t, t, x);
  wdiv(z, x, t);
  logSeries(cpu, z, s);
  wadd(s, s, e);
  fromB(t);
  wmul(s, s, t);
  finishBinary(cpu, toR(s));
}

// --- Arctangent ---

function atanEighth(d: usize, k: i32): void {
  switch (k) {
    case 1:
      wset(d, 0, -4, 0xfeadd4d5617b6e32, 0xc897989f3e888ef8);
      break;
    case 2:
      wset(d, 0, -3, 0xfadbafc96406eb15, 0x6dc79ef5f7a217e6);
      break;
    case 3:
      wset(d, 0, -2, 0xb7b0ca0f26f78473, 0x8aa32122dcfe4483);
      break;
    case 4:
      wset(d, 0, -2, 0xed63382b0dda7b45, 0x6fe445ecbc3a8d03);
      break;
    case 5:
      wset(d, 0, -1, 0x8f005d5ef7f59f9b, 0x5c835e1665c43748);
      break;
    case 6:
      wset(d, 0, -1, 0xa4bc7d1934f70924, 0x19a87f2a457dac9f);
      break;
    case 7:
      wset(d, 0, -1, 0xb8053e2bc2319e73, 0xcb2da55210a4443d);
      break;
    default:
      pi(d, -1);
  }
}

function pi(d: usize, exp: i32): void {
  wset(d, 0, exp, 0xc90fdaa22168c234, 0xc4c6628b80dc1cd1);
}

// Puts atan(t), for 0 <= t <= 1, into s.
function atan(cpu: usize, t: usize, s: usize): void {
  const u = slot(cpu, 6), k = slot(cpu, 7), z2 = slot(cpu, 8), w = slot(cpu, 9);
  const exp = load<i32>(t, 16);
  let n = 0;
  if (exp >= -4) n = <i32>(((load<u64>(t) >> <u64>(59 - exp)) + 1) >> 1); // the nearest eighth
  wcopy(u, t);
  if (n > 0) {
    wint(k, n);
    store<i32>(k, load<i32>(k, 16) - 3, 16);
    wmul(w, t, k);
    wint(z2, 1);
    wadd(w, w, z2);
    wnegate(k);
    wadd(u, t, k);
    wdiv(u, u, w);
  }
  wmul(z2, u, u);
  wnegate(z2);
  wset(s, 0, 0, 0, 0);
  for (let i: i64 = exp < -40 ? 5 : 35; i >= 1; i -= 2) {
    wint(w, 1);
    wdivInt(w, w, <u64>i);
    wmul(s, s, z2);
    wadd(s, s, w);
  }
  wmul(s, s, u);
  if (n > 0) {
    atanEighth(k, n);
    wadd(s, s, k);
  }
}

/** FPATAN: the angle of the point (ST(0), ST(1)), with the sign of ST(1). */
export function arctangent(cpu: usize): void {
  if (two(cpu)) return;
  if (A.den || B.den) Env.flags |= DE;
  const s = slot(cpu, 0), t = slot(cpu, 1), x = slot(cpu, 2), y = slot(cpu, 3);
  const sign = B.sign;
  const left = A.sign != 0;
  let cls = FINITE;
  if (B.cls == INF) {
    pi(s, A.cls == INF ? -1 : 0);
    if (A.cls == INF && left) {
      pi(t, 0);
      wadd(s, s, t);
    }
    cls = toR(s);
  } else if (B.cls == ZERO || A.cls == INF) {
    if (left) {
      pi(s, 1);
      cls = toR(s);
    } else cls = ZERO;
  } else if (A.cls == ZERO) {
    pi(s, 0);
    cls = toR(s);
  } else {
    fromA(x);
    store<u32>(x, 0, 20);
    fromB(y);
    store<u32>(y, 0, 20);
    const steep = B.exp > A.exp || (B.exp == A.exp && B.sig > A.sig);
    if (steep) wdiv(t, x, y);
    else wdiv(t, y, x);
    atan(cpu, t, s);
    if (load<i32>(t, 16) < -62 && load<u64>(s, 8) == 0) below(s);
    if (steep || left) {
      if (steep != left) wnegate(s);
      pi(t, steep ? 0 : 1);
      wadd(s, s, t);
    }
    cls = toR(s);
  }
  R.sign = sign;
  finishBinary(cpu, cls);
}
