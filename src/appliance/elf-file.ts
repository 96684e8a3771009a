/**
 * What is needed of ELF executables and shared objects to put them into the appliance: which libraries they want, and
 * the file without what no running program needs. For 64-bit files.
 * Source: System V ABI, chapters 4 and 5; elf(5).
 */
import { PT_LOAD, parseElf, within } from '../guest/elf.js';

const PT_DYNAMIC = 2;
const DT_NEEDED = 1;
const DT_STRTAB = 5;
const DYN_BYTES = 16;
/** e_shoff, and e_shentsize to e_shstrndx: where the section headers are told of. */
const SHOFF = 40;
const SHENTSIZE = 58;
const EHDR_BYTES = 64;

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly vaddr: number;
  readonly filesz: number;
}

/** Its segments, which lie in the file. `what` names the file in errors. */
function segmentsOf(bytes: Uint8Array, what: string): Segment[] {
  try {
    const { bits, segments } = parseElf(bytes);
    if (bits !== 64) throw new Error('it is not a 64-bit file');
    return segments.map(({ type, offset, vaddr, filesz }, i) => ({
      type,
      offset: within(bytes, offset, filesz, `segment ${i}`),
      vaddr: Number(vaddr),
      filesz: Number(filesz),
    }));
  } catch (error) {
    throw new Error(`${what}: ${(error as Error).message}`);
  }
}

/**
 * A copy without section headers, symbols and debug data: all that lies behind the last segment. What is loaded into
 * memory stays byte for byte. `what` names the file in errors.
 */
export function stripped(bytes: Uint8Array, what: string): Uint8Array {
  const used = segmentsOf(bytes, what).map(({ offset, filesz }) => offset + filesz);
  const copy = bytes.slice(0, Math.max(EHDR_BYTES, ...used));
  const view = new DataView(copy.buffer);
  view.setBigUint64(SHOFF, 0n, true);
  for (let at = SHENTSIZE; at < EHDR_BYTES; at += 2) view.setUint16(at, 0, true);
  return copy;
}

/** The names of the libraries that the file wants to be loaded with it (DT_NEEDED), in its order. */
export function neededLibraries(bytes: Uint8Array, what: string): string[] {
  const segments = segmentsOf(bytes, what);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const dynamic = segments.find(({ type }) => type === PT_DYNAMIC);
  if (dynamic === undefined) return [];
  const names: number[] = [];
  let strings: number | undefined;
  for (let at = dynamic.offset; at + DYN_BYTES <= dynamic.offset + dynamic.filesz; at += DYN_BYTES) {
    const tag = Number(view.getBigInt64(at, true));
    const value = Number(view.getBigUint64(at + 8, true));
    if (tag === DT_NEEDED) names.push(value);
    if (tag === DT_STRTAB) strings = value;
  }
  if (names.length === 0) return [];
  const home = segments.find(
    ({ type, vaddr, filesz }) =>
      type === PT_LOAD && strings !== undefined && strings >= vaddr && strings < vaddr + filesz,
  );
  if (home === undefined || strings === undefined)
    throw new Error(`${what}: its string table (DT_STRTAB) is in no segment`);
  const base = strings - home.vaddr + home.offset;
  return names.map((name) => {
    const end = bytes.indexOf(0, base + name);
    if (end < 0) throw new Error(`${what}: the name of a library has no end`);
    return Buffer.from(bytes.subarray(base + name, end)).toString('latin1');
  });
}
