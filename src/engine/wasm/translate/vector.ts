/**
 * SSE and SSE2. Moves and integer operations use WebAssembly's own vectors, as in core/fp/simd-int.ts. Everything
 * else calls core/fp, except for the usual cases in scalar.ts. The registers stay in memory.
 */

import { FpOp } from '../core/fp/ops.js';
import { CR0, FP_FLAGS, SCRATCH, XMM } from '../core/layout.js';
import { type Context, Import } from './context.js';
import { K_BITS, setKind } from './flags.js';
import { CPU, FLAGS_C, HOST, V1, VA, W1 } from './locals.js';
import { readHost, writeHost } from './memory.js';
import { V, W } from './opcodes.js';
import type { Operation } from './operation.js';
import { SCALARS } from './scalar.js';

/** CR0.EM and CR0.TS. */
const REFUSED = 12;
const ALIGNED = 1;
const FLAGS = 2;
const AT_RDI = 4;
const SSE = 2;
const ARITHMETIC = 0x8d5;

/** The contents of a floating-point operation's descriptor; see core/float.ts. */
export interface FpDescriptor {
  readonly op: number;
  readonly loaded: number;
  readonly stored: number;
  readonly src: number;
  readonly imm: number;
  readonly dst: number;
  readonly bits: number;
  readonly unit: number;
}

export function readDescriptor(view: DataView, at: number): FpDescriptor {
  return {
    op: view.getUint16(at, true),
    loaded: view.getUint16(at + 2, true),
    stored: view.getUint16(at + 4, true),
    src: view.getUint16(at + 6, true),
    imm: view.getInt32(at + 8, true),
    dst: view.getUint8(at + 12),
    bits: view.getUint8(at + 14),
    unit: view.getUint8(at + 15),
  };
}

/** Whether the operation can be translated: it uses only XMM and general registers, and memory of up to 16 bytes. */
export const canTranslate = (d: FpDescriptor): boolean =>
  d.unit === SSE &&
  (d.bits & AT_RDI) === 0 &&
  d.loaded <= 16 &&
  d.stored <= 16 &&
  d.op !== FpOp.MASKMOV &&
  d.op !== FpOp.LDMXCSR &&
  d.op !== FpOp.STMXCSR;
export const setsFlags = (d: FpDescriptor): boolean => (d.bits & FLAGS) !== 0;

function allow(c: Context): void {
  if (c.vectorsAllowed) return;
  c.vectorsAllowed = true;
  c.e.get(CPU);
  c.e.memory(W.i32_load, CR0);
  c.e.i32(REFUSED);
  c.e.op(W.i32_and);
  c.faultIf();
}

function checkAlignment(c: Context): void {
  c.e.get(VA);
  c.e.op(W.i32_wrap_i64);
  c.e.i32(15);
  c.e.op(W.i32_and);
  c.faultIf();
}

function hostOf(c: Context, op: Operation, size: number, aligned: boolean, writes: boolean): void {
  c.address(op);
  if (aligned) {
    c.e.set(VA);
    checkAlignment(c);
    c.e.get(VA);
  }
  if (writes) writeHost(c, size);
  else readHost(c, size);
}

const xmm = (n: number): number => XMM + 16 * n;

export function loadVector(c: Context, op: Operation): void {
  const { e } = c;
  allow(c);
  hostOf(c, op, 16, op.r2 !== 0, false);
  e.set(HOST);
  e.get(CPU);
  e.get(HOST);
  e.vectorMemory(V.v128_load, 0);
  e.vectorMemory(V.v128_store, xmm(op.r1));
}

export function storeVector(c: Context, op: Operation): void {
  const { e } = c;
  allow(c);
  hostOf(c, op, 16, op.r2 !== 0, true);
  e.get(CPU);
  e.vectorMemory(V.v128_load, xmm(op.r1));
  e.vectorMemory(V.v128_store, 0);
}

/**
 * Integer operations that are a single instruction with the operands in the same order. SIMD proposal, BinarySIMD.md.
 */
const BINARY: Record<number, number> = {
  [FpOp.PACKSSWB]: 101,
  [FpOp.PACKUSWB]: 102,
  [FpOp.PACKSSDW]: 133,
  [FpOp.PCMPGTB]: 39,
  [FpOp.PCMPGTW]: 49,
  [FpOp.PCMPGTD]: 59,
  [FpOp.PCMPEQB]: 35,
  [FpOp.PCMPEQW]: 45,
  [FpOp.PCMPEQD]: 55,
  [FpOp.PADDB]: 110,
  [FpOp.PADDW]: 142,
  [FpOp.PADDD]: 174,
  [FpOp.PADDQ]: 206,
  [FpOp.PSUBB]: 113,
  [FpOp.PSUBW]: 145,
  [FpOp.PSUBD]: 177,
  [FpOp.PSUBQ]: 209,
  [FpOp.PADDSB]: 111,
  [FpOp.PADDSW]: 143,
  [FpOp.PADDUSB]: 112,
  [FpOp.PADDUSW]: 144,
  [FpOp.PSUBSB]: 114,
  [FpOp.PSUBSW]: 146,
  [FpOp.PSUBUSB]: 115,
  [FpOp.PSUBUSW]: 147,
  [FpOp.PMULLW]: 149,
  [FpOp.PMADDWD]: 186,
  [FpOp.PAVGB]: 123,
  [FpOp.PAVGW]: 155,
  [FpOp.PMINUB]: 119,
  [FpOp.PMINSW]: 150,
  [FpOp.PMAXUB]: 121,
  [FpOp.PMAXSW]: 152,
  [FpOp.PAND]: 78,
  [FpOp.POR]: 80,
  [FpOp.PXOR]: 81,
};

const interleave = (bytes: number, high: boolean): number[] => {
  const from = high ? 8 : 0;
  const out: number[] = [];
  for (let i = 0; i < 8; i += bytes) {
    for (let b = 0; b < bytes; b++) out.push(from + i + b);
    for (let b = 0; b < bytes; b++) out.push(16 + from + i + b);
  }
  return out;
};

const SHUFFLES: Record<number, readonly number[]> = {
  [FpOp.PUNPCKLBW]: interleave(1, false),
  [FpOp.PUNPCKLWD]: interleave(2, false),
  [FpOp.PUNPCKLDQ]: interleave(4, false),
  [FpOp.PUNPCKLQDQ]: interleave(8, false),
  [FpOp.PUNPCKHBW]: interleave(1, true),
  [FpOp.PUNPCKHWD]: interleave(2, true),
  [FpOp.PUNPCKHDQ]: interleave(4, true),
  [FpOp.PUNPCKHQDQ]: interleave(8, true),
};

/**
 * Shifts by an immediate: the instruction, the bits of a lane, and whether lanes are filled with the sign instead of
 * zeros.
 */
const SHIFTS: Record<number, readonly [code: number, bits: number, signed: boolean]> = {
  [FpOp.PSLLWI]: [139, 16, false],
  [FpOp.PSLLDI]: [171, 32, false],
  [FpOp.PSLLQI]: [203, 64, false],
  [FpOp.PSRLWI]: [141, 16, false],
  [FpOp.PSRLDI]: [173, 32, false],
  [FpOp.PSRLQI]: [205, 64, false],
  [FpOp.PSRAWI]: [140, 16, true],
  [FpOp.PSRADI]: [172, 32, true],
};

const dwords = (picks: readonly number[]): number[] =>
  picks.flatMap((p) => [4 * p, 4 * p + 1, 4 * p + 2, 4 * p + 3]);
const words = (picks: readonly number[]): number[] => picks.flatMap((p) => [2 * p, 2 * p + 1]);
const two = (imm: number, i: number): number => (imm >> (2 * i)) & 3;
const range = (n: number, from = 0): number[] => Array.from({ length: n }, (_, i) => from + i);

/** The bytes of (destination, source) that make up the result, or undefined if the operation is not a shuffle. */
function shuffleOf(d: FpDescriptor): readonly number[] | undefined {
  const { imm } = d;
  const picks = range(4).map((i) => two(imm, i));
  switch (d.op) {
    case FpOp.PSHUFD:
      return dwords(picks.map((p) => 4 + p));
    case FpOp.SHUFPS:
      return dwords([picks[0], picks[1], 4 + picks[2], 4 + picks[3]]);
    case FpOp.PSHUFLW:
      return [...words(picks.map((p) => 8 + p)), ...range(8, 24)];
    case FpOp.PSHUFHW:
      return [...range(8, 16), ...words(picks.map((p) => 12 + p))];
    case FpOp.SHUFPD:
      return [...range(8, 8 * (imm & 1)), ...range(8, 16 + 8 * ((imm >> 1) & 1))];
    default:
      return SHUFFLES[d.op];
  }
}

function shuffle(c: Context, bytes: readonly number[]): void {
  c.e.vector(V.i8x16_shuffle);
  for (const b of bytes) c.e.op(b);
}

const zero = (c: Context): void => {
  c.e.vector(V.v128_const);
  for (let i = 0; i < 16; i++) c.e.op(0);
};

/** Byte shifts of the whole register, as a shuffle of (value, zeros). */
const byteShift = (left: boolean, count: number): number[] =>
  range(16).map((i) => {
    const from = left ? i - count : i + count;
    return from >= 0 && from < 16 ? from : 16;
  });

/**
 * Pushes the result of the operation on (destination, source) as a vector. Returns false if there is no such
 * operation.
 */
function vectorResult(c: Context, d: FpDescriptor, source: () => void): boolean {
  const { e } = c;
  const destination = (): void => {
    e.get(CPU);
    e.vectorMemory(V.v128_load, xmm(d.dst));
  };
  const binary = BINARY[d.op];
  if (binary !== undefined) {
    destination();
    source();
    e.vector(binary);
    return true;
  }
  if (d.op === FpOp.PANDN) {
    source();
    destination();
    e.vector(79);
    return true;
  }
  const shuffled = shuffleOf(d);
  if (shuffled !== undefined) {
    destination();
    source();
    shuffle(c, shuffled);
    return true;
  }
  const shift = SHIFTS[d.op];
  if (shift !== undefined) {
    const [code, bits, signed] = shift;
    const count = d.imm & 0xff;
    if (count >= bits && !signed) zero(c);
    else {
      destination();
      e.i32(Math.min(count, bits - 1));
      e.vector(code);
    }
    return true;
  }
  if (d.op === FpOp.PSLLDQI || d.op === FpOp.PSRLDQI) {
    destination();
    zero(c);
    shuffle(c, byteShift(d.op === FpOp.PSLLDQI, d.imm & 0xff));
    return true;
  }
  return false;
}

/** Writes moves. Returns false if the operation is not a move. */
function moveVector(c: Context, op: Operation, d: FpDescriptor): boolean {
  const { e } = c;
  const memory = d.loaded > 0;
  /** Pushes the low 8 or 4 bytes of the source as i64. */
  const low = (log: number): void => {
    const load = log === 3 ? W.i64_load : W.i64_load32_u;
    if (memory) {
      hostOf(c, op, 1 << log, false, false);
      e.memory(load, 0);
    } else if (d.src < 0x80) {
      c.getWide(d.src);
      if (log === 2) {
        e.op(W.i32_wrap_i64);
        e.op(W.i64_extend_i32_u);
      }
    } else {
      e.get(CPU);
      e.memory(load, d.src);
    }
    e.set(W1);
  };
  const put = (offset: number, code: number = W.i64_store): void => {
    e.get(CPU);
    e.get(W1);
    e.memory(code, xmm(d.dst) + offset);
  };
  const store = (size: number, offset: number, log: number): void => {
    hostOf(c, op, size, false, true);
    e.get(CPU);
    e.memory(W.i64_load, d.src + offset);
    e.memory(log === 3 ? W.i64_store : W.i64_store32, 0);
  };
  switch (d.op) {
    case FpOp.MOV16:
      if (memory) return false;
      e.get(CPU);
      e.get(CPU);
      e.vectorMemory(V.v128_load, d.src);
      e.vectorMemory(V.v128_store, xmm(d.dst));
      return true;
    case FpOp.MOV8Z:
    case FpOp.MOV4Z:
      low(d.op === FpOp.MOV8Z ? 3 : 2);
      put(0);
      e.get(CPU);
      e.i64(0);
      e.memory(W.i64_store, xmm(d.dst) + 8);
      return true;
    case FpOp.MOV8L:
      low(3);
      put(0);
      return true;
    case FpOp.MOV4L:
      low(2);
      put(0, W.i64_store32);
      return true;
    case FpOp.MOV8H:
      low(3);
      put(8);
      return true;
    case FpOp.ST8:
      store(8, 0, 3);
      return true;
    case FpOp.STH8:
      store(8, 8, 3);
      return true;
    case FpOp.ST4:
      store(4, 0, 2);
      return true;
    case FpOp.TOGPR32:
    case FpOp.TOGPR64:
      e.get(CPU);
      e.memory(d.op === FpOp.TOGPR64 ? W.i64_load : W.i64_load32_u, d.src);
      c.setWide(8 * d.dst);
      return true;
    default:
      return false;
  }
}

const writesGeneral = (op: number): boolean =>
  (op >= FpOp.CVTTSS2SI32 && op <= FpOp.CVTSD2SI64) ||
  op === FpOp.PEXTRW ||
  op === FpOp.PMOVMSKB ||
  op === FpOp.MOVMSKPS ||
  op === FpOp.MOVMSKPD;

/** Copies the operand to where core/fp expects it. */
function fetchOperand(c: Context, op: Operation, d: FpDescriptor): void {
  const { e } = c;
  if (d.loaded === 0) {
    if (d.src >= 0x80) return;
    e.get(CPU);
    c.getWide(d.src);
    e.memory(W.i64_store, d.src);
    return;
  }
  hostOf(c, op, d.loaded, (d.bits & ALIGNED) !== 0, false);
  e.set(HOST);
  e.get(CPU);
  e.get(HOST);
  if (d.loaded === 16) {
    e.vectorMemory(V.v128_load, 0);
    e.vectorMemory(V.v128_store, SCRATCH);
  } else {
    e.memory(d.loaded === 8 ? W.i64_load : d.loaded === 4 ? W.i64_load32_u : W.i64_load16_u, 0);
    e.memory(W.i64_store, SCRATCH);
  }
}

export function floatingPoint(c: Context, op: Operation, d: FpDescriptor): void {
  const { e } = c;
  allow(c);
  if (moveVector(c, op, d)) return;
  if (d.stored > 0) {
    // ST16 with a register operand does not exist. Aligned stores of whole registers are STORE_VECTOR.
    hostOf(c, op, d.stored, (d.bits & ALIGNED) !== 0, true);
    e.get(CPU);
    e.vectorMemory(V.v128_load, d.src);
    e.vectorMemory(V.v128_store, 0);
    return;
  }
  const isInteger = d.op >= FpOp.PUNPCKLBW && d.op < FpOp.ADDPS;
  if (isInteger && (d.loaded === 0 || d.loaded === 16)) {
    const mark = e.length;
    if (d.loaded === 16) {
      hostOf(c, op, 16, (d.bits & ALIGNED) !== 0, false);
      e.vectorMemory(V.v128_load, 0);
      e.set(V1);
    }
    const done = vectorResult(c, d, () => {
      if (d.loaded === 16) e.get(V1);
      else {
        e.get(CPU);
        e.vectorMemory(V.v128_load, d.src);
      }
    });
    if (done) {
      e.set(V1);
      e.get(CPU);
      e.get(V1);
      e.vectorMemory(V.v128_store, xmm(d.dst));
      return;
    }
    e.rewind(mark);
  }
  const scalar = SCALARS[d.op];
  if (scalar !== undefined) {
    fetchScalar(c, op, d);
    scalar(c, d, () => {
      e.get(CPU);
      e.get(W1);
      e.memory(W.i64_store, d.loaded > 0 ? SCRATCH : d.src);
      callUnit(c, d);
    });
    return;
  }
  fetchOperand(c, op, d);
  callUnit(c, d);
}

/** Loads the source's 4 or 8 bytes into W1. */
function fetchScalar(c: Context, op: Operation, d: FpDescriptor): void {
  const { e } = c;
  if (d.loaded > 0) {
    hostOf(c, op, d.loaded, false, false);
    e.memory(d.loaded === 8 ? W.i64_load : W.i64_load32_u, 0);
  } else if (d.src < 0x80) c.getWide(d.src);
  else {
    e.get(CPU);
    e.memory(W.i64_load, d.src);
  }
  e.set(W1);
}

/** Calls core/fp. The operand must be in its place. */
function callUnit(c: Context, d: FpDescriptor): void {
  const { e } = c;
  e.get(CPU);
  e.i32(d.op);
  e.i32(d.dst);
  e.get(CPU);
  e.i32(d.src);
  e.op(W.i32_add);
  e.i32(d.imm);
  e.call(Import.fpExec);
  c.faultIf();
  if (writesGeneral(d.op)) {
    e.get(CPU);
    e.memory(W.i64_load, 8 * d.dst);
    c.setWide(8 * d.dst);
  }
  if (setsFlags(d)) {
    e.get(CPU);
    e.memory(W.i32_load, FP_FLAGS);
    e.i32(ARITHMETIC);
    e.op(W.i32_and);
    e.set(FLAGS_C);
    setKind(c, K_BITS);
  }
}
