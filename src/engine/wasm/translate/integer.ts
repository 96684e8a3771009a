/** Integer arithmetic: the same as core/generic.ts and core/interp.ts, as WebAssembly code. */
import { Form, G } from '../core/ops.js';
import { type Context, constant, Import, narrow, RAX, RCX, RDX, type Typed, typed } from './context.js';
import {
  carry,
  changeCarry,
  changeCarryAndOverflow,
  condition,
  flagsLogic,
  getOperand,
  K_AF,
  K_BITS,
  K_CF,
  K_OF,
  K_SUM,
  OVERFLOW,
  setKind,
  setOperand,
  shiftOf,
  storeFlags,
  UNKNOWN,
} from './flags.js';
import { CPU, FLAGS_A, FLAGS_B, FLAGS_C, FLAGS_R, HOST, N1, N2, W1, W2, W3, W4 } from './locals.js';
import { loadHost, readHost, storeHost, writeHost } from './memory.js';
import { W } from './opcodes.js';
import { isOnStack, type Operation, storesToMemory } from './operation.js';

/** The local for a value of this size during an operation. */
const temporary = (log: number): number => (log === 3 ? W1 : N1);
const second = (log: number): number => (log === 3 ? W2 : N2);

function readMemory(c: Context, op: Operation, log = op.log): void {
  c.address(op);
  readHost(c, 1 << log, isOnStack(op));
  loadHost(c, log);
}

/** Pushes the source operand of a form with two operands. */
function source(c: Context, op: Operation): void {
  if (op.form === Form.RR || op.form === Form.MR) c.getRegister(op.r2, op.log);
  else if (op.form === Form.RM) readMemory(c, op);
  else constant(c.e, op.log, op.imm);
}

/** If the first operand is in memory, sets HOST to where it can be written. */
function openTarget(c: Context, op: Operation): void {
  if (!storesToMemory(op)) return;
  c.address(op);
  writeHost(c, 1 << op.log, isOnStack(op));
  c.e.set(HOST);
}

function getTarget(c: Context, op: Operation): void {
  if (storesToMemory(op)) {
    c.e.get(HOST);
    loadHost(c, op.log);
  } else c.getRegister(op.r1, op.log);
}

/** Writes the result, which is in `local`, to the target. */
function putTarget(c: Context, op: Operation, local: number): void {
  const { e } = c;
  if (storesToMemory(op)) {
    e.get(HOST);
    e.get(local);
    storeHost(c, op.log);
  } else {
    e.get(local);
    c.setRegister(op.r1, op.log);
  }
}

/** The operands are in F_A and F_B. Their sum or difference is written to the target. */
function addOrSubtract(c: Context, op: Operation, withCarry: boolean): void {
  const { e } = c;
  const { log } = op;
  const t = typed(log);
  const subtracts = op.kind === G.SUB || op.kind === G.SBB;
  const r = temporary(log);
  getOperand(c, log, FLAGS_A);
  getOperand(c, log, FLAGS_B);
  e.op(subtracts ? t.sub : t.add);
  if (withCarry) {
    e.get(FLAGS_C);
    if (log === 3) e.op(W.i64_extend_i32_u);
    e.op(subtracts ? t.sub : t.add);
  }
  narrow(e, log);
  e.set(r);
}

/** F_C is the carry before; it becomes the carry after. */
function carryAfter(c: Context, subtracts: boolean): void {
  const { e } = c;
  const compare = (strict: boolean): void => {
    e.get(subtracts ? FLAGS_A : FLAGS_R);
    e.get(subtracts ? FLAGS_B : FLAGS_A);
    e.op(strict ? W.i64_lt_u : W.i64_le_u);
  };
  compare(false);
  compare(true);
  e.get(FLAGS_C);
  e.op(W.select);
  e.set(FLAGS_C);
}

export function arithmetic(c: Context, op: Operation): void {
  const { e } = c;
  const { kind, log } = op;
  const t = typed(log);
  const compares = kind === G.CMP || kind === G.TEST;
  const b = second(log);
  // Memory operands come first, because the access may have to be left to the interpreter.
  let bIsReady = false;
  if (op.form === Form.RM) {
    readMemory(c, op);
    e.set(b);
    bIsReady = true;
  } else if (storesToMemory(op) && compares) {
    readMemory(c, op);
    e.set(temporary(log));
  } else openTarget(c, op);
  const getB = (): void => {
    if (bIsReady) e.get(b);
    else source(c, op);
  };
  const getA = (): void => {
    if (storesToMemory(op) && compares) e.get(temporary(log));
    else getTarget(c, op);
  };
  const r = temporary(log);
  switch (kind) {
    case G.ADC:
    case G.SBB: {
      const subtracts = kind === G.SBB;
      carry(c);
      e.set(FLAGS_C);
      getA();
      setOperand(c, log, FLAGS_A);
      getB();
      setOperand(c, log, FLAGS_B);
      addOrSubtract(c, op, true);
      if (c.flagsWanted) {
        e.get(r);
        setOperand(c, log, FLAGS_R);
        carryAfter(c, subtracts);
        if (subtracts) {
          e.get(FLAGS_B);
          e.i64(-1);
          e.op(W.i64_xor);
          e.set(FLAGS_B);
        }
        setKind(c, shiftOf(log) | K_SUM | K_CF | (subtracts ? K_AF : 0));
      } else c.kind = UNKNOWN;
      c.writesFlags = true;
      putTarget(c, op, r);
      return;
    }
    case G.ADD:
    case G.SUB:
    case G.CMP:
      if (!c.flagsWanted) {
        if (kind === G.CMP) return;
        getA();
        getB();
        e.op(kind === G.ADD ? t.add : t.sub);
        e.set(r);
        putTarget(c, op, r);
        return;
      }
      getA();
      setOperand(c, log, FLAGS_A);
      getB();
      setOperand(c, log, FLAGS_B);
      if (kind !== G.CMP) {
        addOrSubtract(c, op, false);
        if (kind === G.ADD) {
          e.get(r);
          setOperand(c, log, FLAGS_R);
        }
        putTarget(c, op, r);
      }
      setKind(c, shiftOf(log) | (kind === G.ADD ? K_SUM : 0));
      return;
    default:
      if (!c.flagsWanted && compares) return;
      if (kind === G.XOR && op.form === Form.RR && op.r1 === op.r2) constant(e, log, 0);
      else if (compares && op.form === Form.RR && op.r1 === op.r2) getA();
      else {
        getA();
        getB();
        e.op(kind === G.OR ? t.or : kind === G.XOR ? t.xor : t.and);
      }
      e.set(r);
      if (!compares) putTarget(c, op, r);
      if (c.flagsWanted) {
        e.get(r);
        flagsLogic(c, log);
      }
  }
}

export function unary(c: Context, op: Operation): void {
  const { e } = c;
  const { kind, log } = op;
  const t = typed(log);
  const r = temporary(log);
  openTarget(c, op);
  if (kind === G.NOT) {
    getTarget(c, op);
    constant(e, log, -1);
    e.op(t.xor);
    e.set(r);
    putTarget(c, op, r);
    return;
  }
  if (kind === G.NEG) {
    if (c.flagsWanted) {
      getTarget(c, op);
      setOperand(c, log, FLAGS_B);
      e.i64(0);
      e.set(FLAGS_A);
      constant(e, log, 0);
      getOperand(c, log, FLAGS_B);
    } else {
      constant(e, log, 0);
      getTarget(c, op);
    }
    e.op(t.sub);
    e.set(r);
    putTarget(c, op, r);
    if (c.flagsWanted) setKind(c, shiftOf(log));
    return;
  }
  const step = kind === G.INC ? -1 : 1;
  if (c.flagsWanted) {
    carry(c);
    e.set(FLAGS_C);
    getTarget(c, op);
    setOperand(c, log, FLAGS_A);
    e.i64(step);
    e.set(FLAGS_B);
    getOperand(c, log, FLAGS_A);
  } else getTarget(c, op);
  constant(e, log, step);
  e.op(t.sub);
  narrow(e, log);
  e.set(r);
  putTarget(c, op, r);
  if (c.flagsWanted) setKind(c, shiftOf(log) | K_CF | (step < 0 ? K_AF : 0));
}

/** Pushes the target, zero-extended from its size. */
function getUnsigned(c: Context, op: Operation, t: Typed): void {
  getTarget(c, op);
  if (op.log < 2) {
    c.e.i32(op.log === 1 ? 0xffff : 0xff);
    c.e.op(t.and);
  }
}

/**
 * Computes CF and OF of a shift by a count of at least 1. The old value is in `a`, the result in `r`; see
 * core/shift.ts.
 */
function shiftFlags(c: Context, kind: number, log: number, a: number, r: number, count: () => void): void {
  const { e } = c;
  const t = typed(log);
  const toI32 = (): void => {
    if (log === 3) e.op(W.i32_wrap_i64);
  };
  const bits = 8 << log;
  const bitOfA = (shift: number): void => {
    e.get(a);
    count();
    constant(e, log, 1);
    e.op(t.sub);
    e.op(shift);
    toI32();
    e.i32(1);
    e.op(W.i32_and);
  };
  if (kind === G.SHL || kind === G.SAL) {
    // The last bit that was shifted out, then that bit XOR the new sign.
    e.get(a);
    constant(e, log, bits);
    count();
    e.op(t.sub);
    e.op(t.shrU);
    toI32();
    e.i32(1);
    e.op(W.i32_and);
    e.tee(FLAGS_C);
    e.get(r);
    constant(e, log, log === 3 ? 63 : 31);
    e.op(t.shrU);
    toI32();
    e.get(FLAGS_C);
    e.op(W.i32_xor);
    e.i32(11);
    e.op(W.i32_shl);
    e.op(W.i32_or);
  } else if (kind === G.SHR) {
    bitOfA(t.shrU);
    // The sign and the bit below it, which was the sign if the count is 1. After a larger count both are 0.
    e.get(r);
    constant(e, log, 1);
    e.op(t.shl);
    e.get(r);
    e.op(t.xor);
    constant(e, log, bits - 1);
    e.op(t.shrU);
    toI32();
    e.i32(1);
    e.op(W.i32_and);
    e.i32(11);
    e.op(W.i32_shl);
    e.op(W.i32_or);
  } else bitOfA(t.shrS);
  e.set(FLAGS_C);
}

/**
 * Whether a shift can be translated: 32 and 64 bits, and all sizes with an immediate that is less than the size in
 * bits.
 */
export const canShift = (op: Operation): boolean => {
  const byRegister = op.form === Form.RR || op.form === Form.MR;
  return op.log >= 2 || (!byRegister && (op.imm & 31) < 8 << op.log);
};

export function shift(c: Context, op: Operation): void {
  const { e } = c;
  const { kind, log } = op;
  const t = typed(log);
  const a = second(log);
  const r = temporary(log);
  const byRegister = op.form === Form.RR || op.form === Form.MR;
  const mask = log === 3 ? 63 : 31;
  const fixed = op.imm & mask;
  openTarget(c, op);
  if (!byRegister && fixed === 0) {
    if (!storesToMemory(op) && log === 2) {
      getTarget(c, op);
      e.set(r);
      putTarget(c, op, r);
    }
    return;
  }
  const count = (): void => {
    if (!byRegister) constant(e, log, fixed);
    else if (log === 3) e.get(W3);
    else {
      e.get(c.register(RCX));
      e.op(W.i32_wrap_i64);
      e.i32(mask);
      e.op(W.i32_and);
    }
  };
  if (byRegister && log === 3) {
    e.get(c.register(RCX));
    e.i64(mask);
    e.op(W.i64_and);
    e.set(W3);
  }
  const arithmeticShift = kind === G.SAR;
  if (arithmeticShift || kind === G.SHL || kind === G.SAL) getTarget(c, op);
  else getUnsigned(c, op, t);
  e.tee(a);
  count();
  e.op(arithmeticShift ? t.shrS : kind === G.SHR ? t.shrU : t.shl);
  narrow(e, log);
  e.set(r);
  const rewrites = (): void => {
    e.get(r);
    setOperand(c, log, FLAGS_A);
    e.i64(0);
    e.set(FLAGS_B);
    setKind(c, shiftOf(log) | K_CF | K_OF, true);
  };
  if (c.flagsWanted) {
    if (byRegister) {
      // A count of 0 changes no flags. The count is read before the target changes, because the target may be rcx.
      count();
      if (log === 3) e.op(W.i32_wrap_i64);
      e.open(W.if, 0x40);
      shiftFlags(c, kind, log, a, r, count);
      rewrites();
      e.end();
      c.kind = UNKNOWN;
      c.isLogic = false;
    } else {
      shiftFlags(c, kind, log, a, r, count);
      rewrites();
    }
  }
  putTarget(c, op, r);
}

/** Whether a rotate can be translated: 32 and 64 bits with an immediate that is not 0. */
export const canRotate = (op: Operation): boolean =>
  op.log >= 2 && (op.form === Form.RI || op.form === Form.MI) && (op.imm & (op.log === 3 ? 63 : 31)) !== 0;

export function rotate(c: Context, op: Operation): void {
  const { e } = c;
  const { kind, log } = op;
  const t = typed(log);
  const r = temporary(log);
  const top = log === 3 ? 63 : 31;
  openTarget(c, op);
  getTarget(c, op);
  constant(e, log, op.imm & top);
  e.op(kind === G.ROL ? t.rotl : t.rotr);
  e.set(r);
  putTarget(c, op, r);
  if (!c.flagsWanted) return;
  const bit = (n: number): void => {
    e.get(r);
    if (n !== 0) {
      constant(e, log, n);
      e.op(t.shrU);
    }
    if (log === 3) e.op(W.i32_wrap_i64);
    e.i32(1);
    e.op(W.i32_and);
  };
  // ROL: CF is bit 0, OF is the top bit XOR CF. ROR: CF is the top bit, OF is CF XOR the bit below.
  bit(kind === G.ROL ? 0 : top);
  e.tee(N2);
  e.get(N2);
  bit(kind === G.ROL ? top : top - 1);
  e.op(W.i32_xor);
  e.i32(11);
  e.op(W.i32_shl);
  e.op(W.i32_or);
  changeCarryAndOverflow(c);
}

/** Pushes the high half of W1 times W2 (unsigned). */
function multiplyHigh(c: Context): void {
  const { e } = c;
  const low = (local: number): void => {
    e.get(local);
    e.i64(0xffff_ffffn);
    e.op(W.i64_and);
  };
  const high = (local: number): void => {
    e.get(local);
    e.i64(32);
    e.op(W.i64_shr_u);
  };
  high(W1);
  low(W2);
  e.op(W.i64_mul);
  low(W1);
  low(W2);
  e.op(W.i64_mul);
  e.i64(32);
  e.op(W.i64_shr_u);
  e.op(W.i64_add);
  e.set(W3);
  low(W1);
  high(W2);
  e.op(W.i64_mul);
  low(W3);
  e.op(W.i64_add);
  e.set(W4);
  high(W1);
  high(W2);
  e.op(W.i64_mul);
  high(W3);
  e.op(W.i64_add);
  high(W4);
  e.op(W.i64_add);
}

/** Corrects the high half of the product, in W3, for the signs. */
function makeSigned(c: Context): void {
  const { e } = c;
  e.get(W3);
  e.get(W2);
  e.get(W1);
  e.i64(63);
  e.op(W.i64_shr_s);
  e.op(W.i64_and);
  e.op(W.i64_sub);
  e.get(W1);
  e.get(W2);
  e.i64(63);
  e.op(W.i64_shr_s);
  e.op(W.i64_and);
  e.op(W.i64_sub);
  e.set(W3);
}

/** Sets the flags. The low half is in W4; 1 on the stack means overflow. */
function multiplyFlags(c: Context, log: number, low: number): void {
  const { e } = c;
  e.i32(OVERFLOW);
  e.op(W.i32_mul);
  e.set(FLAGS_C);
  e.get(low);
  e.set(FLAGS_A);
  e.i64(0);
  e.set(FLAGS_B);
  setKind(c, shiftOf(log) | K_CF | K_OF, true);
}

/** imul with two or three operands. */
export function multiply(c: Context, op: Operation): void {
  const { e } = c;
  const { log } = op;
  if (op.form === Form.RM) readMemory(c, op);
  else c.getRegister(op.r2, log);
  if (log < 3) e.op(W.i64_extend_i32_s);
  e.set(W2);
  if (op.kind === G.IMUL3) e.i64(op.imm);
  else {
    c.getRegister(op.r1, log);
    if (log < 3) e.op(W.i64_extend_i32_s);
  }
  e.set(W1);
  e.get(W1);
  e.get(W2);
  e.op(W.i64_mul);
  e.set(W4);
  if (c.flagsWanted) {
    if (log === 3) {
      // W4 is needed for the low half of the product, so it is read again below.
      multiplyHigh(c);
      e.set(W3);
      makeSigned(c);
      e.get(W1);
      e.get(W2);
      e.op(W.i64_mul);
      e.tee(W4);
      e.i64(63);
      e.op(W.i64_shr_s);
      e.get(W3);
      e.op(W.i64_ne);
      multiplyFlags(c, log, W4);
    } else {
      e.get(W4);
      e.op(W.i32_wrap_i64);
      narrow(e, log);
      e.op(W.i64_extend_i32_s);
      e.tee(W3);
      e.get(W4);
      e.op(W.i64_ne);
      multiplyFlags(c, log, W3);
    }
  }
  e.get(W4);
  if (log < 3) e.op(W.i32_wrap_i64);
  c.setRegister(op.r1, log);
}

/** Whether mul and imul of rax can be translated: 32 and 64 bits. */
export const canMultiplyWide = (op: Operation): boolean => op.log >= 2;

export function multiplyWide(c: Context, op: Operation): void {
  const { e } = c;
  const { log } = op;
  const isSigned = op.kind === G.IMUL;
  const extend = isSigned ? W.i64_extend_i32_s : W.i64_extend_i32_u;
  if (op.form === Form.M) readMemory(c, op);
  else c.getRegister(op.r1, log);
  if (log < 3) e.op(extend);
  e.set(W2);
  c.getRegister(RAX, log);
  if (log < 3) e.op(extend);
  e.set(W1);
  if (log === 3) {
    multiplyHigh(c);
    e.set(W3);
    if (isSigned) makeSigned(c);
    e.get(W1);
    e.get(W2);
    e.op(W.i64_mul);
    e.tee(W4);
    c.setWide(RAX);
    e.get(W3);
    c.setWide(RDX);
    if (!c.flagsWanted) return;
    e.get(W3);
    if (isSigned) {
      e.get(W4);
      e.i64(63);
      e.op(W.i64_shr_s);
    } else e.i64(0);
    e.op(W.i64_ne);
    multiplyFlags(c, log, W4);
    return;
  }
  e.get(W1);
  e.get(W2);
  e.op(W.i64_mul);
  e.tee(W4);
  e.op(W.i32_wrap_i64);
  c.setRegister(RAX, 2);
  e.get(W4);
  e.i64(32);
  e.op(W.i64_shr_u);
  c.setWide(RDX);
  if (!c.flagsWanted) return;
  e.get(W4);
  e.op(W.i32_wrap_i64);
  e.op(W.i64_extend_i32_s);
  e.set(W3);
  if (isSigned) {
    e.get(W3);
    e.get(W4);
    e.op(W.i64_ne);
  } else {
    e.get(W4);
    e.i64(32);
    e.op(W.i64_shr_u);
    e.op(W.i64_eqz);
    e.op(W.i32_eqz);
  }
  multiplyFlags(c, log, W3);
}

/** Whether a bit test can be translated: bt, bts, btr and btc on a register, and bt on memory with an immediate. */
export const canTestBit = (op: Operation): boolean =>
  op.form === Form.RR || op.form === Form.RI || op.form === Form.MI;

export function bitTest(c: Context, op: Operation): void {
  const { e } = c;
  const { kind, log } = op;
  const t = typed(log);
  const bits = 8 << log;
  const a = temporary(log);
  const n = second(log);
  if (kind === G.BT && op.form === Form.MI) readMemory(c, op);
  else {
    openTarget(c, op);
    getTarget(c, op);
  }
  e.set(a);
  if (op.form === Form.RR) {
    c.getRegister(op.r2, log);
    constant(e, log, bits - 1);
    e.op(t.and);
  } else constant(e, log, op.imm & (bits - 1));
  e.set(n);
  if (c.flagsWanted) {
    e.get(a);
    e.get(n);
    e.op(t.shrS);
    if (log === 3) e.op(W.i32_wrap_i64);
    e.i32(1);
    e.op(W.i32_and);
    changeCarry(c);
  }
  if (kind === G.BT) return;
  e.get(a);
  constant(e, log, 1);
  e.get(n);
  e.op(t.shl);
  if (kind === G.BTR) {
    constant(e, log, -1);
    e.op(t.xor);
  }
  e.op(kind === G.BTS ? t.or : kind === G.BTR ? t.and : t.xor);
  e.set(a);
  putTarget(c, op, a);
}

export function bitScan(c: Context, op: Operation): void {
  const { e } = c;
  const { log } = op;
  const t = typed(log);
  const a = temporary(log);
  if (op.form === Form.RM) readMemory(c, op);
  else c.getRegister(op.r2, log);
  if (log === 1) {
    e.i32(0xffff);
    e.op(W.i32_and);
  }
  e.tee(a);
  if (log === 3) {
    e.i64(0);
    e.op(W.i64_ne);
  }
  e.open(W.if, 0x40);
  if (op.kind === G.BSF) {
    e.get(a);
    e.op(t.ctz);
  } else {
    constant(e, log, log === 3 ? 63 : 31);
    e.get(a);
    e.op(t.clz);
    e.op(t.sub);
  }
  c.setRegister(op.r1, log);
  e.end();
  if (!c.flagsWanted) return;
  // Only ZF changes.
  storeFlags(c);
  e.get(CPU);
  e.call(Import.readFlags);
  e.i32(~0x40);
  e.op(W.i32_and);
  e.get(a);
  if (log === 3) e.op(W.i64_eqz);
  else e.op(W.i32_eqz);
  e.i32(6);
  e.op(W.i32_shl);
  e.op(W.i32_or);
  e.set(FLAGS_C);
  setKind(c, K_BITS);
}

export function exchange(c: Context, op: Operation): void {
  const { e } = c;
  const { log } = op;
  const a = temporary(log);
  const b = second(log);
  openTarget(c, op);
  getTarget(c, op);
  e.set(a);
  c.getRegister(op.r2, log);
  e.set(b);
  putTarget(c, op, b);
  e.get(a);
  c.setRegister(op.r2, log);
}

export function compareExchange(c: Context, op: Operation): void {
  const { e } = c;
  const { log } = op;
  const memory = storesToMemory(op);
  const a = temporary(log);
  const b = second(log);
  openTarget(c, op);
  getTarget(c, op);
  e.set(a);
  c.getRegister(op.r2, log);
  e.set(b);
  c.getRegister(RAX, log);
  setOperand(c, log, FLAGS_A);
  e.get(a);
  setOperand(c, log, FLAGS_B);
  e.get(FLAGS_A);
  e.get(FLAGS_B);
  e.op(W.i64_eq);
  e.open(W.if, 0x40);
  putTarget(c, op, b);
  e.else();
  if (memory) putTarget(c, op, a);
  e.get(a);
  c.setRegister(RAX, log);
  e.end();
  setKind(c, shiftOf(log));
}

export function exchangeAdd(c: Context, op: Operation): void {
  const { e } = c;
  const { log } = op;
  const t = typed(log);
  const a = temporary(log);
  const r = second(log);
  openTarget(c, op);
  getTarget(c, op);
  e.tee(a);
  setOperand(c, log, FLAGS_A);
  c.getRegister(op.r2, log);
  setOperand(c, log, FLAGS_B);
  e.get(a);
  getOperand(c, log, FLAGS_B);
  e.op(t.add);
  narrow(e, log);
  e.tee(r);
  setOperand(c, log, FLAGS_R);
  setKind(c, shiftOf(log) | K_SUM);
  if (storesToMemory(op)) putTarget(c, op, r);
  e.get(a);
  c.setRegister(op.r2, log);
  if (!storesToMemory(op)) putTarget(c, op, r);
}

/** cmovcc. The upper half of a 32-bit target is cleared in any case. */
export function conditionalMove(c: Context, op: Operation): void {
  const { e } = c;
  const { log } = op;
  if (op.form === Form.RM) readMemory(c, op);
  else c.getRegister(op.r2, log);
  c.getRegister(op.r1, log);
  condition(c, op.imm);
  e.op(W.select);
  c.setRegister(op.r1, log);
}

export function setCondition(c: Context, op: Operation): void {
  const { e } = c;
  if (op.form === Form.M) {
    c.address(op);
    writeHost(c, 1);
    e.set(HOST);
    e.get(HOST);
    condition(c, op.imm);
    storeHost(c, 0);
  } else {
    condition(c, op.imm);
    c.setRegister(op.r1, 0);
  }
}

/** clc, stc, cmc. */
export function changeCarryFlag(c: Context, op: Operation): void {
  const { e } = c;
  if (op.kind === G.CMC) {
    carry(c);
    e.op(W.i32_eqz);
  } else e.i32(op.kind === G.STC ? 1 : 0);
  changeCarry(c);
}

/** cbw, cwde, cdqe. */
export function convert(c: Context, op: Operation): void {
  c.getRegister(RAX, op.log - 1);
  if (op.log === 3) c.e.op(W.i64_extend_i32_s);
  c.setRegister(RAX, op.log);
}

/** cwd, cdq, cqo. */
export function spread(c: Context, op: Operation): void {
  const { e } = c;
  c.getRegister(RAX, op.log);
  constant(e, op.log, op.log === 3 ? 63 : 31);
  e.op(typed(op.log).shrS);
  c.setRegister(RDX, op.log);
}

/** Whether bswap can be translated: 32 and 64 bits. */
export const canSwap = (op: Operation): boolean => op.log >= 2;

export function swapBytes(c: Context, op: Operation): void {
  const { e } = c;
  const masked = (shift: number, mask: bigint, left: boolean, log: number): void => {
    const t = typed(log);
    const literal = (v: bigint): void => (log === 3 ? e.i64(v) : e.i32(Number(v) | 0));
    if (!left) {
      constant(e, log, shift);
      e.op(t.shrU);
    }
    literal(mask);
    e.op(t.and);
    if (left) {
      constant(e, log, shift);
      e.op(t.shl);
    }
  };
  if (op.log === 2) {
    c.getRegister(op.r1, 2);
    e.tee(N1);
    e.i32(8);
    e.op(W.i32_rotl);
    e.i32(0x00ff_00ff);
    e.op(W.i32_and);
    e.get(N1);
    e.i32(8);
    e.op(W.i32_rotr);
    e.i32(0xff00_ff00 | 0);
    e.op(W.i32_and);
    e.op(W.i32_or);
  } else {
    c.getWide(op.r1);
    e.i64(32);
    e.op(W.i64_rotl);
    e.set(W1);
    for (const [shift, mask] of [
      [16, 0x0000_ffff_0000_ffffn],
      [8, 0x00ff_00ff_00ff_00ffn],
    ] as const) {
      e.get(W1);
      masked(shift, mask, true, 3);
      e.get(W1);
      masked(shift, mask, false, 3);
      e.op(W.i64_or);
      e.set(W1);
    }
    e.get(W1);
  }
  c.setRegister(op.r1, op.log);
}
