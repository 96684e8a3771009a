/**
 * The table of machine frames: who owns each, and whether it is a page table and of which level.
 *
 * Invariant: `typeOf(f)` is a level 1 to 4 exactly while `count(f)` > 0, and the count is the number of pins,
 * base pointers and present entries in typed tables of the next level that hold it. Only what is typed is ever
 * written through page-table emulation, so a stale mark would corrupt memory.
 * Frames are indexes, not machine frame numbers: the guest's RAM first, then the frames that belong to Xen.
 * Source: struct page_info and get_page_type/put_page_type of xen/arch/x86/mm.c.
 */

/** What a frame is to the guest. */
export enum Owner {
  /** Not in the guest's reservation: given back through the balloon, or never taken. */
  free = 0,
  /** The guest's own RAM. */
  guest = 1,
  /** Belongs to Xen and is shared writable: shared_info and the grant table. */
  shared = 2,
  /** Belongs to Xen alone: the machine-to-physical table and the page tables that map it. */
  xen = 3,
}

/** So many frames, one after the other, of one owner. */
export interface FrameRun {
  readonly count: number;
  readonly owner: Owner;
}

export class FrameTable {
  readonly owner: Uint8Array;
  readonly type: Uint8Array;
  readonly pinned: Uint8Array;
  readonly count: Uint32Array;
  /**
   * Of tables that name tables of their own level, other than themselves (linear page tables): how many entries do; of
   * tables that are named so, by how many entries, negative. No table is both. Hardly any guest has one.
   */
  readonly linear = new Map<number, number>();
  /** Xen's and back ends' own writable uses of the frame: while there are any, it cannot become a page table. */
  readonly writers: Uint16Array;
  /** Frames of the guest's reservation (tot_pages). */
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

  /** Counts linear entries of a frame, or, negative, to it. */
  addLinear(frame: number, by: number): void {
    const count = (this.linear.get(frame) ?? 0) + by;
    if (count === 0) this.linear.delete(frame);
    else this.linear.set(frame, count);
  }

  /**
   * All owners as runs, from frame 0 on. Here and in `tables` the search is the engine's own `indexOf`: a guest stands
   * still meanwhile, in a process that may never have done this before.
   */
  runs(): FrameRun[] {
    const { owner } = this;
    const next = [-1, -1, -1, -1];
    const runs: FrameRun[] = [];
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

  /** Sets all owners; the runs must be as long as the table. */
  setRuns(runs: readonly FrameRun[]): void {
    let at = 0;
    this.owned = 0;
    for (const { count, owner } of runs) {
      this.owner.fill(owner, at, at + count);
      if (owner === Owner.guest) this.owned += count;
      at += count;
    }
  }

  /** Frames that are page tables, in order. */
  tables(): number[] {
    const found: number[] = [];
    for (let level = 1; level <= 4; level++) {
      for (let f = this.type.indexOf(level); f >= 0; f = this.type.indexOf(level, f + 1)) found.push(f);
    }
    return found.sort((x, y) => x - y);
  }

  /** Forgets all types, pins and uses: the start of a restore. */
  clearTypes(): void {
    this.type.fill(0);
    this.pinned.fill(0);
    this.count.fill(0);
    this.linear.clear();
    this.writers.fill(0);
  }
}
