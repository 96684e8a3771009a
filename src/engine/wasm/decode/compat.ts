/**
 * Instruction forms that differ between compatibility mode and long mode: stack instructions and near branches with
 * their operand sizes, instructions that are invalid in long mode, and instructions that do something else there.
 * Source: Intel SDM volume 2; AMD APM volume 3, appendix B.
 */
import * as iced from '../../../x86/iced.js';
import { KIND_FLAT } from '../core/layout.js';
import { Form, G } from '../core/ops.js';
import {
  type DecodedForm,
  EXIT_DESCRIPTOR,
  Flow,
  form,
  generic,
  leaving,
  logOfBytes,
  Operands,
} from './forms.js';
import { registerLog, SEGMENTS } from './registers.js';
import { JCC, LOOPS } from './tables.js';

const { Code, Mnemonic: M, OpKind, Register } = iced;

/** Instructions without operands or with an immediate, with log2 of the operand size. */
const PLAIN = new Map<number, readonly [kind: number, log: number]>([
  [M.Pushf, [G.PUSHF, 1]],
  [M.Pushfd, [G.PUSHF, 2]],
  [M.Popf, [G.POPF, 1]],
  [M.Popfd, [G.POPF, 2]],
  [M.Pusha, [G.PUSH_ALL, 1]],
  [M.Pushad, [G.PUSH_ALL, 2]],
  [M.Popa, [G.POP_ALL, 1]],
  [M.Popad, [G.POP_ALL, 2]],
  [M.Daa, [G.DAA, 0]],
  [M.Das, [G.DAS, 0]],
  [M.Aaa, [G.AAA, 0]],
  [M.Aas, [G.AAS, 0]],
  [M.Into, [G.INTO, 0]],
  [M.Salc, [G.SALC, 0]],
]);

const WITH_BYTE = new Map<number, number>([
  [M.Aam, G.AAM],
  [M.Aad, G.AAD],
]);

const ABSOLUTE = new Set<number>([
  Code.Mov_AL_moffs8,
  Code.Mov_AX_moffs16,
  Code.Mov_EAX_moffs32,
  Code.Mov_moffs8_AL,
  Code.Mov_moffs16_AX,
  Code.Mov_moffs32_EAX,
]);

const COUNTER_16 = new Set<number>([
  Code.Jcxz_rel8_16,
  Code.Jcxz_rel8_32,
  Code.Loop_rel8_16_CX,
  Code.Loop_rel8_32_CX,
  Code.Loope_rel8_16_CX,
  Code.Loope_rel8_32_CX,
  Code.Loopne_rel8_16_CX,
  Code.Loopne_rel8_32_CX,
]);

const FAR_POINTERS = new Set<number>([
  iced.MemorySize.SegPtr16,
  iced.MemorySize.SegPtr32,
  iced.MemorySize.SegPtr64,
]);

const isNear = (kind: number): boolean => kind === OpKind.NearBranch16 || kind === OpKind.NearBranch32;

function push(o: Operands): DecodedForm {
  const { ins } = o;
  const log = logOfBytes(-ins.stackPointerIncrement);
  if (o.isMemory(0)) return form(generic(G.PUSH, Form.M, log), { memory: true });
  if (o.isImmediate(0)) return form(generic(G.PUSH, Form.RI, log), { imm: 0 });
  const segment = SEGMENTS.indexOf(ins.opRegister(0));
  if (segment >= 0) return form(generic(G.PUSH_SEGMENT, Form.R, log), { r2Value: segment });
  return form(generic(G.PUSH, Form.R, log), { r1: 0 });
}

function pop(o: Operands): DecodedForm {
  const log = logOfBytes(o.ins.stackPointerIncrement);
  if (o.isMemory(0)) return form(generic(G.POP, Form.M, log), { memory: true });
  if (SEGMENTS.includes(o.ins.opRegister(0))) return leaving(EXIT_DESCRIPTOR);
  return form(generic(G.POP, Form.R, log), { r1: 0 });
}

/**
 * A near call or jump; far ones need descriptor tables. With `isFlat`, relative branches of the code's own size are
 * the same as in long mode.
 */
function branch(o: Operands, isCall: boolean, isFlat: boolean): DecodedForm | undefined {
  const { ins } = o;
  const kind = isCall ? G.CALL_NEAR : G.JUMP_NEAR;
  if (isNear(o.kinds[0])) {
    const wide = o.kinds[0] === OpKind.NearBranch32;
    if (isFlat && wide && !isCall) return undefined;
    return form(generic(kind, Form.RI, wide ? 2 : 1), { flow: Flow.end, special: 'near' });
  }
  if (o.isRegister(0)) return form(generic(kind, Form.R, o.log(0)), { r1: 0, flow: Flow.end });
  if (!o.isMemory(0) || FAR_POINTERS.has(ins.memorySize)) return leaving(EXIT_DESCRIPTOR);
  const bytes = iced.MemorySizeExt.size(ins.memorySize);
  return form(generic(kind, Form.M, logOfBytes(bytes)), { memory: true, flow: Flow.end });
}

/**
 * Returns the form of an instruction in compatibility mode, in code of a KIND_. Undefined: it is the same as in long
 * mode, or invalid.
 */
export function compatForm(ins: iced.Instruction, kind: number): DecodedForm | undefined {
  const m = ins.mnemonic;
  const isFlat = kind === KIND_FLAT;
  const plain = PLAIN.get(m);
  if (plain !== undefined) return form(generic(plain[0], Form.RR, plain[1]));
  const withByte = WITH_BYTE.get(m);
  if (withByte !== undefined) return form(generic(withByte, Form.RI, 0), { imm: 0 });
  const o = new Operands(ins);
  if (ins.hasLockPrefix && !o.isMemory(0)) return undefined;
  const jcc = JCC.get(m);
  if (jcc !== undefined) {
    const wide = o.kinds[0] === OpKind.NearBranch32;
    if (isFlat && wide) return undefined;
    return form(generic(G.JCC_NEAR, Form.RI, wide ? 2 : 1), {
      r1Value: jcc,
      flow: Flow.end,
      special: 'near',
    });
  }
  const loop = m === M.Jcxz ? 0 : LOOPS.get(m);
  if (loop !== undefined) {
    const wide = o.kinds[0] === OpKind.NearBranch32;
    const short = COUNTER_16.has(ins.code);
    if (isFlat && wide && !short) return undefined;
    return form(generic(G.LOOP_NEAR, Form.RI, wide ? 2 : 1), {
      r1Value: short ? 1 : 2,
      r2Value: loop,
      flow: Flow.end,
      special: 'near',
    });
  }
  switch (m) {
    case M.Push:
      return push(o);
    case M.Pop:
      return pop(o);
    case M.Call:
      return branch(o, true, isFlat);
    case M.Jmp:
      return branch(o, false, isFlat);
    case M.Ret: {
      const immValue = o.kinds.length === 1 ? ins.immediate16 : 0;
      const log = logOfBytes(ins.stackPointerIncrement - immValue);
      return form(generic(G.RET_NEAR, Form.RI, log), { immValue, flow: Flow.end });
    }
    case M.Enter: {
      const log = ins.code === Code.Enterw_imm16_imm8 ? 1 : 2;
      return form(generic(G.ENTER, Form.RR, log), { r1Value: ins.immediate8_2nd, immValue: ins.immediate16 });
    }
    case M.Leave:
      return form(generic(G.LEAVE, Form.RR, ins.code === Code.Leavew ? 1 : 2));
    case M.Mov: {
      if (!ABSOLUTE.has(ins.code)) return undefined;
      const stores = o.isMemory(0);
      const log = registerLog[ins.opRegister(stores ? 1 : 0)];
      return form(generic(G.MOV, stores ? Form.MR : Form.RM, log), { memory: true });
    }
    case M.Bound:
      return form(generic(G.BOUND, Form.RM, o.log(0)), { r1: 0, memory: true });
    case M.Arpl:
      return o.isMemory(0)
        ? form(generic(G.ARPL, Form.MR, 1), { r2: 1, memory: true })
        : form(generic(G.ARPL, Form.RR, 1), { r1: 0, r2: 1 });
    case M.Les:
    case M.Lds:
      return leaving(EXIT_DESCRIPTOR);
    default:
      return undefined;
  }
}

const usage = new iced.InstructionInfoFactory();

/**
 * Instructions that check their operand's segment only when they write: they do not always write, or read something
 * else first.
 */
const CHECKED_LATER = new Set<number>([M.Arpl, M.Pop]);

/** Whether the instruction unconditionally writes to a memory operand in the code segment. */
export function writesToCode(ins: iced.Instruction): boolean {
  if (CHECKED_LATER.has(ins.mnemonic)) return false;
  const info = usage.info(ins);
  let writes = false;
  for (const used of info.usedMemory()) {
    const { access } = used;
    writes ||=
      used.segment === Register.CS &&
      (access === iced.OpAccess.Write ||
        access === iced.OpAccess.ReadWrite ||
        access === iced.OpAccess.CondWrite ||
        access === iced.OpAccess.ReadCondWrite);
    used.free();
  }
  info.free();
  return writes;
}
