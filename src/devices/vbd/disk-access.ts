/** Reads and writes a disk through a link, with buffers of our own: a disk is copied this way, without its guest. */
import { LinearMemory } from '../../xen/memory.js';
import {
  DISK_FLUSH,
  DISK_READ,
  DISK_WRITE,
  type DiskClient,
  type DiskLink,
  type DiskOperation,
  DiskTransfer,
} from './disk-link.js';

/** Linux errno values whose cause an administrator can remove. */
const ERRORS: Readonly<Record<number, string>> = {
  5: 'EIO, input/output error',
  27: 'EFBIG, file too large',
  28: 'ENOSPC, no space left on device',
  30: 'EROFS, read-only file system',
  122: 'EDQUOT, disk quota exceeded',
};
const describe = (status: number): string => ERRORS[status] ?? `error ${status}`;

/** The longest transfer, in bytes. */
export const ACCESS_BYTES = 1 << 20;

class Access extends DiskTransfer {
  settle: (status: number) => void = () => undefined;
}

export class DiskAccess implements DiskClient<Access> {
  /** `buffers` buffers of ACCESS_BYTES each. Each serves one transfer at a time. */
  private readonly memory: LinearMemory;

  constructor(
    readonly link: DiskLink,
    buffers: number,
    log: (line: string) => void,
  ) {
    this.memory = new LinearMemory(new SharedArrayBuffer(buffers * ACCESS_BYTES));
    link.begin(this as DiskClient, this.memory, log);
  }

  /** The first `bytes` of a buffer, as a view of shared memory. */
  buffer(index: number, bytes: number): Uint8Array {
    return this.memory.bytes(index * ACCESS_BYTES, bytes);
  }

  /** Fills the buffer from the disk. `at` and `bytes` are multiples of 512. */
  read(index: number, at: number, bytes: number): Promise<void> {
    return this.transfer(DISK_READ, index, at, bytes);
  }
  write(index: number, at: number, bytes: number): Promise<void> {
    return this.transfer(DISK_WRITE, index, at, bytes);
  }
  flush(): Promise<void> {
    return this.transfer(DISK_FLUSH, 0, 0, 0);
  }

  private transfer(operation: DiskOperation, index: number, at: number, bytes: number): Promise<void> {
    const { link } = this;
    const transfer = new Access(1);
    transfer.operation = operation;
    transfer.sector = at / 512;
    transfer.sectors = bytes / 512;
    if (bytes > 0) transfer.addExtent(index * ACCESS_BYTES, bytes);
    return new Promise((resolve, reject) => {
      transfer.settle = (status) =>
        status === 0
          ? resolve()
          : reject(new Error(`disk ${link.name}: ${bytes} bytes at ${at}: ${describe(status)}`));
      link.submit(transfer);
      link.commit();
    });
  }

  done(transfer: Access, status: number): void {
    transfer.settle(status);
  }
  batchDone(): void {}

  async close(): Promise<void> {
    await this.link.quiesce();
    await this.link.close();
  }
}
