/**
 * Page tables in use, as this engine keeps up with them: what the core's TLBs know is out of date is noted entry by
 * entry when the hypervisor changes one, and is dropped when it asks for a flush.
 */
import { ALL_VCPUS, type EngineTables } from '../engine.js';
import type { LinearRam } from '../ram.js';
import type { Vcpu } from './vcpu.js';

/** What the core does for it. */
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
  /** No vCPU has run since all translations were dropped: there are none. */
  untouched = true;
  /** By vCPU, where the core has it. */
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

  /** Translations by which the frame cannot be written may stay: the next write looks at the tables. */
  untyped(_frame: number): void {}

  setEntry(table: number, index: number, level: number, lo: number, hi: number): void {
    this.core.setEntry(table, index, level, lo | 0, hi | 0);
  }

  /**
   * The kernel keeps its translations of the upper half of the address space if both tables show the guest the same
   * there.
   */
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

  /** Translations that a walk would find again stay. */
  flush(vcpus: number, va?: number): void {
    const { core, areas } = this;
    for (let left = vcpus, i = 0; left !== 0 && i < areas.length; left >>= 1, i++) {
      if ((left & 1) === 0) continue;
      if (va === undefined) core.flushStale(areas[i]);
      else core.invlpg(areas[i], va);
    }
  }

  /** Drops all translations, also those of which no change is known: for who has changed tables without a word. */
  forget(vcpus = ALL_VCPUS): void {
    for (const v of this.vcpus) if ((vcpus >> v.id) & 1) this.core.flush(v.gprs);
  }
}
