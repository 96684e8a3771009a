/**
 * Reads the ELF headers of a kernel or a program: program headers, section headers, and their contents. Every offset is checked
 * against the size of the file before it is used; error messages contain the offset. 64-bit fields are bigint here
 * (this code is not hot), so that no corrupt value can be rounded to a valid one.
 * Source: System V ABI, chapter 4 (object files) and 5 (program loading); Xen's xen/common/libelf.
 */
import { hex, KernelError } from './kernel-error.js';

export const EM_386 = 3;
const EM_X86_64 = 62;
export const PT_LOAD = 1;
export const PT_NOTE = 4;
export const SHT_NOTE = 7;

const CLASS_32 = 1;
const CLASS_64 = 2;
const DATA_LITTLE_ENDIAN = 1;

interface ProgramHeader {
  readonly type: number;
  readonly flags: number;
  readonly offset: bigint;
  readonly vaddr: bigint;
  readonly paddr: bigint;
  readonly filesz: bigint;
  readonly memsz: bigint;
}

interface SectionHeader {
  readonly name: string;
  readonly type: number;
  readonly offset: bigint;
  readonly size: bigint;
}

export interface Elf {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** 32 or 64: the class of the file's headers, and with it of the kernel. */
  readonly bits: 32 | 64;
  readonly machine: number;
  readonly entry: bigint;
  readonly segments: readonly ProgramHeader[];
  readonly sections: readonly SectionHeader[];
}

export function isElf(bytes: Uint8Array): boolean {
  return (
    bytes.length >= 4 && bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46
  );
}

/** Offsets of the fields that are used, as [32-bit file, 64-bit file]. */
const HEADER = {
  size: [52, 64],
  entry: [24, 24],
  phoff: [28, 32],
  shoff: [32, 40],
  phentsize: [42, 54],
} as const;
const PHDR = {
  size: [32, 56],
  offset: [4, 8],
  vaddr: [8, 16],
  paddr: [12, 24],
  filesz: [16, 32],
  memsz: [20, 40],
  flags: [24, 4],
} as const;
const SHDR = { size: [40, 64], offset: [16, 24], bytes: [20, 32] } as const;

/** Throws KernelError unless [offset, offset + size) lies within the file. Returns the offset as a number. */
export function within(bytes: Uint8Array, offset: bigint, size: bigint, what: string): number {
  if (offset > BigInt(bytes.length) || size > BigInt(bytes.length) - offset)
    throw new KernelError(
      `${what} at offset ${hex(offset)}, ${hex(size)} bytes, runs past the end of the file (${hex(bytes.length)} bytes)`,
    );
  return Number(offset);
}

/** Parses the headers. Throws KernelError if the file is not an ELF file for x86, or is truncated. */
export function parseElf(bytes: Uint8Array): Elf {
  if (!isElf(bytes)) throw new KernelError('not an ELF file: no 7f 45 4c 46 at offset 0x0');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  within(bytes, 0n, 16n, 'ELF identification');
  const fileClass = bytes[4];
  if (fileClass !== CLASS_32 && fileClass !== CLASS_64)
    throw new KernelError(`ELF class at offset 0x4 is ${fileClass}, neither 1 (32 bits) nor 2 (64 bits)`);
  if (bytes[5] !== DATA_LITTLE_ENDIAN)
    throw new KernelError(`ELF data encoding at offset 0x5 is ${bytes[5]}, not 1 (little endian)`);
  const k = fileClass === CLASS_64 ? 1 : 0;
  within(bytes, 0n, BigInt(HEADER.size[k]), 'ELF header');
  const word = (at: number): bigint => (k ? view.getBigUint64(at, true) : BigInt(view.getUint32(at, true)));
  const machine = view.getUint16(18, true);
  if (machine !== EM_386 && machine !== EM_X86_64)
    throw new KernelError(`ELF machine at offset 0x12 is ${machine}, not ${EM_X86_64} (x86-64)`);

  const table = <T>(what: string, start: bigint, at: number, least: number, read: (at: number) => T): T[] => {
    const entry = view.getUint16(at, true);
    const count = view.getUint16(at + 2, true);
    if (count === 0) return [];
    if (entry < least)
      throw new KernelError(
        `${what} entries are ${entry} bytes by offset ${hex(at)}, at least ${least} expected`,
      );
    const first = within(bytes, start, BigInt(entry * count), `${what} table of ${count} entries`);
    return Array.from({ length: count }, (_, i) => read(first + i * entry));
  };
  const segments = table(
    'program header',
    word(HEADER.phoff[k]),
    HEADER.phentsize[k],
    PHDR.size[k],
    (at) => ({
      type: view.getUint32(at, true),
      flags: view.getUint32(at + PHDR.flags[k], true),
      offset: word(at + PHDR.offset[k]),
      vaddr: word(at + PHDR.vaddr[k]),
      paddr: word(at + PHDR.paddr[k]),
      filesz: word(at + PHDR.filesz[k]),
      memsz: word(at + PHDR.memsz[k]),
    }),
  );
  const raw = table('section header', word(HEADER.shoff[k]), HEADER.phentsize[k] + 4, SHDR.size[k], (at) => ({
    nameAt: view.getUint32(at, true),
    type: view.getUint32(at + 4, true),
    offset: word(at + SHDR.offset[k]),
    size: word(at + SHDR.bytes[k]),
  }));
  const names = raw[view.getUint16(HEADER.size[k] - 2, true)];
  const sections = raw.map(({ nameAt, ...s }) => ({ ...s, name: sectionName(bytes, names, nameAt) }));
  return { bytes, view, bits: k ? 64 : 32, machine, entry: word(HEADER.entry[k]), segments, sections };
}

/** A section's name, or "" if the name table or the name is not within the file: names are only a convenience. */
function sectionName(
  bytes: Uint8Array,
  table: { offset: bigint; size: bigint } | undefined,
  at: number,
): string {
  if (table === undefined || BigInt(at) >= table.size || table.offset + table.size > BigInt(bytes.length))
    return '';
  const from = Number(table.offset) + at;
  const end = bytes.subarray(from, Number(table.offset + table.size)).indexOf(0);
  return end < 0 ? '' : latin1(bytes.subarray(from, from + end));
}

/** Converts bytes to text, one character for each byte. */
export function latin1(bytes: Uint8Array): string {
  let text = '';
  for (const b of bytes) text += String.fromCharCode(b);
  return text;
}
