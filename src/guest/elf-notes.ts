/**
 * Finds the information that a kernel has for Xen: ELF notes with owner "Xen" in PT_NOTE segments, or else in
 * SHT_NOTE sections, or else the older `__xen_guest` section, which is a text of NAME=VALUE pairs.
 *
 * A note's value may extend beyond its segment as long as it lies in the file (GRUB's 32-bit image has such a note),
 * as in Xen's libelf: a text value ends at its zero byte, whatever its size says.
 * Source: Xen, xen/common/libelf/libelf-dominfo.c and libelf-tools.c; public/elfnote.h.
 */
import { XEN_ELFNOTE_OWNER } from '../xen/elfnote.js';
import { type Elf, latin1, PT_NOTE, SHT_NOTE, within } from './elf.js';
import { hex, KernelError } from './kernel-error.js';

/** The number of notes that Xen reads from one file. */
const MAX_NOTES = 65536;
const NOTE_HEADER = 12;

/**
 * One note. Its value is available as a number (0 unless it has 1, 2, 4 or 8 bytes) and as text up to its zero byte.
 */
interface XenNote {
  readonly type: number;
  readonly offset: number;
  readonly size: number;
  numeric(): bigint;
  text(): string;
}

export type KernelSays =
  | { readonly from: 'PT_NOTE' | 'SHT_NOTE'; readonly notes: readonly XenNote[] }
  | { readonly from: '__xen_guest'; readonly pairs: ReadonlyMap<string, string> };

const pad4 = (n: number): number => Math.ceil(n / 4) * 4;

function noteAt(elf: Elf, type: number, offset: number, size: number): XenNote {
  const { bytes, view } = elf;
  const what = `ELF note of type ${type}`;
  return {
    type,
    offset,
    size,
    numeric() {
      if (![1, 2, 4, 8].includes(size)) return 0n;
      const at = within(bytes, BigInt(offset), BigInt(size), what);
      if (size === 8) return view.getBigUint64(at, true);
      return BigInt(
        size === 4 ? view.getUint32(at, true) : size === 2 ? view.getUint16(at, true) : bytes[at],
      );
    },
    text() {
      const at = within(bytes, BigInt(offset), 1n, what);
      const length = bytes.subarray(at).indexOf(0);
      if (length < 0) throw new KernelError(`${what} at offset ${hex(at)}: its text has no end`);
      return latin1(bytes.subarray(at, at + length));
    },
  };
}

/** The notes with owner "Xen" in a range of the file. */
function notesBetween(elf: Elf, from: bigint, size: bigint, what: string): XenNote[] {
  const { bytes, view } = elf;
  let at = within(bytes, from, size, what);
  const end = at + Number(size);
  const found: XenNote[] = [];
  for (let count = 0; at < end; count++) {
    if (count >= MAX_NOTES)
      throw new KernelError(`${what} at offset ${hex(from)}: more than ${MAX_NOTES} notes`);
    within(bytes, BigInt(at), BigInt(NOTE_HEADER), 'ELF note');
    const nameBytes = view.getUint32(at, true);
    const valueBytes = view.getUint32(at + 4, true);
    const type = view.getUint32(at + 8, true);
    const name = at + NOTE_HEADER;
    const value = name + pad4(nameBytes);
    const owner = latin1(bytes.subarray(name, name + XEN_ELFNOTE_OWNER.length + 1));
    if (owner === `${XEN_ELFNOTE_OWNER}\0`) found.push(noteAt(elf, type, value, valueBytes));
    at = value + pad4(valueBytes);
  }
  return found;
}

/**
 * The `__xen_guest` text: pairs separated by commas, terminated by a zero byte. A name without `=` has the value "".
 */
function pairsOf(elf: Elf, from: bigint, size: bigint): Map<string, string> {
  const at = within(elf.bytes, from, size, 'section __xen_guest');
  const [text] = latin1(elf.bytes.subarray(at, at + Number(size))).split('\0', 1);
  const pairs = new Map<string, string>();
  for (const pair of text.split(',')) {
    const equals = pair.indexOf('=');
    if (equals < 0) pairs.set(pair, '');
    else pairs.set(pair.slice(0, equals), pair.slice(equals + 1));
  }
  return pairs;
}

/** The kernel's information from the first of these places that has any, or undefined if none has. */
export function findNotes(elf: Elf): KernelSays | undefined {
  const segments = elf.segments.filter((s) => s.type === PT_NOTE && s.offset !== 0n);
  const inSegments = segments.flatMap((s) => notesBetween(elf, s.offset, s.filesz, 'PT_NOTE segment'));
  if (inSegments.length > 0) return { from: 'PT_NOTE', notes: inSegments };
  const sections = elf.sections.slice(1).filter((s) => s.type === SHT_NOTE);
  const inSections = sections.flatMap((s) => notesBetween(elf, s.offset, s.size, `section ${s.name}`));
  if (inSections.length > 0) return { from: 'SHT_NOTE', notes: inSections };
  const section = elf.sections.find((s) => s.name === '__xen_guest');
  return section && { from: '__xen_guest', pairs: pairsOf(elf, section.offset, section.size) };
}
