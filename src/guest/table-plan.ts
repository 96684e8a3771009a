/**
 * Plans which page-table pages the initial mappings need and in which frames they lie, and writes their contents. The
 * tables of one mapping follow each other from the top level down, and within a level by address. A table that an
 * earlier mapping has made is shared.
 *
 * All page tables are mapped read-only, because Xen requires that for every page that is a page table.
 * Source: Xen, tools/libs/guest/xg_dom_x86.c (count_pgtables, setup_pgtables_pv).
 */
import type { LinearMemory } from '../xen/memory.js';
import { PTE_ACCESSED, PTE_DIRTY, PTE_PRESENT, PTE_RW, PTE_USER } from '../xen/paging.js';

/** A virtual range that is mapped to consecutive frames. */
export interface Mapping {
  readonly va: bigint;
  readonly pages: number;
  readonly pfn: number;
}

interface Table {
  /** 1 to 4. */
  readonly level: number;
  /** The first virtual address that it covers, as 48 bits. */
  readonly va: bigint;
  readonly pfn: number;
}

const LEAF = PTE_PRESENT | PTE_RW | PTE_ACCESSED;
const BRANCH = PTE_PRESENT | PTE_RW | PTE_ACCESSED | PTE_DIRTY | PTE_USER;
const ADDRESS_BITS = 48n;
const TOP = 4;

/** How many bytes one table of a level covers. */
const reach = (level: number): bigint => 1n << BigInt(12 + 9 * level);
const key = (level: number, va: bigint): string => `${level} ${va}`;

export class TablePlan {
  private readonly byAddress = new Map<string, Table>();

  get all(): Table[] {
    return [...this.byAddress.values()];
  }

  /**
   * Adds the tables of a mapping, in frames from `pfn` on. Returns how many were new. The first mapping also adds the
   * top table.
   */
  add(mapping: Mapping, pfn: number, withTop: boolean): number {
    let next = pfn;
    const first = BigInt.asUintN(48, mapping.va);
    const last = first + BigInt(mapping.pages) * 4096n - 1n;
    if (withTop) this.byAddress.set(key(TOP, 0n), { level: TOP, va: 0n, pfn: next++ });
    for (let level = TOP - 1; level >= 1; level--) {
      const size = reach(level);
      for (let va = (first / size) * size; va <= last && va < 1n << ADDRESS_BITS; va += size) {
        if (this.byAddress.has(key(level, va))) continue;
        this.byAddress.set(key(level, va), { level, va, pfn: next++ });
      }
    }
    return next - pfn;
  }

  private entry(level: number, va: bigint): { table: Table; index: number } {
    const size = reach(level);
    const table = this.byAddress.get(key(level, level === TOP ? 0n : (va / size) * size))!;
    return { table, index: Number((va - table.va) / reach(level - 1)) };
  }

  /**
   * Writes all tables. `address(pfn)` is where a frame lies in `mem`; `mfn(pfn)` is its number in page-table entries.
   */
  write(
    mem: LinearMemory,
    mappings: readonly Mapping[],
    address: (pfn: number) => number,
    mfn: (pfn: number) => number,
  ): void {
    const put = (at: number, frame: number, flags: number): void => {
      mem.setU64(at, frame * 4096 + flags);
    };
    const tables = this.all;
    const isTable = new Set(tables.map((t) => t.pfn));
    for (const t of tables) {
      if (t.level === TOP) continue;
      const { table, index } = this.entry(t.level + 1, t.va);
      put(address(table.pfn) + 8 * index, mfn(t.pfn), BRANCH);
    }
    for (const m of mappings) {
      let va = BigInt.asUintN(48, m.va);
      let at = 0;
      for (let i = 0; i < m.pages; i++, va += 4096n, at += 8) {
        if (i === 0 || va % reach(1) === 0n) {
          const { table, index } = this.entry(1, va);
          at = address(table.pfn) + 8 * index;
        }
        const pfn = m.pfn + i;
        put(at, mfn(pfn), isTable.has(pfn) ? LEAF & ~PTE_RW : LEAF);
      }
    }
  }
}
