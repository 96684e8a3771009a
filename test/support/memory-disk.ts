/** A disk in memory whose link answers when the test tells it to, in the order that the test gives. */
import {
  DISK_DISCARD,
  DISK_READ,
  DISK_WRITE,
  type DiskClient,
  type DiskGeometry,
  type DiskLink,
  type DiskTransfer,
} from '../../src/devices/vbd/disk-link.js';
import type { LinearMemory } from '../../src/xen/memory.js';

export interface Operation {
  readonly operation: number;
  readonly sector: number;
  readonly sectors: number;
}

export class MemoryLink implements DiskLink {
  readonly name = 'memory';
  readonly geometry: DiskGeometry;
  readonly taken: DiskTransfer[] = [];
  /** The transfers that were done, in order. */
  readonly done: Operation[] = [];
  /** The errno with which the next transfers fail. */
  failing = 0;
  held = true;
  closed = false;
  /** If true, it answers by itself at the next `commit`. */
  private client: DiskClient | undefined;
  private memory: LinearMemory | undefined;

  constructor(
    readonly contents: Uint8Array,
    geometry: Partial<DiskGeometry> = {},
    readonly automatic = false,
  ) {
    this.geometry = {
      sectors: contents.length / 512,
      sectorBytes: 512,
      physicalSectorBytes: 512,
      readOnly: false,
      discard: { granularity: 4096, alignment: 0 },
      ...geometry,
    };
  }

  begin(client: DiskClient, memory: LinearMemory): void {
    this.client = client;
    this.memory = memory;
  }
  submit(transfer: DiskTransfer): void {
    if (this.closed || !this.held) throw new Error('a transfer for a link that is not there');
    this.taken.push(transfer);
  }
  commit(): void {
    if (this.automatic && this.taken.length > 0) queueMicrotask(() => this.finish(this.taken.length));
  }
  poll(): void {}

  /** Does and answers the transfer at an index in `taken`, as a batch of its own. */
  finishOne(place: number): void {
    const [transfer] = this.taken.splice(place % this.taken.length, 1);
    this.client?.done(transfer, this.run(transfer));
    this.client?.batchDone();
  }
  /** Does and answers the oldest `count` in one batch. */
  finish(count: number): void {
    for (const transfer of this.taken.splice(0, count)) this.client?.done(transfer, this.run(transfer));
    this.client?.batchDone();
  }

  /** Does what a transfer asks without answering it, like a host that dies before it can answer. */
  runOnly(place: number): void {
    this.run(this.taken[place % this.taken.length]);
  }

  private run(t: DiskTransfer): number {
    this.done.push({ operation: t.operation, sector: t.sector, sectors: t.sectors });
    if (this.failing !== 0) return this.failing;
    const u8 = (this.memory as LinearMemory).u8;
    if (t.operation === DISK_DISCARD) this.contents.fill(0, t.sector * 512, (t.sector + t.sectors) * 512);
    if (t.operation !== DISK_READ && t.operation !== DISK_WRITE) return 0;
    let at = t.sector * 512;
    for (let i = 0; i < t.nrExtents; i++) {
      const [from, length] = [t.address[i], t.length[i]];
      if (at + length > this.contents.length) throw new Error('a transfer beyond the end of the disk');
      if (t.operation === DISK_READ) u8.set(this.contents.subarray(at, at + length), from);
      else this.contents.set(u8.subarray(from, from + length), at);
      at += length;
    }
    if (at !== (t.sector + t.sectors) * 512) throw new Error('extents are not as long as the transfer');
    return 0;
  }

  async quiesce(): Promise<void> {
    this.taken.length = 0;
  }
  async release(): Promise<void> {
    this.held = false;
  }
  async acquire(): Promise<void> {
    this.held = true;
  }
  async later(): Promise<void> {}
  async close(): Promise<void> {
    this.closed = true;
  }
  async another(): Promise<DiskLink> {
    return new MemoryLink(this.contents, { ...this.geometry, readOnly: true }, true);
  }
}
