/**
 * Bytes for every instruction that iced knows, on whatever processor it exists: for each Code one encoding with
 * register operands and one with memory at [rax], where the instruction has them. They are found by trial: bytes made
 * from the opcode's description are accepted if iced decodes them to the same Code.
 */
import * as iced from '../../src/x86/iced.js';

const { Code, EncodingKind, OpKind } = iced;

export interface Encoding {
  readonly code: iced.Code;
  /** iced's name, with "mem" appended if the ModRM operand is in memory: "Add_rm32_r32", "Add_rm32_r32 mem". */
  readonly name: string;
  readonly memory: boolean;
  readonly bytes: Uint8Array;
  /** CPUID features, joined by "+". */
  readonly feature: string;
}

const ESCAPES: Record<number, readonly number[]> = { 0: [], 1: [0x0f], 2: [0x0f, 0x38], 3: [0x0f, 0x3a] };
/** The number of an opcode map in VEX, XOP and EVEX prefixes, by iced's table number. */
const MAPS = [0, 1, 2, 3, 5, 6, 8, 9, 10];
const MANDATORY = [[], [], [0x66], [0xf3], [0xf2]];
const ROOM = 15;

interface Opcode {
  readonly encoding: number;
  readonly table: number;
  /** The bytes of the opcode; the second may be a whole ModRM. */
  readonly bytes: readonly number[];
  readonly mandatory: number;
  readonly group: number;
  /** ModRM.rm where the opcode fixes it, else -1. */
  readonly rm: number;
  /** Whether an operand must be in memory, or can be. */
  readonly memory: 'never' | 'always' | 'either';
}

/** Prefixes, escape and opcode in all ways that this encoding has; ModRM and the rest follow. */
function* beginnings(o: Opcode): Generator<number[]> {
  const pp = Math.max(0, o.mandatory - 1);
  const bits = [0, 1];
  const lengths = [0, 1, 2];
  switch (o.encoding) {
    case EncodingKind.Legacy:
      for (const repeat of o.mandatory >= 2 ? [MANDATORY[o.mandatory]] : [[]])
        for (const size of [[], [0x66]])
          for (const address of [[], [0x67]])
            for (const rex of [[], [0x48], [0x41]])
              yield [...address, ...size, ...repeat, ...rex, ...(ESCAPES[o.table] ?? []), ...o.bytes];
      // iced decodes the wait that some x87 mnemonics include as a prefix.
      if (o.bytes.length > 0) yield [0x9b, ...o.bytes];
      return;
    case EncodingKind.VEX:
      for (const w of bits)
        for (const l of bits)
          for (const v of [0, 13, 15])
            yield [0xc4, 0xe0 | MAPS[o.table], (w << 7) | (v << 3) | (l << 2) | pp, ...o.bytes];
      return;
    case EncodingKind.XOP:
      for (const w of bits)
        for (const l of bits)
          for (const v of [0, 15])
            yield [0x8f, 0xe0 | MAPS[o.table], (w << 7) | (v << 3) | (l << 2) | pp, ...o.bytes];
      return;
    case EncodingKind.EVEX:
      for (const w of bits)
        for (const l of lengths)
          for (const v of [0, 15])
            for (const b of bits)
              for (const k of [0, 1])
                yield [
                  0x62,
                  0xf0 | MAPS[o.table],
                  (w << 7) | (v << 3) | 4 | pp,
                  (l << 5) | (b << 4) | 8 | k,
                  ...o.bytes,
                ];
      return;
    case EncodingKind.D3NOW:
      yield [0x0f, 0x0f];
      return;
    default:
    // MVEX is left out: only one coprocessor had it.
  }
}

function describe(code: iced.Code): Opcode {
  const info = iced.CodeExt.opCode(code);
  try {
    const bytes: number[] = [];
    for (let shift = (info.opCodeLength - 1) * 8; shift >= 0; shift -= 8)
      bytes.push((info.opCode >> shift) & 0xff);
    const kinds = Array.from({ length: info.opCount }, (_, i) => iced.OpCodeOperandKind[info.opKind(i)]);
    return {
      encoding: info.encoding,
      table: info.table,
      bytes,
      mandatory: info.mandatoryPrefix,
      group: info.isGroup ? info.groupIndex : -1,
      memory: kinds.some((k) => k.endsWith('_or_mem'))
        ? 'either'
        : kinds.some((k) => /^(mem|sibmem|seg_rBX_al)/.test(k))
          ? 'always'
          : 'never',
      rm: info.isRmGroup ? info.rmGroupIndex : -1,
    };
  } finally {
    info.free();
  }
}

function search(code: iced.Code, memory: boolean): Uint8Array | undefined {
  const o = describe(code);
  if (o.memory === (memory ? 'never' : 'always')) return undefined;
  const reg = Math.max(o.group, 0) << 3;
  const rm = o.rm < 0 ? 1 : o.rm;
  const modrms = memory ? [[reg | 0], [reg | 4, 0x20]] : [[], [0xc0 | reg | rm], [0xc8 | rm]];
  for (const beginning of beginnings(o))
    for (const modrm of modrms) {
      const bytes = [...beginning, ...modrm];
      if (o.encoding === EncodingKind.D3NOW) bytes.push(...o.bytes);
      const room = Uint8Array.from([...bytes, ...Array<number>(ROOM).fill(1)]).subarray(0, ROOM);
      const decoder = new iced.Decoder(64, room, 0);
      const ins = decoder.decode();
      const operands = Array.from({ length: ins.opCount }, (_, i) => ins.opKind(i));
      const fits = ins.code === code && operands.includes(OpKind.Memory) === memory;
      const { length } = ins;
      ins.free();
      decoder.free();
      if (fits) return room.slice(0, length);
    }
  return undefined;
}

let cache: Encoding[] | undefined;
/** All instructions of 64-bit mode; the list is made once. */
export function encodings(): readonly Encoding[] {
  cache ??= Object.entries(Code).flatMap(([name, code]) => {
    if (typeof code !== 'number' || name === 'INVALID') return [];
    const probe = iced.Instruction.create(code as iced.Code);
    const feature = [...probe.cpuidFeatures()].map((f) => iced.CpuidFeature[f]).join('+');
    probe.free();
    return [false, true].flatMap((memory) => {
      const bytes = search(code as iced.Code, memory);
      return bytes === undefined
        ? []
        : [{ code: code as iced.Code, name: memory ? `${name} mem` : name, memory, bytes, feature }];
    });
  });
  return cache;
}

/** The instructions of 64-bit mode for which no bytes were found. */
export function withoutEncoding(): string[] {
  const found = new Set(encodings().map((e) => e.code));
  return Object.entries(Code)
    .filter(([, code]) => typeof code === 'number' && !found.has(code as iced.Code))
    .filter(([, code]) => {
      const info = iced.CodeExt.opCode(code as iced.Code);
      const wanted = info.isInstruction && info.mode64 && info.encoding !== EncodingKind.MVEX;
      info.free();
      return wanted;
    })
    .map(([name]) => name);
}
