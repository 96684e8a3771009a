/**
 * The connection to the xenstore of the real dom0, as an ordinary domain has it: Linux's /dev/xen/xenbus, a character
 * device that carries the protocol's messages (drivers/xen/xenbus/xenbus_dev_frontend.c). Relative paths are below the
 * domain's home, whatever its id is just now; after a resume the kernel sets all watches again, and they fire.
 *
 * Node cannot wait for such a device without one of libuv's four threads, which disks and networks need as well.
 * Therefore a thread of our own reads it. A read cannot be interrupted: to end it, a last request is written, whose
 * answer it gets.
 */
import { closeSync, constants, openSync, statSync, writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { WORKER_LIMITS } from '../../os/worker-limits.js';
import { XS_READ } from '../../xen/xs-wire.js';
import { type ByteChannel, XenstoreClient } from '../../xenstore/client.js';
import { encodeMessage } from '../../xenstore/wire/message.js';
import type { XenbusReaderData } from './xenbus-reader.js';

/** The request that ends the reader. No other has this number. */
const LAST = encodeMessage({ type: XS_READ, reqId: 0xffff_ffff, txId: 0, body: 'domid\0' });
/** A reader has little to remember, MB. */
const READER_LIMITS = { ...WORKER_LIMITS, maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 2 };

export class XenbusDevice implements ByteChannel {
  private readonly stop = new Int32Array(new SharedArrayBuffer(4));
  /** It keeps the program alive, which may have nothing else to do than to wait for an answer. */
  private readonly reader: Worker;
  private readonly exited: Promise<void>;
  private ended: (error: Error) => void = () => undefined;
  private open = true;

  constructor(private readonly fd: number) {
    const workerData: XenbusReaderData = { fd, stop: this.stop };
    this.reader = new Worker(new URL('./xenbus-reader.js', import.meta.url), {
      workerData,
      resourceLimits: READER_LIMITS,
    });
    this.exited = new Promise((resolve) => this.reader.once('exit', () => resolve()));
    // Node waits for its threads as it ends, and this one would wait for xenstore.
    process.once('exit', this.wakeReader);
  }

  write(bytes: Uint8Array): void {
    if (!this.open) return;
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.fd, bytes, done);
    } catch (error) {
      this.ended(error as Error);
    }
  }

  listen(received: (bytes: Uint8Array) => void, ended: (error: Error) => void): void {
    this.ended = ended;
    this.reader.on('message', received);
    this.reader.on('error', ended);
    this.reader.on('exit', () =>
      ended(Object.assign(new Error('xenstore: the connection has ended'), { code: 'ECONNRESET' })),
    );
  }

  async close(): Promise<void> {
    if (!this.open) return this.exited;
    this.wakeReader();
    process.off('exit', this.wakeReader);
    this.open = false;
    await this.exited;
    closeSync(this.fd);
  }

  destroy(): void {
    void this.close();
  }

  private readonly wakeReader = (): void => {
    Atomics.store(this.stop, 0, 1);
    this.write(LAST);
  };
}

/** Connects to a xenbus device, or to the unix socket of a xenstored. */
export async function connectXenbus(path: string): Promise<XenstoreClient> {
  if (statSync(path).isSocket()) return XenstoreClient.connect({ path });
  return XenstoreClient.over(new XenbusDevice(openSync(path, constants.O_RDWR)));
}
