/**
 * Compares two results. All registers, defined flags, x87, SSE, memory, fault and address must be equal. First what may
 * differ by the manuals, and nothing else, is cleared on both sides: flags that are undefined where the sequence
 * stopped, pointers to the last x87 instruction, reserved bytes, and the last bits of approximate results.
 */
import * as iced from '../../src/x86/iced.js';
import { BLOCK, DATA, FLAGS_COMPARED, RESULT_BYTES, WRITABLE_BYTES } from './layout.js';
import { IMAGE_SLOTS, USER_END } from './operands.js';
import { INTEL } from './processor.js';
import { type LaidOut, type Step, undefinedFlags } from './sequence.js';
import { STRING } from './steps.js';

const { RflagsBits } = iced;
/** Flag bits in iced's numbering, each with the bit of RFLAGS or of the x87 status word. */
const RFLAGS_BIT: readonly (readonly [number, number])[] = [
  [RflagsBits.OF, 0x800],
  [RflagsBits.SF, 0x80],
  [RflagsBits.ZF, 0x40],
  [RflagsBits.AF, 0x10],
  [RflagsBits.CF, 1],
  [RflagsBits.PF, 4],
];
const STATUS_BIT: readonly (readonly [number, number])[] = [
  [RflagsBits.C0, 0x100],
  [RflagsBits.C1, 0x200],
  [RflagsBits.C2, 0x400],
  [RflagsBits.C3, 0x4000],
];
/** PE, UE and C1 of an approximate x87 result: whether the result was inexact, and whether it was rounded up. */
const APPROXIMATE_STATUS = 0x230;

/** Offset of the x87 status word in a result. */
const STATUS = BLOCK.fxsave + 2;
/** The field TOP in the x87 status word. */
const TOP = 0x3800;

const ADDRESS_SIZE = 0x67;
const REPEATS = [0xf2, 0xf3];
const STATUS_FLAGS = RFLAGS_BIT.reduce((all, [, bit]) => all | bit, 0);
/** rcx, rsi and rdi. */
const STRING_REGISTERS = [1, 6, 7];

/** Bits of the x87 control and status words: all exceptions, underflow, and ES, the summary of unmasked exceptions. */
const EXCEPTIONS = 0x3f;
const UNDERFLOW = 0x10;
const SUMMARY = 0x80;
/** The busy bit B, which repeats the summary bit. */
const BUSY = 0x8000;

const PAGE_FAULT = 14n;
/** Stack fault, general protection, page fault, alignment check. */
const ADDRESS_FAULTS = [12n, 13n, PAGE_FAULT, 17n];
const PAGE = 0x1000n;

/** Clears in a result whatever the manuals leave open. `steps` may be a part of a sequence. */
export function normalise(result: Uint8Array, steps: readonly Step[], laidOut: LaidOut): void {
  const view = new DataView(result.buffer, result.byteOffset, RESULT_BYTES);
  const flags = undefinedFlags(steps) ?? [];
  const stopped = view.getBigUint64(BLOCK.signal, true) !== 0n;
  let open = flags[steps.length] ?? 0;
  if (stopped && INTEL) clearIntel(view, steps, laidOut);
  if (stopped) {
    const rip = Number(view.getBigUint64(BLOCK.rip, true));
    const inside = laidOut.starts.findLastIndex((s) => s <= rip);
    const last = laidOut.starts[steps.length];
    // After a trap, rip is behind its step; after a wild jump it may be anywhere.
    open =
      rip < laidOut.starts[0] || rip >= last
        ? flags.reduce((a, b) => a | b, 0)
        : flags[inside] | (laidOut.starts.includes(rip) ? (flags[inside - 1] ?? 0) : 0);
    view.setBigUint64(BLOCK.signal, 1n, true);
    if (view.getBigUint64(BLOCK.vector, true) !== PAGE_FAULT) view.setBigUint64(BLOCK.cr2, 0n, true);
    // Linux hides which of its own addresses are mapped: it reports "present" for all of its half, and for the gap
    // below it (arch/x86/mm/fault.c, sanitize_error_code; TASK_SIZE_MAX).
    else if (view.getBigUint64(BLOCK.cr2, true) >= USER_END - PAGE)
      view.setUint8(BLOCK.error, view.getUint8(BLOCK.error) | 1);
    if (![10n, 11n, 12n, 13n, 14n, 17n].includes(view.getBigUint64(BLOCK.vector, true)))
      view.setBigUint64(BLOCK.error, 0n, true);
  } else for (let at: number = BLOCK.rip; at <= BLOCK.resume; at += 8) view.setBigUint64(at, 0n, true);
  for (let at = BLOCK.resume + 8; at < BLOCK.fxsave; at += 8) view.setBigUint64(at, 0n, true);

  let rflags = FLAGS_COMPARED;
  for (const [from, to] of RFLAGS_BIT) if ((open & from) !== 0) rflags &= ~to;
  view.setBigUint64(BLOCK.rflags, view.getBigUint64(BLOCK.rflags, true) & BigInt(rflags), true);
  let status = 0xffff;
  for (const [from, to] of STATUS_BIT) if ((open & from) !== 0) status &= ~to;
  const approximate = !stopped && steps.at(-1)?.approximate;
  if (approximate && approximate !== 'sse') status &= ~APPROXIMATE_STATUS;
  clearFxsave(view, BLOCK.fxsave, status);
  for (const slot of IMAGE_SLOTS.fxsave) clearFxsave(view, BLOCK.bytes + slot - DATA, 0xffff);
  // Instruction and operand pointers of x87 environments in memory are cleared.
  for (const slot of [...IMAGE_SLOTS.fnsave28, ...IMAGE_SLOTS.fnstenv28])
    clear(result, BLOCK.bytes + slot - DATA + 12, 16);
  for (const slot of [...IMAGE_SLOTS.fnsave14, ...IMAGE_SLOTS.fnstenv14])
    clear(result, BLOCK.bytes + slot - DATA + 6, 8);
}

/** Index of the step at which a sequence stopped, or -1. */
function stepIndex(view: DataView, laidOut: LaidOut): number {
  const rip = Number(view.getBigUint64(BLOCK.rip, true));
  return laidOut.starts.findLastIndex((s) => s <= rip);
}

const stepAt = (view: DataView, steps: readonly Step[], laidOut: LaidOut): Step | undefined =>
  steps[stepIndex(view, laidOut)];

/** True if the mnemonic of an instruction of this step matches. */
const has = (step: Step, names: RegExp): boolean =>
  step.parts.some((part) => 'form' in part && names.test(part.form.mnemonic));

const clear = (bytes: Uint8Array, at: number, length: number): void => void bytes.fill(0, at, at + length);

/**
 * Clears what Intel processors have already changed when an instruction faults, at the step where the sequence stopped.
 * A call to an address that is not canonical has stored its return address. An MMX store has set TOP to 0. An x87 store
 * of ten bytes has written those bytes that lie in the page before the fault. A string instruction with 32-bit
 * addresses has cleared the upper halves of its registers. A repeated comparison has the flags from before its first
 * element (SDM volume 2, "REP": when resumed, it sets them again).
 */
function clearIntel(view: DataView, steps: readonly Step[], laidOut: LaidOut): void {
  for (const part of stepAt(view, steps, laidOut)?.parts ?? []) {
    if (!('form' in part)) continue;
    if (part.form.mnemonic === 'call') {
      const at = Number(view.getBigUint64(BLOCK.gpr + 8 * 4, true)) - 8 - DATA;
      if (at >= 0 && at + 8 <= WRITABLE_BYTES) view.setBigUint64(BLOCK.bytes + at, 0n, true);
    }
    if (part.form.operands.some((o) => o.bank === 'mm')) setTopToZero(view);
    if (STRING.test(part.form.mnemonic)) {
      if (part.instance.prefixes.includes(ADDRESS_SIZE))
        for (const register of STRING_REGISTERS) view.setUint32(BLOCK.gpr + 8 * register + 4, 0, true);
      const repeated = part.instance.prefixes.some((p) => REPEATS.includes(p));
      if (repeated && /^(cmps|scas)/.test(part.form.mnemonic)) {
        const flags = view.getBigUint64(BLOCK.rflags, true);
        view.setBigUint64(BLOCK.rflags, flags & ~BigInt(STATUS_FLAGS), true);
      }
    }
    // The last writable page is the only one that is followed by a page that cannot be written.
    if (part.form.unit === 'x87' && part.form.memoryBytes === 10)
      for (let at = WRITABLE_BYTES - 10; at < WRITABLE_BYTES; at++) view.setUint8(BLOCK.bytes + at, 0);
  }
}

/** Changes the registers so that R0 is the top of their x87 stack. */
function setTopToZero(view: DataView): void {
  const status = view.getUint16(STATUS, true);
  const top = (status & TOP) >> 11;
  view.setUint16(STATUS, status & ~TOP, true);
  const at = BLOCK.fxsave + 32;
  const stack = new Uint8Array(view.buffer.slice(view.byteOffset + at, view.byteOffset + at + 128));
  const registers = new Uint8Array(view.buffer, view.byteOffset + at, 128);
  for (let i = 0; i < 8; i++) registers.set(stack.subarray(16 * i, 16 * i + 16), 16 * ((top + i) & 7));
}

/** Clears FOP, FIP, FDP, MXCSR_MASK and reserved bytes (SDM volume 1, table 10-2). */
function clearFxsave(view: DataView, at: number, status: number): void {
  view.setUint16(at + 2, view.getUint16(at + 2, true) & status, true);
  view.setUint8(at + 5, 0);
  view.setUint16(at + 6, 0, true);
  view.setBigUint64(at + 8, 0n, true);
  view.setBigUint64(at + 16, 0n, true);
  view.setUint32(at + 28, 0, true);
  for (let i = 0; i < 8; i++) {
    view.setUint16(at + 32 + 16 * i + 10, 0, true);
    view.setUint32(at + 32 + 16 * i + 12, 0, true);
  }
  for (let i = 416; i < 512; i += 8) view.setBigUint64(at + i, 0n, true);
}

/**
 * Compares two normalised results. They also count as equal if the last step is approximate, was reached, and its
 * results are close enough; and, on an Intel processor, if only one of them has raised a certain x87 exception.
 */
export function same(
  native: Uint8Array,
  ours: Uint8Array,
  steps: readonly Step[],
  laidOut: LaidOut,
): boolean {
  if (tookMisalignedMode(native)) return refused(ours);
  if (Buffer.compare(native, ours) === 0) return true;
  if (INTEL && openX87Exception(native, ours, steps, laidOut)) return true;
  const approximate = steps.at(-1)?.approximate;
  const stopped = native[BLOCK.signal] !== 0;
  if (approximate === undefined || stopped) return false;
  const merged = ours.slice();
  const n = new DataView(native.buffer, native.byteOffset, RESULT_BYTES);
  const m = new DataView(merged.buffer);
  if (approximate === 'sse') {
    for (let at = BLOCK.fxsave + 160; at < BLOCK.fxsave + 416; at += 4) {
      if (nearFloat(n.getFloat32(at, true), m.getFloat32(at, true)))
        m.setUint32(at, n.getUint32(at, true), true);
    }
  } else {
    const edge = INTEL && underflowsInOurs(n, m);
    for (let at = BLOCK.fxsave + 32; at < BLOCK.fxsave + 160; at += 16) {
      const edgeHere = edge && at <= BLOCK.fxsave + 48 && besideSmallestNormal(n, m, at);
      if (!edgeHere && !nearExtended(n, m, at, approximate === 'x87 of any size')) continue;
      if (edgeHere) m.setUint16(STATUS, m.getUint16(STATUS, true) & ~(SUMMARY | BUSY), true);
      m.setBigUint64(at, n.getBigUint64(at, true), true);
      m.setUint16(at + 8, n.getUint16(at + 8, true), true);
    }
  }
  return Buffer.compare(native, merged) === 0;
}

/**
 * True if ours has an unmasked underflow where the processor has none. The manuals do not say whether an approximate
 * result next to the smallest normal number is that number, as on Intel processors, or a smaller one. In the second
 * case ours underflows in one of the first two registers.
 */
function underflowsInOurs(native: DataView, ours: DataView): boolean {
  const masked = (ours.getUint16(BLOCK.fxsave, true) & UNDERFLOW) !== 0;
  return !masked && (~native.getUint16(STATUS, true) & ours.getUint16(STATUS, true) & SUMMARY) !== 0;
}
function besideSmallestNormal(native: DataView, ours: DataView, at: number): boolean {
  const exponent = (v: DataView): number => v.getUint16(at + 8, true) & 0x7fff;
  return exponent(native) <= 1 && exponent(ours) > UNDERFLOW_BIAS / 2;
}

/** What is added to the exponent of a result whose underflow is unmasked (SDM volume 1, 8.5.5). */
const UNDERFLOW_BIAS = 24_576;
/** x87 instructions that do not wait for a pending exception and may clear it. */
const FORGETS = /^(fnclex|fninit|fnsave|fnstenv|fxrstor)/;

/**
 * True if only one side has raised an x87 exception in one of two cases that the manuals leave open and that change the
 * rest of the sequence. First: an x87 store may raise the exception of the stored value or the fault of its address
 * (Intel: the exception). Second: a denormal result that is exact may underflow or not: a partial remainder with an
 * infinite divisor, or a number scaled by zero (Intel: it does not).
 */
function openX87Exception(
  native: Uint8Array,
  ours: Uint8Array,
  steps: readonly Step[],
  laidOut: LaidOut,
): boolean {
  const n = new DataView(native.buffer, native.byteOffset, RESULT_BYTES);
  const m = new DataView(ours.buffer, ours.byteOffset, RESULT_BYTES);
  const unmasked = ~m.getUint16(BLOCK.fxsave, true) & EXCEPTIONS;
  const raised = (v: DataView): number => {
    const status = v.getUint16(STATUS, true);
    return (status & SUMMARY) === 0 ? 0 : status & unmasked;
  };
  if (ours[BLOCK.signal] !== 0 && ADDRESS_FAULTS.includes(m.getBigUint64(BLOCK.vector, true))) {
    const at = stepIndex(m, laidOut);
    const stores = steps[at]?.parts.some(
      (p) => 'form' in p && p.form.unit === 'x87' && p.form.operands.some((o) => o.memory && o.written),
    );
    if (stores !== true) return false;
    if (raised(n) !== 0) return true;
    // A later instruction that does not wait may have cleared the exception.
    const wentOn = native[BLOCK.signal] === 0 || stepIndex(n, laidOut) > at;
    return wentOn && steps.slice(at + 1).some((step) => has(step, FORGETS));
  }
  return (
    steps.some((step) => has(step, /^(fprem|fscale)/)) &&
    (raised(m) & UNDERFLOW) !== 0 &&
    (raised(n) & UNDERFLOW) === 0
  );
}

/** MXCSR.MM. AMD processors accept it; ours must refuse it, because its CPUID does not offer misaligned SSE mode. */
const MISALIGNED_MODE = 1 << 17;
const MXCSR = BLOCK.fxsave + 24;
const GENERAL_PROTECTION = 13;

const tookMisalignedMode = (native: Uint8Array): boolean =>
  (new DataView(native.buffer, native.byteOffset).getUint32(MXCSR, true) & MISALIGNED_MODE) !== 0;

const refused = (ours: Uint8Array): boolean =>
  ours[BLOCK.signal] !== 0 && ours[BLOCK.vector] === GENERAL_PROTECTION;

const isNegative = (x: number): boolean => x < 0 || Object.is(x, -0);

/**
 * True if two values may both be within 1.5 * 2^-12 of the exact one (SDM, "RCPPS"), so within twice that of one
 * another.
 */
function nearFloat(a: number, b: number): boolean {
  // Some processors return zero at the lower end of the normal numbers.
  if (Math.max(Math.abs(a), Math.abs(b)) <= 1.001 * 2 ** -126) return isNegative(a) === isNegative(b);
  return Number.isFinite(a) && Number.isFinite(b) && Math.abs(a - b) <= Math.abs(a) * 3 * 2 ** -12;
}

/**
 * True if two 80-bit numbers have one sign and are within 2^-58 of their size or 2^-62 of one another; or, with
 * `anySize`, if both are finite.
 */
function nearExtended(a: DataView, b: DataView, at: number, anySize: boolean): boolean {
  const read = (v: DataView): { exponent: number; value: bigint } => {
    const top = v.getUint16(at + 8, true);
    const mantissa = v.getBigUint64(at, true);
    return { exponent: top & 0x7fff, value: (top & 0x8000) !== 0 ? -mantissa : mantissa };
  };
  const x = read(a);
  const y = read(b);
  if (x.exponent === 0x7fff || y.exponent === 0x7fff) return false;
  if (anySize) return true;
  const low = Math.min(x.exponent, y.exponent);
  if (Math.max(x.exponent, y.exponent) - low > 64) return false;
  const difference = (x.value << BigInt(x.exponent - low)) - (y.value << BigInt(y.exponent - low));
  const size = difference < 0n ? -difference : difference;
  // The value 1 is 2^63 with exponent 16383, and the difference is in units of 2^(low - 16383 - 63).
  const absolute = low > 16383 ? 0n : 16383 - low > 200 ? 1n << 200n : 1n << BigInt(16383 - low + 1);
  return size <= 1n << 6n || size <= absolute;
}

/**
 * Describes what differs, for people: "rcx 5 6", "flags ...", "memory 70000120 ...". The processor's value is first.
 */
export function differences(native: Uint8Array, ours: Uint8Array): string[] {
  const out: string[] = [];
  const n = new DataView(native.buffer, native.byteOffset, RESULT_BYTES);
  const m = new DataView(ours.buffer, ours.byteOffset, RESULT_BYTES);
  const quads = (name: string, at: number): void => {
    const [a, b] = [n.getBigUint64(at, true), m.getBigUint64(at, true)];
    if (a !== b) out.push(`${name}: processor ${a.toString(16)}, machine ${b.toString(16)}`);
  };
  for (const [i, name] of NAMES.entries()) quads(name, 8 * i);
  for (const [name, at] of [
    ['rflags', BLOCK.rflags],
    ['stopped', BLOCK.signal],
    ['rip', BLOCK.rip],
    ['vector', BLOCK.vector],
    ['error code', BLOCK.error],
    ['cr2', BLOCK.cr2],
    ['RF', BLOCK.resume],
  ] as const)
    quads(name, at);
  const bytes = (name: string, at: number, length: number): void => {
    const hex = (b: Uint8Array): string =>
      Buffer.from(b.subarray(at, at + length))
        .reverse()
        .toString('hex');
    if (hex(native) !== hex(ours)) out.push(`${name}: processor ${hex(native)}, machine ${hex(ours)}`);
  };
  const fx = BLOCK.fxsave;
  bytes('fcw', fx, 2);
  bytes('fsw', fx + 2, 2);
  bytes('ftw', fx + 4, 1);
  bytes('mxcsr', fx + 24, 4);
  for (let i = 0; i < 8; i++) bytes(`st${i}`, fx + 32 + 16 * i, 10);
  for (let i = 0; i < 16; i++) bytes(`xmm${i}`, fx + 160 + 16 * i, 16);
  for (let at = 0; at < WRITABLE_BYTES; at += 8)
    bytes(`memory ${(DATA + at).toString(16)}`, BLOCK.bytes + at, 8);
  return out;
}

const NAMES = 'rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15'.split(' ');
