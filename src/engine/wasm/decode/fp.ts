// Floating-point, MMX and SSE instructions as operations for core/fp: the operation's number, how many bytes to fetch
// and to store, and where the operands are. All of this follows from iced's Code names: the mnemonic selects the
// operation, the rest gives the kinds of operands. SDM volume 2; only encodings of the x86-64 baseline are known
// (SSE3 and later, including FISTTP, give #UD).
//
// How the engine executes one: if it uses memory, check align16 and fetch loadSize bytes to SCRATCH; for flags, write
// rflags to EFLAGS; for x87, write NOW_IP and NOW_DP; then call fpExec(cpu, op, dst, cpu + src, imm). If that
// returned 0, store storeSize bytes from SCRATCH and call fpCommit(cpu, op). Finally read the flags back.
import { Code, CodeExt, type Instruction, OpKind, Register, RegisterExt } from '../../../x86/iced.js';
import { FpOp } from '../core/fp/ops.js';
import { byCode, byMnemonic, shiftsByImmediate, unaligned } from './fp-tables.js';

/** Offsets in the vCPU's state; the same as in core/fp/state.ts. */
const XMM = 0x200;
const ST = 0x310;
const SCRATCH = 0x400;

type FpUnit = 'x87' | 'mmx' | 'sse';
type Kind = 'none' | 'xmm' | 'mm' | 'gpr' | 'mem';

/** The form of an instruction. */
interface FpForm {
  readonly op: number;
  readonly unit: FpUnit;
  /** How many bytes are read from, and written to, the memory operand; 0: none. */
  readonly loadSize: number;
  readonly storeSize: number;
  /** The memory operand must be 16-byte aligned; otherwise the instruction raises #GP(0). */
  readonly align16: boolean;
  /** Operand number and register file of destination and source. */
  readonly dst: Kind;
  readonly dstOperand: number;
  readonly src: Kind;
  readonly srcOperand: number;
  /** Operand number of an immediate or, for MASKMOV, of the mask register; -1: none. */
  readonly immOperand: number;
  /** The memory operand is at DS:rDI (MASKMOVQ, MASKMOVDQU) and not given by ModRM. */
  readonly implicitDi: boolean;
  /** Reads or writes the arithmetic flags. */
  readonly flags: boolean;
  /** Raises a pending x87 exception before anything else. */
  readonly waits: boolean;
  /** FWAIT: only CR0.TS together with CR0.MP forbids it. All others are forbidden by CR0.TS and by CR0.EM. */
  readonly wait: boolean;
}

/** What the engine passes to fpExec, and what it has to do before and after. */
export interface FpOperation {
  readonly form: FpForm;
  readonly op: number;
  readonly dst: number;
  /** Offset of the source operand in the vCPU's state. */
  readonly src: number;
  readonly imm: number;
}

const sizes: Record<string, number> = {
  xmmm128: 16,
  xmmm64: 8,
  xmmm32: 4,
  mmm64: 8,
  mmm32: 4,
  rm32: 4,
  rm64: 8,
  r32m16: 2,
  r64m16: 2,
  m128: 16,
  m64: 8,
  m32: 4,
  m512byte: 512,
};

function kindOf(token: string | undefined, memory: boolean): Kind {
  if (token === undefined || token === 'imm8') return 'none';
  if (memory && token in sizes) return 'mem';
  if (token.startsWith('xmm')) return 'xmm';
  if (token.startsWith('mm')) return 'mm';
  return token.startsWith('r') ? 'gpr' : 'mem';
}

const base = {
  loadSize: 0,
  storeSize: 0,
  align16: false,
  dst: 'none' as Kind,
  dstOperand: 0,
  src: 'none' as Kind,
  srcOperand: 1,
  immOperand: -1,
  implicitDi: false,
  flags: false,
  waits: false,
  wait: false,
};

function simdForm(name: string, memory: boolean): FpForm | undefined {
  if (name.startsWith('Pextrw_') && name.includes('m16')) return undefined; // SSE4.1 has a form with memory
  const [mnemonic, ...tokens] = name.split('_');
  const mmx = tokens.some((t) => t.startsWith('mm'));
  const unit: FpUnit =
    mmx || name === 'Emms' ? 'mmx' : name.startsWith('Fx') || name === 'Wait' ? 'x87' : 'sse';
  if (name.startsWith('Maskmov')) {
    const size = mmx ? 8 : 16;
    const op = byCode[name][0];
    const file: Kind = mmx ? 'mm' : 'xmm';
    return {
      ...base,
      op,
      unit,
      loadSize: size,
      storeSize: size,
      dst: file,
      dstOperand: 1,
      src: 'mem',
      immOperand: 2,
      implicitDi: true,
      waits: mmx,
    };
  }
  const immOperand = tokens.indexOf('imm8');
  let op: number | undefined = byCode[name]?.[memory ? 1 : 0];
  if (op === undefined) {
    op = (tokens[1] === 'imm8' ? shiftsByImmediate : byMnemonic).get(mnemonic);
    if (op === undefined) return undefined;
    if (op < FpOp.ADDPS && tokens.every((t) => !t.startsWith('xmm')) && mmx) op += FpOp.MMX;
  }
  if (op < 0) return undefined;
  const dst = kindOf(tokens[0], memory);
  const src = kindOf(tokens[1], memory);
  const touched = dst === 'mem' ? tokens[0] : src === 'mem' ? tokens[1] : undefined;
  const size = touched === undefined ? 0 : sizes[touched];
  const loads = src === 'mem' || name.startsWith('Fxrstor') || name.startsWith('Ldmxcsr');
  return {
    ...base,
    op,
    unit,
    loadSize: loads ? size : 0,
    storeSize: loads ? 0 : size,
    align16: size >= 16 && !unaligned.has(name),
    dst: dst === 'mem' ? 'none' : dst,
    src: loads ? 'mem' : src,
    immOperand,
    flags: /^U?comis/i.test(name),
    // Cvtpi2ps and Cvtpi2pd with a memory operand use no MMX register.
    waits: unit === 'mmx' && !(name.startsWith('Cvtpi2') && memory),
    wait: name === 'Wait',
  };
}

const x87Sizes: Record<string, number> = {
  m16int: 2,
  m32int: 4,
  m64int: 8,
  m32fp: 4,
  m64fp: 8,
  m80fp: 10,
  m80bcd: 10,
  m2byte: 2,
  m14byte: 14,
  m28byte: 28,
  m94byte: 94,
  m108byte: 108,
};

function x87Form(code: Code, name: string): FpForm | undefined {
  if (/^(Fisttp|Fstdw|Fstsg|Fnstdw|Fnstsg|Frstpm|Ftstp|Frint2|Frichop|Frinear|Femms|Fx[sr])/.test(name))
    return undefined;
  const encoding = x87Encoding(code);
  if (encoding === undefined) return undefined;
  const size = x87Sizes[name.split('_')[1]] ?? 0;
  const stores = /^F(n?st|ist|bst|n?save)/.test(name);
  return {
    ...base,
    op: encoding.op,
    unit: 'x87',
    loadSize: stores ? 0 : size,
    storeSize: stores ? size : 0,
    src: size > 0 && !stores ? 'mem' : 'none',
    flags: /^F(u?comi|cmov)/.test(name),
    waits: !name.startsWith('Fn') || name === 'Fnop',
  };
}

/** The operation number of an x87 Code, and its opcode bits as far as the Code determines them. */
function x87Encoding(code: Code): { op: number; fop: number } | undefined {
  const info = CodeExt.opCode(code);
  try {
    const bytes = info.opCode;
    const short = info.operandSize === 16 ? 0x10000 : 0;
    if (bytes >= 0xd8 && bytes <= 0xdf && info.groupIndex >= 0)
      return {
        op: ((bytes - 0xd8) << 4) | info.groupIndex,
        fop: ((bytes - 0xd8) << 8) | (info.groupIndex << 3) | short,
      };
    const esc = bytes >> 8;
    if (esc < 0xd8 || esc > 0xdf) return undefined;
    const modrm = bytes & 0xff;
    return { op: ((esc - 0xd8) << 4) | 8 | ((modrm >> 3) & 7), fop: ((esc - 0xd8) << 8) | modrm };
  } finally {
    info.free();
  }
}

const none = Symbol();
const cache = new Map<number, FpForm | typeof none>();
const fops = new Map<number, number>();

/**
 * Returns the form of an instruction, given its Code and whether its ModRM operand is in memory. Undefined: it is not
 * a floating-point instruction that we know.
 */
export function lookupFp(code: Code, memory: boolean): FpForm | undefined {
  const key = code * 2 + (memory ? 1 : 0);
  let form = cache.get(key);
  if (form === undefined) {
    const name = Code[code];
    form = simdForm(name, memory);
    if (form === undefined && name.startsWith('F')) {
      form = x87Form(code, name);
      if (form !== undefined) fops.set(code, x87Encoding(code)?.fop ?? 0);
    }
    form ??= none;
    cache.set(key, form);
  }
  return form === none ? undefined : form;
}

// The ModRM byte's mod and rm, as an assembler would encode them. iced does not keep the byte.
function memoryModRm(instruction: Instruction): number {
  const b = instruction.memoryBase;
  if (b === Register.RIP || b === Register.EIP) return 0x05;
  const mod =
    b === Register.None
      ? 0
      : instruction.memoryDisplSize === 0
        ? 0
        : instruction.memoryDisplSize === 1
          ? 0x40
          : 0x80;
  const number = b === Register.None ? 4 : RegisterExt.number(b) & 7;
  return mod | (instruction.memoryIndex !== Register.None || b === Register.None ? 4 : number);
}

/** Converts a decoded instruction to an operation of core/fp. Undefined: it is not a floating-point instruction. */
export function decodeFp(instruction: Instruction): FpOperation | undefined {
  const count = instruction.opCount;
  let memory = false;
  for (let i = 0; i < count; i++) if (instruction.opKind(i) === OpKind.Memory) memory = true;
  const form = lookupFp(instruction.code, memory);
  if (form === undefined) return undefined;
  if (form.op < FpOp.FWAIT) {
    let fop = fops.get(instruction.code) ?? 0;
    if (memory) fop |= memoryModRm(instruction);
    else {
      // If the encoding contains ST(i), it is the operand that is not fixed.
      for (let i = 0; i < count; i++) {
        const r = instruction.opRegister(i);
        if (r > Register.ST0 && r <= Register.ST7) fop |= r - Register.ST0;
      }
    }
    return { form, op: form.op, dst: 0, src: SCRATCH, imm: fop };
  }
  const number = (operand: number): number => RegisterExt.number(instruction.opRegister(operand));
  const dst = form.dst === 'none' ? 0 : number(form.dstOperand);
  let src = SCRATCH;
  if (form.src === 'xmm') src = XMM + 16 * number(form.srcOperand);
  else if (form.src === 'mm') src = ST + 16 * number(form.srcOperand);
  else if (form.src === 'gpr') src = 8 * number(form.srcOperand);
  const imm = form.immOperand < 0 ? 0 : form.implicitDi ? number(form.immOperand) : instruction.immediate8;
  return { form, op: form.op, dst, src, imm };
}
