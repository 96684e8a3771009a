/**
 * Derives from a kernel's notes (elf-notes.ts) how it is to be built: defaults, checks and features. Addresses are
 * unsigned 64-bit bigints.
 * Source: Xen, xen/common/libelf/libelf-dominfo.c (elf_xen_parse, elf_xen_note_check, elf_xen_addr_calc_check) and
 * tools/libs/guest/xg_dom_elfloader.c.
 */
import * as note from '../xen/elfnote.js';
import { ELF_FEATURE_NAMES } from '../xen/elfnote.js';
import { type Elf, EM_386, PT_LOAD } from './elf.js';
import { findNotes, type KernelSays } from './elf-notes.js';
import { hex, KernelError } from './kernel-error.js';

export interface KernelParameters {
  readonly guestOs: string;
  readonly guestVersion: string;
  readonly loader: string;
  readonly xenVersion: string;
  /** Virtual address of pseudo-physical address 0. */
  readonly virtBase: bigint;
  /** Is subtracted from the file's physical addresses. */
  readonly paddrOffset: bigint;
  readonly entry: bigint;
  /** Where the kernel wants the hypercall page, or undefined if it makes hypercalls by itself. */
  readonly hypercallPage: bigint | undefined;
  /**
   * Where the kernel wants its list of frames (p2m) mapped. It is page aligned and below virtBase. Undefined: after
   * the kernel.
   */
  readonly initP2m: bigint | undefined;
  /** The kernel expects its ramdisk unmapped and is given its frame number. */
  readonly modStartPfn: boolean;
  /** Feature bits, by XENFEAT number. */
  readonly supportedFeatures: number;
  readonly requiredFeatures: number;
  /** The first virtual address that is loaded from the file, and the address after the last one. */
  readonly kernelStart: bigint;
  readonly kernelEnd: bigint;
}

/** Features that a kernel may require because a 64-bit PV guest has them. */
const PROVIDED = new Set(['writable_page_tables', 'pae_pgdir_above_4gb']);
const U64 = (n: bigint): bigint => BigInt.asUintN(64, n);
const PAGE = 4096n;

interface Said {
  strings: Map<number, string>;
  numbers: Map<number, bigint>;
  supported: number;
  required: number;
}

/** FEATURES consists of names joined with `|`. A `!` before a name means that the kernel requires it. */
function features(text: string, said: Said): void {
  for (const item of text.split('|').filter((s) => s !== '')) {
    const required = item.startsWith('!');
    const name = required ? item.slice(1) : item;
    const bit = ELF_FEATURE_NAMES[name];
    if (required && (bit === undefined || !PROVIDED.has(name)))
      throw new KernelError(
        `the kernel requires the feature "${name}" (ELF note FEATURES), which is not available here`,
      );
    if (bit === undefined) continue;
    said.supported |= 1 << bit;
    if (required) said.required |= 1 << bit;
  }
}

const TEXTS = new Set([
  note.XEN_ELFNOTE_XEN_VERSION,
  note.XEN_ELFNOTE_GUEST_OS,
  note.XEN_ELFNOTE_GUEST_VERSION,
  note.XEN_ELFNOTE_LOADER,
  note.XEN_ELFNOTE_PAE_MODE,
  note.XEN_ELFNOTE_FEATURES,
  note.XEN_ELFNOTE_BSD_SYMTAB,
]);

function collect(says: KernelSays): Said {
  const said: Said = { strings: new Map(), numbers: new Map(), supported: 0, required: 0 };
  if (says.from !== '__xen_guest') {
    for (const n of says.notes) {
      if (n.type > note.XEN_ELFNOTE_PHYS32_ENTRY) continue;
      if (TEXTS.has(n.type)) said.strings.set(n.type, n.text());
      else said.numbers.set(n.type, n.numeric());
      if (n.type === note.XEN_ELFNOTE_FEATURES) features(n.text(), said);
      if (n.type === note.XEN_ELFNOTE_SUPPORTED_FEATURES && n.size >= 4 && n.size % 4 === 0)
        said.supported |= Number(BigInt.asUintN(32, n.numeric()));
    }
    return said;
  }
  const text = (name: string, type: number): void => {
    const value = says.pairs.get(name);
    if (value !== undefined) said.strings.set(type, value);
  };
  const number = (name: string, type: number, shift = 0n): void => {
    const value = says.pairs.get(name);
    if (value === undefined) return;
    if (!/^(0x[0-9a-f]+|\d+)$/i.test(value))
      throw new KernelError(`section __xen_guest: ${name}=${value} is not a number`);
    said.numbers.set(type, U64(BigInt(value) << shift));
  };
  text('LOADER', note.XEN_ELFNOTE_LOADER);
  text('GUEST_OS', note.XEN_ELFNOTE_GUEST_OS);
  text('GUEST_VER', note.XEN_ELFNOTE_GUEST_VERSION);
  text('XEN_VER', note.XEN_ELFNOTE_XEN_VERSION);
  text('PAE', note.XEN_ELFNOTE_PAE_MODE);
  number('VIRT_BASE', note.XEN_ELFNOTE_VIRT_BASE);
  number('VIRT_ENTRY', note.XEN_ELFNOTE_ENTRY);
  number('ELF_PADDR_OFFSET', note.XEN_ELFNOTE_PADDR_OFFSET);
  number('HYPERCALL_PAGE', note.XEN_ELFNOTE_HYPERCALL_PAGE, 12n);
  features(says.pairs.get('FEATURES') ?? '', said);
  // In the `__xen_guest` section the hypercall page is given relative to VIRT_BASE.
  const page = said.numbers.get(note.XEN_ELFNOTE_HYPERCALL_PAGE);
  const base = said.numbers.get(note.XEN_ELFNOTE_VIRT_BASE);
  if (page !== undefined && base !== undefined)
    said.numbers.set(note.XEN_ELFNOTE_HYPERCALL_PAGE, U64(page + base));
  return said;
}

/** The lowest and the highest physical address that the file loads. */
function extent(elf: Elf): { start: bigint; end: bigint } {
  const loads = elf.segments.filter((s) => s.type === PT_LOAD && (s.flags & 7) !== 0);
  if (loads.length === 0) throw new KernelError('nothing to load: no program header is a PT_LOAD');
  let start = loads[0].paddr;
  let end = 0n;
  for (const s of loads) {
    if (s.paddr + s.memsz >= 1n << 64n || s.filesz > s.memsz)
      throw new KernelError(
        `PT_LOAD at physical address ${hex(s.paddr)}: ${hex(s.filesz)} bytes in the file, ${hex(s.memsz)} in memory`,
      );
    if (s.paddr < start) start = s.paddr;
    if (s.paddr + s.memsz > end) end = s.paddr + s.memsz;
  }
  return { start, end };
}

/** Determines the parameters of a kernel. Throws KernelError if the file is not a 64-bit PV kernel. */
export function kernelParameters(elf: Elf): KernelParameters {
  const says = findNotes(elf);
  if (says === undefined)
    throw new KernelError(
      'not a Xen kernel: no ELF note of owner "Xen" and no section __xen_guest, as in a kernel for HVM guests or for hardware',
    );
  const said = collect(says);
  const text = (type: number): string => said.strings.get(type) ?? '';
  const number = (type: number): bigint | undefined => said.numbers.get(type);

  const loader = text(note.XEN_ELFNOTE_LOADER);
  const guestOs = text(note.XEN_ELFNOTE_GUEST_OS);
  const xenVersion = text(note.XEN_ELFNOTE_XEN_VERSION);
  const isPv = loader.startsWith('generic') || guestOs.startsWith('linux');
  const hasEntry =
    number(note.XEN_ELFNOTE_ENTRY) !== undefined || number(note.XEN_ELFNOTE_VIRT_BASE) !== undefined;
  const phys32 = number(note.XEN_ELFNOTE_PHYS32_ENTRY);
  if (phys32 !== undefined && !(isPv && hasEntry))
    throw new KernelError(
      `a kernel for PVH guests only: it has the ELF note PHYS32_ENTRY (${hex(phys32)}), and no ${
        isPv ? 'ENTRY or VIRT_BASE' : 'LOADER "generic" or GUEST_OS "linux"'
      } as a PV kernel has; PV kernels run here`,
    );
  if (!isPv)
    throw new KernelError(
      `ELF note LOADER is "${loader}" and GUEST_OS "${guestOs}": LOADER "generic" or GUEST_OS "linux" expected`,
    );
  if (!xenVersion.startsWith('xen-3.0'))
    throw new KernelError(`ELF note XEN_VERSION is "${xenVersion}", "xen-3.0" expected`);
  if (elf.machine === EM_386 || elf.bits === 32)
    throw new KernelError(
      'a 32-bit PV kernel (xen-3.0-x86_32p): only 64-bit kernels (xen-3.0-x86_64) run here',
    );

  const base = number(note.XEN_ELFNOTE_VIRT_BASE);
  const offset = number(note.XEN_ELFNOTE_PADDR_OFFSET);
  if (offset !== undefined && base === undefined)
    throw new KernelError('ELF note PADDR_OFFSET is given without VIRT_BASE');
  const virtBase = base ?? 0n;
  const paddrOffset = offset ?? (says.from === '__xen_guest' ? virtBase : 0n);
  const { start, end } = extent(elf);
  const kernelStart = U64(start + virtBase - paddrOffset);
  const kernelEnd = U64(end + virtBase - paddrOffset);
  const entry = number(note.XEN_ELFNOTE_ENTRY) ?? elf.entry;
  if (kernelStart > kernelEnd || entry < kernelStart || entry > kernelEnd || virtBase > kernelStart)
    throw new KernelError(
      `kernel from ${hex(kernelStart)} to ${hex(kernelEnd)}, entry ${hex(entry)}, VIRT_BASE ${hex(virtBase)}: not in order`,
    );
  const p2m = number(note.XEN_ELFNOTE_INIT_P2M);
  if (p2m !== undefined && p2m >= kernelStart && p2m < kernelEnd)
    throw new KernelError(`ELF note INIT_P2M ${hex(p2m)} lies in the kernel`);
  return {
    guestOs,
    guestVersion: text(note.XEN_ELFNOTE_GUEST_VERSION),
    loader,
    xenVersion,
    virtBase,
    paddrOffset,
    entry,
    hypercallPage: number(note.XEN_ELFNOTE_HYPERCALL_PAGE),
    initP2m: p2m !== undefined && p2m < virtBase && p2m % PAGE === 0n ? p2m : undefined,
    modStartPfn: (number(note.XEN_ELFNOTE_MOD_START_PFN) ?? 0n) !== 0n,
    supportedFeatures: said.supported,
    requiredFeatures: said.required,
    kernelStart,
    kernelEnd,
  };
}
