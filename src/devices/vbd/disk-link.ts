/**
 * The seam between a disk's back end and what the host has: transfers between a disk and pages of the guest, in
 * place. Links are made by the host (src/host) and given to the back end, another one on every host.
 */

import type { LinearMemory } from '../../xen/memory.js';

/** What a link is asked to do. */
export const DISK_READ = 0;
export const DISK_WRITE = 1;
/** All that was answered before is on the medium. No extents. */
export const DISK_FLUSH = 2;
/** The contents of these sectors are not needed any more. No extents. */
export const DISK_DISCARD = 3;

export type DiskOperation = 0 | 1 | 2 | 3;

/** Status that a link answers with: 0, or the errno of its host (positive) for the log. */
export type DiskStatus = number;

/** Longest that a link may take to quiesce, ms: the guest stands still meanwhile. */
export const QUIESCE_LIMIT_MS = 5_000;

export interface DiskGeometry {
  /** Size in sectors of 512 bytes. */
  readonly sectors: number;
  /** Logical and physical sector size of the medium in bytes. */
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly readOnly: boolean;
  /** Granularity and alignment of discards in bytes; undefined: none can be done. */
  readonly discard: { readonly granularity: number; readonly alignment: number } | undefined;
}

/** One transfer. It belongs to the back end, which lends it to a link from `submit` to `done`. */
export class DiskTransfer {
  operation: DiskOperation = DISK_READ;
  /** First sector, and how many, of 512 bytes. */
  sector = 0;
  sectors = 0;
  /** Pieces of guest memory in order, as linear addresses and lengths in bytes; together `sectors` long. */
  nrExtents = 0;
  readonly address: Uint32Array;
  readonly length: Uint32Array;
  /** For links: the transfer's place in a table of theirs. */
  slot = -1;

  constructor(maxExtents: number) {
    this.address = new Uint32Array(maxExtents);
    this.length = new Uint32Array(maxExtents);
  }

  /** Adds memory; neighbours become one piece. */
  addExtent(address: number, length: number): void {
    const last = this.nrExtents - 1;
    if (last >= 0 && this.address[last] + this.length[last] === address) this.length[last] += length;
    else {
      this.address[this.nrExtents] = address;
      this.length[this.nrExtents++] = length;
    }
  }
}

/** Told by a link, never from within `submit`; from within `commit` it may be. */
export interface DiskClient<T extends DiskTransfer = DiskTransfer> {
  done(transfer: T, status: DiskStatus): void;
  /** After one or several `done`. */
  batchDone(): void;
}

export interface DiskLink {
  readonly geometry: DiskGeometry;
  /** For people: path or address. */
  readonly name: string;
  /** Before the first transfer: who is told, the memory that extents are in, and where failures are named. */
  begin(client: DiskClient, memory: LinearMemory, log: (line: string) => void): void;
  /** Takes a transfer; it may wait until `commit`. Transfers may be done in any order. */
  submit(transfer: DiskTransfer): void;
  /** What was submitted is to be begun. */
  commit(): void;
  /** Answers what is done by now, so that a busy thread need not wait for its event loop. */
  poll(): void;
  /**
   * Resolves when nothing that was submitted changes memory or the disk any more, now or later. What could not be
   * finished is given up: its `done` is not called, and it has to be submitted again. Rejects where that cannot be had
   * within QUIESCE_LIMIT_MS: a write that its server or the host's file system has, and has not answered, may yet reach
   * the disk. Then nothing is given up, and all goes on as if it had not been asked.
   */
  quiesce(): Promise<void>;
  /**
   * Lets go of the disk and of its lock, after `quiesce`; another host may take it. Rejects where that cannot be known;
   * `acquire` may follow in both cases.
   */
  release(): Promise<void>;
  /** Takes it back. Rejects when somebody else has it. */
  acquire(): Promise<void>;
  /** Resolves after a while, for another attempt to acquire. */
  later(): Promise<void>;
  /** The end, after `quiesce`. */
  close(): Promise<void>;
  /** The same disk once more, to read beside this one, without a lock of its own. */
  another?(): Promise<DiskLink>;
}
