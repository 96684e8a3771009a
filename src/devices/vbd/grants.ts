/**
 * The pages that a disk's front end has granted: they are mapped for one request, or kept mapped (persistent grants).
 *
 * Invariant: every grant is unmapped as often as it is mapped. A kept grant stays mapped for writing until `clear`.
 * Source: xen/include/public/io/blkif.h (feature-persistent); Linux, drivers/block/xen-blkback/blkback.c.
 */
import type { GuestAccess } from '../guest-access.js';

/** More grant references than a grant table of 64 frames has. */
const MAX_REFS = 65_536;

export class GrantedPages {
  /**
   * The linear address of each kept grant, or 0 if the grant is not kept: page 0 of linear memory is never a guest's.
   */
  private readonly kept = new Uint32Array(MAX_REFS);
  private readonly refs: number[] = [];
  /** How many grants may be kept; 0 without persistent grants. */
  limit = 0;

  constructor(private readonly access: GuestAccess) {}

  /**
   * Returns the linear address of a granted page, or a negative number for a bad grant. `write` says that the back
   * end will write into the page.
   */
  map(ref: number, write: boolean): number {
    if (ref < MAX_REFS) {
      const address = this.kept[ref];
      if (address !== 0) return address;
      if (this.refs.length < this.limit) return this.keep(ref);
    }
    return this.access.grantMap(ref, write);
  }

  private keep(ref: number): number {
    const address = this.access.grantMap(ref, true);
    if (address > 0) {
      this.kept[ref] = address;
      this.refs.push(ref);
    }
    return address;
  }

  isKept(ref: number): boolean {
    return ref < MAX_REFS && this.kept[ref] !== 0;
  }

  /** Undoes one call of `map`. */
  unmap(ref: number, write: boolean): void {
    if (!this.isKept(ref)) this.access.grantUnmap(ref, write);
  }

  /** Unmaps all kept grants. */
  clear(): void {
    for (const ref of this.refs) {
      this.access.grantUnmap(ref, true);
      this.kept[ref] = 0;
    }
    this.refs.length = 0;
    this.limit = 0;
  }

  keptRefs(): readonly number[] {
    return this.refs;
  }
  /** Takes over grants that are already mapped. Returns false if one of them is not. */
  restore(refs: readonly number[]): boolean {
    for (const ref of refs) {
      const address = ref < MAX_REFS ? this.access.grantMapped(ref) : -1;
      if (address <= 0) return false;
      this.kept[ref] = address;
      this.refs.push(ref);
    }
    return true;
  }
}
