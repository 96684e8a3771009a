/**
 * The migration stream in a file, for `save` and `restore`. Invariant: under the requested name there is either the
 * complete image, on disk, or what was there before.
 */
import { open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { StreamSink } from './stream-writer.js';

export interface ImageFile {
  readonly sink: StreamSink;
  /** Makes the complete file durable under its name. */
  commit(): Promise<void>;
  /** Removes the unfinished file. */
  discard(): Promise<void>;
}

/**
 * Starts to write a file in the same directory as `path`. Its mode is 0600, because it contains all memory of a
 * guest.
 */
export async function createImage(path: string): Promise<ImageFile> {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.partial`);
  const file = await open(temporary, 'wx', 0o600);
  let closed = false;
  const close = async (): Promise<void> => {
    if (!closed) await file.close();
    closed = true;
  };
  return {
    async sink(bytes) {
      for (let at = 0; at < bytes.length; ) {
        const { bytesWritten } = await file.write(bytes, at, bytes.length - at);
        at += bytesWritten;
      }
    },
    async commit() {
      await file.sync();
      await close();
      await rename(temporary, path);
      const directory = await open(dirname(path), 'r');
      await directory.sync().finally(() => directory.close());
    },
    async discard() {
      await close();
      await rm(temporary, { force: true });
    },
  };
}

/** A file of a saved guest, to be read. */
export interface SavedImage {
  /** Fills `into` with what is there from byte `at` on; gives how many bytes that were. */
  read(into: Uint8Array, at: number): Promise<number>;
  /** Writes all from byte `start` on to the stream, and ends it. */
  copyTo(stream: Writable, start: number): Promise<void>;
  close(): Promise<void>;
}

export async function openImage(path: string): Promise<SavedImage> {
  const file = await open(path, 'r');
  return {
    read: async (into, at) => (await file.read(into, 0, into.length, at)).bytesRead,
    copyTo: (stream, start) =>
      pipeline(file.createReadStream({ start, highWaterMark: 1 << 20, autoClose: false }), stream),
    close: () => file.close(),
  };
}
