/**
 * The connection to the xenstore of the real dom0, as an ordinary domain has it: Linux's /dev/xen/xenbus, a character
 * device that carries the protocol's messages (drivers/xen/xenbus/xenbus_dev_frontend.c). Relative paths are below the
 * domain's home, whatever its id is just now; after a resume the kernel sets all watches again, and they fire.
 *
 * One request is under way at a time: the driver keeps the body of a request where the program's next one is put
 * (xenbus_dev_request_and_reply of drivers/xen/xenbus/xenbus_xs.c), so a request that is written before the last was
 * answered may take its place, and both are wrong.
 *
 * Node cannot wait for such a device without one of libuv's four threads, which disks and networks need as well.
 * Therefore a thread of our own reads it. A read cannot be interrupted: to end it, a last request is written, whose
 * answer it gets.
 */
import { closeSync, constants, openSync, statSync, writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { WORKER_LIMITS } from '../../os/worker-limits.js';
import { XS_READ, XS_WATCH_EVENT, XsdSockmsg } from '../../xen/xs-wire.js';
import { type ByteChannel, XenstoreClient } from '../../xenstore/client.js';
import { encodeMessage, getU32 } from '../../xenstore/wire/message.js';
import { HEADER_BYTES } from '../../xenstore/wire/protocol.js';
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
  private readonly waiting: Uint8Array[] = [];
  private underWay = false;
  /** Of the message that is being received: its header as far as it is here, and how much of its body is not. */
  private readonly header = new Uint8Array(HEADER_BYTES);
  private headerBytes = 0;
  private bodyBytes = 0;

  constructor(
    private readonly fd: number,
    private readonly put: (fd: number, bytes: Uint8Array, offset: number) => number = writeSync,
  ) {
    const workerData: XenbusReaderData = { fd, stop: this.stop };
    this.reader = new Worker(new URL('./xenbus-reader.js', import.meta.url), {
      workerData,
      resourceLimits: READER_LIMITS,
    });
    this.exited = new Promise((resolve) => this.reader.once('exit', () => resolve()));
    // Node waits for its threads as it ends, and this one would wait for xenstore.
    process.once('exit', this.wakeReader);
  }

  /** `bytes` is one request. */
  write(bytes: Uint8Array): void {
    this.waiting.push(bytes);
    this.next();
  }

  private next(): void {
    if (this.underWay) return;
    const bytes = this.waiting.shift();
    if (bytes === undefined) return;
    this.underWay = true;
    this.send(bytes);
  }

  private send(bytes: Uint8Array): void {
    if (!this.open) return;
    try {
      for (let done = 0; done < bytes.length; ) done += this.put(this.fd, bytes, done);
    } catch (error) {
      this.ended(error as Error);
    }
  }

  /** Finds the ends of messages in what was received. A reply makes room for the next request, an event does not. */
  private count(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length || this.isWhole; ) {
      if (this.isWhole) {
        if (getU32(this.header, XsdSockmsg.type) !== XS_WATCH_EVENT) this.underWay = false;
        this.headerBytes = 0;
      } else if (this.headerBytes < HEADER_BYTES) {
        const part = bytes.subarray(at, at + HEADER_BYTES - this.headerBytes);
        this.header.set(part, this.headerBytes);
        this.headerBytes += part.length;
        at += part.length;
        if (this.headerBytes === HEADER_BYTES) this.bodyBytes = getU32(this.header, XsdSockmsg.len);
      } else {
        const part = Math.min(this.bodyBytes, bytes.length - at);
        this.bodyBytes -= part;
        at += part;
      }
    }
  }

  private get isWhole(): boolean {
    return this.headerBytes === HEADER_BYTES && this.bodyBytes === 0;
  }

  listen(received: (bytes: Uint8Array) => void, ended: (error: Error) => void): void {
    this.ended = ended;
    this.reader.on('message', (bytes: Uint8Array) => {
      this.count(bytes);
      received(bytes);
      this.next();
    });
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
    this.send(LAST);
  };
}

/** Connects to a xenbus device, or to the unix socket of a xenstored. */
export async function connectXenbus(path: string): Promise<XenstoreClient> {
  if (statSync(path).isSocket()) return XenstoreClient.connect({ path });
  return XenstoreClient.over(new XenbusDevice(openSync(path, constants.O_RDWR)));
}
