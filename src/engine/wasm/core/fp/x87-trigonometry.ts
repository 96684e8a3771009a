// FSIN, FCOS, FSINCOS, FPTAN. Arguments are reduced by the 66-bit value of pi that x87 units use, so that
// results for large arguments agree with the processor's too. Arguments of 2^63 and more are refused with C2.
// SDM volume 1, 8.3.8 and 8.3.10.
import { A, B, Env, FINITE, INF, QNAN, R, ZERO } from './soft';
import { C1, C2, DE, FSW, IE } from './state';
import { wadd, wcopy, wdiv, wdivInt, wint, wmul, wnegate, wset } from './wide';
import { finishR, unary } from './x87-arith';
import { below, slot, toR } from './x87-functions';
import { begin, isEmpty, nans, packV, set, setIndefinite, settle, setTop, top, unpackSt, V, write } from './x87-stack';

class Quadrant {
  static n: u64 = 0;
}

// Subtracts the nearest multiple of pi/2 from A (finite, |A| < 2^63). The difference goes into r, and the
// number of the multiple into Quadrant.
function reduce(r: usize): void {
  Quadrant.n = 0;
  wset(r, 0, A.exp, A.sig, 0);
  if (A.exp < -1) return;
  // The unit is 2^-66: x = sig * 2^(exp + 3), and pi/2 has 67 bits.
  const ph: u64 = 0x6, pl: u64 = 0x487ed5110b4611a6;
  let h: u64 = 0, l: u64 = 0, q: u64 = 0;
  let bits = A.sig;
  for (let i = 0; i < 64 + 3 + A.exp; i++) {
    h = (h << 1) | (l >> 63);
    l = (l << 1) | (bits >> 63);
    bits <<= 1;
    q <<= 1;
    if (h > ph || (h == ph && l >= pl)) {
      h = h - ph - <u64>i32(l < pl);
      l -= pl;
      q |= 1;
    }
  }
  // The rest is more than half of pi/2, so the next multiple is nearer.
  let sign: u32 = 0;
  const th = (h << 1) | (l >> 63), tl = l << 1;
  if (th > ph || (th == ph && tl > pl)) {
    const nl = pl - l;
    h = ph - h - <u64>i32(pl < l);
    l = nl;
    sign = 1;
    q++;
  }
  Quadrant.n = q;
  if ((h | l) == 0) {
    wset(r, sign, -0x100000, 0, 0);
    return;
  }
  let e = 61;
  if (h == 0) {
    h = l;
    l = 0;
    e -= 64;
  }
  const s = clz(h);
  if (s) {
    h = (h << s) | (l >> (64 - s));
    l <<= s;
  }
  wset(r, sign, e - <i32>s, h, l);
}

// Computes the sum of (-1)^k r^(2k) / ((2k+first-1)! / ...): sin(r)/r for first = 1, cos(r) for first = 0.
function alternating(cpu: usize, r: usize, s: usize, first: i64): void {
  const r2 = slot(cpu, 8), one = slot(cpu, 9);
  wmul(r2, r, r);
  wnegate(r2);
  wint(one, 1);
  wcopy(s, one);
  for (let k: i64 = load<i32>(r, 16) < -30 ? 3 : 17; k >= 1; k--) {
    const n = 2 * k + first;
    wmul(s, s, r2);
    wdivInt(s, s, <u64>(n * (n - 1)));
    wadd(s, s, one);
  }
}

function sineOf(cpu: usize, r: usize, s: usize): void {
  alternating(cpu, r, s, 1);
  wmul(s, s, r);
  if (load<i32>(r, 16) < -62) {
    wcopy(s, r);
    below(s);
  }
}

function cosineOf(cpu: usize, r: usize, s: usize): void {
  alternating(cpu, r, s, 0);
  if (load<i32>(r, 16) < -62) wset(s, 0, -1, ~(<u64>0), ~(<u64>0));
}

// Computes the sine (shift 0) or cosine (shift 1) of |A|, whose reduced value is r.
function wave(cpu: usize, r: usize, s: usize, shift: u64): void {
  const n = Quadrant.n + shift;
  if (n & 1) cosineOf(cpu, r, s);
  else sineOf(cpu, r, s);
  if (n & 2) wnegate(s);
}

function setC2(cpu: usize, on: bool): void {
  const fsw = load<u16>(cpu + FSW);
  store<u16>(cpu + FSW, on ? (fsw | <u16>C2) & <u16>~C1 : fsw & <u16>~C2);
}

// The common start of the three instructions. Returns true if the instruction has ended already: infinity is
// invalid, and 2^63 and more is refused with C2.
function start(cpu: usize): bool {
  begin(cpu);
  if (!isEmpty(cpu, 0)) {
    unpackSt(cpu, 0);
    if (A.cls == FINITE && A.exp >= 63) {
      setC2(cpu, true);
      return true;
    }
  }
  setC2(cpu, false);
  if (A.cls == INF && !isEmpty(cpu, 0)) {
    Env.flags |= IE;
    finishR(cpu, QNAN, 64);
    return true;
  }
  return unary(cpu);
}

function one(): void {
  R.sign = 0;
  R.exp = 0;
  R.hi = 0x8000000000000000;
  R.lo = 0;
}

export function sine(cpu: usize): void {
  if (start(cpu)) return;
  if (A.den) Env.flags |= DE;
  const r = slot(cpu, 0), s = slot(cpu, 1);
  R.sign = A.sign;
  if (A.cls == ZERO) {
    finishR(cpu, ZERO, 64);
    return;
  }
  reduce(r);
  wave(cpu, r, s, 0);
  const cls = toR(s);
  R.sign ^= A.sign;
  finishR(cpu, cls, 64);
}

export function cosine(cpu: usize): void {
  if (start(cpu)) return;
  if (A.den) Env.flags |= DE;
  const r = slot(cpu, 0), s = slot(cpu, 1);
  if (A.cls == ZERO) {
    one();
    finishR(cpu, FINITE, 64);
    return;
  }
  reduce(r);
  wave(cpu, r, s, 1);
  finishR(cpu, toR(s), 64);
}

// FSINCOS and FPTAN push a second value. This handles what must happen before that value exists. Returns true
// if the instruction has ended.
function startPush(cpu: usize): bool {
  begin(cpu);
  setC2(cpu, false);
  if (isEmpty(cpu, 0) || !isEmpty(cpu, 7)) {
    Env.flags = IE | 0x40;
    Env.up = !isEmpty(cpu, 0);
    setIndefinite();
    if (settle(cpu)) pushBoth(cpu);
    return true;
  }
  unpackSt(cpu, 0);
  if (A.cls < QNAN && A.cls != INF) return start(cpu);
  if (A.cls != QNAN) Env.flags |= IE;
  if (A.cls == INF) setIndefinite();
  else {
    B.cls = ZERO;
    const flags = Env.flags;
    nans();
    Env.flags = flags;
  }
  if (settle(cpu)) pushBoth(cpu);
  return true;
}

// V replaces ST(0), and is pushed as well.
function pushBoth(cpu: usize): void {
  write(cpu, 0);
  setTop(cpu, top(cpu) - 1);
  write(cpu, 0);
}

function finishPush(cpu: usize, firstSe: u32, firstSig: u64, wanted: bool): void {
  const se = V.se, sig = V.sig;
  if (!wanted || !settle(cpu)) {
    if (!wanted) settle(cpu);
    return;
  }
  set(firstSe, firstSig);
  write(cpu, 0);
  setTop(cpu, top(cpu) - 1);
  set(se, sig);
  write(cpu, 0);
}

export function sineCosine(cpu: usize): void {
  if (startPush(cpu)) return;
  if (A.den) Env.flags |= DE;
  const r = slot(cpu, 0), s = slot(cpu, 1);
  const go = !(Env.flags & ~Env.masks & 7);
  const sign = A.sign;
  let cls = ZERO;
  R.sign = sign;
  if (A.cls != ZERO) {
    reduce(r);
    wave(cpu, r, s, 0);
    cls = toR(s);
    R.sign ^= sign;
  }
  if (go) packV(cls, 64);
  const se = V.se, sig = V.sig;
  const up = Env.up; // C1 describes the sine
  if (A.cls == ZERO) {
    one();
    cls = FINITE;
  } else {
    wave(cpu, r, s, 1);
    cls = toR(s);
  }
  if (go) packV(cls, 64);
  Env.up = up;
  finishPush(cpu, se, sig, go);
}

export function tangent(cpu: usize): void {
  if (startPush(cpu)) return;
  if (A.den) Env.flags |= DE;
  const r = slot(cpu, 0), s = slot(cpu, 1), c = slot(cpu, 2);
  const go = !(Env.flags & ~Env.masks & 7);
  let cls = ZERO;
  R.sign = A.sign;
  if (A.cls != ZERO) {
    reduce(r);
    wave(cpu, r, s, 0);
    wave(cpu, r, c, 1);
    if (load<i32>(r, 16) < -62 && !(Quadrant.n & 1)) wcopy(s, r);
    else wdiv(s, s, c);
    cls = toR(s);
    R.sign ^= A.sign;
  }
  if (go) packV(cls, 64);
  const up = Env.up;
  const se = V.se, sig = V.sig;
  set(0x3fff, 0x8000000000000000);
  Env.up = up;
  finishPush(cpu, se, sig, go);
}
