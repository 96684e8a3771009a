/** Compares the processor with our floating-point unit, bit for bit, one instruction form at a time on many states. */
import { encode, type Instance } from '../encode.js';
import { type Form, forms } from '../forms.js';
import { BLOCK, CODE, DATA, DATA_BYTES, RESULT_BYTES, WRITABLE_BYTES } from '../layout.js';
import type { Native } from '../native.js';
import { INTEL } from '../processor.js';
import { controlWord, fillLine, float80, integer, LINE_KINDS, mxcsr, type Random } from '../values.js';
import { flagsAt, gprAt, operationOf, type Unit } from './unit.js';

const ARITHMETIC_FLAGS = 0x8d5;
/** The distance of operands in the window, in bytes. */
const SLOT = 512;
const SLOTS = WRITABLE_BYTES / SLOT;
const APPROXIMATE = /^F(2xm1|yl2x|ptan|patan|sin|cos)|^R(cp|sqrt)/;

/** Every form of the unit: x87, MMX, SSE, SSE2 and the instructions that save and restore its state. */
export function unitForms(): Form[] {
  return forms().filter((f) => f.unit !== 'integer' || /^(Fx|Ldmxcsr|Stmxcsr|Wait|Emms)/.test(f.name));
}

export const isApproximate = (form: Form): boolean => APPROXIMATE.test(form.name);

interface Case {
  readonly form: Form;
  readonly memory: boolean;
  readonly bytes: Uint8Array;
}

function instanceOf(form: Form, memory: boolean, r: Random): Instance {
  const rm = form.operands.find((o) => o.place === 'rm');
  return {
    prefixes: [],
    rex: 0,
    reg: rm?.bank === 'mm' || form.unit === 'mmx' ? r.below(8) : r.pick([1, 2, 3, 9]),
    rm: memory ? -1 : rm?.bank === 'mm' ? r.below(8) : r.pick([1, 2, 3, 9]),
    opcodeRegister: r.below(8),
    memory: memory
      ? { base: 6, index: -1, scale: 0, displacement: 0, displacementBytes: 0, rip: false }
      : undefined,
    immediates: form.operands
      .filter((o) => o.place === 'imm')
      .map(() => [r.chance(50) ? r.below(256) : r.below(20)]),
  };
}

/** One encoding for each way to use a form: with registers, and with memory. */
export function casesOf(form: Form, r: Random): Case[] {
  const rm = form.operands.find((o) => o.place === 'rm');
  const ways =
    rm === undefined
      ? [false]
      : [rm.memory, !rm.register].includes(true)
        ? rm.register
          ? [false, true]
          : [true]
        : [false];
  return ways.map((memory) => ({
    form,
    memory,
    bytes: Uint8Array.from(encode(form, instanceOf(form, memory, r), CODE).bytes),
  }));
}

/** A random image of registers. `x87`: most have values on the stack. */
function fillState(r: Random, view: DataView, mmx: boolean): void {
  const at = BLOCK.fxsave;
  for (let i = 0; i < 512; i += 4) view.setUint32(at + i, 0, true);
  view.setUint16(at, controlWord(r), true);
  const flags = r.chance(60) ? 0 : r.below(128);
  view.setUint16(at + 2, (r.below(8) << 11) | (r.below(8) << 8) | (r.below(2) << 14) | flags, true);
  view.setUint8(at + 4, r.pick([0xff, 0xff, 0x7f, r.u32() & 0xff, r.u32() & 0xff, 0]));
  view.setUint32(at + 24, mxcsr(r), true);
  let last = 0;
  for (let i = 0; i < 8; i++) {
    const p = at + 32 + 16 * i;
    if (mmx) {
      fillLine(r, view, p, r.pick(LINE_KINDS));
      view.setUint16(p + 8, 0xffff, true);
    } else float80(r, view, p);
    view.setUint16(p + 10, 0, true);
    view.setUint32(p + 12, 0, true);
    // Some values are close to others, so that differences cancel and comparisons find equal values.
    if (i > 0 && r.chance(15)) {
      for (let k = 0; k < 10; k++) view.setUint8(p + k, view.getUint8(last + k));
      if (r.chance(50)) view.setUint8(p, view.getUint8(p) ^ r.below(4));
      if (r.chance(50)) view.setUint8(p + 9, view.getUint8(p + 9) ^ 0x80);
    }
    last = p;
  }
  for (let i = 0; i < 16; i++) {
    const p = at + 160 + 16 * i;
    fillLine(r, view, p, r.pick(['f32', 'f32', 'f64', 'f64', 'int', 'words']));
    if (i > 0 && r.chance(20)) {
      for (let k = 0; k < 16; k++) view.setUint8(p + k, view.getUint8(p - 16 + k));
      if (r.chance(50)) view.setUint8(p, view.getUint8(p) ^ r.below(4));
      if (r.chance(50)) view.setUint8(p + 15, view.getUint8(p + 15) ^ 0x80);
    }
  }
}

export interface Mismatch {
  readonly text: string;
  readonly name: string;
}

const hex = (bytes: Uint8Array): string => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');
const big = (bytes: Uint8Array, at: number, n: number): string => hex(bytes.slice(at, at + n).reverse());

/** Names the part of a 512-byte image at an offset, for messages. */
function differences(ours: Uint8Array, real: Uint8Array): string[] {
  const parts: [string, number, number][] = [
    ['FCW', 0, 2],
    ['FSW', 2, 2],
    ['FTW', 4, 1],
    ['MXCSR', 24, 4],
  ];
  if (!INTEL) parts.push(['FOP', 6, 2], ['FIP', 8, 8], ['FDP', 16, 8]);
  for (let i = 0; i < 8; i++) parts.push([`ST${i}`, 32 + 16 * i, 10]);
  for (let i = 0; i < 16; i++) parts.push([`XMM${i}`, 160 + 16 * i, 16]);
  return parts
    .filter(([, at, n]) => big(ours, at, n) !== big(real, at, n))
    .map(([name, at, n]) => `${name} ours ${big(ours, at, n)} real ${big(real, at, n)}`);
}

/** Maps a float to an integer in the order of the values: neighbours differ by one. */
const rank80 = (v: DataView, at: number): bigint => {
  const se = BigInt(v.getUint16(at + 8, true));
  const size = ((se & 0x7fffn) << 63n) + (v.getBigUint64(at, true) & 0x7fff_ffff_ffff_ffffn);
  return se >> 15n ? -size : size;
};

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** The smallest normal 80-bit number, in the order of rank80(). */
const LEAST_NORMAL = 1n << 63n;

/**
 * Like differences(), but for the x87 functions: neighbouring results are equal, C1 (rounded up) is ignored, and so is
 * UE (underflow) where only one of the results may be denormal.
 */
export function x87Differences(ours: Uint8Array, real: Uint8Array): string[] {
  // FPTAN and FSINCOS also return a result in ST1.
  const atEdge = [32, 48].some((at) => {
    const rank = rank80(viewOf(ours), at);
    const above = (rank < 0n ? -rank : rank) - LEAST_NORMAL;
    return above >= -1n && above <= 1n;
  });
  const underflow = atEdge ? 0x10 : 0;
  const [a, b] = [ours, real].map((bytes) => {
    const copy = bytes.slice();
    copy[2] &= ~underflow;
    copy[3] &= ~2;
    return copy;
  });
  for (let at = 32; at < 160; at += 16) {
    const d = rank80(viewOf(a), at) - rank80(viewOf(b), at);
    if (d === 1n || d === -1n) b.set(a.subarray(at, at + 10), at);
  }
  return differences(a, b);
}

/**
 * For RCPPS and RSQRTPS: each float must be within the error that both processors guarantee (1.5 * 2^-12) of the other.
 */
export function estimateDifferences(ours: Uint8Array, real: Uint8Array): string[] {
  const copy = real.slice();
  for (let at = 160; at < 416; at += 4) {
    const x = viewOf(ours).getFloat32(at, true),
      y = viewOf(real).getFloat32(at, true);
    // A result next to the denormals may be flushed to zero on one side only.
    if (Math.abs(x - y) <= Math.max(Math.abs(y) * 3 * 2 ** -12, 1.001 * 2 ** -126))
      copy.set(ours.subarray(at, at + 4), at);
  }
  return differences(ours, copy);
}

/** Runs one case on `count` states. */
export function compareCase(
  native: Native,
  unit: Unit,
  c: Case,
  count: number,
  r: Random,
  judge: typeof differences = differences,
): Mismatch[] {
  const op = operationOf(c.bytes);
  if (op === undefined) return [{ name: c.form.name, text: `${c.form.name}: not in the decode table` }];
  const window = new Uint8Array(DATA_BYTES);
  const wview = new DataView(window.buffer);
  const image = /^F(x?rstor|ldenv)/.test(c.form.name);
  for (let s = 0; s < SLOTS; s++) {
    if (image) {
      // The operand is a state image with the layout that this form loads.
      const block = new DataView(new ArrayBuffer(BLOCK.bytes));
      fillState(r, block, false);
      const bytes = new Uint8Array(block.buffer, BLOCK.fxsave, 512);
      if (c.form.name.startsWith('Fx')) window.set(bytes, s * SLOT);
      else for (let i = 0; i < 108; i++) window[s * SLOT + i] = r.u32();
    } else for (let i = 0; i < 2; i++) fillLine(r, wview, s * SLOT + 16 * i, r.pick(LINE_KINDS));
    // MXCSR.MM faults on the processor that we offer, and not on AMD processors.
    if (c.form.name.startsWith('Ldmxcsr')) window[s * SLOT + 2] &= ~2;
  }
  const blocks = new Uint8Array(count * BLOCK.bytes);
  for (let i = 0; i < count; i++) {
    const view = new DataView(blocks.buffer, i * BLOCK.bytes, BLOCK.bytes);
    for (let g = 0; g < 16; g++) view.setBigUint64(BLOCK.gpr + 8 * g, integer(r), true);
    const slot = BigInt(DATA + SLOT * r.below(SLOTS));
    view.setBigUint64(BLOCK.gpr + 48, slot, true);
    view.setBigUint64(BLOCK.gpr + 56, slot, true);
    view.setBigUint64(BLOCK.rflags, BigInt((r.u32() & ARITHMETIC_FLAGS) | 0x202), true);
    view.setBigUint64(BLOCK.rip, BigInt(CODE), true);
    fillState(r, view, c.form.unit === 'mmx');
  }
  native.code.set(c.bytes, 0);
  native.code.set(native.end(CODE + c.bytes.length), c.bytes.length);
  const results = native.run(blocks, window);
  const found: Mismatch[] = [];
  for (let i = 0; i < count; i++) {
    const block = blocks.subarray(i * BLOCK.bytes, (i + 1) * BLOCK.bytes);
    const view = new DataView(block.buffer, block.byteOffset, BLOCK.bytes);
    const real = results.subarray(i * RESULT_BYTES, (i + 1) * RESULT_BYTES);
    const rview = new DataView(real.buffer, real.byteOffset, RESULT_BYTES);
    unit.load(block.subarray(BLOCK.fxsave, BLOCK.fxsave + 512));
    for (let g = 0; g < 16; g++)
      unit.view.setBigUint64(gprAt(g), view.getBigUint64(BLOCK.gpr + 8 * g, true), true);
    unit.view.setUint32(flagsAt, Number(view.getBigUint64(BLOCK.rflags, true)), true);
    const va = view.getBigUint64(BLOCK.gpr + 48, true);
    const memory = window.slice();
    const vector = unit.step(op, memory, Number(va) - DATA, va, BigInt(CODE));
    const realVector = rview.getUint32(BLOCK.signal, true) === 0 ? 0 : rview.getUint32(BLOCK.vector, true);
    const wrong: string[] = [];
    if (vector !== realVector) wrong.push(`vector ours ${vector} real ${realVector}`);
    const ours = unit.save();
    wrong.push(...judge(ours, real.subarray(BLOCK.fxsave, BLOCK.fxsave + 512)));
    for (let g = 0; g < 16; g++) {
      const a = unit.view.getBigUint64(gprAt(g), true),
        b = rview.getBigUint64(BLOCK.gpr + 8 * g, true);
      if (a !== b) wrong.push(`r${g} ours ${a.toString(16)} real ${b.toString(16)}`);
    }
    const f1 = unit.view.getUint32(flagsAt, true) & ARITHMETIC_FLAGS;
    const f2 = rview.getUint32(BLOCK.rflags, true) & ARITHMETIC_FLAGS;
    if (f1 !== f2) wrong.push(`flags ours ${f1.toString(16)} real ${f2.toString(16)}`);
    const m1 = memory.subarray(0, WRITABLE_BYTES),
      m2 = real.subarray(BLOCK.bytes, BLOCK.bytes + WRITABLE_BYTES);
    const maskAt = c.form.name.startsWith('Fxsave') ? Number(va) - DATA + 28 : -4; // MXCSR_MASK: a choice of ours
    for (let k = 0; k < WRITABLE_BYTES; k++)
      if (m1[k] !== m2[k] && (k & ~3) !== maskAt) {
        const from = Number(va) - DATA;
        wrong.push(
          `memory+${k - from} ours ${hex(m1.subarray(from, from + 32))} real ${hex(m2.subarray(from, from + 32))}`,
        );
        break;
      }
    if (wrong.length > 0) {
      const fx = block.subarray(BLOCK.fxsave, BLOCK.fxsave + 512);
      const at = Number(va) - DATA;
      const list = [`FCW ${big(fx, 0, 2)} FSW ${big(fx, 2, 2)} FTW ${big(fx, 4, 1)} MXCSR ${big(fx, 24, 4)}`];
      for (let s = 0; s < 8 && c.form.unit !== 'sse'; s++) list.push(`ST${s} ${big(fx, 32 + 16 * s, 10)}`);
      for (const s of [1, 2, 3, 9])
        if (c.form.unit === 'sse') list.push(`XMM${s} ${big(fx, 160 + 16 * s, 16)}`);
      list.push(`memory ${hex(window.subarray(at, at + 16))}`);
      found.push({
        name: c.form.name,
        text: `${c.form.name} [${hex(c.bytes)}]\n  ${wrong.join('\n  ')}\n  before: ${list.join(' ')}`,
      });
    }
  }
  return found;
}
