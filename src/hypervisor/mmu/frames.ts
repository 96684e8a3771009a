/**
 * The table of machine frames: who owns each, and whether it is a page table and of which level.
 *
 * Invariant: `typeOf(f)` is a level from 1 to 4 exactly while `count(f)` > 0. The count is the number of pins, base
 * pointers and present entries in typed tables of the next level that refer to the frame. Only typed frames are
 * written through page-table emulation, so a wrong type would corrupt memory. Frames are given by index, not by
 * machine frame number: first the guest's RAM, then the frames that belong to Xen.
 * Source: struct page_info and get_page_type/put_page_type of xen/arch/x86/mm.c.
 */

/** The relation of a frame to the guest. */
export enum Owner {
  /** Not in the guest's reservation: returned through the balloon driver, or never allocated. */
  free = 0,
  /** The guest's own RAM. */
  guest = 1,
  /** Belongs to Xen and is shared writable: shared_info and the grant table. */
  shared = 2,
  /** Belongs to Xen and is not shared: the machine-to-physical table and the page tables that map it. */
  xen = 3,
}

/** A run of adjacent frames with the same owner. */
export interface OwnerRun {
  readonly count: number;
  readonly owner: Owner;
}

export class FrameTable {
  readonly owner: Uint8Array;
  readonly type: Uint8Array;
  readonly pinned: Uint8Array;
  readonly count: Uint32Array;
  /**
   * Linear page tables, that is, tables with entries that name another table of their own level. For such a table,
   * the number of those entries; for a table that is named in that way, the negated number of entries that name it.
   * No table is both. Hardly any guest has one.
   */
  readonly linear = new Map<number, number>();
  /** Writable uses of the frame by Xen and by back ends. While there are any, it cannot become a page table. */
  readonly writers: Uint16Array;
  /** The number of frames in the guest's reservation (tot_pages). */
  owned = 0;

  constructor(readonly frames: number) {
    this.owner = new Uint8Array(frames);
    this.type = new Uint8Array(frames);
    this.pinned = new Uint8Array(frames);
    this.count = new Uint32Array(frames);
    this.writers = new Uint16Array(frames);
  }

  setOwner(frame: number, owner: Owner): void {
    if (this.owner[frame] === Owner.guest) this.owned--;
    if (owner === Owner.guest) this.owned++;
    this.owner[frame] = owner;
  }

  /** Adds to the number of linear entries of a frame, or, if negative, of those that name it. */
  addLinear(frame: number, by: number): void {
    const count = (this.linear.get(frame) ?? 0) + by;
    if (count === 0) this.linear.delete(frame);
    else this.linear.set(frame, count);
  }

  /**
   * All owners as runs, from frame 0 on. This method and `tables` use the built-in `indexOf`: the guest is stopped
   * meanwhile, and this code may run for the first time in its process.
   */
  runs(): OwnerRun[] {
    const { owner } = this;
    const next = [-1, -1, -1, -1];
    const runs: OwnerRun[] = [];
    for (let at = 0; at < owner.length; at += runs[runs.length - 1].count) {
      let end = owner.length;
      for (let other = Owner.free; other <= Owner.xen; other++) {
        if (other === owner[at]) continue;
        if (next[other] < at) {
          const found = owner.indexOf(other, at);
          next[other] = found < 0 ? owner.length : found;
        }
        end = Math.min(end, next[other]);
      }
      runs.push({ count: end - at, owner: owner[at] });
    }
    return runs;
  }

  /** Sets all owners. The runs must cover the whole table. */
  setRuns(runs: readonly OwnerRun[]): void {
    let at = 0;
    this.owned = 0;
    for (const { count, owner } of runs) {
      this.owner.fill(owner, at, at + count);
      if (owner === Owner.guest) this.owned += count;
      at += count;
    }
  }

  /** The frames that are page tables, in order. */
  tables(): number[] {
    const found: number[] = [];
    for (let level = 1; level <= 4; level++) {
      for (let f = this.type.indexOf(level); f >= 0; f = this.type.indexOf(level, f + 1)) found.push(f);
    }
    return found.sort((x, y) => x - y);
  }

  /** Clears all types, pins and uses, at the start of a restore. */
  clearTypes(): void {
    this.type.fill(0);
    this.pinned.fill(0);
    this.count.fill(0);
    this.linear.clear();
    this.writers.fill(0);
  }
}
