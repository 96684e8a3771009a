/**
 * The guest's console in its process: a log file of bounded size, and the latest output for clients that attach.
 * Invariant: the guest never waits for a reader or for the disk; if there is too much output, the oldest is lost.
 */
import { createWriteStream, readFileSync, renameSync, statSync, type WriteStream } from 'node:fs';

const KEPT_BYTES = 64 << 10;
/** How much is remembered while a guest moves, bytes. */
const FOLLOWED_BYTES = 1 << 20;
/** How long a slow disk may delay the news of a guest's end, ms. */
const FLUSH_MS = 1_000;
const LOG_BYTES = 4 << 20;
/** How much output may wait for a slow disk, bytes; more than that is not logged. */
const MAX_UNWRITTEN_BYTES = 1 << 20;

export class ConsoleKeeper {
  private kept: Uint8Array[] = [];
  private keptBytes = 0;
  private file: WriteStream;
  private written: number;
  private following: Uint8Array[] | undefined;
  private followedBytes = 0;

  constructor(private readonly path: string) {
    this.file = this.open();
    this.written = sizeOf(path);
  }

  take(bytes: Uint8Array): void {
    if (this.following !== undefined && this.followedBytes < FOLLOWED_BYTES) {
      this.following.push(bytes.slice());
      this.followedBytes += bytes.length;
    }
    this.kept.push(bytes.slice());
    this.keptBytes += bytes.length;
    while (this.keptBytes - this.kept[0].length >= KEPT_BYTES) this.keptBytes -= this.kept.shift()!.length;
    if (this.file.writableLength > MAX_UNWRITTEN_BYTES) return;
    this.written += bytes.length;
    // A disk that was full may have room again.
    if (this.file.destroyed) this.file = this.open();
    this.file.write(bytes);
    if (this.written < LOG_BYTES) return;
    // One earlier log is kept besides the current one.
    this.file.end();
    try {
      renameSync(this.path, `${this.path}.1`);
    } catch {
      // Then the current log grows further.
    }
    this.file = this.open();
    this.written = 0;
  }

  /** Resolves when all output so far is in the log, or when that takes too long. */
  flushed(): Promise<void> {
    const { file } = this;
    if (file.destroyed || file.writableLength === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, FLUSH_MS);
      file.write('', () => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  /** Takes what the guest has printed in an earlier process. */
  earlier(bytes: Uint8Array): void {
    this.take(bytes);
  }

  /** All that is in the logs. To be called when it is flushed. */
  history(): Buffer {
    const read = (path: string): Buffer => {
      try {
        return readFileSync(path);
      } catch {
        return Buffer.alloc(0);
      }
    };
    return Buffer.concat([read(`${this.path}.1`), read(this.path)]);
  }

  /** From now on, what the guest prints is also remembered for `followed`, up to FOLLOWED_BYTES. */
  follow(): void {
    this.following = [];
    this.followedBytes = 0;
  }
  /** What was printed since `follow`. */
  followed(): Buffer {
    const all = Buffer.concat(this.following ?? []);
    this.following = undefined;
    return all;
  }

  latest(): Buffer {
    return Buffer.concat(this.kept);
  }

  private open(): WriteStream {
    const file = createWriteStream(this.path, { flags: 'a', mode: 0o600 });
    // If the disk is full the log is incomplete; the guest is not affected.
    file.on('error', () => {});
    return file;
  }
}

function sizeOf(path: string): number {
  try {
    return statSync(path).size;
  } catch {
    return 0;
  }
}
