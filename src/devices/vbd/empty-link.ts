/** The link of a drive without a medium. */
import type { DiskClient, DiskGeometry, DiskLink, DiskTransfer } from './disk-link.js';

const ENOMEDIUM = 123;

export class EmptyLink implements DiskLink {
  readonly name = 'no medium';
  private client: DiskClient | undefined;
  readonly geometry: DiskGeometry = {
    sectors: 0,
    sectorBytes: 512,
    physicalSectorBytes: 512,
    readOnly: true,
    discard: undefined,
  };
  private readonly taken: DiskTransfer[] = [];

  begin(client: DiskClient): void {
    this.client = client;
  }
  submit(transfer: DiskTransfer): void {
    this.taken.push(transfer);
  }
  commit(): void {
    if (this.taken.length > 0) queueMicrotask(() => this.poll());
  }
  poll(): void {
    const all = this.taken.splice(0);
    for (const transfer of all) this.client?.done(transfer, transfer.sectors === 0 ? 0 : ENOMEDIUM);
    if (all.length > 0) this.client?.batchDone();
  }
  async quiesce(): Promise<void> {
    this.taken.length = 0;
  }
  async release(): Promise<void> {}
  async acquire(): Promise<void> {}
  async later(): Promise<void> {}
  async close(): Promise<void> {}
}
