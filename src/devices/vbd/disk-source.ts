/**
 * Reads a disk for a copy while its guest goes on writing to it.
 *
 * Invariant: a block is taken from the log before it is read, and a write is noted in the log after it is done. So a
 * block that a write has changed is either read after the write or noted again. Writes that a link has given up move
 * with the guest and are done again at the destination.
 */
import { ACCESS_BYTES, DiskAccess } from './disk-access.js';
import type { Vbd } from './vbd.js';
import { type Run, WrittenLog } from './written-log.js';

/** The number of buffers. One is filled while another is sent. */
const BUFFERS = 2;

export class DiskSource {
  private constructor(
    private readonly vbd: Vbd,
    private readonly access: DiskAccess,
    private readonly log: WrittenLog,
    readonly bytes: number,
  ) {}

  /** Starts to note the guest's writes. Rejects if the disk's link cannot be opened a second time for reading. */
  static async open(vbd: Vbd, log: (line: string) => void): Promise<DiskSource> {
    const { attached, disk } = vbd;
    if (attached?.another === undefined || disk === undefined)
      throw new Error(`disk ${vbd.spec.vdev} cannot be copied`);
    const bytes = disk.sectors * 512;
    const written = new WrittenLog(bytes);
    vbd.written = written;
    try {
      return new DiskSource(vbd, new DiskAccess(await attached.another(), BUFFERS, log), written, bytes);
    } catch (error) {
      vbd.written = undefined;
      throw error;
    }
  }

  get pending(): number {
    return this.log.pending;
  }

  /**
   * Goes over the disk once and passes each block that is noted when its turn comes to `block`. The data is
   * overwritten after `block` has resolved.
   */
  async sweep(block: (at: number, data: Uint8Array) => Promise<void>): Promise<void> {
    let buffer = 0;
    let reading = this.next(0, buffer);
    for (let run = await reading; run !== undefined; run = await reading) {
      const data = this.access.buffer(buffer, run.bytes);
      buffer = (buffer + 1) % BUFFERS;
      reading = this.next(run.at + run.bytes, buffer);
      reading.catch(() => undefined);
      await block(run.at, data);
    }
  }

  private async next(from: number, buffer: number): Promise<Run | undefined> {
    const run = this.log.take(from, ACCESS_BYTES);
    if (run !== undefined) await this.access.read(buffer, run.at, run.bytes);
    return run;
  }

  async close(): Promise<void> {
    this.vbd.written = undefined;
    await this.access.close();
  }
}
