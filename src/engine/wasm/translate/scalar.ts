/**
 * Scalar doubles as WebAssembly's own: the sum, product, quotient and root of a processor that rounds to nearest are
 * the same. What WebAssembly does not tell is which exceptions there were. So the fast way is taken when MXCSR is as
 * at power-on but for PE, which the first inexact result sets and which then stays set, and when no operand is a NaN,
 * an infinity or a denormal and the result is none either: then no flag can change. Everything else is core/fp's.
 * SDM vol. 1, 11.5.
 */
import { FpOp } from '../core/fp/ops.js';
import { MXCSR, XMM } from '../core/layout.js';
import type { Context } from './context.js';
import { K_BITS, setKind } from './flags.js';
import { CPU, FLAGS_C, W1, W2, W3 } from './locals.js';
import { VOID, W } from './opcodes.js';
import type { FpDescriptor } from './vector.js';

/** All but the sticky flags below PE; PE set, all exceptions masked, to nearest, denormals as they are. */
const MXCSR_LOOKED_AT = 0xffe0;
const MXCSR_USUAL = 0x1fa0;
/** A double's exponent, its sign shifted out. */
const EXPONENT_SHIFT = 53n;
const EXPONENTS = 0x7ffn;
const ZF_SHIFT = 6;
const LARGEST_INTEGER = [2 ** 31, 2 ** 63] as const;

/** What takes the source (W1) and the destination (W2), both as bits, to the result's bits. */
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

/** Whether the exponent of the double in a local is at least `lowest`, and it is neither infinite nor a NaN. */
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

/** Normal, or zero. */
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

/** W3 into the register if the i32 on the stack is not 0. */
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

/** `lowest`: the least exponent that the result may have. The least normal one may have been rounded up to: that is an underflow. */
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

/** The first operand if it is less (greater), else the second; no flag but those of NaNs and denormals. */
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

/** From an integer of 32 bits, always exact. */
const fromInteger32: Writer = (c, d) => {
  const { e } = c;
  e.get(CPU);
  e.get(W1);
  e.op(W.i32_wrap_i64);
  e.op(W.f64_convert_i32_s);
  e.memory(W.f64_store, low(d));
};

/** Exact up to 53 bits. */
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

/** W1 has the source's 8 bytes when these run; `slow` is core/fp's way, up to the destination. */
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
