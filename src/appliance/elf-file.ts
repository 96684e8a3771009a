/**
 * What is needed of ELF executables and shared objects to put them into the appliance: which libraries they want, and
 * the file without what no running program needs. For little-endian 64-bit files.
 * Source: System V ABI, chapters 4 and 5; elf(5).
 */

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const DT_NEEDED = 1;
const DT_STRTAB = 5;
const PHDR_BYTES = 56;
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

const isElf64 = (bytes: Uint8Array): boolean =>
  bytes.length >= EHDR_BYTES && Buffer.from(bytes.subarray(0, 6)).toString('latin1') === '\x7fELF\x02\x01';

function segmentsOf(view: DataView, what: string): Segment[] {
  const at = Number(view.getBigUint64(32, true));
  const count = view.getUint16(56, true);
  if (view.getUint16(54, true) !== PHDR_BYTES || at + count * PHDR_BYTES > view.byteLength)
    throw new Error(`${what}: its program headers, at byte 0x${at.toString(16)}, are not in the file`);
  return Array.from({ length: count }, (_, i) => {
    const header = at + i * PHDR_BYTES;
    const number = (offset: number) => Number(view.getBigUint64(header + offset, true));
    const segment = {
      type: view.getUint32(header, true),
      offset: number(8),
      vaddr: number(16),
      filesz: number(32),
    };
    if (segment.offset + segment.filesz > view.byteLength)
      throw new Error(`${what}: segment ${i} ends behind the end of the file`);
    return segment;
  });
}

const viewOf = (bytes: Uint8Array, what: string): DataView => {
  if (!isElf64(bytes)) throw new Error(`${what} is no 64-bit ELF file`);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
};

/**
 * A copy without section headers, symbols and debug data: all that lies behind the last segment. What is loaded into
 * memory stays byte for byte. `what` names the file in errors.
 */
export function stripped(bytes: Uint8Array, what: string): Uint8Array {
  const used = segmentsOf(viewOf(bytes, what), what).map(({ offset, filesz }) => offset + filesz);
  const copy = bytes.slice(0, Math.max(EHDR_BYTES, ...used));
  const view = new DataView(copy.buffer);
  view.setBigUint64(SHOFF, 0n, true);
  for (let at = SHENTSIZE; at < EHDR_BYTES; at += 2) view.setUint16(at, 0, true);
  return copy;
}

/** The names of the libraries that the file wants to be loaded with it (DT_NEEDED), in its order. */
export function neededLibraries(bytes: Uint8Array, what: string): string[] {
  const view = viewOf(bytes, what);
  const segments = segmentsOf(view, what);
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
