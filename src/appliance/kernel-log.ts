/**
 * What the helper's own Linux warns of, for the log that dom0 can read: why it cannot be suspended, or a disk that fails.
 * Source: Linux, Documentation/ABI/testing/dev-kmsg: each read returns one record, "PRIORITY,NUMBER,US,FLAGS;TEXT" and
 * lines of more about it that begin with a space; EPIPE tells of records that were overwritten, EAGAIN that there is none.
 */
import { closeSync, constants, openSync, readSync } from 'node:fs';

const LOOK_MS = 2000;
const MAX_RECORD = 8192;
/** Of records at one look: more of them are passed over. */
const MOST = 32;
/** KERN_WARNING; less is worse. The facility is in the bits above. */
const WARNING = 4;
const FACILITY_SHIFT = 3;

/** Reads one record into the buffer: its length. Throws as readSync does. */
type ReadRecord = (buffer: Buffer) => number;

export class KernelLog {
  private readonly buffer = Buffer.alloc(MAX_RECORD);
  private readonly timer: NodeJS.Timeout;

  /** What has been said so far is passed over: it is of the boot. */
  constructor(
    private readonly read: ReadRecord,
    private readonly log: (line: string) => void,
  ) {
    while (this.next() !== undefined);
    this.timer = setInterval(() => this.look(), LOOK_MS).unref();
  }

  /** Follows the log in the file `path`. Returns what ends that. Without such a file nothing is followed. */
  static follow(path: string, log: (line: string) => void): () => void {
    let fd: number;
    try {
      fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch {
      return () => {};
    }
    const followed = new KernelLog((buffer) => readSync(fd, buffer, 0, buffer.length, null), log);
    return () => {
      followed.close();
      closeSync(fd);
    };
  }

  close(): void {
    clearInterval(this.timer);
  }

  private look(): void {
    for (let told = 0; ; ) {
      const record = this.next();
      if (record === undefined) return;
      const [, prefix, text] = /^(\d+),[^;]*;(.*)/.exec(record) ?? [];
      const priority = Number(prefix);
      if (text === undefined || priority >> FACILITY_SHIFT !== 0 || priority > WARNING) continue;
      if (told++ < MOST) this.log(`the helper's Linux: ${text}`);
    }
  }

  private next(): string | undefined {
    // The next reading after EPIPE begins with the oldest record that is left.
    for (let lost = 0; lost < 2; lost++) {
      try {
        const length = this.read(this.buffer);
        return length === 0 ? undefined : this.buffer.toString('utf8', 0, length);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EPIPE') return undefined;
      }
    }
    return undefined;
  }
}
