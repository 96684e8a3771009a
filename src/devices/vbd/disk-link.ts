/**
 * The interface between a disk's back end and the host's disk: it transfers data between the disk and pages of the
 * guest without a copy in between. The host (src/host) makes links and gives them to the back end. Each host makes
 * its own.
 */

import type { LinearMemory } from '../../xen/memory.js';

/** The operations of a link. */
export const DISK_READ = 0;
export const DISK_WRITE = 1;
/** Makes sure that every write that was answered before is on the medium. It has no extents. */
export const DISK_FLUSH = 2;
/** Says that the contents of these sectors are no longer needed. It has no extents. */
export const DISK_DISCARD = 3;

export type DiskOperation = 0 | 1 | 2 | 3;

/** The status that a link answers with: 0, or a positive errno of its host, which is logged. */
export type DiskStatus = number;

/** How long a link may take to quiesce, in ms. The guest is stopped during this time. */
export const QUIESCE_LIMIT_MS = 5_000;

export interface DiskGeometry {
  /** Size in sectors of 512 bytes. */
  readonly sectors: number;
  /** Logical and physical sector size of the medium, in bytes. */
  readonly sectorBytes: number;
  readonly physicalSectorBytes: number;
  readonly readOnly: boolean;
  /** Granularity and alignment of discards in bytes, or undefined if the link cannot discard. */
  readonly discard: { readonly granularity: number; readonly alignment: number } | undefined;
}

/** One transfer. It belongs to the back end, which lends it to a link from `submit` until `done`. */
export class DiskTransfer {
  operation: DiskOperation = DISK_READ;
  /** The first sector and the number of sectors, of 512 bytes each. */
  sector = 0;
  sectors = 0;
  /** Pieces of guest memory in order, as linear addresses and lengths in bytes. Together they are `sectors` long. */
  nrExtents = 0;
  readonly address: Uint32Array;
  readonly length: Uint32Array;
  /** For use by the link: the transfer's index in a table of the link. */
  slot = -1;

  constructor(maxExtents: number) {
    this.address = new Uint32Array(maxExtents);
    this.length = new Uint32Array(maxExtents);
  }

  /** Adds a piece of memory. A piece that follows directly on the last one is joined with it. */
  addExtent(address: number, length: number): void {
    const last = this.nrExtents - 1;
    if (last >= 0 && this.address[last] + this.length[last] === address) this.length[last] += length;
    else {
      this.address[this.nrExtents] = address;
      this.length[this.nrExtents++] = length;
    }
  }
}

/**
 * What a link calls when transfers are done. It never does so from within `submit`, but it may from within `commit`.
 */
export interface DiskClient<T extends DiskTransfer = DiskTransfer> {
  done(transfer: T, status: DiskStatus): void;
  /** Called after one or several calls of `done`. */
  batchDone(): void;
}

export interface DiskLink {
  readonly geometry: DiskGeometry;
  /** The path or address, for messages. */
  readonly name: string;
  /**
   * Called before the first transfer. `client` is told of finished transfers, `memory` holds their extents, and `log`
   * gets messages about failures.
   */
  begin(client: DiskClient, memory: LinearMemory, log: (line: string) => void): void;
  /** Accepts a transfer. The link may wait for `commit` before it starts it, and may finish transfers in any order. */
  submit(transfer: DiskTransfer): void;
  /** Starts what was submitted. */
  commit(): void;
  /**
   * Reports the transfers that have finished by now, so that a busy thread need not return to its event loop for
   * that.
   */
  poll(): void;
  /**
   * Resolves when no submitted transfer will change memory or the disk any more. Transfers that could not be finished
   * are given up: their `done` is not called, and they have to be submitted again. Rejects if this cannot be reached
   * within QUIESCE_LIMIT_MS, because a write that the server or the host's file system has not answered may still
   * reach the disk. In that case nothing is given up, and all transfers go on as if `quiesce` had not been called.
   */
  quiesce(): Promise<void>;
  /**
   * Releases the disk and its lock, so that another host can take it. It is called after `quiesce`. Rejects if the
   * link cannot know whether the disk is released. `acquire` may follow in both cases.
   */
  release(): Promise<void>;
  /** Takes the disk back. Rejects if somebody else has it. */
  acquire(): Promise<void>;
  /** Resolves after a delay, before the next attempt to acquire the disk. */
  later(): Promise<void>;
  /** Closes the link for good. It is called after `quiesce`. */
  close(): Promise<void>;
  /** Opens the same disk a second time for reading beside this link, without a lock of its own. */
  another?(): Promise<DiskLink>;
}
