// x87 loads and stores in all memory formats. A store leaves its bytes in the scratch area and its status in
// Pending; fpCommit makes the status valid after the engine has stored the bytes. SDM volume 1, 8.3.3.
import { toInteger, fromInteger } from './convert';
import { A, Env, F32, pack, QNAN, R, SNAN, unpack } from './soft';
import { C1, DE, ES, FSW, IE, NO_STORE, OE, PE, SCRATCH, SF, UE } from './state';
import { begin, isEmpty, packA, Pending, pop, push, read, set, settle, unpackSt, V, write } from './x87-stack';

export function loadFloat(cpu: usize, fmt: i32, src: usize): void {
  begin(cpu);
  unpack(fmt, fmt == F32 ? <u64>load<u32>(src) : load<u64>(src), 0);
  if (A.cls == SNAN) Env.flags |= IE;
  const den = A.den;
  packA();
  push(cpu);
  // A denormal is loaded even if its exception is not masked. A stack overflow takes precedence over that
  // exception.
  if (den && Env.flags == 0) {
    Env.flags = DE;
    settle(cpu);
  }
}

export function loadExtended(cpu: usize, src: usize): void {
  begin(cpu);
  set(<u32>load<u16>(src, 8), load<u64>(src));
  push(cpu);
}

export function loadInteger(cpu: usize, value: i64): void {
  begin(cpu);
  fromInteger(value);
  packA();
  push(cpu);
}

export function loadDecimal(cpu: usize, src: usize): void {
  begin(cpu);
  let value: u64 = 0;
  for (let i = 8; i >= 0; i--) {
    const b = <u64>load<u8>(src + <usize>i);
    value = value * 100 + (b >> 4) * 10 + (b & 15);
  }
  fromInteger(<i64>value);
  A.sign = <u32>(load<u8>(src, 9) >> 7);
  packA();
  push(cpu);
}

/**
 * Ends a store. Returns 0 if the engine must store and commit, and NO_STORE if an unmasked exception forbids
 * the store.
 */
function finishStore(cpu: usize, forbid: u32, popAfter: bool): i32 {
  const unmasked = Env.flags & ~Env.masks & 0x3f;
  if (unmasked & forbid) {
    settle(cpu);
    return NO_STORE;
  }
  let fsw = (<u32>load<u16>(cpu + FSW) & ~C1) | Env.flags;
  if (Env.up) fsw |= C1;
  if (unmasked) fsw |= ES;
  Pending.fsw = fsw;
  Pending.pop = popAfter;
  return 0;
}

function emptyStore(cpu: usize): bool {
  begin(cpu);
  if (!isEmpty(cpu, 0)) return false;
  Env.flags = IE | SF;
  return true;
}

export function storeFloat(cpu: usize, fmt: i32, popAfter: bool): i32 {
  let bits: u64;
  if (emptyStore(cpu)) bits = fmt == F32 ? 0xffc00000 : 0xfff8000000000000;
  else {
    unpackSt(cpu, 0);
    if (A.cls >= QNAN) {
      if (A.cls != QNAN) Env.flags |= IE;
      if (A.cls > SNAN) {
        A.sign = 1;
        A.sig = 0xc000000000000000;
      }
      bits =
        fmt == F32
          ? ((<u64>A.sign) << 31) | 0x7fc00000 | ((A.sig << 1) >> 41)
          : ((<u64>A.sign) << 63) | 0x7ff8000000000000 | ((A.sig << 1) >> 12);
    } else {
      R.sign = A.sign;
      R.exp = A.exp;
      R.hi = A.sig;
      R.lo = 0;
      bits = pack(fmt, A.cls);
      // Nothing is stored in this case, so the result is not inexact.
      if (Env.flags & ~Env.masks & (OE | UE)) {
        Env.flags &= ~PE;
        Env.up = false;
      }
    }
  }
  store<u64>(cpu + SCRATCH, bits);
  return finishStore(cpu, 0x1f, popAfter);
}

export function storeExtended(cpu: usize): i32 {
  if (emptyStore(cpu)) set(0xffff, 0xc000000000000000);
  else read(cpu, 0);
  store<u64>(cpu + SCRATCH, V.sig);
  store<u16>(cpu + SCRATCH, <u16>V.se, 8);
  return finishStore(cpu, IE, true);
}

export function storeInteger(cpu: usize, bits: i32, popAfter: bool): i32 {
  let value: i64;
  if (emptyStore(cpu)) value = (<i64>-1) << (<i64>(bits - 1));
  else {
    unpackSt(cpu, 0);
    value = toInteger(bits, false);
  }
  store<i64>(cpu + SCRATCH, value);
  return finishStore(cpu, IE, popAfter);
}

const DECIMAL_LIMIT: i64 = 1000000000000000000;

export function storeDecimal(cpu: usize): i32 {
  let invalid = emptyStore(cpu);
  let value: i64 = 0;
  if (!invalid) {
    unpackSt(cpu, 0);
    value = toInteger(64, false);
    if (value >= DECIMAL_LIMIT || value <= -DECIMAL_LIMIT || Env.flags & IE) {
      Env.flags = IE;
      Env.up = false;
      invalid = true;
    }
  }
  const p = cpu + SCRATCH;
  if (invalid) {
    store<u64>(p, 0xc000000000000000);
    store<u16>(p, 0xffff, 8);
  } else {
    let m = <u64>abs(value);
    for (let i: usize = 0; i < 9; i++) {
      const two = m % 100;
      m /= 100;
      store<u8>(p + i, <u8>(((two / 10) << 4) | (two % 10)));
    }
    store<u8>(p, A.sign ? 0x80 : 0, 9);
  }
  return finishStore(cpu, IE, true);
}

/** FST/FSTP ST(i). */
export function storeSt(cpu: usize, i: i32, popAfter: bool): void {
  begin(cpu);
  if (isEmpty(cpu, 0)) {
    Env.flags = IE | SF;
    set(0xffff, 0xc000000000000000);
  } else read(cpu, 0);
  if (!settle(cpu)) return;
  write(cpu, i);
  if (popAfter) {
    pop(cpu);
  }
}
