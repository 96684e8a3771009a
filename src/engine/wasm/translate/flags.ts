/**
 * Lazy flags in locals; core/flags.ts keeps the same in memory. Within a block their kind is usually known while
 * translating, so a condition becomes one comparison.
 */
import { F_A, F_B, F_C, F_KIND, F_R } from '../core/layout.js';
import { type Context, Import } from './context.js';
import type { Emitter } from './emitter.js';
import { CPU, FLAGS_A, FLAGS_B, FLAGS_C, FLAGS_KIND, FLAGS_R, N3 } from './locals.js';
import { I32, W } from './opcodes.js';

export const K_CF = 0x40;
export const K_AF = 0x80;
export const K_OF = 0x100;
export const K_SUM = 0x200;
export const K_BITS = 0x400;
export const UNKNOWN = -1;

const CF = 1;
export const OVERFLOW = 0x801;

export const shiftOf = (log: number): number => 64 - (8 << log);

/** From here on the kind is known. */
export function setKind(c: Context, kind: number, isLogic = false): void {
  c.kind = kind;
  c.isLogic = isLogic;
  c.writesFlags = true;
  c.e.i32(kind);
  c.e.set(FLAGS_KIND);
}

/** Pops an operand (i32 for less than 8 bytes) into F_A, F_B or F_R. */
export function setOperand(c: Context, log: number, local: number): void {
  if (log < 3) c.e.op(W.i64_extend_i32_s);
  c.e.set(local);
}

export function getOperand(c: Context, log: number, local: number): void {
  c.e.get(local);
  if (log < 3) c.e.op(W.i32_wrap_i64);
}

/** Sets the flags of a logical operation. The result is on the stack. */
export function flagsLogic(c: Context, log: number): void {
  setOperand(c, log, FLAGS_A);
  c.e.i64(0);
  c.e.set(FLAGS_B);
  setKind(c, shiftOf(log), true);
}

export function storeFlags(c: Context): void {
  c.readsFlags = true;
  flagsToMemory(c.e);
}

export function flagsToMemory(e: Emitter): void {
  const put = (local: number, code: number, offset: number): void => {
    e.get(CPU);
    e.get(local);
    e.memory(code, offset);
  };
  put(FLAGS_A, W.i64_store, F_A);
  put(FLAGS_B, W.i64_store, F_B);
  put(FLAGS_R, W.i64_store, F_R);
  put(FLAGS_C, W.i32_store, F_C);
  put(FLAGS_KIND, W.i32_store, F_KIND);
}

export function flagsFromMemory(e: Emitter): void {
  const take = (local: number, code: number, offset: number): void => {
    e.get(CPU);
    e.memory(code, offset);
    e.set(local);
  };
  take(FLAGS_A, W.i64_load, F_A);
  take(FLAGS_B, W.i64_load, F_B);
  take(FLAGS_R, W.i64_load, F_R);
  take(FLAGS_C, W.i32_load, F_C);
  take(FLAGS_KIND, W.i32_load, F_KIND);
}

/** Pushes CF as an i32 that is 0 or 1. */
export function carry(c: Context): void {
  const { e, kind } = c;
  c.readsFlags = true;
  const compare = (a: number, b: number): void => {
    e.get(a);
    e.get(b);
    e.op(W.i64_lt_u);
  };
  const kept = (): void => {
    e.get(FLAGS_C);
    e.i32(1);
    e.op(W.i32_and);
  };
  if (kind === UNKNOWN) {
    e.get(FLAGS_KIND);
    e.i32(K_CF | K_BITS);
    e.op(W.i32_and);
    e.open(W.if, I32);
    kept();
    e.else();
    e.get(FLAGS_KIND);
    e.i32(K_SUM);
    e.op(W.i32_and);
    e.open(W.if, I32);
    compare(FLAGS_R, FLAGS_A);
    e.else();
    compare(FLAGS_A, FLAGS_B);
    e.end();
    e.end();
  } else if ((kind & (K_CF | K_BITS)) !== 0) kept();
  else if (c.isLogic) e.i32(0);
  else if ((kind & K_SUM) !== 0) compare(FLAGS_R, FLAGS_A);
  else compare(FLAGS_A, FLAGS_B);
}

/** Sets only CF and OF, from bits 0 and 11 of the i32 on the stack. */
export function changeCarryAndOverflow(c: Context): void {
  const { e, kind } = c;
  c.writesFlags = true;
  if (kind !== UNKNOWN) {
    if ((kind & K_BITS) !== 0) {
      e.get(FLAGS_C);
      e.i32(~OVERFLOW);
      e.op(W.i32_and);
      e.op(W.i32_or);
      e.set(FLAGS_C);
      return;
    }
    e.set(FLAGS_C);
    setKind(c, kind | K_CF | K_OF, c.isLogic);
    return;
  }
  c.readsFlags = true;
  // K_BITS as a mask of all ones or zeros.
  e.i32(0);
  e.get(FLAGS_KIND);
  e.i32(10);
  e.op(W.i32_shr_u);
  e.op(W.i32_sub);
  e.tee(N3);
  e.get(FLAGS_C);
  e.i32(~OVERFLOW);
  e.op(W.i32_and);
  e.op(W.i32_and);
  e.op(W.i32_or);
  e.set(FLAGS_C);
  e.get(FLAGS_KIND);
  e.get(N3);
  e.i32(-1);
  e.op(W.i32_xor);
  e.i32(K_CF | K_OF);
  e.op(W.i32_and);
  e.op(W.i32_or);
  e.set(FLAGS_KIND);
}

/** Sets only CF, from the i32 on the stack, which is 0 or 1. */
export function changeCarry(c: Context): void {
  const { e, kind } = c;
  c.writesFlags = true;
  if (kind !== UNKNOWN) {
    if ((kind & (K_BITS | K_CF)) !== 0) {
      e.get(FLAGS_C);
      e.i32(~CF);
      e.op(W.i32_and);
      e.op(W.i32_or);
      e.set(FLAGS_C);
      return;
    }
    e.set(FLAGS_C);
    setKind(c, kind | K_CF, c.isLogic);
    return;
  }
  c.readsFlags = true;
  e.get(FLAGS_C);
  e.i32(~CF);
  e.op(W.i32_and);
  e.i32(0);
  e.get(FLAGS_KIND);
  e.i32(K_CF | K_BITS);
  e.op(W.i32_and);
  e.op(W.select);
  e.op(W.i32_or);
  e.set(FLAGS_C);
  e.get(FLAGS_KIND);
  e.i32(K_CF);
  e.i32(0);
  e.get(FLAGS_KIND);
  e.i32(K_BITS);
  e.op(W.i32_and);
  e.op(W.i32_eqz);
  e.op(W.select);
  e.op(W.i32_or);
  e.set(FLAGS_KIND);
}

const SIGNED_64 = [W.i64_lt_s, W.i64_ge_s, W.i64_le_s, W.i64_gt_s];
const SIGNED_32 = [W.i32_lt_s, W.i32_ge_s, W.i32_le_s, W.i32_gt_s];
const UNSIGNED_64 = [W.i64_lt_u, W.i64_ge_u, W.i64_eq, W.i64_ne, W.i64_le_u, W.i64_gt_u];
const UNSIGNED_32 = [W.i32_lt_u, W.i32_ge_u, W.i32_eq, W.i32_ne, W.i32_le_u, W.i32_gt_u];

/** For K_BITS: the bits that each pair of condition codes tests, except for those that compare two flags. */
const BITS = [0x800, 1, 0x40, 0x41, 0x80, 4];

/** Pushes a condition code, as in opcodes 70-7F, as an i32 that is 0 or 1. */
export function condition(c: Context, cc: number): void {
  const { e, kind } = c;
  c.readsFlags = true;
  const log = kind >= 0 && (kind & 63) === 0 ? 3 : 2;
  const wide = log === 3;
  const negate = (): void => {
    if ((cc & 1) !== 0) e.op(W.i32_eqz);
  };
  const slow = (): void => {
    storeFlags(c);
    e.get(CPU);
    e.i32(cc);
    e.call(Import.conditionOf);
  };
  const bits = kind === UNKNOWN || (kind & K_BITS) === 0 ? undefined : BITS[cc >> 1];
  if (bits !== undefined) {
    e.get(FLAGS_C);
    e.i32(bits);
    e.op(W.i32_and);
    e.op(W.i32_eqz);
    if ((cc & 1) === 0) e.op(W.i32_eqz);
    return;
  }
  if (kind === UNKNOWN || (kind & K_BITS) !== 0) {
    slow();
    return;
  }
  const sum = (kind & K_SUM) !== 0;
  const operands = (): void => {
    getOperand(c, log, FLAGS_A);
    getOperand(c, log, FLAGS_B);
  };
  /** Pushes the result with the type's full width. */
  const result = (): void => {
    if (sum) getOperand(c, log, FLAGS_R);
    else if (c.isLogic) getOperand(c, log, FLAGS_A);
    else {
      operands();
      e.op(wide ? W.i64_sub : W.i32_sub);
      const narrow = (kind & 63) - 32;
      if (!wide && narrow > 0) e.op(narrow === 16 ? W.i32_extend16_s : W.i32_extend8_s);
    }
  };
  const zeroOf = (): void => e.op(wide ? W.i64_eqz : W.i32_eqz);
  const negative = (): void => {
    if (wide) e.i64(0);
    else e.i32(0);
    e.op(wide ? W.i64_lt_s : W.i32_lt_s);
  };
  switch (cc >> 1) {
    case 1:
      if (sum || (kind & K_CF) !== 0) {
        carry(c);
        negate();
      } else {
        operands();
        e.op((wide ? UNSIGNED_64 : UNSIGNED_32)[cc - 2]);
      }
      return;
    case 2:
      if (sum || c.isLogic) {
        result();
        zeroOf();
        negate();
      } else {
        operands();
        e.op((wide ? UNSIGNED_64 : UNSIGNED_32)[cc - 2]);
      }
      return;
    case 3:
      if (sum || (kind & K_CF) !== 0) {
        result();
        zeroOf();
        carry(c);
        e.op(W.i32_or);
        negate();
      } else {
        operands();
        e.op((wide ? UNSIGNED_64 : UNSIGNED_32)[cc - 2]);
      }
      return;
    case 4:
      result();
      negative();
      negate();
      return;
    case 6:
    case 7:
      if (sum || (kind & K_OF) !== 0) slow();
      else {
        operands();
        e.op((wide ? SIGNED_64 : SIGNED_32)[cc - 12]);
      }
      return;
    default:
      slow();
  }
}
