/**
 * Memory operands: where they point (lines with fitting content, page ends, read-only and absent pages), and the many
 * ways to address them (base, index, scale, rip-relative, absolute, FS and GS bases, 32-bit addresses).
 */
import { readFileSync } from 'node:fs';
import type { MemoryOperand } from './encode.js';
import type { Form } from './forms.js';
import { DATA, FS_BASE, GS_BASE, IMAGES, WRITABLE_BYTES } from './layout.js';
import type { Part } from './sequence.js';
import { LINE_KINDS, type LineKind, type Random } from './values.js';

/** The number of significant bits of an address: 57 where Linux runs with five levels of page tables. */
const ADDRESS_BITS = /\bla57\b/.test(readFileSync('/proc/cpuinfo', 'utf8')) ? 57n : 48n;
export const USER_END = 1n << (ADDRESS_BITS - 1n);
/** Addresses on either side of the gap between the halves of the address space, and within it. */
export const NOT_CANONICAL = [USER_END, BigInt.asUintN(64, -USER_END - 16n), 1n << 63n];
/** The last words before the gap, where the gap is as on our machine. */
const BORDER = ADDRESS_BITS === 48n ? [USER_END - 8n] : [];

/** Registers that keep their value in the whole sequence: an address in the data window, and a small number. */
export interface Anchors {
  readonly pointer: number;
  readonly pointerValue: number;
  readonly index: number;
  readonly indexValue: number;
}

export interface Reference {
  readonly memory: MemoryOperand;
  readonly prefixes: readonly number[];
  readonly setup: readonly Part[];
}

/** Slots of the image area, from which instructions load whole images and into which they store them. */
export const IMAGE_SLOTS: Record<string, readonly number[]> = {
  fxsave: [IMAGES, IMAGES + 0x200],
  fnsave28: [IMAGES + 0x400, IMAGES + 0x480],
  fnsave14: [IMAGES + 0x500, IMAGES + 0x580],
  fnstenv28: [IMAGES + 0x600, IMAGES + 0x620],
  fnstenv14: [IMAGES + 0x640, IMAGES + 0x660],
  fbld: [IMAGES + 0x680, IMAGES + 0x690, IMAGES + 0x6a0],
  angle: [0, 8, 16, 24, 32, 40, 48, 56].map((o) => IMAGES + 0x700 + o),
};

/** Returns the slots of the form, if it moves images or packed decimals. */
export function slotsOf(form: Form): readonly number[] | undefined {
  if (/^fx(save|rstor)/.test(form.mnemonic)) return IMAGE_SLOTS.fxsave;
  if (/^Fn?(save|rstor)_m108/.test(form.name)) return IMAGE_SLOTS.fnsave28;
  if (/^Fn?(save|rstor)_m94/.test(form.name)) return IMAGE_SLOTS.fnsave14;
  if (/^(Fnstenv|Fldenv)_m28/.test(form.name)) return IMAGE_SLOTS.fnstenv28;
  if (/^(Fnstenv|Fldenv)_m14/.test(form.name)) return IMAGE_SLOTS.fnstenv14;
  if (form.mnemonic === 'fbld') return IMAGE_SLOTS.fbld;
  return undefined;
}

function kindsFor(form: Form): readonly LineKind[] {
  if (/^(ldmxcsr|fldcw)$/.test(form.mnemonic)) return ['control'];
  if (/Float32/.test(form.memoryKind)) return ['f32'];
  if (/Float64/.test(form.memoryKind)) return ['f64'];
  if (/Float80/.test(form.memoryKind)) return ['f80'];
  return ['int', 'words', 'int', 'f32', 'f64'];
}

/** True if any byte of the operand is in the image area. */
const touchesImages = (at: number, bytes: number): boolean => at < IMAGES + 0x800 && at + bytes > IMAGES;

/** Returns an address for `bytes` bytes of the given kinds; some fault, and some cross a page boundary. */
export function addressFor(r: Random, kinds: readonly LineKind[], bytes: number, faults = true): number {
  if (faults && r.chance(6)) {
    const edge = r.pick([DATA, DATA + 0x1000, DATA + WRITABLE_BYTES, DATA + WRITABLE_BYTES, DATA + 0x3000]);
    const at = r.chance(70) ? edge - r.below(bytes + 1) : edge + r.below(0x2000) - 0x1000;
    if (!touchesImages(at, bytes)) return at;
  }
  for (;;) {
    const line = r.below(WRITABLE_BYTES / 16);
    const kind = LINE_KINDS[line % LINE_KINDS.length];
    if (!kinds.includes(kind)) continue;
    const step = Math.max(1, Math.min(bytes, 8));
    const places = Math.max(1, Math.floor((16 - bytes) / step) + 1);
    const offset = r.chance(85) ? r.below(places) * step : r.below(16);
    const at = DATA + line * 16 + (kind === 'control' ? r.pick([0, 4]) + (bytes === 2 ? 8 : 0) : offset);
    if (!touchesImages(at, bytes) && at + bytes <= DATA + WRITABLE_BYTES) return at;
  }
}

/** Returns the address of a line whose kind suits a form. */
export function placeFor(r: Random, form: Form): number {
  const slots = slotsOf(form);
  if (slots !== undefined) return r.pick(slots) + (form.memoryBytes === 512 && r.chance(4) ? 8 : 0);
  // Intel processors read two bytes here, AMD processors four: addresses where that matters are avoided.
  const faults = !form.name.startsWith('Movsxd_r16');
  return addressFor(r, kindsFor(form), Math.max(1, form.memoryBytes), faults);
}

/** `mov r64, imm64`: loads a register and changes no flag. */
export function load(register: number, value: bigint): Part {
  const bytes = [0x48 | (register >> 3), 0xb8 | (register & 7)];
  for (let i = 0n; i < 64n; i += 8n) bytes.push(Number((value >> i) & 0xffn));
  return { bytes };
}

const fitsByte = (v: number): boolean => v >= -128 && v <= 127;

/** Chooses a way to address `at`. `busy`: registers that must keep their values. */
export function refer(r: Random, anchors: Anchors, at: number, busy: number): Reference {
  const plain = (memory: Partial<MemoryOperand>): MemoryOperand => {
    const d = memory.displacement ?? 0;
    const shortest = d === 0 ? 0 : fitsByte(d) ? 1 : 4;
    const bytes = r.chance(15) ? 4 : shortest;
    return {
      base: -1,
      index: -1,
      scale: 0,
      displacement: d,
      displacementBytes: bytes,
      rip: false,
      ...memory,
    };
  };
  const narrow = r.chance(8) ? [0x67] : [];
  const way = r.below(16);
  if (way < 4)
    return {
      memory: plain({ base: anchors.pointer, displacement: at - anchors.pointerValue }),
      prefixes: [...narrow, ...idleSegment(r)],
      setup: [],
    };
  if (way < 7) {
    const scale = r.below(4) as 0 | 1 | 2 | 3;
    const d = at - anchors.pointerValue - anchors.indexValue * 2 ** scale;
    return {
      memory: plain({ base: anchors.pointer, index: anchors.index, scale, displacement: d }),
      prefixes: narrow,
      setup: [],
    };
  }
  if (way < 9) return { memory: plain({ rip: true, displacement: at }), prefixes: narrow, setup: [] };
  if (way < 10) return { memory: plain({ displacement: at }), prefixes: narrow, setup: [] };
  const free = [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].filter(
    (n) => n !== anchors.pointer && n !== anchors.index && ((busy >> n) & 1) === 0,
  );
  const base = r.pick(free);
  const indexed = r.chance(40);
  const scale = r.below(4) as 0 | 1 | 2 | 3;
  const d = r.pick([0, 0, r.below(256) - 128, r.below(0x4000) - 0x2000, r.u32() | 0]);
  const rest = BigInt(at) - BigInt(d) - (indexed ? BigInt(anchors.indexValue * 2 ** scale) : 0n);
  const memory = plain({ base, displacement: d, ...(indexed ? { index: anchors.index, scale } : {}) });
  const segment = way < 12 ? 0 : way < 14 ? 0x64 : 0x65;
  const segmentBase = segment === 0x64 ? FS_BASE : segment === 0x65 ? GS_BASE : 0;
  if (segment === 0 && r.chance(15))
    return {
      memory,
      prefixes: [0x67],
      setup: [load(base, BigInt.asUintN(32, rest) | (BigInt(r.u32()) << 32n))],
    };
  if (segment === 0 && at > DATA + WRITABLE_BYTES && r.chance(30))
    return {
      memory,
      prefixes: [],
      setup: [load(base, r.pick([...NOT_CANONICAL, ...BORDER]))],
    };
  return {
    memory,
    prefixes: segment === 0 ? idleSegment(r) : [segment],
    setup: [load(base, BigInt.asUintN(64, rest - BigInt(segmentBase)))],
  };
}

/** The prefixes ES, CS, SS and DS have no effect in 64-bit mode. */
const idleSegment = (r: Random): number[] => (r.chance(5) ? [r.pick([0x26, 0x2e, 0x36, 0x3e])] : []);
