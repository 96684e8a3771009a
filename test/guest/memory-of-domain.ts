/**
 * The memory of a bare machine for the domain builder, and a page-table walk in it that is independent of the builder:
 * it starts at the frame in cr3 and follows entries as a processor does.
 */
import { FrameMap, LinearRam } from '../../src/engine/ram.js';
import {
  type BuildTarget,
  type BuiltDomain,
  buildDomain,
  type LoadedImage,
} from '../../src/guest/builder.js';
import { LinearMemory } from '../../src/xen/memory.js';

/** The machine frame number of pseudo-physical frame `pfn`. */
export const mfn = (pfn: number): number => 0x100000 + pfn;
const GUARD = 65536;
const GUARD_BYTE = 0x5a;

export function target(megabytes: number): BuildTarget {
  const ramFrames = megabytes * 256;
  const mem = new LinearMemory(new ArrayBuffer(GUARD + ramFrames * 4096 + GUARD));
  mem.u8.fill(GUARD_BYTE, 0, GUARD);
  mem.u8.fill(GUARD_BYTE, GUARD + ramFrames * 4096);
  return {
    ram: new LinearRam(mem, FrameMap.whole(ramFrames), GUARD),
    ramFrames,
    sharedInfoMfn: mfn(ramFrames),
    storePort: 1,
    consolePort: 2,
  };
}

/** True as long as nothing outside the guest's RAM has changed. */
export function guardsIntact(t: BuildTarget): boolean {
  const all = (from: number, to: number): boolean =>
    t.ram.mem.u8.subarray(from, to).every((b) => b === GUARD_BYTE);
  return all(0, GUARD) && all(GUARD + t.ramFrames * 4096, t.ram.mem.u8.length);
}

export interface Built extends BuiltDomain {
  readonly target: BuildTarget;
  /**
   * Returns what maps a virtual address: the frame, and the entries' flags at levels 4 to 1. Undefined: it is not
   * mapped.
   */
  walk(va: bigint): { pfn: number; flags: bigint[] } | undefined;
  /** Returns bytes at a virtual address within one page. */
  at(va: bigint, length: number): Uint8Array;
  u64(va: bigint): bigint;
  u32(va: bigint): number;
}

export function build(image: LoadedImage, t: BuildTarget): Built {
  const built = buildDomain(t, image);
  const address = (pfn: number): number => t.ram.linearOf(pfn);
  const walk: Built['walk'] = (va) => {
    let table = built.cr3 as number;
    const flags: bigint[] = [];
    for (let level = 4n; level >= 1n; level--) {
      const index = Number((va >> (12n + 9n * (level - 1n))) & 511n);
      const entry = t.ram.mem.getBig(t.ram.address(table) + 8 * index);
      if ((entry & 1n) === 0n) return undefined;
      table = Number((entry >> 12n) & 0xff_ffff_ffffn);
      flags.push(entry & 0xfff0_0000_0000_0fffn);
    }
    return { pfn: t.ram.frameOf(table), flags };
  };
  const where = (va: bigint): number => {
    const found = walk(va);
    if (found === undefined) throw new Error(`nothing at 0x${va.toString(16)}`);
    return address(found.pfn) + Number(va & 0xfffn);
  };
  return {
    ...built,
    target: t,
    walk,
    at: (va, length) => t.ram.mem.u8.slice(where(va), where(va) + length),
    u64: (va) => t.ram.mem.getBig(where(va)),
    u32: (va) => t.ram.mem.getU32(where(va)),
  };
}
