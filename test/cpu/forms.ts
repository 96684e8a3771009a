/**
 * A table of every instruction form that the machine executes at CPL 3, made from iced-x86's own description: how it is
 * encoded, what its operands are, and which flags and registers it reads, writes and leaves undefined. Invariant:
 * `forms()` verifies its own encodings by decoding each one back to the form that it was made from.
 */
import * as iced from '../../src/x86/iced.js';
import { encode, type Instance } from './encode.js';
import { whyLeftOut } from './left-out.js';

const { Code, CpuidFeature, OpAccess, OpCodeOperandKind, Register } = iced;

/** Features of the x86-64 baseline, with cmpxchg16b and lahf: everything else is #UD (or a hint) for our guests. */
export const BASELINE = new Set(
  `INTEL8086 INTEL186 INTEL286 INTEL386 INTEL486 X64 CPUID FPU FPU287 FPU387 FPU+CMOV MMX SSE SSE2 CMOV CX8
   CMPXCHG16B FXSR CLFSH TSC MULTIBYTENOP PREFETCHW PAUSE MSR SYSCALL SEP`.split(/\s+/),
);

/** Forms that are decoded as missing instructions. */
const NOT_FORMS = /^(Sysenter|Ud0$|Popw_|Rsm)/;

/** Forms that fault at CPL 3 before they have any effect. */
export const PRIVILEGED =
  /^(Hlt|Cli|Sti|In_|Out_|Ins[bwd]|Outs[bwd]|Clts|Invd|Wbinvd|Invlpg|L[gi]dt|Lldt|Ltr|Lmsw|Mov_(r64_)?[cd]r)/;

export type Place = 'reg' | 'rm' | 'opcode' | 'sti' | 'fixed' | 'imm' | 'branch' | 'moffs' | 'implied';
export interface Operand {
  readonly kind: string;
  readonly place: Place;
  /** '8' '16' '32' '64' 'mm' 'xmm' 'seg' 'cr' 'dr' 'st' or '' */
  readonly bank: string;
  readonly memory: boolean;
  readonly register: boolean;
  readonly written: boolean;
  /** The number of bytes of an immediate or a displacement. */
  readonly bytes: number;
}

export interface Form {
  readonly code: iced.Code;
  readonly name: string;
  readonly mnemonic: string;
  readonly operands: readonly Operand[];
  readonly prefix: number;
  readonly addressPrefix: boolean;
  readonly wide: boolean;
  readonly opcode: readonly number[];
  readonly modrm: boolean;
  readonly group: number;
  readonly size: number;
  readonly memoryBytes: number;
  readonly memoryKind: string;
  readonly lockable: boolean;
  readonly flagsRead: number;
  readonly flagsDefined: number;
  readonly flagsUndefined: number;
  /** A bit set of the general registers that are written without being named by an operand. */
  readonly implicitWrites: number;
  readonly unit: 'integer' | 'x87' | 'mmx' | 'sse';
  readonly privileged: boolean;
}

const IMMEDIATES: Record<string, number> = {
  imm8: 1,
  imm8sex16: 1,
  imm8sex32: 1,
  imm8sex64: 1,
  imm16: 2,
  imm32: 4,
  imm32sex64: 4,
  imm64: 8,
};

function operandOf(kind: string, access: number): Operand {
  const written =
    access === OpAccess.Write ||
    access === OpAccess.CondWrite ||
    access === OpAccess.ReadWrite ||
    access === OpAccess.ReadCondWrite;
  const make = (place: Place, bank = '', memory = false, register = true, bytes = 0): Operand => ({
    kind,
    place,
    bank,
    memory,
    register,
    written,
    bytes,
  });
  const m = /^(r8|r16|r32|r64|mm|xmm)_(or_mem|reg|rm|opcode)$/.exec(kind);
  if (m) {
    const bank = m[1].replace(/^r/, '');
    if (m[2] === 'or_mem') return make('rm', bank, true);
    if (m[2] === 'rm') return make('rm', bank);
    return make(m[2] === 'opcode' ? 'opcode' : 'reg', bank);
  }
  if (kind === 'mem') return make('rm', '', true, false);
  if (kind === 'mem_offs') return make('moffs', '', true, false);
  if (kind === 'seg_reg') return make('reg', 'seg');
  if (kind === 'cr_reg') return make('reg', 'cr');
  if (kind === 'dr_reg') return make('reg', 'dr');
  if (kind === 'sti_opcode') return make('sti', 'st');
  if (kind in IMMEDIATES) return make('imm', '', false, false, IMMEDIATES[kind]);
  if (kind === 'br64_1') return make('branch', '', false, false, 1);
  if (kind === 'br64_4') return make('branch', '', false, false, 4);
  if (/^(seg_rSI|es_rDI|seg_rDI|seg_rBX_al)$/.test(kind)) return make('implied', '', true, false);
  if (/^(al|cl|ax|dx|eax|rax|st0|imm8_const_1|fs|gs)$/.test(kind)) return make('fixed');
  throw new Error(`operand kind ${kind} is not known`);
}

const TABLE_BYTES: Record<number, number[]> = { 0: [], 1: [0x0f], 2: [0x0f, 0x38], 3: [0x0f, 0x3a] };
const PREFIX_BYTES = [0, 0, 0x66, 0xf3, 0xf2];

function describe(code: iced.Code, name: string): Form | undefined {
  const probe = iced.Instruction.create(code);
  const info = iced.CodeExt.opCode(code);
  try {
    const feature = [...probe.cpuidFeatures()].map((f) => CpuidFeature[f]).join('+');
    if (!info.isInstruction || !info.mode64 || info.encoding !== iced.EncodingKind.Legacy || info.fwait)
      return undefined;
    if (!BASELINE.has(feature) || NOT_FORMS.test(name) || whyLeftOut(name) !== undefined) return undefined;
    if (!info.intelDecoder64 || !info.amdDecoder64 || info.decoderOption !== 0) return undefined;
    const kinds = Array.from({ length: info.opCount }, (_, i) => OpCodeOperandKind[info.opKind(i)]);
    if (kinds.some((k) => k.startsWith('br16') || (k === 'br64_1' && name.includes('_16')))) return undefined;
    let operands = kinds.map((k) => operandOf(k, OpAccess.None));
    const bytes = [...(TABLE_BYTES[info.table] ?? [])];
    for (let shift = (info.opCodeLength - 1) * 8; shift >= 0; shift -= 8)
      bytes.push((info.opCode >> shift) & 0xff);
    const modrm = info.isGroup || operands.some((o) => o.place === 'rm' || o.place === 'reg');
    const base: Form = {
      code,
      name,
      mnemonic: iced.Mnemonic[info.mnemonic].toLowerCase(),
      operands,
      prefix: info.operandSize === 16 ? 0x66 : PREFIX_BYTES[info.mandatoryPrefix],
      addressPrefix: info.addressSize === 32,
      wide: info.operandSize === 64 && !info.defaultOpSize64 && !info.forceOpSize64,
      opcode: bytes,
      modrm,
      group: info.isGroup ? info.groupIndex : -1,
      size: info.operandSize,
      memoryBytes: iced.MemorySizeExt.size(info.memorySize),
      memoryKind: iced.MemorySize[info.memorySize],
      lockable: info.canUseLockPrefix,
      flagsRead: 0,
      flagsDefined: 0,
      flagsUndefined: 0,
      implicitWrites: 0,
      unit: feature.startsWith('FPU')
        ? 'x87'
        : kinds.some((k) => k.startsWith('xmm'))
          ? 'sse'
          : kinds.some((k) => k.startsWith('mm_'))
            ? 'mmx'
            : 'integer',
      privileged: PRIVILEGED.test(name),
    };
    const ins = decodeCanonical(base);
    const factory = new iced.InstructionInfoFactory();
    const used = factory.info(ins);
    operands = kinds.map((k, i) => operandOf(k, used.opAccess(i)));
    const named = new Set(
      operands.flatMap((o, i) =>
        o.place === 'reg' || o.place === 'rm' || o.place === 'opcode'
          ? [iced.RegisterExt.fullRegister(ins.opRegister(i))]
          : [],
      ),
    );
    let implicitWrites = 0;
    for (const u of used.usedRegisters()) {
      const full = iced.RegisterExt.fullRegister(u.register);
      const number = full - Register.RAX;
      if (number >= 0 && number < 16 && !named.has(full) && operandOf('al', u.access).written)
        implicitWrites |= 1 << number;
      u.free();
    }
    const form: Form = {
      ...base,
      operands,
      flagsRead: ins.rflagsRead,
      flagsDefined: ins.rflagsWritten | ins.rflagsCleared | ins.rflagsSet,
      flagsUndefined: ins.rflagsUndefined,
      implicitWrites,
    };
    used.free();
    factory.free();
    ins.free();
    return form;
  } finally {
    probe.free();
    info.free();
  }
}

/** Encodes the form with ordinary operands (r9 to r11, xmm1, st(1), [rax]) and decodes it: it must be the same form. */
function decodeCanonical(form: Form): iced.Instruction {
  const bytes = encode(form, canonical(form), 0x1000).bytes;
  const decoder = new iced.Decoder(64, Uint8Array.from(bytes), 0);
  decoder.ip = 0x1000n;
  const ins = decoder.decode();
  decoder.free();
  if (ins.code !== form.code || ins.length !== bytes.length) {
    const hex = bytes.map((b) => b.toString(16).padStart(2, '0')).join(' ');
    throw new Error(`${form.name} was encoded as ${hex}, which is ${Code[ins.code]}`);
  }
  return ins;
}

function canonical(form: Form): Instance {
  const rm = form.operands.find((o) => o.place === 'rm');
  const reg = form.operands.find((o) => o.place === 'reg');
  const narrow = (bank: string | undefined): number =>
    bank === 'mm' || bank === 'xmm' ? 1 : bank === 'seg' ? 1 : bank === 'cr' ? 0 : bank === 'dr' ? 1 : 9;
  return {
    prefixes: [],
    rex: 0,
    reg: narrow(reg?.bank),
    rm:
      rm?.register === false
        ? -1
        : rm?.bank === '8'
          ? 10
          : rm?.bank === undefined || rm.bank === ''
            ? 0
            : narrow(rm.bank) + 1,
    opcodeRegister: form.operands.some((o) => o.place === 'sti') ? 1 : 9,
    memory:
      rm?.register === false
        ? { base: 0, index: -1, scale: 0, displacement: 0, displacementBytes: 0, rip: false }
        : undefined,
    immediates: form.operands.flatMap((o) =>
      o.place === 'imm' || o.place === 'branch'
        ? [Array<number>(o.bytes).fill(3)]
        : o.place === 'moffs'
          ? [Array<number>(8).fill(0)]
          : [],
    ),
  };
}

let cache: Form[] | undefined;
/** All forms; the list is made once. */
export function forms(): readonly Form[] {
  cache ??= Object.entries(Code).flatMap(([name, code]) => {
    const form = typeof code === 'number' ? describe(code as iced.Code, name) : undefined;
    return form === undefined ? [] : [form];
  });
  return cache;
}
