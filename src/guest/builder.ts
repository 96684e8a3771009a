/**
 * The domain builder. From a kernel file, a ramdisk and a command line it makes the memory that a PV guest finds at
 * its first instruction, and the initial registers.
 *
 * Machine frame = pseudo-physical frame + a constant. RAM must be all zero before; what is written is deterministic.
 * Of Xen's data only what the builder of Xen's tools writes is written here; the hypervisor writes M2P and
 * shared_info and sets the types of the page tables.
 * Source: Xen, tools/libs/guest/xg_dom_core.c, xg_dom_x86.c, xg_dom_elfloader.c; public/xen.h.
 */
import type { GuestRam } from '../engine/engine.js';
import { XENCONS_CONNECTION, XENCONSOLE_DISCONNECTED } from '../xen/console.js';
import { MAX_GUEST_CMDLINE, SIF_MOD_START_PFN, START_INFO_MAGIC, StartInfo } from '../xen/start-info.js';
import type { Mfn, Pfn } from '../xen/types.js';
import { XENFEAT_pae_pgdir_above_4gb } from '../xen/version.js';
import { VMASST_TYPE_pae_extended_cr3 } from '../xen/vm-assist.js';
import { type BootLayout, planBootLayout } from './boot-layout.js';
import { unpackKernel } from './bzimage.js';
import { gunzip, isGzip, type Unpackers } from './decompress.js';
import { type Elf, PT_LOAD, parseElf, within } from './elf.js';
import { writeHypercallPage } from './hypercall-page.js';
import { hex, KernelError } from './kernel-error.js';
import { type KernelParameters, kernelParameters } from './kernel-parameters.js';

/** The contents of the files, as they are on disk. */
export interface GuestImage {
  /** An ELF file or a bzImage, possibly compressed. */
  readonly kernel: Uint8Array;
  readonly ramdisk?: Uint8Array;
  readonly cmdline: string;
}

/** The files, decompressed and parsed, from which any number of domains can be built. */
export interface LoadedImage {
  readonly elf: Elf;
  readonly parameters: KernelParameters;
  readonly ramdisk: Uint8Array | undefined;
  /** The command line without its terminating zero byte, at most 1023 bytes. */
  readonly cmdline: Uint8Array;
}

/** The machine in which the domain is built. Frame `i` of its memory becomes pseudo-physical frame `i`. */
export interface BuildTarget {
  readonly ram: GuestRam;
  /** As many as the guest is to have. */
  readonly ramFrames: number;
  readonly sharedInfoMfn: number;
  readonly storePort: number;
  readonly consolePort: number;
}

export interface BuiltDomain {
  /** Signed 64-bit values, in the form in which the machine's registers are set. */
  readonly rip: number;
  readonly rsp: number;
  readonly rsi: number;
  /** Machine frame of the top page table. The hypervisor pins it. */
  readonly cr3: Mfn;
  readonly storePfn: Pfn;
  readonly consolePfn: Pfn;
  readonly hypercallPage: Pfn | undefined;
  /** The VMASST_* bits that the kernel's notes ask for. */
  readonly vmAssist: number;
  readonly layout: BootLayout;
}

/** Decompresses and checks the files. Throws KernelError; its message says what is wrong with which part. */
export async function loadImage(image: GuestImage, unpackers: Unpackers = {}): Promise<LoadedImage> {
  const cmdline = new TextEncoder().encode(image.cmdline);
  if (cmdline.length >= MAX_GUEST_CMDLINE)
    throw new KernelError(
      `the command line is ${cmdline.length} bytes long; a guest takes ${MAX_GUEST_CMDLINE - 1} at most`,
    );
  if (cmdline.includes(0)) throw new KernelError('the command line has a zero byte in it');
  const elf = parseElf(await unpackKernel(image.kernel, unpackers));
  const parameters = kernelParameters(elf);
  const ramdisk = image.ramdisk && (await unpackRamdisk(image.ramdisk));
  return { elf, parameters, ramdisk, cmdline };
}

/**
 * Decompresses a ramdisk that is a single gzip member, as Xen's builder does, which spares the guest the work.
 * Anything else, including data that turns out not to be gzip, is passed on unchanged.
 */
async function unpackRamdisk(bytes: Uint8Array): Promise<Uint8Array> {
  if (!isGzip(bytes)) return bytes;
  return gunzip(bytes).catch(() => bytes);
}

/** Writes the domain into memory. Throws KernelError if it does not fit; memory is unchanged in that case. */
export function buildDomain(target: BuildTarget, image: LoadedImage): BuiltDomain {
  const { ram, ramFrames } = target;
  const { mem } = ram;
  const { parameters } = image;
  const layout = planBootLayout(parameters, ramFrames, image.ramdisk?.length);
  const address = (pfn: number): number => ram.linearOf(pfn);
  const mfn = (pfn: number): number => ram.mfnOf(pfn);
  const hypercallPage = hypercallPfn(parameters, layout);
  const loads = segmentsToLoad(image.elf, parameters);

  for (const { from, size, to } of loads)
    mem.u8.set(image.elf.bytes.subarray(from, from + size), address(0) + to);
  if (image.ramdisk) mem.u8.set(image.ramdisk, address(layout.ramdisk!.pfn));
  const list = address(layout.p2m.pfn);
  for (let pfn = 0; pfn < ramFrames; pfn++) mem.setU64(list + 8 * pfn, mfn(pfn));
  layout.tables.write(mem, layout.mappings, address, mfn);
  if (hypercallPage !== undefined) writeHypercallPage(mem, address(hypercallPage));
  mem.setU8(address(layout.console.pfn) + XENCONS_CONNECTION, XENCONSOLE_DISCONNECTED);
  writeStartInfo(target, image, layout);

  const signed = (va: bigint): number => Number(BigInt.asIntN(64, va));
  const wanted = parameters.supportedFeatures | parameters.requiredFeatures;
  return {
    rip: signed(parameters.entry),
    rsp: signed(layout.bootStack.va! + 4096n),
    rsi: signed(layout.startInfo.va!),
    cr3: mfn(layout.pageTables.pfn) as Mfn,
    storePfn: layout.xenstore.pfn,
    consolePfn: layout.console.pfn,
    hypercallPage,
    vmAssist: (wanted >> XENFEAT_pae_pgdir_above_4gb) & 1 ? 1 << VMASST_TYPE_pae_extended_cr3 : 0,
    layout,
  };
}

/**
 * The loadable parts of the file: offset in the file, size in bytes, offset in RAM. They are placed by physical
 * address.
 */
function segmentsToLoad(elf: Elf, kernel: KernelParameters): { from: number; size: number; to: number }[] {
  return elf.segments
    .filter((s) => s.type === PT_LOAD && (s.flags & 7) !== 0)
    .map((s) => ({
      from: within(elf.bytes, s.offset, s.filesz, 'PT_LOAD segment'),
      size: Number(s.filesz),
      to: Number(s.paddr - kernel.paddrOffset),
    }));
}

function hypercallPfn(kernel: KernelParameters, layout: BootLayout): Pfn | undefined {
  const va = kernel.hypercallPage;
  if (va === undefined) return undefined;
  if (va < kernel.virtBase || va >= layout.mappedEnd)
    throw new KernelError(`ELF note HYPERCALL_PAGE ${hex(va)} lies outside of the kernel's first mapping`);
  return Number((va - kernel.virtBase) / 4096n) as Pfn;
}

function writeStartInfo(target: BuildTarget, image: LoadedImage, layout: BootLayout): void {
  const { ram } = target;
  const { mem } = ram;
  const at = ram.linearOf(layout.startInfo.pfn);
  const mfn = (pfn: number): number => ram.mfnOf(pfn);
  const { ramdisk } = layout;
  const unmapped = ramdisk !== undefined && ramdisk.va === undefined;
  mem.u8.set(new TextEncoder().encode(START_INFO_MAGIC), at + StartInfo.magic);
  mem.setU64(at + StartInfo.nr_pages, target.ramFrames);
  mem.setU64(at + StartInfo.shared_info, target.sharedInfoMfn * 4096);
  // Xen's builder sets SIF_VIRT_P2M_4TOOLS and libxl clears it again, as observed with 4.17.
  mem.setU32(at + StartInfo.flags, unmapped ? SIF_MOD_START_PFN : 0);
  mem.setU64(at + StartInfo.store_mfn, mfn(layout.xenstore.pfn));
  mem.setU32(at + StartInfo.store_evtchn, target.storePort);
  mem.setU64(at + StartInfo.console_domU_mfn, mfn(layout.console.pfn));
  mem.setU32(at + StartInfo.console_domU_evtchn, target.consolePort);
  mem.setBig(at + StartInfo.pt_base, layout.pageTables.va!);
  mem.setU64(at + StartInfo.nr_pt_frames, layout.pageTables.pages);
  mem.setBig(at + StartInfo.mfn_list, layout.p2m.va!);
  if (ramdisk !== undefined) {
    mem.setBig(at + StartInfo.mod_start, ramdisk.va ?? BigInt(ramdisk.pfn));
    mem.setU64(at + StartInfo.mod_len, ramdisk.pages * 4096);
  }
  mem.u8.set(image.cmdline, at + StartInfo.cmd_line);
  if (layout.p2mFrames > 0) {
    mem.setU64(at + StartInfo.first_p2m_pfn, layout.p2m.pfn);
    mem.setU64(at + StartInfo.nr_p2m_frames, layout.p2mFrames);
  }
}
