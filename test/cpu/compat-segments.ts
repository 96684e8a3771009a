/**
 * The segments for the comparison in compatibility mode: natively entries of the local descriptor table, in our machine
 * the processor's cached copies. All lie in the regions of layout.ts, except the flat ones and those that extend to 4
 * GiB.
 */

import { CODE, CODE_BYTES, DATA, DATA_BYTES } from './layout.js';
import type { Vcpu } from './machine.js';
import type { Native } from './native.js';
import type { Random } from './values.js';

/** From Linux's struct user_desc. */
const BIG = 1;
const CONTENTS = 2;
const READ_ONLY = 8;
const PAGES = 0x10;
const USEABLE = 0x40;
const EXPAND_DOWN = 1 << 1;
const CODE_CONTENTS = 2 << 1;

export interface Segment {
  readonly selector: number;
  readonly base: number;
  /** The offset of the last byte. */
  readonly limit: number;
  /** Type and flags as in the upper half of a descriptor; 0: not to be used. */
  readonly rights: number;
  /** Offsets that may be used: the first, and the number of bytes. */
  readonly from: number;
  readonly bytes: number;
}

const P_S_DPL3 = 0xf000;
const D = 0x40_0000;
const G = 0x80_0000;

const table: Segment[] = [];
const entries: (readonly [entry: number, base: number, limit: number, flags: number])[] = [];

function add(base: number, limit: number, flags: number, from: number, bytes: number): Segment {
  const entry = entries.length + 1;
  entries.push([entry, base, limit, flags | USEABLE]);
  const isCode = (flags & (CONTENTS << 1)) !== 0;
  const type =
    (isCode ? 0x800 : 0) |
    ((flags & EXPAND_DOWN) !== 0 ? 0x400 : 0) |
    ((flags & READ_ONLY) !== 0 ? 0 : 0x200) |
    0x100;
  const inPages = (flags & PAGES) !== 0;
  const segment = {
    selector: 8 * entry + 7,
    base,
    limit: inPages ? limit * 4096 + 4095 : limit,
    rights: P_S_DPL3 | type | ((flags & BIG) !== 0 ? D : 0) | (inPages ? G : 0),
    from,
    bytes,
  };
  table.push(segment);
  return segment;
}

const NULL: Segment = { selector: 0, base: 0, limit: 0, rights: 0, from: 0, bytes: 0 };
const FLAT_DATA: Segment = {
  selector: 0x2b,
  base: 0,
  limit: 0xffff_ffff,
  rights: 0xcf_f300,
  from: DATA,
  bytes: DATA_BYTES,
};
const FLAT_CODE: Segment = { ...FLAT_DATA, selector: 0x23, rights: 0xcf_fb00 };

const WINDOW = add(DATA, DATA_BYTES - 1, BIG, 0, DATA_BYTES);
/** A segment like that of a thread: from its base to below the base, by wrapping. */
const THREAD = add(DATA + 0x800, 0xf_ffff, BIG | PAGES, -0x800 >>> 0, DATA_BYTES);
const DOWN = add(DATA, 0xfff, BIG | EXPAND_DOWN, 0x1000, DATA_BYTES - 0x1000);
const SHORT_DOWN = add(DATA, 0xfff, EXPAND_DOWN, 0x1000, DATA_BYTES - 0x1000);
const CONSTANT = add(DATA, DATA_BYTES - 1, BIG | READ_ONLY, 0, DATA_BYTES);
const SHORT = add(DATA, DATA_BYTES - 1, 0, 0, DATA_BYTES);
/**
 * The first 64 KiB of the code region, which hold no sequence: what follows a sequence differs between the two sides.
 */
const UNUSED = 0xc000;
const CODE_32 = add(CODE, CODE_BYTES - 1, BIG | CODE_CONTENTS, UNUSED, 0x4000);
const CODE_16 = add(CODE, 0xffff, CODE_CONTENTS, UNUSED, 0x4000);

/** The selectors cs, ss, ds, es, fs, gs of a sequence. */
export interface Segments {
  readonly bits: 16 | 32;
  readonly all: readonly Segment[];
}

/**
 * The kinds of code: flat 32-bit code, 32-bit code in segments, 16-bit code; selectors in the order es, cs, ss, ds, fs,
 * gs.
 */
export function segmentsOf(r: Random, kind: 'flat' | 'segmented' | '16-bit'): Segments {
  if (kind === 'flat') {
    const other = (): Segment => r.pick([THREAD, THREAD, NULL]);
    return { bits: 32, all: [FLAT_DATA, FLAT_CODE, FLAT_DATA, FLAT_DATA, other(), other()] };
  }
  const data = (): Segment => r.pick([WINDOW, WINDOW, FLAT_DATA, THREAD, DOWN, SHORT_DOWN, CONSTANT, SHORT]);
  const any = (): Segment => r.pick([data(), data(), CODE_32, NULL]);
  const stack = r.pick([WINDOW, FLAT_DATA, DOWN, SHORT, SHORT, SHORT_DOWN]);
  const code = kind === '16-bit' ? CODE_16 : r.pick([CODE_32, FLAT_CODE]);
  return { bits: kind === '16-bit' ? 16 : 32, all: [data(), code, stack, data(), any(), any()] };
}

/** Makes the segments natively. False: the operating system refuses. */
export const installSegments = (native: Native): boolean =>
  entries.every(([entry, base, limit, flags]) => native.setDescriptor(entry, base, limit, flags));

/** The machine's cached copies for the segments of these selectors: es, cs, ss, ds, fs, gs. */
export function loadSegments(cpu: Vcpu, selectors: readonly number[]): void {
  const known = [NULL, FLAT_DATA, FLAT_CODE, ...table];
  [cpu.es, cpu.cs, cpu.ss, cpu.ds, cpu.fs, cpu.gs] = selectors;
  selectors.forEach((selector, i) => {
    const found = known.find((s) => s.selector === selector);
    if (found === undefined) throw new RangeError(`no segment has the selector ${selector}`);
    if (i === 4) cpu.fsBase = found.base;
    if (i === 5) cpu.gsBase = found.base;
    cpu.setSegment(i, found.base, found.limit, found.rights);
  });
  cpu.setCompatibility();
}
