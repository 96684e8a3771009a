/**
 * The form of an instruction: everything that follows from its Code and the kinds of its operands. It is computed
 * once for each combination; for each instruction only registers, addresses and immediates are added. Undefined means
 * that the instruction is invalid.
 */
import * as iced from '../../../x86/iced.js';
import { Form, G, Op } from '../core/ops.js';
import { NO_REGISTER, registerLog, registerOffset, SEGMENTS } from './registers.js';
import {
  CMOVCC,
  DESCRIPTOR,
  isBitTest,
  isShift,
  JCC,
  LOOPS,
  NO_OPERAND,
  NOPS,
  ONE_OPERAND,
  PRIVILEGED,
  SETCC,
  STRINGS,
  specialised,
  TWO_OPERANDS,
} from './tables.js';

const { Code, Mnemonic: M, OpKind } = iced;

/** Exit codes as in machine.ts; see Op.EXIT. */
const EXIT_SYSCALL = 1;
const EXIT_EXCEPTION = 2;
const EXIT_PRIVILEGED = 3;
export const EXIT_DESCRIPTOR = 4;
const EXIT_FORCED = 5;

/** How a block continues after the instruction. */
export enum Flow {
  next,
  /** At a target relative to rip, which is in the displacement. */
  branch,
  /** At one of two targets: the other one is the next instruction. */
  either,
  /** At an address that the decoder does not know. */
  end,
}

export interface DecodedForm {
  readonly op: number;
  /** The operation to use for a memory operand [base + disp]. */
  readonly simpleOp: number;
  /** Which operand gives the first (second) register field; -1: none. */
  readonly r1: number;
  readonly r2: number;
  /** Values of the register fields if no operand gives them. */
  readonly r1Value: number;
  readonly r2Value: number;
  readonly memory: boolean;
  /** Which operand is the immediate; -1: none, and immValue is used. */
  readonly imm: number;
  readonly immValue: number;
  readonly flow: Flow;
  /** How to fill in fields that this table does not describe completely. */
  readonly special?: 'absolute' | 'string' | 'movabs' | 'call' | 'offset' | 'near';
}

const ABSOLUTE = new Set<number>([
  Code.Mov_AL_moffs8,
  Code.Mov_AX_moffs16,
  Code.Mov_EAX_moffs32,
  Code.Mov_RAX_moffs64,
  Code.Mov_moffs8_AL,
  Code.Mov_moffs16_AX,
  Code.Mov_moffs32_EAX,
  Code.Mov_moffs64_RAX,
]);

export const generic = (kind: number, form: number, log: number): number =>
  Op.GENERIC | (kind << 5) | (form << 2) | log;

const plain: DecodedForm = {
  op: Op.NOP,
  simpleOp: Op.NOP,
  r1: -1,
  r2: -1,
  r1Value: 0,
  r2Value: 0,
  memory: false,
  imm: -1,
  immValue: 0,
  flow: Flow.next,
};
export const form = (op: number, rest: Partial<DecodedForm> = {}): DecodedForm => ({
  ...plain,
  op,
  simpleOp: rest.simpleOp ?? op,
  ...rest,
});

export const leaving = (reason: number, immValue = 0): DecodedForm =>
  form(Op.EXIT, { r1Value: reason, immValue, flow: Flow.end });

export const logOfBytes = (bytes: number): number =>
  bytes === 8 ? 3 : bytes === 4 ? 2 : bytes === 2 ? 1 : 0;

/** Reads one instruction's operands. */
export class Operands {
  readonly kinds: number[] = [];
  constructor(readonly ins: iced.Instruction) {
    for (let i = 0; i < ins.opCount; i++) this.kinds.push(ins.opKind(i));
  }
  isRegister(i: number): boolean {
    return this.kinds[i] === OpKind.Register && registerOffset[this.ins.opRegister(i)] !== NO_REGISTER;
  }
  isMemory(i: number): boolean {
    return this.kinds[i] === OpKind.Memory;
  }
  isImmediate(i: number): boolean {
    return this.kinds[i] >= OpKind.Immediate8 && this.kinds[i] <= OpKind.Immediate32to64;
  }
  log(i: number): number {
    return this.isMemory(i)
      ? logOfBytes(iced.MemorySizeExt.size(this.ins.memorySize))
      : registerLog[this.ins.opRegister(i)];
  }
}

/** The first operand is a register or memory, the second a register, an immediate or memory. */
function twoOperands(kind: number, o: Operands, immediates = true): DecodedForm | undefined {
  const log = o.log(0);
  const bits = 8 << log;
  const pick = (name: string, f: number, rest: Partial<DecodedForm>): DecodedForm =>
    form(specialised(kind, name, bits) ?? generic(kind, f, log), {
      ...rest,
      simpleOp:
        (name === 'MI' ? undefined : specialised(kind, name === 'RM' ? 'RB' : 'BR', bits)) ??
        specialised(kind, name, bits) ??
        generic(kind, f, log),
    });
  if (o.isMemory(0)) {
    if (o.isRegister(1)) return pick('MR', Form.MR, { r2: 1, memory: true });
    return pick('MI', Form.MI, { imm: 1, memory: true });
  }
  if (o.isMemory(1)) return pick('RM', Form.RM, { r1: 0, memory: true });
  const rest = o.isRegister(1) ? { r1: 0, r2: 1 } : { r1: 0, imm: 1 };
  if (o.isRegister(1)) return form(specialised(kind, 'RR', bits) ?? generic(kind, Form.RR, log), rest);
  return immediates ? form(specialised(kind, 'RI', bits) ?? generic(kind, Form.RI, log), rest) : undefined;
}

/** Shifts. The count is an immediate, 1, or cl. A count of 0 is left to the generic operation. */
function shift(kind: number, o: Operands): DecodedForm {
  const log = o.log(0);
  const memory = o.isMemory(0);
  const where = memory ? { memory } : { r1: 0 };
  if (o.isRegister(1)) return form(generic(kind, memory ? Form.MR : Form.RR, log), where);
  const count = o.ins.immediate8 & (log === 3 ? 63 : 31);
  const special =
    memory || count === 0 ? undefined : specialised(kind === G.SAL ? G.SHL : kind, 'RI', 8 << log);
  return form(special ?? generic(kind, memory ? Form.MI : Form.RI, log), { ...where, immValue: count });
}

function move(o: Operands): DecodedForm | undefined {
  const { ins } = o;
  const segment = (i: number): number =>
    o.kinds[i] === OpKind.Register ? SEGMENTS.indexOf(ins.opRegister(i)) : -1;
  if (segment(0) >= 0) return segment(0) === 1 ? undefined : leaving(EXIT_DESCRIPTOR);
  if (segment(1) >= 0) {
    const r2Value = segment(1);
    return o.isMemory(0)
      ? form(generic(G.STORE_SEGMENT, Form.M, 1), { r2Value, memory: true })
      : form(generic(G.STORE_SEGMENT, Form.R, o.log(0)), { r1: 0, r2Value });
  }
  const bad = (i: number): boolean => o.kinds[i] === OpKind.Register && !o.isRegister(i);
  if (bad(0) || bad(1)) return leaving(EXIT_PRIVILEGED);
  if (ABSOLUTE.has(ins.code)) {
    const kind = o.isMemory(0) ? G.STORE_ABSOLUTE : G.LOAD_ABSOLUTE;
    return form(generic(kind, Form.RR, o.log(o.isMemory(0) ? 1 : 0)), { special: 'absolute' });
  }
  if (o.isRegister(0) && o.isImmediate(1) && o.log(0) >= 2)
    return form(Op.MOV_RI, { r1: 0, imm: 1, special: 'movabs' });
  return twoOperands(G.MOV, o);
}

function extend(o: Operands, isSigned: boolean): DecodedForm {
  const to = o.log(0);
  const from = o.log(1);
  const kind = isSigned ? [G.MOVSX8, G.MOVSX16, G.MOVSX32][from] : from === 0 ? G.MOVZX8 : G.MOVZX16;
  // Types: the namespace of a module has no index signature.
  const names = Op as unknown as Record<string, number>;
  const memory = o.isMemory(1);
  const name = `${G[kind]}_R${memory ? 'M' : 'R'}`;
  // Zero-extension clears the upper half, whether the target has 32 or 64 bits.
  const special = to < 2 ? undefined : isSigned ? names[`${name}${8 << to}`] : names[name];
  const op = special ?? generic(kind, memory ? Form.RM : Form.RR, to);
  const simpleOp = kind === G.MOVZX8 && memory && to >= 2 ? Op.MOVZX8_RB : op;
  return form(op, memory ? { r1: 0, memory, simpleOp } : { r1: 0, r2: 1 });
}

function pushOrPop(o: Operands, isPush: boolean): DecodedForm | undefined {
  const { ins } = o;
  const kind = isPush ? G.PUSH : G.POP;
  if (o.isMemory(0)) return form(generic(kind, Form.M, o.log(0)), { memory: true });
  if (o.isImmediate(0)) {
    const narrow = ins.code === Code.Push_imm16 || ins.code === Code.Pushw_imm8;
    return form(narrow ? generic(kind, Form.RI, 1) : Op.PUSH_I, { imm: 0 });
  }
  const segment = SEGMENTS.indexOf(ins.opRegister(0));
  if (segment >= 0) {
    if (!isPush) return leaving(EXIT_DESCRIPTOR);
    const log = ins.code === Code.Pushq_FS || ins.code === Code.Pushq_GS ? 3 : 1;
    return form(generic(G.PUSH_SEGMENT, Form.R, log), { r2Value: segment });
  }
  const wide = o.log(0) === 3;
  return form(wide ? (isPush ? Op.PUSH_R : Op.POP_R) : generic(kind, Form.R, 1), { r1: 0 });
}

function branchTo(o: Operands, isCall: boolean): DecodedForm | undefined {
  const special = isCall ? 'call' : undefined;
  if (o.isMemory(0)) {
    if (o.log(0) !== 3 || iced.MemorySizeExt.size(o.ins.memorySize) !== 8) return leaving(EXIT_DESCRIPTOR);
    return form(isCall ? Op.CALL_M : Op.JMP_M, { memory: true, flow: Flow.end, special });
  }
  if (o.isRegister(0)) {
    if (o.log(0) !== 3) return undefined;
    return form(isCall ? Op.CALL_R : Op.JMP_R, { r1: 0, flow: Flow.end, special });
  }
  return form(isCall ? Op.CALL : Op.JMP, { flow: Flow.branch, special });
}

function multiply(o: Operands): DecodedForm {
  if (o.kinds.length === 1) return one(G.IMUL, o);
  const log = o.log(0);
  const memory = o.isMemory(1);
  if (o.kinds.length === 2) {
    const special = memory ? (log === 3 ? Op.IMUL_RM64 : undefined) : [Op.IMUL_RR32, Op.IMUL_RR64][log - 2];
    return form(
      special ?? generic(G.IMUL2, memory ? Form.RM : Form.RR, log),
      memory ? { r1: 0, memory } : { r1: 0, r2: 1 },
    );
  }
  const special = memory ? undefined : [Op.IMUL_RRI32, Op.IMUL_RRI64][log - 2];
  const where = memory ? { r1: 0, memory } : { r1: 0, r2: 1 };
  return form(special ?? generic(G.IMUL3, memory ? Form.RM : Form.RR, log), { ...where, imm: 2 });
}

function one(kind: number, o: Operands): DecodedForm {
  const log = o.log(0);
  if (o.isMemory(0)) return form(generic(kind, Form.M, log), { memory: true });
  return form(specialised(kind, 'R', 8 << log) ?? generic(kind, Form.R, log), { r1: 0 });
}

const exchange = (kind: number, o: Operands): DecodedForm =>
  o.isMemory(0)
    ? form(generic(kind, Form.MR, o.log(1)), { r2: 1, memory: true })
    : o.isMemory(1)
      ? form(generic(kind, Form.MR, o.log(0)), { r2: 0, memory: true })
      : form(generic(kind, Form.RR, o.log(0)), { r1: 0, r2: 1 });

/** The prefetch instructions of 3DNow! have no register form. */
const isReserved = (ins: iced.Instruction): boolean =>
  (ins.code === Code.Reservednop_rm16_r16_0F0D ||
    ins.code === Code.Reservednop_rm32_r32_0F0D ||
    ins.code === Code.Reservednop_rm64_r64_0F0D) &&
  ins.op0Kind === OpKind.Register;

/** Returns the form of an integer instruction, or undefined if it is not one. */
export function integerForm(ins: iced.Instruction): DecodedForm | undefined {
  const o = new Operands(ins);
  const m = ins.mnemonic;
  if (ins.hasLockPrefix && !o.isMemory(0)) return undefined;
  const two = TWO_OPERANDS.get(m);
  if (two !== undefined) {
    if (isShift(two)) return shift(two, o);
    if (isBitTest(two)) {
      const bits = 8 << o.log(0);
      if (o.isImmediate(1)) {
        const immValue = ins.immediate8 & (bits - 1);
        const op = two === G.BT && bits === 64 && !o.isMemory(0) ? Op.BT_RI64 : undefined;
        return o.isMemory(0)
          ? form(generic(two, Form.MI, o.log(0)), { memory: true, immValue })
          : form(op ?? generic(two, Form.RI, o.log(0)), { r1: 0, immValue });
      }
    }
    return two >= G.CMPXCHG ? exchange(two, o) : twoOperands(two, o);
  }
  const jcc = JCC.get(m);
  if (jcc !== undefined) return form(Op.JO + jcc, { flow: Flow.either });
  const single = ONE_OPERAND.get(m);
  if (single !== undefined && single !== G.IMUL) return one(single, o);
  const set = SETCC.get(m);
  if (set !== undefined) {
    return o.isMemory(0)
      ? form(generic(G.SETCC, Form.M, 0), { memory: true, immValue: set })
      : form(Op.SETCC_R, { r1: 0, immValue: set });
  }
  const cmov = CMOVCC.get(m);
  if (cmov !== undefined) {
    const log = o.log(0);
    if (o.isMemory(1)) return form(generic(G.CMOV, Form.RM, log), { r1: 0, memory: true, immValue: cmov });
    const op = [Op.CMOV_RR32, Op.CMOV_RR64][log - 2] ?? generic(G.CMOV, Form.RR, log);
    return form(op, { r1: 0, r2: 1, immValue: cmov });
  }
  const loop = LOOPS.get(m);
  if (loop !== undefined) return form(Op.LOOP, { r2Value: loop, flow: Flow.either });
  const string = STRINGS.get(m);
  // Movsd and Cmpsd are also names of SSE2 instructions.
  if (
    string !== undefined &&
    o.kinds.every((k, i) => k !== OpKind.Memory && (k !== OpKind.Register || o.isRegister(i)))
  )
    return form(generic(string[0], Form.RR, string[1]), { special: 'string' });
  const none = NO_OPERAND.get(m);
  if (none !== undefined) return form(generic(none[0], Form.RR, none[1]));
  if (NOPS.has(m)) return isReserved(ins) ? undefined : form(Op.NOP);
  if (PRIVILEGED.has(m)) return leaving(EXIT_PRIVILEGED);
  if (DESCRIPTOR.has(m)) return leaving(EXIT_DESCRIPTOR);
  return rest(m, o);
}

function rest(m: number, o: Operands): DecodedForm | undefined {
  const { ins } = o;
  switch (m) {
    case M.Mov:
      return move(o);
    case M.Movnti:
      return twoOperands(G.MOV, o);
    case M.Lea: {
      const bits = 8 << o.log(0);
      if (bits < 32)
        return form(generic(G.LEA, Form.RM, o.log(0)), { r1: 0, memory: true, special: 'offset' });
      // Types: the namespace of a module has no index signature.
      const names = Op as unknown as Record<string, number>;
      return form(names[`LEA_M${bits}`], {
        r1: 0,
        memory: true,
        simpleOp: names[`LEA_B${bits}`],
        special: 'offset',
      });
    }
    case M.Movzx:
      return extend(o, false);
    case M.Movsx:
    case M.Movsxd:
      if (o.log(1) === o.log(0)) return twoOperands(G.MOV, o);
      return extend(o, true);
    case M.Xchg:
      return exchange(G.XCHG, o);
    case M.Push:
      return pushOrPop(o, true);
    case M.Pop:
      return pushOrPop(o, false);
    case M.Call:
      return branchTo(o, true);
    case M.Jmp:
      return branchTo(o, false);
    case M.Ret:
      return form(Op.RET, { immValue: o.kinds.length === 1 ? ins.immediate16 : 0, flow: Flow.end });
    case M.Shld:
    case M.Shrd: {
      const kind = m === M.Shld ? G.SHLD : G.SHRD;
      const immValue = o.isRegister(2) ? -1 : ins.immediate8;
      const log = o.log(1);
      return o.isMemory(0)
        ? form(generic(kind, Form.M, log), { r2: 1, memory: true, immValue })
        : form(generic(kind, Form.R, log), { r1: 0, r2: 1, immValue });
    }
    case M.Imul:
      return multiply(o);
    case M.Bswap:
      return form([Op.BSWAP_R32, Op.BSWAP_R64][o.log(0) - 2] ?? generic(G.BSWAP, Form.R, o.log(0)), {
        r1: 0,
      });
    case M.Cmpxchg8b:
      return form(generic(G.CMPXCHG8B, Form.M, 2), { memory: true });
    case M.Cmpxchg16b:
      return form(generic(G.CMPXCHG16B, Form.M, 3), { memory: true });
    case M.Enter: {
      const log = ins.code === Code.Enterw_imm16_imm8 ? 1 : 3;
      return form(generic(G.ENTER, Form.RR, log), { r1Value: ins.immediate8_2nd, immValue: ins.immediate16 });
    }
    case M.Leave:
      return form(generic(G.LEAVE, Form.RR, ins.code === Code.Leavew ? 1 : 3));
    case M.Clflush:
      // There is nothing to flush, but the instruction faults in the same way as a load of a byte.
      return form(generic(G.TOUCH, Form.M, 0), { memory: true });
    case M.Xlatb:
      return form(generic(G.XLAT, Form.M, 0), { memory: true });
    case M.Syscall:
      return leaving(EXIT_SYSCALL);
    case M.Int3:
      return leaving(EXIT_EXCEPTION, 3);
    case M.Int1:
      // A #DB that the processor raises itself, which no gate's privilege level can refuse.
      return { ...leaving(EXIT_EXCEPTION, 1), r2Value: 1 };
    case M.Int:
      return leaving(EXIT_EXCEPTION, ins.immediate8);
    case M.Ud2:
      return leaving(EXIT_FORCED);
    default:
      return undefined;
  }
}

/** Whether the form does not depend on immediates, so that it may be kept for all instructions of a Code. */
export const isReusable = (ins: iced.Instruction): boolean => {
  const m = ins.mnemonic;
  if (m === M.Mov) return !SEGMENTS.includes(ins.op1Register);
  const two = TWO_OPERANDS.get(m);
  if (two !== undefined) return !(isShift(two) || isBitTest(two));
  return m !== M.Ret && m !== M.Shld && m !== M.Shrd && m !== M.Enter && m !== M.Int;
};
