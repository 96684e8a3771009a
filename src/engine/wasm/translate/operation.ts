/**
 * A decoded operation as the translator reads it. The interpreter's specialised operations and the generic ones look
 * the same here: kind, operand form and size.
 */
import {
  FS_BASE,
  GS_BASE,
  O_BASE,
  O_DISP,
  O_IMM,
  O_INDEX,
  O_LENGTH,
  O_R1,
  O_R2,
  O_SCALE,
  ZERO,
} from '../core/layout.js';
import { Form, G, Op } from '../core/ops.js';

const RSP = 0x20;

/** Kinds in addition to those of G. */
export enum K {
  NOP = 0x400,
  MOVE_IMMEDIATE,
  LOAD_VECTOR,
  STORE_VECTOR,
  /** The condition is code - Op.JO. disp and imm are the targets. */
  JUMP_IF,
  JUMP,
  JUMP_REGISTER,
  JUMP_MEMORY,
  CALL,
  CALL_REGISTER,
  CALL_MEMORY,
  RETURN,
  /** Anything that ends a block and is left to the interpreter. */
  STOP,
}

export interface Operation {
  /** Linear address. */
  readonly at: number;
  /** Index of the instruction in its block. */
  readonly number: number;
  /** The number in memory, for core/generic.ts. It is not meaningful below Op.GENERIC. */
  readonly code: number;
  readonly kind: number;
  readonly form: Form;
  /** log2 of the operand's size in bytes. */
  readonly log: number;
  readonly r1: number;
  readonly r2: number;
  readonly base: number;
  readonly index: number;
  readonly scale: number;
  readonly length: number;
  readonly disp: number;
  readonly imm: number;
}

interface Meaning {
  readonly kind: number;
  readonly form: Form;
  readonly log: number;
}

const SPECIAL: Record<number, Meaning | undefined> = {
  [Op.NOP]: { kind: K.NOP, form: Form.RR, log: 0 },
  [Op.MOV_RI]: { kind: K.MOVE_IMMEDIATE, form: Form.RI, log: 3 },
  [Op.MOVUPS_RM]: { kind: K.LOAD_VECTOR, form: Form.RM, log: 4 },
  [Op.MOVUPS_MR]: { kind: K.STORE_VECTOR, form: Form.MR, log: 4 },
  [Op.JMP]: { kind: K.JUMP, form: Form.RR, log: 0 },
  [Op.NEXT]: { kind: K.JUMP, form: Form.RR, log: 0 },
  [Op.JMP_R]: { kind: K.JUMP_REGISTER, form: Form.R, log: 3 },
  [Op.JMP_M]: { kind: K.JUMP_MEMORY, form: Form.M, log: 3 },
  [Op.CALL]: { kind: K.CALL, form: Form.RR, log: 3 },
  [Op.CALL_R]: { kind: K.CALL_REGISTER, form: Form.R, log: 3 },
  [Op.CALL_M]: { kind: K.CALL_MEMORY, form: Form.M, log: 3 },
  [Op.RET]: { kind: K.RETURN, form: Form.RI, log: 3 },
  [Op.PUSH_R]: { kind: G.PUSH, form: Form.R, log: 3 },
  [Op.PUSH_I]: { kind: G.PUSH, form: Form.RI, log: 3 },
  [Op.POP_R]: { kind: G.POP, form: Form.R, log: 3 },
  [Op.SETCC_R]: { kind: G.SETCC, form: Form.R, log: 0 },
};

const FORMS: Record<string, Form | undefined> = {
  RR: Form.RR,
  RI: Form.RI,
  RM: Form.RM,
  RB: Form.RM,
  MR: Form.MR,
  BR: Form.MR,
  MI: Form.MI,
  R: Form.R,
  M: Form.RM,
  B: Form.RM,
  RRI: Form.RR,
};

/** By the names in Op, which are `KIND_FORMsize`. */
function meaningOf(op: number): Meaning {
  const special = SPECIAL[op];
  if (special !== undefined) return special;
  if (op >= Op.JO && op <= Op.JG) return { kind: K.JUMP_IF, form: Form.RR, log: 0 };
  const parts = /^([A-Z0-9]+)_(RRI|RR|RI|RM|RB|MR|BR|MI|R|M|B)(8|16|32|64|)$/.exec(Op[op] ?? '');
  const form = parts === null ? undefined : FORMS[parts[2]];
  if (parts === null || form === undefined) return { kind: K.STOP, form: Form.RR, log: 0 };
  const [, name, operands, bits] = parts;
  // Types: the namespace of a module has no index signature.
  const names = G as unknown as Record<string, number>;
  const kind = name === 'IMUL' ? (operands === 'RRI' ? G.IMUL3 : G.IMUL2) : names[name];
  return { kind, form, log: bits === '' ? 2 : Math.log2(Number(bits) / 8) };
}

const meanings: readonly Meaning[] = Array.from({ length: Op.TEST_RI32 + 1 }, (_, op) => meaningOf(op));

export function readOperation(view: DataView, at: number, number: number, code: number): Operation {
  const generic = code >= Op.GENERIC;
  const meaning = generic
    ? { kind: (code >> 5) & 0x3ff, form: ((code >> 2) & 7) as Form, log: code & 3 }
    : meanings[code];
  return {
    at,
    number,
    code,
    kind: meaning.kind === G.RAISE ? K.STOP : meaning.kind,
    form: meaning.form,
    log: meaning.log,
    r1: view.getUint8(at + O_R1),
    r2: view.getUint8(at + O_R2),
    base: view.getUint8(at + O_BASE),
    index: view.getUint8(at + O_INDEX),
    scale: view.getUint8(at + O_SCALE),
    length: view.getUint8(at + O_LENGTH),
    disp: view.getInt32(at + O_DISP, true),
    imm: view.getInt32(at + O_IMM, true),
  };
}

export const endsBlock = (op: Operation): boolean => op.kind >= K.JUMP_IF;

/** Whether the first operand, or the only one, is in memory. */
export const storesToMemory = (op: Operation): boolean =>
  op.form === Form.MR || op.form === Form.MI || op.form === Form.M;

/** Whether the memory operand is addressed through rsp. */
export const isOnStack = (op: Operation): boolean =>
  op.base === RSP && op.index === ZERO && (op.scale & 0xf8) !== FS_BASE && (op.scale & 0xf8) !== GS_BASE;
