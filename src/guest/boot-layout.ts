/**
 * The memory layout of a new domain: a plan of segments in pseudo-physical memory, laid out exactly as Xen's own
 * builder does it. From the kernel to the padding, the virtual address is VIRT_BASE + frame * 4096.
 *
 *     padding | kernel | [ramdisk] | [p2m] | start_info | xenstore | console | page tables | boot stack | padding
 *     ... then unmapped: [ramdisk, with MOD_START_PFN], [p2m and its page tables, with INIT_P2M]
 *
 * The mapped part ends on a 4 MiB boundary with at least 512 KiB of padding.
 * Source: Xen, tools/libs/guest/xg_dom_core.c (xc_dom_build_image) and xg_dom_x86.c (alloc_*); the comment on start
 * of day in public/xen.h.
 */
import { HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START } from '../xen/paging.js';
import type { Pfn } from '../xen/types.js';
import { hex, KernelError } from './kernel-error.js';
import type { KernelParameters } from './kernel-parameters.js';
import { type Mapping, TablePlan } from './table-plan.js';

const PAGE = 4096n;
const SLACK_PAGES = (512 * 1024) / 4096;
const FOUR_MIB = 0x40_0000n;

interface Segment {
  readonly name: string;
  readonly pfn: Pfn;
  readonly pages: number;
  /** Undefined if the segment is not mapped and the guest finds it by its frame number. */
  readonly va: bigint | undefined;
}

export interface BootLayout {
  readonly kernel: Segment;
  readonly ramdisk: Segment | undefined;
  /** The list itself. With INIT_P2M its page tables follow it. */
  readonly p2m: Segment;
  /** Number of frames of the list and of its own page tables; 0 without INIT_P2M. */
  readonly p2mFrames: number;
  readonly startInfo: Segment;
  readonly xenstore: Segment;
  readonly console: Segment;
  /** The page tables of the first mapping, with the top table first. */
  readonly pageTables: Segment;
  readonly bootStack: Segment;
  /** The address after the last one that the first mapping covers. */
  readonly mappedEnd: bigint;
  /** How many frames are used. The rest of RAM is free. */
  readonly frames: number;
  readonly mappings: readonly Mapping[];
  readonly tables: TablePlan;
}

const pagesOf = (bytes: number): number => Math.ceil(bytes / 4096);

/** Plans a domain with `ramFrames` frames of RAM. Throws KernelError if it does not fit. */
export function planBootLayout(
  kernel: KernelParameters,
  ramFrames: number,
  ramdiskBytes: number | undefined,
): BootLayout {
  let next = 0;
  const va = (pfn: number): bigint => kernel.virtBase + BigInt(pfn) * PAGE;
  const take = (name: string, pages: number, mapped = true): Segment => {
    if (pages > ramFrames - next)
      throw new KernelError(
        `not enough memory: ${name} needs ${pages} pages from page ${next} on, and the guest has ${ramFrames} (${ramFrames / 256} MiB)`,
      );
    const segment = { name, pfn: next as Pfn, pages, va: mapped ? va(next) : undefined };
    next += pages;
    return segment;
  };
  const padTo = (address: bigint): void => {
    take('padding', Number((address - va(next)) / PAGE));
  };

  if (kernel.kernelStart % PAGE !== 0n || kernel.virtBase % PAGE !== 0n)
    throw new KernelError(
      `kernel at ${hex(kernel.kernelStart)}, VIRT_BASE ${hex(kernel.virtBase)}: not page aligned`,
    );
  padTo(kernel.kernelStart);
  const kernelSegment = take('kernel', Number((kernel.kernelEnd - kernel.kernelStart + PAGE - 1n) / PAGE));
  const ramdiskPages = ramdiskBytes === undefined ? undefined : pagesOf(ramdiskBytes);
  let ramdisk: Segment | undefined;
  if (ramdiskPages !== undefined && !kernel.modStartPfn) ramdisk = take('ramdisk', ramdiskPages);
  const p2mPages = pagesOf(ramFrames * 8);
  let p2m: Segment | undefined;
  if (kernel.initP2m === undefined) p2m = take('p2m', p2mPages);
  const startInfo = take('start_info', 1);
  const xenstore = take('xenstore', 1);
  const console = take('console', 1);

  const tables = new TablePlan();
  const mappedEnd = endOfMapping(kernel.virtBase, va(next));
  const mappedPages = Number((mappedEnd - kernel.virtBase) / PAGE);
  if (mappedPages > ramFrames)
    throw new KernelError(
      `not enough memory: the first mapping covers ${mappedPages} pages, and the guest has ${ramFrames} (${ramFrames / 256} MiB)`,
    );
  checkAddress(kernel.virtBase, mappedPages, 'VIRT_BASE');
  const mappings: Mapping[] = [{ va: kernel.virtBase, pages: mappedPages, pfn: 0 }];
  const pageTables = take('page tables', tables.add(mappings[0], next, true));
  const bootStack = take('boot stack', 1);
  padTo(mappedEnd);

  if (ramdiskPages !== undefined && kernel.modStartPfn) ramdisk = take('ramdisk', ramdiskPages, false);
  let p2mFrames = 0;
  if (kernel.initP2m !== undefined) {
    const mapping = { va: kernel.initP2m, pages: p2mPages, pfn: next };
    checkAddress(kernel.initP2m, p2mPages, 'INIT_P2M');
    const overlap = kernel.initP2m + BigInt(p2mPages) * PAGE > kernel.virtBase;
    if (overlap)
      throw new KernelError(`ELF note INIT_P2M ${hex(kernel.initP2m)}: the list runs into the kernel`);
    mappings.push(mapping);
    const list = take('p2m', p2mPages);
    take('page tables of the p2m', tables.add(mapping, next, false));
    p2m = { ...list, va: kernel.initP2m };
    p2mFrames = next - list.pfn;
  }
  return {
    kernel: kernelSegment,
    ramdisk,
    p2m: p2m!,
    p2mFrames,
    startInfo,
    xenstore,
    console,
    pageTables,
    bootStack,
    mappedEnd,
    frames: next,
    mappings,
    tables,
  };
}

/**
 * Throws unless `pages` pages starting at `va` can be mapped: the addresses must be canonical and outside of Xen's
 * own range.
 */
function checkAddress(va: bigint, pages: number, name: string): void {
  const last = va + BigInt(pages) * PAGE - 1n;
  const canonical = (n: bigint): boolean => BigInt.asUintN(64, BigInt.asIntN(48, n)) === n;
  if (!canonical(va) || !canonical(last) || va >> 47n !== last >> 47n)
    throw new KernelError(`ELF note ${name} ${hex(va)}: not ${pages} pages of canonical addresses`);
  const xenStart = BigInt.asUintN(64, BigInt(HYPERVISOR_VIRT_START));
  const xenEnd = BigInt.asUintN(64, BigInt(HYPERVISOR_VIRT_END));
  if (va < xenEnd && last >= xenStart)
    throw new KernelError(`ELF note ${name} ${hex(va)}: these addresses are Xen's own`);
}

/**
 * The end of the first mapping. The mapping holds what is allocated so far, its own page tables, the boot stack and
 * the padding, and ends on a 4 MiB boundary. More tables may need a larger mapping, which may in turn need more
 * tables.
 */
function endOfMapping(start: bigint, used: bigint): bigint {
  const extra = 1 + SLACK_PAGES;
  let pages = extra;
  for (;;) {
    const end = ((used + BigInt(pages) * PAGE) / FOUR_MIB + 1n) * FOUR_MIB;
    if (end > 1n << 64n)
      throw new KernelError(`the first mapping from ${hex(start)} runs past the last address`);
    const tables = new TablePlan();
    pages = extra + tables.add({ va: start, pages: Number((end - start) / PAGE), pfn: 0 }, 0, true);
    if (used + BigInt(pages) * PAGE <= end) return end;
  }
}
