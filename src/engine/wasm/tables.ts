/**
 * How this engine tracks changes of the page tables in use: when the hypervisor changes an entry, the translation in
 * the core's TLBs is recorded as stale; when it asks for a flush, stale translations are dropped.
 */
import { ALL_VCPUS, type EngineTables } from '../engine.js';
import type { LinearRam } from '../ram.js';
import type { Vcpu } from './vcpu.js';

/** The functions of the core that this needs. */
export interface TablesCore {
  flush(cpu: number): void;
  flushMode(cpu: number, mode: number): void;
  keepUpperHalf(cpu: number, before: number, after: number): number;
  invlpg(cpu: number, va: number): void;
  forbidWriting(frame: number): void;
  setEntry(table: number, index: number, level: number, lo: number, hi: number): void;
  flushStale(cpu: number): void;
}

export class WasmTables implements EngineTables {
  /** No vCPU has run since all translations were dropped, so there are none. */
  untouched = true;
  /** Address of each vCPU's area in the core. */
  private readonly areas: readonly number[];

  constructor(
    private readonly core: TablesCore,
    private readonly ram: LinearRam,
    private readonly vcpus: readonly Vcpu[],
  ) {
    this.areas = vcpus.map((v) => v.gprs);
  }

  typed(frame: number, _level: number): void {
    if (!this.untouched) this.core.forbidWriting(frame);
  }

  /** Translations without write access may stay: the next write walks the tables. */
  untyped(_frame: number): void {}

  setEntry(table: number, index: number, level: number, lo: number, hi: number): void {
    this.core.setEntry(table, index, level, lo | 0, hi | 0);
  }

  /** The kernel keeps its translations of the upper half of the address space if both tables map the same there. */
  loadRoot(vcpu: number, user: boolean, mfn: number): void {
    const v = this.vcpus[vcpu];
    const before = user ? v.cr3User : v.cr3Kernel;
    if (user) v.cr3User = mfn;
    else v.cr3Kernel = mfn;
    this.core.flushStale(v.gprs);
    if (mfn !== before && (user || !this.keepUpperHalf(v, before, mfn)))
      this.core.flushMode(v.gprs, user ? 1 : 0);
  }

  private keepUpperHalf(v: Vcpu, before: number, after: number): boolean {
    const from = this.ram.address(before);
    const to = this.ram.address(after);
    return from >= 0 && to >= 0 && this.core.keepUpperHalf(v.gprs, from, to) !== 0;
  }

  /** Translations that a page walk would find again stay. */
  flush(vcpus: number, va?: number): void {
    const { core, areas } = this;
    for (let left = vcpus, i = 0; left !== 0 && i < areas.length; left >>= 1, i++) {
      if ((left & 1) === 0) continue;
      if (va === undefined) core.flushStale(areas[i]);
      else core.invlpg(areas[i], va);
    }
  }

  /**
   * Drops all translations, also those for which no change was recorded: for callers that changed tables without
   * reporting it.
   */
  forget(vcpus = ALL_VCPUS): void {
    for (const v of this.vcpus) if ((vcpus >> v.id) & 1) this.core.flush(v.gprs);
  }
}
