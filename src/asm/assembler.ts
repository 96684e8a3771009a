/**
 * A small assembler in Intel syntax for x86-64. Our small guests and tests are written in it. iced-x86 does the
 * encoding; this file parses lines and assigns addresses to labels.
 *
 *     loop:   dec  qword [rdi+rcx*8-8]
 *             jnz  loop
 *             lea  rsi, [message]        ; labels are addressed relative to rip
 *     message: ascii "hello\n"           ; also: db, dw, dd, dq, zero N, align N; `name = value` for constants
 *
 * Branches always have their long form, so that one pass finds all addresses. Errors contain the line's number, and
 * its text or the name that is unknown.
 */
import { parseJson } from '../protocol/json.js';
import * as iced from '../x86/iced.js';

const { Code, Encoder, Instruction, Mnemonic, OpCodeOperandKind, OpKind, Register } = iced;

type Operand =
  | { readonly kind: 'register'; readonly register: number; readonly name: string }
  | { readonly kind: 'immediate'; readonly value: bigint }
  | { readonly kind: 'label'; readonly name: string; readonly addend: bigint }
  | {
      readonly kind: 'memory';
      readonly size: number;
      readonly base: number;
      readonly index: number;
      readonly scale: number;
      readonly displacement: bigint;
      readonly label: string | undefined;
      readonly segment: number;
    };

const SIZES: Record<string, number> = { byte: 1, word: 2, dword: 4, qword: 8, tword: 10, xmmword: 16 };
const PREFIXES = new Set(['rep', 'repe', 'repz', 'repne', 'repnz', 'lock']);
const DATA: Record<string, number> = { db: 1, dw: 2, dd: 4, dq: 8 };

const lowerNames = (e: object): Map<string, number> =>
  new Map(
    Object.entries(e).flatMap(([k, v]) => (typeof v === 'number' ? [[k.toLowerCase(), v] as const] : [])),
  );
const registers = lowerNames(Register);
const mnemonics = lowerNames(Mnemonic);
const kindNames = new Map(
  Object.entries(OpCodeOperandKind).flatMap(([k, v]) =>
    typeof v === 'number' ? [[v as number, k] as const] : [],
  ),
);

interface Candidate {
  readonly code: number;
  readonly kinds: readonly string[];
  /** Size of the memory operand in bytes; 0 if there is none, or if any size is accepted. */
  readonly memoryBytes: number;
}

/** Two-byte pushes on a stack of eight-byte words. Somebody who writes `push 0x202` does not mean them. */
const NARROW_PUSHES: readonly number[] = [Code.Push_imm16, Code.Pushw_imm8];

/** The legacy-encoded 64-bit forms of each mnemonic with their kinds of operands. They are collected on first use. */
let candidates: Map<number, Candidate[]> | undefined;
function candidatesOf(mnemonic: number): Candidate[] {
  if (candidates === undefined) {
    candidates = new Map();
    const probe = new Instruction();
    for (const value of Object.values(Code)) {
      if (typeof value !== 'number' || NARROW_PUSHES.includes(value)) continue;
      probe.code = value;
      const info = probe.opCode;
      if (info.isInstruction && info.mode64 && info.encoding === iced.EncodingKind.Legacy) {
        const kinds = Array.from({ length: info.opCount }, (_, i) => kindNames.get(info.opKind(i)) ?? '');
        const list = candidates.get(info.mnemonic) ?? [];
        list.push({ code: value, kinds, memoryBytes: iced.MemorySizeExt.size(info.memorySize) });
        candidates.set(info.mnemonic, list);
      }
      info.free();
    }
    probe.free();
  }
  return candidates.get(mnemonic) ?? [];
}

/** Operands of string instructions that are not written in the source. */
const IMPLICIT_KINDS: Record<string, iced.OpKind> = {
  es_rDI: OpKind.MemoryESRDI,
  seg_rSI: OpKind.MemorySegRSI,
  seg_rDI: OpKind.MemorySegRDI,
};

function registerFits(kind: string, name: string): boolean {
  const width = /^r(8|16|32|64)_/.exec(kind)?.[1];
  if (width === '64') return /^r([a-ds][xpi]|[sb]p|[0-9]+)$/.test(name) && !name.endsWith('d');
  if (width === '32') return /^(e[a-ds][xpi]|e[sb]p|r[0-9]+d)$/.test(name);
  if (width === '16') return /^([a-d]x|[sd]i|[sb]p|r[0-9]+w)$/.test(name);
  if (width === '8') return /^([a-d][lh]|[sb]pl|[sd]il|r[0-9]+[lb])$/.test(name);
  if (kind.startsWith('xmm')) return name.startsWith('xmm');
  if (kind.startsWith('mm_')) return /^mm\d$/.test(name);
  if (kind === 'seg_reg') return /^[c-gs]s$/.test(name);
  if (kind === 'cr_reg') return name.startsWith('cr');
  if (kind === 'dr_reg') return name.startsWith('dr');
  if (kind === 'sti_opcode') return /^st\d$/.test(name);
  return kind === name;
}

function memoryFits(kind: string, size: number, bytes: number, others: readonly Operand[]): boolean {
  const width = /^r(8|16|32|64)_or_mem$/.exec(kind)?.[1];
  if (width !== undefined) return size === 0 ? others.length > 0 : size === Number(width) / 8;
  return (
    (kind === 'mem' || kind === 'xmm_or_mem' || kind === 'mm_or_mem') &&
    (size === 0 || bytes === 0 || size === bytes)
  );
}

const inRange = (v: bigint, low: bigint, high: bigint): boolean => v >= low && v <= high;

function immediateFits(kind: string, v: bigint): boolean {
  switch (kind) {
    case 'imm8':
      return inRange(v, -0x80n, 0xffn);
    case 'imm8_const_1':
      return v === 1n;
    case 'imm8sex16':
    case 'imm8sex32':
    case 'imm8sex64':
      return inRange(v, -0x80n, 0x7fn);
    case 'imm16':
      return inRange(v, -0x8000n, 0xffffn);
    case 'imm32':
      return inRange(v, -0x8000_0000n, 0xffff_ffffn);
    case 'imm32sex64':
      return inRange(v, -0x8000_0000n, 0x7fff_ffffn);
    case 'imm64':
      return true;
    default:
      return false;
  }
}

const IMMEDIATE_KINDS: Record<string, number> = {
  imm8: OpKind.Immediate8,
  imm8_const_1: OpKind.Immediate8,
  imm8sex16: OpKind.Immediate8to16,
  imm8sex32: OpKind.Immediate8to32,
  imm8sex64: OpKind.Immediate8to64,
  imm16: OpKind.Immediate16,
  imm32: OpKind.Immediate32,
  imm32sex64: OpKind.Immediate32to64,
  imm64: OpKind.Immediate64,
};

/** A line of the source, before anything of it is evaluated. */
interface Statement {
  readonly number: number;
  readonly labels: readonly string[];
  /** What follows the labels, without the comment. */
  readonly text: string;
  /** Of `name = value`. */
  readonly constant: string | undefined;
  readonly value: string;
}

interface Line {
  readonly number: number;
  readonly text: string;
  address: bigint;
  readonly emit: (address: bigint) => Uint8Array;
}

export interface Assembled {
  readonly bytes: Uint8Array;
  /** The address of each label. */
  readonly labels: ReadonlyMap<string, bigint>;
  /** The address of a label as a signed number. Throws if there is no such label. */
  at(label: string): number;
}

/** Assembles `source` for the address `origin`. `constants` are names for immediates and displacements. */
export function assemble(
  source: string,
  origin: bigint,
  constants: Record<string, number | bigint> = {},
): Assembled {
  const labels = new Map<string, bigint>();
  const known = new Map<string, bigint>(Object.entries(constants).map(([k, v]) => [k, BigInt(v)]));
  /** Every name that the source defines: a line may use one that is defined further down. */
  const defined = new Set(known.keys());
  const statements: Statement[] = [];
  const lines: Line[] = [];
  const pending: string[][] = [];
  let names: string[] = [];
  let firstPass = true;

  const fail = (number: number, text: string, why: string): never => {
    throw new SyntaxError(`assembly line ${number}: ${why}: ${text.trim()}`);
  };

  source.split('\n').forEach((raw, i) => {
    const found: string[] = [];
    let text = raw.replace(/;(?=([^"]*"[^"]*")*[^"]*$).*/, '').trim();
    for (let m = /^([A-Za-z_.][\w.]*):\s*/.exec(text); m; m = /^([A-Za-z_.][\w.]*):\s*/.exec(text)) {
      found.push(m[1]);
      text = text.slice(m[0].length);
    }
    const [, constant, value = ''] = /^([A-Za-z_][\w]*)\s*=\s*(.+)$/.exec(text) ?? [];
    for (const name of constant === undefined ? found : [...found, constant]) defined.add(name);
    statements.push({ number: i + 1, labels: found, text, constant, value });
  });
  for (const { number, labels: found, text, constant, value } of statements) {
    names.push(...found);
    if (constant !== undefined) known.set(constant, evaluate(value, number));
    else if (text !== '') {
      pending.push(names);
      names = [];
      lines.push({ number, text, address: 0n, emit: reader(text, number) });
    }
  }
  pending.push(names);

  /**
   * The value of an expression of numbers and names. `placed`: its value changes no size, so that in the first pass a
   * label further down may count as 0; everywhere else it must be known by now.
   */
  function evaluate(expression: string, number: number, placed = false): bigint {
    let sum = 0n;
    const terms = expression.replaceAll(/\s+/g, '').match(/[+-]?[^+-]+/g);
    if (terms === null) return fail(number, expression, 'a number is missing');
    for (const term of terms) {
      const negative = term.startsWith('-');
      const body = term.replace(/^[+-]/, '');
      const factors = body.split('*').map((f) => one(f, number, placed));
      const product = factors.reduce((a, b) => a * b, 1n);
      sum += negative ? -product : product;
    }
    return sum;
  }
  function one(name: string, number: number, placed: boolean): bigint {
    if (/^(0x[0-9a-f_]+|0b[01]+|\d[\d_]*)$/i.test(name)) return BigInt(name.replaceAll('_', ''));
    if (/^'.'$/.test(name)) return BigInt(name.charCodeAt(1));
    const value = known.get(name) ?? labels.get(name);
    if (value !== undefined) return value;
    if (placed && firstPass && defined.has(name)) return 0n;
    return fail(number, name, defined.has(name) ? 'not known yet' : 'unknown name');
  }
  /** Whether the value of an operand is known only when all labels have their addresses. */
  function hasLabel(expression: string, number: number): boolean {
    const words = expression.replaceAll(/'.'/g, '0').match(/(?<![\w.])[A-Za-z_.][\w.]*/g) ?? [];
    const unknown = words.filter((name) => !known.has(name) && !registers.has(name));
    for (const name of unknown) if (!defined.has(name)) fail(number, name, 'unknown name');
    return unknown.length > 0;
  }

  /** Turns a line into a function that returns its bytes for a given address. */
  function reader(text: string, number: number): (address: bigint) => Uint8Array {
    const [, word = '', rest = ''] = /^(\S+)\s*(.*)$/.exec(text) ?? [];
    const directive = word.toLowerCase();
    if (directive === 'ascii') return () => new TextEncoder().encode(String(parseJson(rest)));
    if (directive === 'zero') return () => new Uint8Array(Number(evaluate(rest, number)));
    if (directive === 'align') {
      return (address) => new Uint8Array(Number(-address & (evaluate(rest, number) - 1n)));
    }
    const width = DATA[directive];
    if (width !== undefined) {
      const items = rest.split(',');
      return () => {
        const out = new Uint8Array(width * items.length);
        items.forEach((item, i) => {
          let v = BigInt.asUintN(64, evaluate(item, number, true));
          for (let b = 0; b < width; b++, v >>= 8n) out[i * width + b] = Number(v & 0xffn);
        });
        return out;
      };
    }
    return instruction(text, number);
  }

  function operand(text: string, number: number): Operand {
    const lower = text.toLowerCase();
    const register = registers.get(lower.replace(/^st\((\d)\)$/, 'st$1').replace(/^(r\d+)b$/, '$1l'));
    if (register !== undefined && register !== 0)
      return { kind: 'register', register, name: lower.replace(/^(r\d+)b$/, '$1l') };
    const memory = /^(?:(byte|word|dword|qword|tword|xmmword)\s+)?(?:ptr\s+)?(?:([c-gs]s):)?\[(.+)\]$/i.exec(
      text,
    );
    if (memory) {
      let base = 0;
      let index = 0;
      let scale = 1;
      const rest: string[] = [];
      for (const term of memory[3].replaceAll(/\s+/g, '').match(/[+-]?[^+-]+/g) ?? []) {
        const body = term.replace(/^\+/, '').toLowerCase();
        const [name, factor] = body.split('*');
        const r = registers.get(name);
        if (r === undefined || r === 0) rest.push(term);
        else if (factor !== undefined) [index, scale] = [r, Number(factor)];
        else if (base === 0) base = r;
        else index = r;
      }
      const expression = rest.join('').replace(/^\+/, '');
      const labelled = expression !== '' && hasLabel(expression, number);
      if (labelled && (base !== 0 || index !== 0)) fail(number, text, 'a label stands alone in brackets');
      return {
        kind: 'memory',
        size: SIZES[(memory[1] ?? '').toLowerCase()] ?? 0,
        base,
        index,
        scale,
        displacement: expression === '' || labelled ? 0n : evaluate(expression, number),
        label: labelled ? expression : undefined,
        segment: memory[2] === undefined ? 0 : (registers.get(memory[2].toLowerCase()) as number),
      };
    }
    if (hasLabel(text, number)) return { kind: 'label', name: text, addend: 0n };
    return { kind: 'immediate', value: evaluate(text, number) };
  }

  function instruction(text: string, number: number): (address: bigint) => Uint8Array {
    const words = text.split(/\s+/);
    const prefixes: string[] = [];
    while (PREFIXES.has(words[0].toLowerCase())) prefixes.push((words.shift() as string).toLowerCase());
    const mnemonicText = (words.shift() ?? '').toLowerCase();
    const aliases: Record<string, string> = {
      jz: 'je',
      jnz: 'jne',
      jc: 'jb',
      jnc: 'jae',
      setz: 'sete',
      setnz: 'setne',
      setc: 'setb',
      setnc: 'setae',
      cmovz: 'cmove',
      cmovnz: 'cmovne',
    };
    const mnemonic = mnemonics.get(aliases[mnemonicText] ?? mnemonicText);
    if (mnemonic === undefined) return fail(number, text, 'unknown instruction');
    const rest = words.join(' ');
    const operands = rest === '' ? [] : rest.split(',').map((o) => operand(o.trim(), number));

    const fits = (kind: string, o: Operand, bytes: number): boolean => {
      if (o.kind === 'register') return registerFits(kind, o.name);
      if (o.kind === 'memory')
        return memoryFits(
          kind,
          o.size,
          bytes,
          operands.filter((x) => x.kind === 'register'),
        );
      if (o.kind === 'immediate') return immediateFits(kind, o.value);
      return kind === 'br64_4' || kind === 'imm64';
    };
    const matches = candidatesOf(mnemonic).filter((c) => {
      const given = c.kinds.filter((k) => !(k in IMPLICIT_KINDS));
      if (operands.length === 0)
        return (
          given.every((k) => ['al', 'ax', 'eax', 'rax', 'dx'].includes(k)) &&
          (given.length < c.kinds.length || c.kinds.length === 0)
        );
      return (
        given.length === c.kinds.length &&
        given.length === operands.length &&
        given.every((k, i) => fits(k, operands[i], c.memoryBytes))
      );
    });
    if (matches.length === 0) return fail(number, text, 'no such form of this instruction');

    let chosen: Candidate | undefined;
    const encode = (c: Candidate, address: bigint): Uint8Array | undefined => {
      const ins = new Instruction();
      ins.code = c.code as never;
      if (prefixes.includes('lock')) ins.hasLockPrefix = true;
      if (prefixes.some((p) => p === 'rep' || p === 'repe' || p === 'repz')) ins.hasRepPrefix = true;
      if (prefixes.some((p) => p === 'repne' || p === 'repnz')) ins.hasRepnePrefix = true;
      for (const [i, kind] of c.kinds.entries()) {
        place(ins, kind, i, operands.length === 0 ? undefined : operands[i], address, number);
      }
      const encoder = new Encoder(64);
      try {
        encoder.encode(ins, address);
        return encoder.takeBuffer();
      } catch {
        return undefined;
      } finally {
        encoder.free();
        ins.free();
      }
    };
    return (address) => {
      if (chosen === undefined) {
        let best: Uint8Array | undefined;
        for (const c of matches) {
          const bytes = encode(c, address);
          if (bytes !== undefined && (best === undefined || bytes.length < best.length))
            [best, chosen] = [bytes, c];
        }
      }
      const bytes = chosen === undefined ? undefined : encode(chosen, address);
      return bytes ?? fail(number, text, 'cannot be encoded');
    };
  }

  function place(
    ins: iced.Instruction,
    kind: string,
    i: number,
    o: Operand | undefined,
    address: bigint,
    number: number,
  ): void {
    const implicit = IMPLICIT_KINDS[kind];
    if (implicit !== undefined) {
      ins.setOpKind(i, implicit);
      return;
    }
    if (o === undefined) {
      ins.setOpKind(i, OpKind.Register);
      ins.setOpRegister(i, registers.get(kind) as never);
      return;
    }
    switch (o.kind) {
      case 'register':
        ins.setOpKind(i, OpKind.Register);
        ins.setOpRegister(i, o.register as never);
        return;
      case 'immediate':
        ins.setOpKind(i, IMMEDIATE_KINDS[kind] as never);
        ins.setImmediateI64(i, BigInt.asIntN(64, o.value));
        return;
      case 'label': {
        const target = evaluate(o.name, number, true);
        if (kind === 'imm64') {
          ins.setOpKind(i, OpKind.Immediate64);
          ins.setImmediateI64(i, BigInt.asIntN(64, target));
          return;
        }
        ins.setOpKind(i, OpKind.NearBranch64);
        ins.nearBranch64 = BigInt.asUintN(64, firstPass ? address : target);
        return;
      }
      case 'memory': {
        ins.setOpKind(i, OpKind.Memory);
        if (o.segment !== 0) ins.segmentPrefix = o.segment as never;
        if (o.label !== undefined) {
          ins.memoryBase = Register.RIP;
          ins.memoryDisplSize = 8;
          ins.memoryDisplacement = BigInt.asUintN(64, firstPass ? address : evaluate(o.label, number, true));
          return;
        }
        ins.memoryBase = o.base as never;
        ins.memoryIndex = o.index as never;
        ins.memoryIndexScale = o.scale;
        const d = o.displacement;
        const small = inRange(d, -0x80n, 0x7fn);
        ins.memoryDisplSize = o.base === 0 ? 8 : d === 0n ? 0 : small ? 1 : 8;
        ins.memoryDisplacement = BigInt.asUintN(64, d);
        return;
      }
    }
  }

  const layOut = (): Uint8Array[] => {
    let address = origin;
    const out = lines.map((line, i) => {
      for (const name of pending[i]) labels.set(name, address);
      const bytes = line.emit(address);
      address += BigInt(bytes.length);
      return bytes;
    });
    for (const name of pending[lines.length]) labels.set(name, address);
    return out;
  };
  layOut();
  firstPass = false;
  const parts = layOut();
  const bytes = new Uint8Array(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return {
    bytes,
    labels,
    at: (label) => {
      const address = labels.get(label);
      if (address === undefined) throw new RangeError(`no label ${label}`);
      return Number(BigInt.asIntN(64, address));
    },
  };
}
