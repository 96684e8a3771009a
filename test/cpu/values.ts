/**
 * Random and boundary values: integers, floats of every class and width, packed decimals. Invariant: the same seed
 * gives the same values on every machine.
 */

export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d = 1;

  constructor(seed: number) {
    this.#a = seed | 0;
    this.#b = Math.imul(seed, 0x9e3779b1) | 0;
    this.#c = 0x2545f491;
    for (let i = 0; i < 16; i++) this.u32();
  }
  /** A uniformly distributed number from 0 to 2^32 - 1 (the small fast counter generator of PractRand). */
  u32(): number {
    const t = (((this.#a + this.#b) | 0) + this.#d) | 0;
    this.#d = (this.#d + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + t;
    this.#c |= 0;
    return t >>> 0;
  }
  /** A uniformly distributed number from 0 to n - 1. */
  below(n: number): number {
    return this.u32() % n;
  }
  chance(percent: number): boolean {
    return this.u32() % 100 < percent;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.u32() % list.length];
  }
  big(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }
}

const CORNERS = [
  0n,
  1n,
  2n,
  0x7fn,
  0x80n,
  0xffn,
  0x7fffn,
  0x8000n,
  0xffffn,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  0x1_0000_0000n,
  0x7fff_ffff_ffff_ffffn,
  0x8000_0000_0000_0000n,
  0xffff_ffff_ffff_ffffn,
  0x5555_5555_5555_5555n,
  0xff80_0080_ff7f_0001n,
];

/** A 64-bit integer: a boundary value, one next to it, a short one, or any. */
export function integer(r: Random): bigint {
  switch (r.below(6)) {
    case 0:
    case 1:
      return r.pick(CORNERS);
    case 2:
      return BigInt.asUintN(64, r.pick(CORNERS) + BigInt(r.below(7) - 3));
    case 3:
      return BigInt.asUintN(64, BigInt(r.below(512) - 256));
    case 4:
      return r.big() >> BigInt(r.below(64));
    default:
      return r.big();
  }
}

/** The bits of a float: an `exponent` field of `width` bits above `fraction` bits (no explicit integer bit). */
function float(r: Random, width: number, fraction: number): bigint {
  const sign = BigInt(r.below(2)) << BigInt(width + fraction);
  const top = (1n << BigInt(width)) - 1n;
  const mask = (1n << BigInt(fraction)) - 1n;
  const bias = top >> 1n;
  const any = ((r.big() << 32n) | BigInt(r.u32())) & mask;
  const few = r.pick([
    0n,
    1n,
    mask,
    mask - 1n,
    1n << BigInt(fraction - 1),
    (1n << BigInt(fraction - 1)) | 1n,
    any,
    any & ~((1n << BigInt(fraction >> 1)) - 1n),
  ]);
  const at = (exponent: bigint, bits: bigint): bigint =>
    sign | ((exponent < 0n ? 0n : exponent > top ? top : exponent) << BigInt(fraction)) | bits;
  switch (r.below(16)) {
    case 0:
      return at(0n, 0n);
    case 1:
      return at(0n, few);
    case 2:
      return at(top, 0n);
    case 3:
      return at(top, few === 0n ? 1n : few);
    case 4:
      return at(r.pick([1n, 2n, top - 1n, top - 2n]), few);
    case 5:
      return at(bias, 0n);
    case 6:
      return at(bias + BigInt(r.pick([7, 8, 14, 15, 16, 30, 31, 32, 62, 63, 64])), few);
    case 7:
      return at(bias - BigInt(fraction) + BigInt(r.below(5) - 2), few);
    case 8:
      return at(BigInt(r.u32()) & top, few);
    default:
      return at(bias + BigInt(r.below(13) - 6), few);
  }
}

export const float32 = (r: Random): number => Number(float(r, 8, 23));
export const float64 = (r: Random): bigint => float(r, 11, 52);

/** Writes an 80-bit value into ten bytes at `at`: mostly a normal number, sometimes with an invalid integer bit. */
export function float80(r: Random, view: DataView, at: number): void {
  const bits = float(r, 15, 63);
  const exponent = Number(bits >> 63n);
  let mantissa = bits & 0x7fff_ffff_ffff_ffffn;
  const normal = (exponent & 0x7fff) !== 0;
  if (normal !== r.chance(4)) mantissa |= 1n << 63n;
  view.setBigUint64(at, mantissa, true);
  view.setUint16(at + 8, exponent, true);
}

/** The kinds of content, one for each 16 bytes of the data window, in turn. */
export const LINE_KINDS = [
  'f32',
  'f64',
  'f80',
  'int',
  'words',
  'bcd',
  'control',
  'f64',
  'f32',
  'int',
] as const;
export type LineKind = (typeof LINE_KINDS)[number];

/** A bit of MXCSR that no processor has; some processors have others above bit 16. */
const RESERVED = 0x4_0000;

/** Fills 16 bytes with values of one kind. */
export function fillLine(r: Random, view: DataView, at: number, kind: LineKind): void {
  switch (kind) {
    case 'f32':
      for (let i = 0; i < 16; i += 4) view.setUint32(at + i, float32(r), true);
      return;
    case 'f64':
      for (let i = 0; i < 16; i += 8) view.setBigUint64(at + i, float64(r), true);
      return;
    case 'f80':
      float80(r, view, at);
      view.setUint16(at + 10, r.u32(), true);
      view.setUint32(at + 12, r.u32(), true);
      return;
    case 'int':
      for (let i = 0; i < 16; i += 8) view.setBigUint64(at + i, integer(r), true);
      return;
    case 'words':
      for (let i = 0; i < 16; i += 2) view.setUint16(at + i, Number(integer(r) & 0xffffn), true);
      return;
    case 'bcd':
      for (let i = 0; i < 9; i++) view.setUint8(at + i, r.below(10) | (r.below(10) << 4));
      view.setUint8(at + 9, r.pick([0, 0x80, r.below(256)]));
      view.setUint16(at + 10, r.u32(), true);
      view.setUint32(at + 12, r.u32(), true);
      return;
    case 'control':
      view.setUint32(at, mxcsr(r), true);
      view.setUint32(at + 4, r.chance(10) ? r.u32() | RESERVED : mxcsr(r), true);
      view.setUint16(at + 8, controlWord(r), true);
      view.setUint16(at + 10, controlWord(r), true);
      view.setUint32(at + 12, controlWord(r), true);
      return;
  }
}

/** An x87 control word: mostly all exceptions masked, any rounding, precision 24, 53 or (mostly) 64 bits. */
export function controlWord(r: Random): number {
  const masks = r.chance(93) ? 0x3f : r.below(64);
  return 0x40 | masks | (r.pick([0, 2, 3, 3, 3, 3]) << 8) | (r.below(4) << 10) | (r.chance(5) ? 0x1000 : 0);
}

/** An MXCSR without reserved bits: mostly masked, any rounding, sometimes FTZ and DAZ. */
export function mxcsr(r: Random): number {
  const masks = r.chance(93) ? 0x3f : r.below(64);
  return (
    (masks << 7) |
    (r.chance(50) ? 0 : r.below(64)) |
    (r.chance(15) ? 0x8000 : 0) |
    (r.chance(15) ? 0x40 : 0) |
    (r.below(4) << 13)
  );
}
