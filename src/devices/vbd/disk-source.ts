/**
 * The contents of a disk for a copy, while its guest goes on writing.
 * Invariant: a block is read after it was taken from the log, and a write is noted after it was done; so what a write
 * changed is read after it or is noted again. Writes that a link gave up go with the guest and are done again there.
 */
import { ACCESS_BYTES, DiskAccess } from './disk-access.js';
import type { Vbd } from './vbd.js';
import { type Run, WrittenLog } from './written-log.js';

/** Buffers in turn: one is read into while the other is sent. */
const BUFFERS = 2;

export class DiskSource {
  private constructor(
    private readonly vbd: Vbd,
    private readonly access: DiskAccess,
    private readonly log: WrittenLog,
    readonly bytes: number,
  ) {}

  /** From here on writes are noted. Rejects where the disk's link cannot be read beside the guest. */
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

  /** Once over the disk: each block that is noted when its turn comes goes to `block`. The data is reused after it. */
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
