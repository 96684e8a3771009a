/**
 * Sequences of compatibility mode from a seed: every form that 32-bit and 16-bit code has and the machine executes,
 * with random prefixes, ModRM and operands. Before each instruction, registers are loaded so that its addresses lie
 * where they may or just outside: natively, the test's own memory is also below 4 GiB.
 */
import * as iced from '../../src/x86/iced.js';
import { APPROXIMATE } from './approximate.js';
import { type Segments, segmentsOf } from './compat-segments.js';
import { BASELINE, PRIVILEGED } from './forms.js';
import { BLOCK, DATA, STACK } from './layout.js';
import { LEFT_OUT } from './left-out.js';
import { plainBlock } from './minimise.js';
import { INTEL } from './processor.js';
import { type Sequence, type Step, undefinedFlags } from './sequence.js';
import { fillLine, float80, integer, LINE_KINDS, Random } from './values.js';

const { Code, CpuidFeature, EncodingKind, Mnemonic, OpKind, Register, RegisterExt, RflagsBits } = iced;

export const COMPAT_KINDS = ['flat', 'segmented', '16-bit'] as const;
export type CompatKind = (typeof COMPAT_KINDS)[number];

const ALL_FLAGS =
  RflagsBits.OF | RflagsBits.SF | RflagsBits.ZF | RflagsBits.AF | RflagsBits.CF | RflagsBits.PF;
const ROOM = 15;
const MAX_STEPS = 5;
/**
 * Forms that are left out in addition to those of 64-bit code: those that load segments, those for which core/fp has
 * only one implementation, and those that callAndReturn() makes.
 */
const NOT_HERE =
  /^(Sysenter|Syscall|Ud0$|Rsm|L[defgs]s_|Pop[wd]?_[DEFS]S|Popw_|Popd_|Call_ptr|Jmp_ptr|Call_m16|Jmp_m16|Retn|Call_rm|Jmp_rm|Int_|F(n?st|ld)env|Fn?save|Frstor|Fx|Fprem|Fscale|Jmpe|Loadall|Rdtsc|Cpuid|Umov|Xbts|Ibts|Cmpxchg486|Storeall|Altinst|Zalloc|Undoc|Mov_.*_[tcd]r|Mov_[tcd]r|Maskmov|Clflush|Emms|Reservednop|Prefetch)/;

interface CompatForm {
  readonly code: number;
  readonly name: string;
  /** Prefixes and opcode, by the bits of the code; ModRM and the rest follow. */
  readonly beginnings: Readonly<Record<16 | 32, readonly (readonly number[])[]>>;
  readonly group: number;
  readonly modrm: boolean;
  readonly lockable: boolean;
}

const TABLE_BYTES: Record<number, readonly number[]> = { 0: [], 1: [0x0f], 2: [0x0f, 0x38], 3: [0x0f, 0x3a] };
const MANDATORY: readonly (readonly number[])[] = [[], [], [0x66], [0xf3], [0xf2]];

function decodeOne(bytes: readonly number[], bits: number): iced.Instruction {
  const decoder = new iced.Decoder(
    bits,
    Uint8Array.from(bytes),
    iced.DecoderOptions.NoMPFX_0FBC | iced.DecoderOptions.NoMPFX_0FBD,
  );
  const ins = decoder.decode();
  decoder.free();
  return ins;
}

function describe(code: iced.Code, name: string): CompatForm | undefined {
  const probe = iced.Instruction.create(code);
  const info = iced.CodeExt.opCode(code);
  try {
    const features = [...probe.cpuidFeatures()].map((f) => CpuidFeature[f]).join('+');
    const old = features.replace(/^INTEL\d+_ONLY$/, 'no');
    if (!info.isInstruction || !info.mode32 || info.encoding !== EncodingKind.Legacy || info.fwait)
      return undefined;
    if (!BASELINE.has(old) || NOT_HERE.test(name) || info.decoderOption !== 0) return undefined;
    if (LEFT_OUT.some((l) => l.names.test(name)) || APPROXIMATE.has(Mnemonic[info.mnemonic].toLowerCase()))
      return undefined;
    if (!info.intelDecoder32 || !info.amdDecoder32) return undefined;
    const opcode = [...(TABLE_BYTES[info.table] ?? [])];
    for (let shift = (info.opCodeLength - 1) * 8; shift >= 0; shift -= 8)
      opcode.push((info.opCode >> shift) & 0xff);
    const kinds = Array.from({ length: info.opCount }, (_, i) => iced.OpCodeOperandKind[info.opKind(i)]);
    const modrm = info.isGroup || kinds.some((k) => /_or_mem$|_reg$|_rm$|^mem$|^seg_reg$/.test(k));
    const beginnings: Record<16 | 32, number[][]> = { 16: [], 32: [] };
    for (const bits of [16, 32] as const)
      for (const size of [[], [0x66]])
        for (const address of [[], [0x67]]) {
          const begin = [
            ...address,
            ...size,
            ...(info.mandatoryPrefix >= 3 || (info.mandatoryPrefix === 2 && size.length === 0)
              ? MANDATORY[info.mandatoryPrefix]
              : []),
            ...opcode,
          ];
          const fits = [0x00, 0xc0].some((mod) => {
            const tail = modrm ? [mod | (Math.max(0, info.groupIndex) << 3) | 1] : [];
            const ins = decodeOne(
              [...begin, ...tail, ...new Array<number>(ROOM).fill(1)].slice(0, ROOM),
              bits,
            );
            const same = ins.code === code;
            ins.free();
            return same;
          });
          if (fits) beginnings[bits].push(begin);
        }
    if (beginnings[32].length === 0) return undefined;
    return {
      code,
      name,
      beginnings,
      group: info.isGroup ? info.groupIndex : -1,
      modrm,
      lockable: info.canUseLockPrefix,
    };
  } finally {
    probe.free();
    info.free();
  }
}

let cache: CompatForm[] | undefined;
export function compatForms(): readonly CompatForm[] {
  cache ??= Object.entries(Code).flatMap(([name, code]) => {
    if (typeof code !== 'number' || name === 'INVALID') return [];
    const form = describe(code as iced.Code, name);
    return form === undefined ? [] : [form];
  });
  return cache;
}

const little = (v: number, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, i) => (v >>> (8 * i)) & 0xff);
/** `mov r32, imm32`. */
const load = (register: number, value: number, bits: number): number[] => [
  ...(bits === 16 ? [0x66] : []),
  0xb8 | register,
  ...little(value >>> 0, 4),
];

const ESP = 4;
const SEGMENT_PREFIXES = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];
const STACK_USERS = /^(push|pop|call|ret|enter|leave|int|into)/;
const SHIFTS = /^(ro|rc|sh|sa)[lr]d?$/;
const indexOf = (register: number): number => RegisterExt.number(RegisterExt.fullRegister(register));

/** Returns an offset in a segment, within the limit or just beyond. */
function offsetIn(r: Random, segments: Segments, segment: number, size: number): number {
  const s = segments.all[segment - Register.ES];
  if (s.rights === 0) return DATA + r.below(0x1000);
  const flat = s.base === 0 && s.limit === 0xffff_ffff;
  if (r.chance(4)) return (s.from + s.bytes - r.below(size + 2)) >>> 0;
  if (r.chance(3) && !flat) return (s.from - r.below(size + 2)) >>> 0;
  const room = s.bytes - (flat || r.chance(70) ? 0x1000 : 0) - 64;
  const at = r.below(Math.max(room, 64));
  return (s.from + (r.chance(70) ? at & ~15 : at)) >>> 0;
}

/** Makes a step of this form. Undefined: these random choices make none. */
function makeStep(r: Random, form: CompatForm, segments: Segments): Step | undefined {
  const { bits } = segments;
  const beginnings = form.beginnings[bits];
  if (beginnings.length === 0) return undefined;
  const prefixes: number[] = [];
  if (r.chance(25)) prefixes.push(r.pick(SEGMENT_PREFIXES));
  const begin = r.pick(beginnings);
  const modrm = form.modrm
    ? [form.group >= 0 ? (r.below(256) & ~0x38) | (form.group << 3) : r.below(256)]
    : [];
  const bytes = [...prefixes, ...begin, ...modrm];
  while (bytes.length < ROOM) bytes.push(r.chance(30) ? r.pick([0, 1, 0x7f, 0x80, 0xff]) : r.below(256));
  const name = form.name;
  const first = decodeOne(bytes, bits);
  const setup: number[][] = [];
  try {
    if (first.code !== form.code || first.length > 11) return undefined;
    const m = Mnemonic[first.mnemonic].toLowerCase();
    const isMemory = Array.from({ length: first.opCount }, (_, i) => first.opKind(i)).includes(OpKind.Memory);
    const isString = /^(movs|cmps|stos|lods|scas)[bwd]$/.test(m) && !name.includes('xmm');
    const repeat = isString && r.chance(50) ? [r.pick([0xf2, 0xf3])] : [];
    if (PRIVILEGED.test(name) && !r.chance(20)) return undefined;
    const decoder = new iced.Decoder(
      bits,
      Uint8Array.from(bytes),
      iced.DecoderOptions.NoMPFX_0FBC | iced.DecoderOptions.NoMPFX_0FBD,
    );
    const ins = decoder.decode();
    const constants = decoder.getConstantOffsets(ins);
    const displacementAt = constants.displacementOffset;
    const displacementSize = constants.hasDisplacement ? constants.displacementSize : 0;
    const immediateAt = constants.hasImmediate ? constants.immediateOffset : -1;
    const { length } = ins;
    constants.free();
    ins.free();
    decoder.free();
    const body = bytes.slice(0, length);
    const set = (register: number, value: number): void => void setup.push(load(register, value, bits));
    if (STACK_USERS.test(m)) {
      const size = 64;
      const flat = segments.all[2].base === 0;
      set(
        ESP,
        flat ? STACK + 4 * r.below(32) : offsetIn(r, segments, Register.SS, size) + (r.chance(80) ? 64 : 0),
      );
      // Which registers these instructions have moved when they fault depends on the processor.
      if (INTEL && /^(pusha|popa)/.test(m)) return undefined;
      if (m === 'leave') set(5, offsetIn(r, segments, Register.SS, 8));
      if (m === 'enter') {
        set(5, offsetIn(r, segments, Register.SS, 8));
        body[length - 3] = r.below(64);
        body[length - 2] = 0;
        body[length - 1] = r.below(6);
      }
    }
    if (isString) {
      const source = first.opCount > 1 && /^(movs|cmps|lods)/.test(m) ? first.memorySegment : Register.DS;
      set(6, offsetIn(r, segments, source === Register.None ? Register.DS : source, 16));
      set(7, offsetIn(r, segments, Register.ES, 16));
      if (repeat.length > 0) set(1, r.below(12));
    }
    if (m === 'xlatb') {
      set(3, offsetIn(r, segments, first.memorySegment, 256));
      set(0, r.below(128));
    }
    if (/^(bt|bts|btr|btc)$/.test(m) && isMemory && first.op1Kind === OpKind.Register) {
      const register = indexOf(first.op1Register);
      if (register === ESP) return undefined;
      set(register, r.below(512));
    }
    // The manuals do not define the result of shifting a 16-bit operand by more than 16 bits.
    if (/^sh[lr]d$/.test(m)) {
      if (immediateAt >= 0) body[immediateAt] = r.below(17);
      else set(1, r.below(17));
    }
    if (/^loop/.test(m) && r.chance(80)) set(1, r.below(3));
    if (/^(j|loop|call)/.test(m) && !isMemory) {
      for (let i = displacementOfBranch(body, first); i < length; i++) body[i] = 0;
      // The branch leads over one instruction if it is taken; if it is not, that instruction has a visible effect.
      body[displacementOfBranch(body, first)] = m === 'call' ? 0 : 2;
    }
    if (isMemory && m !== 'xlatb') {
      const { memoryBase: base, memoryIndex: index } = first;
      const size = Math.max(1, iced.MemorySizeExt.size(first.memorySize));
      const target = offsetIn(r, segments, first.memorySegment, Math.min(size, 16));
      const narrow =
        base === Register.None && index === Register.None
          ? displacementSize === 2
          : RegisterExt.size(base === Register.None ? index : base) === 2;
      if (narrow && segments.all[first.memorySegment - Register.ES].base === 0 && r.chance(90))
        return undefined;
      let sum = Number(BigInt.asUintN(32, first.memoryDisplacement));
      const wanted: [number, number][] = [];
      if (index !== Register.None) {
        const value = base === Register.None && displacementSize < 4 ? 0 : r.below(64);
        wanted.push([indexOf(index), value]);
        sum += value * first.memoryIndexScale;
      }
      if (base !== Register.None) {
        if (index !== Register.None && indexOf(base) === indexOf(index)) return undefined;
        wanted.push([indexOf(base), (target - sum) | 0]);
      } else if (displacementSize > 0) {
        const value = (target - (sum - Number(BigInt.asUintN(32, first.memoryDisplacement)))) >>> 0;
        body.splice(displacementAt, displacementSize, ...little(value, displacementSize));
      } else return undefined;
      for (const [register, value] of wanted) {
        if (register === ESP && STACK_USERS.test(m)) return undefined;
        if (setup.some((s) => (s[bits === 16 ? 1 : 0] & 7) === register)) return undefined;
        set(register, value);
      }
    }
    if (m === 'popf' || m === 'popfd') {
      // Single steps and alignment checks are left out; see alignment.test.ts.
      setup.push(
        bits === 16 ? [0x66, 0x68, ...little(r.u32() & 0xcd5, 4)] : [0x68, ...little(r.u32() & 0xcd5, 4)],
      );
      if (m === 'popf') setup.push(bits === 16 ? [0x50] : [0x66, 0x50], bits === 16 ? [0x58] : [0x66, 0x58]);
    }
    const lock = form.lockable && isMemory && r.chance(20) ? [0xf0] : [];
    const whole = [...lock, ...repeat, ...body];
    if (whole.length > ROOM) return undefined;
    const shift = SHIFTS.test(m);
    const conditional = repeat.length > 0;
    const pad = /^(j|loop)/.test(m) && !isMemory && first.op0Kind !== OpKind.Register ? [[0x04, 0x25]] : [];
    return {
      parts: [...setup.map((b) => ({ bytes: b })), { bytes: whole }, ...pad.map((b) => ({ bytes: b }))],
      flagsRead: (first.rflagsRead & ALL_FLAGS) | (/^pushf|^lahf/.test(m) ? ALL_FLAGS : 0),
      flagsDefined:
        shift || conditional || pad.length > 0
          ? 0
          : (first.rflagsWritten | first.rflagsCleared | first.rflagsSet) & ALL_FLAGS,
      flagsUndefined: shift ? ALL_FLAGS : first.rflagsUndefined & ALL_FLAGS,
      skips: 0,
    };
  } finally {
    first.free();
  }
}

/** The offset of the displacement of a relative branch: the displacement is everything behind the opcode. */
function displacementOfBranch(body: readonly number[], ins: iced.Instruction): number {
  const size = /rel8/.test(Code[ins.code]) ? 1 : ins.op0Kind === OpKind.NearBranch16 ? 2 : 4;
  return body.length - size;
}

/** Calls and their returns, through the stack and through a register. */
function callAndReturn(r: Random, segments: Segments): Step {
  const { bits } = segments;
  const flat = segments.all[2].base === 0;
  const at = flat ? STACK + 4 * r.below(32) : offsetIn(r, segments, Register.SS, 64);
  const near = (distance: number): number[] => [0xe8, ...little(distance, bits / 8)];
  const bytes = r.chance(50)
    ? // The call leads over the jump that skips the return, to the return itself.
      [...near(2), 0xeb, 0x01, ...r.pick([[0xc3], [0xc2, 0x08, 0x00]])]
    : // This is the address of the pop plus six bytes.
      [...near(0), 0x58, 0x83, 0xc0, 0x06, 0xff, 0xe0];
  if (bytes.at(-3) === 0xc2) bytes[bits / 8 + 2] = 3;
  return {
    parts: [{ bytes: load(ESP, at, bits) }, { bytes }],
    flagsRead: 0,
    flagsDefined: 0,
    flagsUndefined: 0,
    skips: 0,
  };
}

export function compatSequence(seed: number): Sequence & {
  readonly bits: 16 | 32;
  readonly base: number;
  readonly kind: CompatKind;
  readonly names: readonly string[];
} {
  const r = new Random(seed);
  const kind = COMPAT_KINDS[r.below(3)];
  const segments = segmentsOf(r, kind);
  const block = plainBlock();
  const view = new DataView(block.buffer);
  for (let i = 0; i < 8; i++) view.setBigUint64(8 * i, integer(r) & 0xffff_ffffn, true);
  view.setBigUint64(8 * ESP, BigInt(STACK), true);
  view.setBigUint64(BLOCK.rflags, BigInt(0x202 | (r.u32() & 0x8d5) | (r.chance(15) ? 0x400 : 0)), true);
  const fx = BLOCK.fxsave;
  view.setUint8(fx + 4, r.pick([0, 0xff, r.below(256)]));
  view.setUint16(fx + 2, r.below(8) << 11, true);
  for (let i = 0; i < 8; i++) float80(r, view, fx + 32 + 16 * i);
  for (let i = 0; i < 8; i++) fillLine(r, view, fx + 160 + 16 * i, r.pick(LINE_KINDS));
  const [es, cs, ...others] = segments.all;
  [cs, es, ...others].forEach((s, i) => void view.setUint16(BLOCK.selectors + 2 * i, s.selector, true));
  const steps: Step[] = [];
  const names: string[] = [];
  const wanted = 1 + r.below(MAX_STEPS);
  while (steps.length < wanted) {
    const composite = r.chance(6);
    const form = r.pick(compatForms());
    const step = composite ? callAndReturn(r, segments) : makeStep(r, form, segments);
    if (step === undefined || undefinedFlags([...steps, step]) === undefined) continue;
    steps.push(step);
    if (!composite) names.push(form.name);
  }
  return { steps, block, bits: segments.bits, base: cs.base, kind, names };
}
