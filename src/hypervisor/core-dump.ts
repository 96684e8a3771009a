/**
 * A domain's core: an ELF file as `xl dump-core` makes it of a paravirtualised domain, for `crash` and other readers.
 * Unlike libxc, which needs the guest's own p2m list, it takes the numbers of the pages from the machine-to-physical
 * table, so that guests without such a list have a core too.
 * Source: Xen, docs/misc/dump-core-format.txt; the order of the parts is that of libxc.
 */
import { PAGE } from '../engine/engine.js';
import {
  CoreHeaderNote,
  CoreNote,
  CoreP2m,
  CoreVersionNote,
  XC_CORE_MAGIC,
  XEN_DUMPCORE_FORMAT_VERSION,
  XEN_ELFNOTE_DUMPCORE_FORMAT_VERSION,
  XEN_ELFNOTE_DUMPCORE_HEADER,
  XEN_ELFNOTE_DUMPCORE_NONE,
  XEN_ELFNOTE_DUMPCORE_XEN_VERSION,
} from '../xen/core-dump.js';
import { LinearMemory } from '../xen/memory.js';
import { HYPERVISOR_VIRT_START } from '../xen/paging.js';
import { VcpuGuestContext } from '../xen/vcpu.js';
import { XenCompileInfo } from '../xen/version.js';
import type { IdentityState } from './identity.js';
import { Owner } from './mmu/frames.js';
import type { FrameState, M2pState, MemoryState } from './mmu/mmu-state.js';
import type { AssistState } from './vcpu/entry-state.js';
import { guestContext } from './vcpu/guest-context.js';
import type { VcpusState } from './vcpu/turn-state.js';

/** What a core is made of. */
export interface CoreState
  extends MemoryState,
    FrameState,
    M2pState,
    VcpusState,
    AssistState,
    IdentityState {}

const EHDR = 64;
const SHDR = 64;
const PHDR = 56;
const ET_CORE = 4;
const EM_X86_64 = 62;
const SHT_PROGBITS = 1;
const SHT_STRTAB = 3;
const SHT_NOTE = 7;
/** No page has a greater number; the guest may write any number into the table. */
const MAX_PFN = 2 ** 32 - 1;
/** A page's number and the index of its frame in one number, to sort them. */
const FRAME_LIMIT = 2 ** 21;
/** Pages that are given at a time. */
const PAGES_A_PART = 256;

const STRINGS = '\0.shstrtab\0.note.Xen\0.xen_prstatus\0.xen_shared_info\0.xen_pages\0.xen_p2m\0';

interface Section {
  readonly name: string;
  readonly type: number;
  readonly at: number;
  readonly bytes: number;
  readonly align: number;
  readonly entry: number;
}

const memory = (bytes: Uint8Array): LinearMemory => new LinearMemory(bytes.buffer);

function putText(into: Uint8Array, at: number, text: string, most: number): void {
  into.set(new TextEncoder().encode(text).subarray(0, most - 1), at);
}

function note(type: number, desc: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(CoreNote.sizeof + desc.length);
  const at = memory(bytes);
  at.setU32(CoreNote.namesz, 4);
  at.setU32(CoreNote.descsz, desc.length);
  at.setU32(CoreNote.type, type);
  putText(bytes, CoreNote.name, 'Xen', 4);
  bytes.set(desc, CoreNote.sizeof);
  return bytes;
}

function notes({ identity }: IdentityState, vcpus: number, pages: number): Uint8Array {
  const header = new Uint8Array(CoreHeaderNote.sizeof);
  const h = memory(header);
  h.setU64(CoreHeaderNote.xch_magic, XC_CORE_MAGIC);
  h.setU64(CoreHeaderNote.xch_nr_vcpus, vcpus);
  h.setU64(CoreHeaderNote.xch_nr_pages, pages);
  h.setU64(CoreHeaderNote.xch_page_size, PAGE);
  const version = new Uint8Array(CoreVersionNote.sizeof);
  const w = memory(version);
  const V = CoreVersionNote;
  const I = XenCompileInfo;
  const info = V.compile_info;
  w.setU64(V.major_version, identity.major);
  w.setU64(V.minor_version, identity.minor);
  putText(version, V.extra_version, identity.extraversion, V.compile_info - V.extra_version);
  putText(version, info + I.compiler, identity.compiler, I.compile_by - I.compiler);
  putText(version, info + I.compile_by, identity.compileBy, I.compile_domain - I.compile_by);
  putText(version, info + I.compile_domain, identity.compileDomain, I.compile_date - I.compile_domain);
  putText(version, info + I.compile_date, identity.compileDate, I.sizeof - I.compile_date);
  putText(version, V.capabilities, identity.capabilities, V.changeset - V.capabilities);
  putText(version, V.changeset, identity.changeset, V.platform_parameters - V.changeset);
  w.setU64(V.platform_parameters, HYPERVISOR_VIRT_START);
  w.setU64(V.pagesize, PAGE);
  const format = new Uint8Array(8);
  memory(format).setU64(0, XEN_DUMPCORE_FORMAT_VERSION);
  return concat([
    note(XEN_ELFNOTE_DUMPCORE_NONE, new Uint8Array(0)),
    note(XEN_ELFNOTE_DUMPCORE_HEADER, header),
    note(XEN_ELFNOTE_DUMPCORE_XEN_VERSION, version),
    note(XEN_ELFNOTE_DUMPCORE_FORMAT_VERSION, format),
  ]);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/**
 * The guest's frames in the order of their pseudo-physical numbers, as `number * FRAME_LIMIT + index`. A frame whose
 * number is none, or that of another frame, is left out.
 */
function pagesOf({ frames, m2p }: FrameState & M2pState): Float64Array {
  const found: number[] = [];
  for (let frame = 0; frame < frames.frames; frame++) {
    if (frames.owner[frame] !== Owner.guest) continue;
    const pfn = m2p.get(frame);
    if (pfn <= MAX_PFN) found.push(pfn * FRAME_LIMIT + frame);
  }
  const sorted = Float64Array.from(found).sort();
  const number = (i: number): number => Math.floor(sorted[i] / FRAME_LIMIT);
  return sorted.filter((_, i) => i === 0 || number(i) !== number(i - 1));
}

function elfHeader(sections: number): Uint8Array {
  const bytes = new Uint8Array(EHDR);
  const at = memory(bytes);
  // ELFCLASS64, little-endian, version 1, System V ABI, and its version as libxc has it.
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 1]);
  at.setU16(16, ET_CORE);
  at.setU16(18, EM_X86_64);
  at.setU32(20, 1);
  at.setU64(40, EHDR);
  at.setU16(52, EHDR);
  at.setU16(54, PHDR);
  at.setU16(58, SHDR);
  at.setU16(60, sections);
  // The section with the names is the first after the empty one.
  at.setU16(62, 1);
  return bytes;
}

function sectionHeaders(sections: readonly Section[]): Uint8Array {
  const bytes = new Uint8Array((sections.length + 1) * SHDR);
  const at = memory(bytes);
  sections.forEach((section, i) => {
    const header = (i + 1) * SHDR;
    at.setU32(header, STRINGS.indexOf(`\0${section.name}\0`) + 1);
    at.setU32(header + 4, section.type);
    at.setU64(header + 24, section.at);
    at.setU64(header + 32, section.bytes);
    at.setU64(header + 48, section.align);
    at.setU64(header + 56, section.entry);
  });
  return bytes;
}

/** The file, part by part; at most 1 MiB at a time. The guest must stand still until the last part was taken. */
export function* coreOf(d: CoreState): Generator<Uint8Array> {
  const vcpus = d.vcpus.filter((v) => v.initialised).map((v) => guestContext(d, v));
  const count = d.frames.owned;
  const pages = pagesOf(d);
  const head = notes(d, vcpus.length, count);
  const table = EHDR + 7 * SHDR;
  const prstatus = table + head.length;
  const shared = prstatus + vcpus.length * VcpuGuestContext.sizeof;
  const first = Math.ceil((shared + PAGE) / PAGE) * PAGE;
  const p2m = first + count * PAGE;
  const strings = p2m + count * CoreP2m.sizeof;
  const section = (name: string, type: number, at: number, bytes: number, align = 0, entry = 0): Section => ({
    name,
    type,
    at,
    bytes,
    align,
    entry,
  });
  const sections = [
    section('.shstrtab', SHT_STRTAB, strings, STRINGS.length),
    section('.note.Xen', SHT_NOTE, table, head.length),
    section(
      '.xen_prstatus',
      SHT_PROGBITS,
      prstatus,
      vcpus.length * VcpuGuestContext.sizeof,
      16,
      VcpuGuestContext.sizeof,
    ),
    section('.xen_shared_info', SHT_PROGBITS, shared, PAGE, 8, PAGE),
    section('.xen_pages', SHT_PROGBITS, first, count * PAGE, PAGE, PAGE),
    section('.xen_p2m', SHT_PROGBITS, p2m, count * CoreP2m.sizeof, 8, CoreP2m.sizeof),
  ];
  const info = d.ram.mem.bytes(d.sharedInfo, PAGE);
  const beginning = concat([elfHeader(sections.length + 1), sectionHeaders(sections), head, ...vcpus, info]);
  yield concat([beginning, new Uint8Array(first - beginning.length)]);
  for (let from = 0; from < count; from += PAGES_A_PART) {
    const part = new Uint8Array(Math.min(PAGES_A_PART, count - from) * PAGE);
    for (let i = 0; i < part.length / PAGE && from + i < pages.length; i++)
      part.set(d.ram.bytes(pages[from + i] % FRAME_LIMIT, 1), i * PAGE);
    yield part;
  }
  const entries = new Uint8Array(count * CoreP2m.sizeof).fill(0xff);
  const at = memory(entries);
  pages.forEach((page, i) => {
    at.setU64(i * CoreP2m.sizeof, Math.floor(page / FRAME_LIMIT));
    at.setU64(i * CoreP2m.sizeof + CoreP2m.gmfn, d.ram.mfnOf(page % FRAME_LIMIT));
  });
  for (let from = 0; from < entries.length; from += PAGES_A_PART * PAGE)
    yield entries.subarray(from, from + PAGES_A_PART * PAGE);
  yield new TextEncoder().encode(STRINGS);
}
