/** Which operations are translated, what each one does to the flags, and which function writes it. */
import { Form, G } from '../core/ops.js';
import type { Context } from './context.js';
import * as integer from './integer.js';
import * as moves from './moves.js';
import { K, type Operation } from './operation.js';
import * as vector from './vector.js';

interface Effects {
  /** The operation may leave the region before it is done. */
  readonly leaves: boolean;
  readonly readsFlags: boolean;
  /** It sets all six flags, whatever they were before. */
  readonly setsFlags: boolean;
}

type Writer = (c: Context, op: Operation) => void;

/** The operation is done by a call of step() in core/region.ts. */
const NONE = undefined;

function writerOf(op: Operation): Writer | undefined {
  const { kind } = op;
  if (kind <= G.TEST) return integer.arithmetic;
  if (kind === G.ROL || kind === G.ROR) return integer.canRotate(op) ? integer.rotate : NONE;
  if (kind === G.SHL || kind === G.SAL || kind === G.SHR || kind === G.SAR)
    return integer.canShift(op) ? integer.shift : NONE;
  if (moves.isExtension(kind)) return moves.extend;
  switch (kind) {
    case G.MOV:
      return moves.move;
    case G.LEA:
      return moves.loadAddress;
    case G.INC:
    case G.DEC:
    case G.NEG:
    case G.NOT:
      return integer.unary;
    case G.IMUL2:
    case G.IMUL3:
      return integer.multiply;
    case G.MUL:
    case G.IMUL:
      return integer.canMultiplyWide(op) ? integer.multiplyWide : NONE;
    case G.BT:
    case G.BTS:
    case G.BTR:
    case G.BTC:
      return integer.canTestBit(op) ? integer.bitTest : NONE;
    case G.BSF:
    case G.BSR:
      return integer.bitScan;
    case G.BSWAP:
      return integer.canSwap(op) ? integer.swapBytes : NONE;
    case G.XCHG:
      return integer.exchange;
    case G.CMPXCHG:
      return integer.compareExchange;
    case G.XADD:
      return integer.exchangeAdd;
    case G.CMOV:
      return integer.conditionalMove;
    case G.SETCC:
      return integer.setCondition;
    case G.PUSH:
      return moves.canPush(op) ? moves.push : NONE;
    case G.POP:
      return moves.canPop(op) ? moves.pop : NONE;
    case G.LEAVE:
      return moves.canLeave(op) ? moves.leaveFrame : NONE;
    case G.CLC:
    case G.STC:
    case G.CMC:
      return integer.changeCarryFlag;
    case G.CONVERT:
      return integer.convert;
    case G.SPREAD:
      return integer.spread;
    case K.NOP:
      return () => {};
    case K.MOVE_IMMEDIATE:
      return moves.moveImmediate;
    case K.LOAD_VECTOR:
      return vector.loadVector;
    case K.STORE_VECTOR:
      return vector.storeVector;
    default:
      return NONE;
  }
}

const inMemory = (op: Operation): boolean =>
  op.form === Form.RM || op.form === Form.MR || op.form === Form.MI || op.form === Form.M;

const STACK = new Set<number>([G.PUSH, G.POP, G.LEAVE]);
const READERS = new Set<number>([G.ADC, G.SBB, G.CMOV, G.SETCC]);
const SETTERS = new Set<number>([
  G.ADD,
  G.OR,
  G.ADC,
  G.SBB,
  G.AND,
  G.SUB,
  G.XOR,
  G.CMP,
  G.TEST,
  G.NEG,
  G.IMUL2,
  G.IMUL3,
  G.MUL,
  G.IMUL,
  G.CMPXCHG,
  G.XADD,
]);
const SHIFTS = new Set<number>([G.SHL, G.SAL, G.SHR, G.SAR]);

export interface Plan {
  /** Undefined: core/region.ts does it. */
  readonly write: Writer | undefined;
  readonly effects: Effects;
}

export function planOperation(view: DataView, op: Operation): Plan {
  if (op.kind === G.FP) {
    const d = vector.readDescriptor(view, op.imm);
    if (vector.canTranslate(d)) {
      return {
        write: (c, o) => vector.floatingPoint(c, o, d),
        effects: { leaves: true, readsFlags: false, setsFlags: vector.setsFlags(d) },
      };
    }
  }
  const write = writerOf(op);
  if (write === undefined) return { write, effects: { leaves: true, readsFlags: true, setsFlags: false } };
  const isVector = op.kind === K.LOAD_VECTOR || op.kind === K.STORE_VECTOR;
  const byImmediate = op.form === Form.RI || op.form === Form.MI;
  return {
    write,
    effects: {
      leaves: isVector || STACK.has(op.kind) || (inMemory(op) && op.kind !== G.LEA),
      readsFlags: READERS.has(op.kind),
      setsFlags:
        SETTERS.has(op.kind) ||
        (SHIFTS.has(op.kind) && byImmediate && (op.imm & (op.log === 3 ? 63 : 31)) !== 0),
    },
  };
}
