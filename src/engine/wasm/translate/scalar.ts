/**
 * Scalar doubles with WebAssembly's own arithmetic. Sum, product, quotient and root are the same as on a processor
 * that rounds to nearest, but WebAssembly does not report exceptions. Therefore this fast path is only taken if MXCSR
 * has its power-on value except for PE (which the first inexact result sets, and which then stays set), if no operand
 * is a NaN, an infinity or a denormal, and if the result is none of these either. Under these conditions no flag can
 * change. core/fp does everything else. SDM vol. 1, 11.5.
 */
import { FpOp } from '../core/fp/ops.js';
import { MXCSR, XMM } from '../core/layout.js';
import type { Context } from './context.js';
import { K_BITS, setKind } from './flags.js';
import { CPU, FLAGS_C, W1, W2, W3 } from './locals.js';
import { VOID, W } from './opcodes.js';
import type { FpDescriptor } from './vector.js';

/**
 * The bits of MXCSR that matter: all except the sticky flags below PE. Usual value: PE set, all exceptions masked,
 * rounding to nearest, denormals not treated as zero.
 */
const MXCSR_LOOKED_AT = 0xffe0;
const MXCSR_USUAL = 0x1fa0;
/** The exponent of a double whose sign was shifted out. */
const EXPONENT_SHIFT = 53n;
const EXPONENTS = 0x7ffn;
const ZF_SHIFT = 6;
const LARGEST_INTEGER = [2 ** 31, 2 ** 63] as const;

/** Writes the code that computes the result's bits from those of the source (W1) and the destination (W2). */
type Writer = (c: Context, d: FpDescriptor, slow: () => void) => void;

const low = (d: FpDescriptor): number => XMM + 16 * d.dst;

function usualMode(c: Context): void {
  const { e } = c;
  e.get(CPU);
  e.memory(W.i32_load, MXCSR);
  e.i32(MXCSR_LOOKED_AT);
  e.op(W.i32_and);
  e.i32(MXCSR_USUAL);
  e.op(W.i32_eq);
}

/**
 * Tests whether the exponent of the double in a local is at least `lowest`, and the double is neither infinite nor a
 * NaN.
 */
function finite(c: Context, local: number, lowest: bigint): void {
  const { e } = c;
  e.get(local);
  e.i64(1);
  e.op(W.i64_shl);
  if (lowest > 0n) {
    e.i64(lowest << EXPONENT_SHIFT);
    e.op(W.i64_sub);
  }
  e.i64((EXPONENTS - lowest) << EXPONENT_SHIFT);
  e.op(W.i64_lt_u);
}

/** Tests whether it is normal or zero. */
function ordinary(c: Context, local: number): void {
  const { e } = c;
  finite(c, local, 1n);
  e.get(local);
  e.i64(1);
  e.op(W.i64_shl);
  e.op(W.i64_eqz);
  e.op(W.i32_or);
}

function both(c: Context): void {
  ordinary(c, W1);
  ordinary(c, W2);
  c.e.op(W.i32_and);
}

function double(c: Context, local: number): void {
  c.e.get(local);
  c.e.op(W.f64_reinterpret_i64);
}

function destination(c: Context, d: FpDescriptor): void {
  c.e.get(CPU);
  c.e.memory(W.i64_load, low(d));
  c.e.set(W2);
}

/** Stores W3 into the register if the i32 on the stack is not 0. */
function storeIf(c: Context, d: FpDescriptor, slow: () => void): void {
  const { e } = c;
  e.open(W.if, VOID);
  e.get(CPU);
  e.get(W3);
  e.memory(W.i64_store, low(d));
  e.else();
  slow();
  e.end();
}

/**
 * `lowest` is the smallest exponent that the result may have. The smallest normal one may be the result of rounding
 * up, which is an underflow.
 */
const arithmetic =
  (code: number, lowest: bigint): Writer =>
  (c, d, slow) => {
    const { e } = c;
    destination(c, d);
    double(c, W2);
    double(c, W1);
    e.op(code);
    e.op(W.i64_reinterpret_f64);
    e.set(W3);
    usualMode(c);
    both(c);
    e.op(W.i32_and);
    finite(c, W3, lowest);
    e.op(W.i32_and);
    storeIf(c, d, slow);
  };

const root: Writer = (c, d, slow) => {
  const { e } = c;
  double(c, W1);
  e.op(W.f64_sqrt);
  e.op(W.i64_reinterpret_f64);
  e.set(W3);
  usualMode(c);
  finite(c, W1, 1n);
  e.op(W.i32_and);
  e.get(W1);
  e.i64(0);
  e.op(W.i64_gt_s);
  e.op(W.i32_and);
  storeIf(c, d, slow);
};

/** Selects the first operand if it is less (greater), otherwise the second. Only NaNs and denormals affect flags. */
const choose =
  (code: number): Writer =>
  (c, d, slow) => {
    const { e } = c;
    destination(c, d);
    e.get(W2);
    e.get(W1);
    double(c, W2);
    double(c, W1);
    e.op(code);
    e.op(W.select);
    e.set(W3);
    both(c);
    storeIf(c, d, slow);
  };

const compare: Writer = (c, d, slow) => {
  const { e } = c;
  destination(c, d);
  both(c);
  e.open(W.if, VOID);
  double(c, W2);
  double(c, W1);
  e.op(W.f64_lt);
  double(c, W2);
  double(c, W1);
  e.op(W.f64_eq);
  e.i32(ZF_SHIFT);
  e.op(W.i32_shl);
  e.op(W.i32_or);
  e.set(FLAGS_C);
  e.else();
  slow();
  e.end();
  setKind(c, K_BITS);
};

/** Converts a 32-bit integer, which is always exact. */
const fromInteger32: Writer = (c, d) => {
  const { e } = c;
  e.get(CPU);
  e.get(W1);
  e.op(W.i32_wrap_i64);
  e.op(W.f64_convert_i32_s);
  e.memory(W.f64_store, low(d));
};

/** Converts a 64-bit integer. It is exact up to 53 bits. */
const fromInteger64: Writer = (c, d, slow) => {
  const { e } = c;
  e.get(W1);
  e.op(W.f64_convert_i64_s);
  e.op(W.i64_reinterpret_f64);
  e.set(W3);
  e.get(W1);
  e.i64(1n << 53n);
  e.op(W.i64_add);
  e.i64(1n << 54n);
  e.op(W.i64_lt_u);
  storeIf(c, d, slow);
};

const toInteger =
  (wide: 0 | 1): Writer =>
  (c, d, slow) => {
    const { e } = c;
    usualMode(c);
    double(c, W1);
    e.op(W.f64_abs);
    e.f64(LARGEST_INTEGER[wide]);
    e.op(W.f64_lt);
    e.op(W.i32_and);
    e.open(W.if, VOID);
    double(c, W1);
    if (wide === 1) e.op(W.i64_trunc_f64_s);
    else {
      e.op(W.i32_trunc_f64_s);
      e.op(W.i64_extend_i32_u);
    }
    c.setWide(8 * d.dst);
    e.else();
    slow();
    e.end();
  };

/**
 * W1 contains the source's 8 bytes when these run. `slow` does the operation with core/fp, including the store to the
 * destination.
 */
export const SCALARS: Readonly<Record<number, Writer | undefined>> = {
  [FpOp.ADDSD]: arithmetic(W.f64_add, 0n),
  [FpOp.SUBSD]: arithmetic(W.f64_sub, 0n),
  [FpOp.MULSD]: arithmetic(W.f64_mul, 2n),
  [FpOp.DIVSD]: arithmetic(W.f64_div, 2n),
  [FpOp.SQRTSD]: root,
  [FpOp.MINSD]: choose(W.f64_lt),
  [FpOp.MAXSD]: choose(W.f64_gt),
  [FpOp.UCOMISD]: compare,
  [FpOp.COMISD]: compare,
  [FpOp.CVTSI2SD32]: fromInteger32,
  [FpOp.CVTSI2SD64]: fromInteger64,
  [FpOp.CVTTSD2SI32]: toInteger(0),
  [FpOp.CVTTSD2SI64]: toInteger(1),
};
