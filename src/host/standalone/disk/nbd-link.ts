/**
 * A disk behind an NBD server: a connection that is made again when it is lost, and requests that wait for it or
 * fail, as configured.
 *
 * Invariant: a transfer is answered once. One whose reply did not come before the connection was lost is sent again
 * on the next: reads, writes, flushes and discards may all be repeated, as no two transfers under way depend on
 * each other. Bytes of a reply go into guest memory only while its transfer is lent to this link.
 */
import type { Duplex } from 'node:stream';
import {
  DISK_DISCARD,
  DISK_READ,
  DISK_WRITE,
  type DiskClient,
  type DiskGeometry,
  type DiskLink,
  type DiskTransfer,
} from '../../../devices/vbd/disk-link.js';
import type { LinearMemory } from '../../../xen/memory.js';
import {
  handshake,
  NBD_CMD_DISC,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_FLAG_READ_ONLY,
  NBD_FLAG_SEND_FLUSH,
  NBD_FLAG_SEND_TRIM,
  NBD_REQUEST_MAGIC,
  NBD_SIMPLE_REPLY_MAGIC,
  type NbdExport,
  REPLY_BYTES,
  REQUEST_BYTES,
} from './nbd-protocol.js';

const EIO = 5;
/** Longest length of one command: it has 32 bits. Discards may be longer. */
const MAX_COMMAND_BYTES = 0x8000_0000;
/** How long transfers may take to end by themselves when the guest is stopped. */
const QUIESCE_MS = 150;
/** How long a server may take to finish what it has and to close. */
const GOODBYE_MS = 5000;
const RECONNECT_MS = 250;

export interface NbdOptions {
  /** For people. */
  readonly name: string;
  readonly exportName: string;
  readonly readOnly: boolean;
  readonly discard: boolean;
  /** Seconds that requests wait for a lost server before they fail; Infinity: for ever. */
  readonly lostS: number;
  /** A connection to the server, TLS not yet begun. */
  connect(): Promise<Duplex>;
  readonly secure: ((stream: Duplex) => Promise<Duplex>) | undefined;
  /** After the connection was closed in order: what is behind it is to let go of the disk. */
  released?(): Promise<void>;
  /** At the end, also of an attempt to open that failed. */
  closed?(): void;
}

function geometryOf(e: NbdExport, { readOnly, discard, name }: NbdOptions): DiskGeometry {
  if ((e.flags & NBD_FLAG_READ_ONLY) !== 0 && !readOnly)
    throw new Error(`disk ${name}: the server exports it read-only`);
  if (e.minimumBlock > 4096) throw new Error(`disk ${name}: its smallest block is ${e.minimumBlock} bytes`);
  const sectorBytes = Math.max(512, e.minimumBlock);
  const can = discard && !readOnly && (e.flags & NBD_FLAG_SEND_TRIM) !== 0;
  return {
    sectors: Math.floor(e.bytes / 512),
    sectorBytes,
    physicalSectorBytes: sectorBytes,
    readOnly,
    discard: can ? { granularity: Math.max(4096, sectorBytes), alignment: 0 } : undefined,
  };
}

export class NbdLink implements DiskLink {
  private client: DiskClient | undefined;
  private memory: LinearMemory | undefined;
  private log: (line: string) => void = () => undefined;
  private stream: Duplex | undefined;
  private connecting: Promise<void> | undefined;
  /** The connection is to be kept up. */
  private wanted = true;
  /** Sent, by cookie; commands of one transfer that are still to be answered are counted in `parts`. */
  private readonly sent = new Map<number, DiskTransfer>();
  private readonly parts = new Map<DiskTransfer, { left: number; status: number }>();
  private waiting: DiskTransfer[] = [];
  private cookie = 0;
  private lostAt: number | undefined;
  private failTimer: NodeJS.Timeout | undefined;
  private idle: (() => void)[] = [];
  private corked = false;
  // The reply that is being read.
  private readonly head = Buffer.alloc(REPLY_BYTES);
  private headBytes = 0;
  private into: DiskTransfer | undefined;
  private intoAt = 0;
  private intoLeft = 0;

  private constructor(
    stream: Duplex,
    private canFlush: boolean,
    readonly geometry: DiskGeometry,
    private readonly options: NbdOptions,
  ) {
    this.listen(stream);
  }

  get name(): string {
    return this.options.name;
  }

  /** Connects. Rejects with a message for people. */
  static async open(options: NbdOptions): Promise<NbdLink> {
    let plain: Duplex | undefined;
    try {
      plain = await options.connect();
      const { stream, export: e } = await handshake(plain, options.exportName, options.secure);
      return new NbdLink(stream, (e.flags & NBD_FLAG_SEND_FLUSH) !== 0, geometryOf(e, options), options);
    } catch (error) {
      plain?.destroy();
      await options.released?.();
      options.closed?.();
      const { message } = error as Error;
      throw message.startsWith('disk ') ? error : new Error(`disk ${options.name}: ${message}`);
    }
  }

  begin(client: DiskClient, memory: LinearMemory, log: (line: string) => void): void {
    this.client = client;
    this.memory = memory;
    this.log = log;
  }

  // --- the connection ---

  private listen(stream: Duplex): void {
    this.stream = stream;
    this.lostAt = undefined;
    clearTimeout(this.failTimer);
    this.headBytes = 0;
    this.intoLeft = 0;
    stream.on('data', (chunk: Buffer) => {
      if (this.stream === stream) this.read(chunk);
    });
    const lost = (error?: Error): void => {
      if (this.stream === stream) this.lost(error?.message ?? 'the server closed the connection');
    };
    stream.on('error', lost);
    stream.on('end', () => lost());
    stream.on('close', () => lost());
    stream.resume();
  }

  private lost(why: string): void {
    this.stream?.destroy();
    this.stream = undefined;
    this.intoLeft = 0;
    this.waiting = [...new Set(this.sent.values()), ...this.waiting];
    this.sent.clear();
    this.parts.clear();
    if (!this.wanted) return;
    this.lostAt ??= performance.now();
    this.log(`disk ${this.name}: ${why}; requests ${this.options.lostS > 0 ? 'wait' : 'fail'}`);
    this.armFailure();
    this.connecting ??= this.reconnect();
  }

  /** Fails what waits once the server has been lost for too long. */
  private armFailure(): void {
    const { lostS } = this.options;
    if (lostS === Number.POSITIVE_INFINITY) return;
    this.failTimer = setTimeout(() => {
      if (this.stream === undefined) this.failWaiting();
    }, lostS * 1000);
    this.failTimer.unref();
  }
  private get givenUp(): boolean {
    return this.lostAt !== undefined && performance.now() - this.lostAt >= this.options.lostS * 1000;
  }
  private failWaiting(): void {
    const all = this.waiting.splice(0);
    for (const transfer of all) this.client?.done(transfer, EIO);
    if (all.length > 0) this.client?.batchDone();
    this.settle();
  }

  private async reconnect(): Promise<void> {
    while (this.wanted && this.stream === undefined) {
      await this.later();
      if (!this.wanted) break;
      await this.connectAgain().catch(() => undefined);
    }
    this.connecting = undefined;
  }

  private async connectAgain(): Promise<void> {
    const { options, geometry } = this;
    const plain = await options.connect();
    try {
      const { stream, export: e } = await handshake(plain, options.exportName, options.secure);
      const now = geometryOf(e, options);
      if (now.sectors < geometry.sectors) {
        this.log(`disk ${this.name}: it came back with ${now.sectors} sectors, it had ${geometry.sectors}`);
        throw new Error('smaller');
      }
      if (!this.wanted) throw new Error('no longer wanted');
      this.canFlush = (e.flags & NBD_FLAG_SEND_FLUSH) !== 0;
      if (this.lostAt !== undefined) this.log(`disk ${this.name}: the server is back`);
      this.listen(stream);
    } catch (error) {
      plain.destroy();
      throw error;
    }
    for (const transfer of this.waiting.splice(0)) this.send(transfer);
    this.commit();
  }

  // --- requests ---

  submit(transfer: DiskTransfer): void {
    if (this.stream !== undefined) this.send(transfer);
    else {
      this.waiting.push(transfer);
      if (this.givenUp) queueMicrotask(() => this.stream === undefined && this.failWaiting());
    }
  }

  private send(transfer: DiskTransfer): void {
    if (!this.corked) {
      this.stream?.cork();
      this.corked = true;
    }
    const { operation, sector, sectors } = transfer;
    const bytes = sectors * 512;
    if (operation === DISK_READ) this.command(transfer, NBD_CMD_READ, sector * 512, bytes);
    else if (operation === DISK_WRITE) {
      this.command(transfer, NBD_CMD_WRITE, sector * 512, bytes);
      // A copy: what is sent may stay with the socket after the guest has its answer and the pages back.
      const u8 = (this.memory as LinearMemory).u8;
      for (let i = 0; i < transfer.nrExtents; i++)
        this.stream?.write(
          Buffer.from(u8.slice(transfer.address[i], transfer.address[i] + transfer.length[i])),
        );
    } else if (operation === DISK_DISCARD) this.discard(transfer, sector * 512, bytes);
    else if (this.canFlush) this.command(transfer, NBD_CMD_FLUSH, 0, 0);
    else this.nothing(transfer);
  }

  private discard(transfer: DiskTransfer, from: number, bytes: number): void {
    if (bytes === 0 || this.geometry.discard === undefined) this.nothing(transfer);
    for (let done = 0; done < bytes && this.geometry.discard !== undefined; done += MAX_COMMAND_BYTES)
      this.command(transfer, NBD_CMD_TRIM, from + done, Math.min(bytes - done, MAX_COMMAND_BYTES));
  }

  /** A server that has no volatile cache, or cannot discard: there is nothing to do. */
  private nothing(transfer: DiskTransfer): void {
    this.parts.set(transfer, { left: 1, status: 0 });
    const cookie = this.cookie++ >>> 0;
    this.sent.set(cookie, transfer);
    queueMicrotask(() => {
      if (this.sent.get(cookie) !== transfer) return;
      this.answered(cookie, transfer, 0);
      this.client?.batchDone();
      this.settle();
    });
  }

  private command(transfer: DiskTransfer, type: number, offset: number, length: number): void {
    const cookie = this.cookie++ >>> 0;
    const head = Buffer.alloc(REQUEST_BYTES);
    head.writeUInt32BE(NBD_REQUEST_MAGIC, 0);
    head.writeUInt16BE(type, 6);
    head.writeUInt32BE(cookie, 12);
    head.writeBigUInt64BE(BigInt(offset), 16);
    head.writeUInt32BE(length, 24);
    this.sent.set(cookie, transfer);
    const parts = this.parts.get(transfer);
    if (parts === undefined) this.parts.set(transfer, { left: 1, status: 0 });
    else parts.left++;
    this.stream?.write(head);
  }

  commit(): void {
    if (!this.corked) return;
    this.corked = false;
    this.stream?.uncork();
  }
  poll(): void {}

  // --- replies ---

  private read(chunk: Buffer): void {
    let any = false;
    for (let at = 0; at < chunk.length; ) {
      if (this.intoLeft > 0) {
        at += this.readPayload(chunk, at);
        if (this.intoLeft > 0) break;
        any = true;
        continue;
      }
      const part = Math.min(REPLY_BYTES - this.headBytes, chunk.length - at);
      chunk.copy(this.head, this.headBytes, at, at + part);
      this.headBytes += part;
      at += part;
      if (this.headBytes < REPLY_BYTES) break;
      this.headBytes = 0;
      const cookie = this.head.readUInt32BE(12);
      const transfer = this.sent.get(cookie);
      if (this.head.readUInt32BE(0) !== NBD_SIMPLE_REPLY_MAGIC || transfer === undefined) {
        this.lost('the server sent a reply that is none');
        break;
      }
      const status = this.head.readUInt32BE(4);
      if (status === 0 && transfer.operation === DISK_READ) {
        this.into = transfer;
        this.intoAt = 0;
        this.intoLeft = transfer.sectors * 512;
        this.sent.delete(cookie);
        this.sent.set(cookie, transfer);
        this.readingCookie = cookie;
      } else {
        this.answered(cookie, transfer, status);
        any = true;
      }
    }
    if (any) {
      this.client?.batchDone();
      this.settle();
    }
  }
  private readingCookie = 0;

  /** Puts bytes of a reply where they belong; how many. */
  private readPayload(chunk: Buffer, at: number): number {
    const transfer = this.into as DiskTransfer;
    const u8 = (this.memory as LinearMemory).u8;
    const bytes = Math.min(this.intoLeft, chunk.length - at);
    let skip = this.intoAt;
    let done = 0;
    for (let i = 0; i < transfer.nrExtents && done < bytes; i++) {
      const length = transfer.length[i];
      if (skip >= length) {
        skip -= length;
        continue;
      }
      const part = Math.min(length - skip, bytes - done);
      u8.set(chunk.subarray(at + done, at + done + part), transfer.address[i] + skip);
      done += part;
      skip = 0;
    }
    this.intoAt += bytes;
    this.intoLeft -= bytes;
    if (this.intoLeft === 0) this.answered(this.readingCookie, transfer, 0);
    return bytes;
  }

  private answered(cookie: number, transfer: DiskTransfer, status: number): void {
    this.sent.delete(cookie);
    const parts = this.parts.get(transfer);
    if (parts === undefined) return;
    parts.left--;
    parts.status ||= status;
    if (parts.left > 0) return;
    this.parts.delete(transfer);
    if (parts.status !== 0)
      this.log(
        `disk ${this.name}: ${['read', 'write', 'flush', 'discard'][transfer.operation]} of ${transfer.sectors} ` +
          `sectors at ${transfer.sector}: the server answers error ${parts.status}`,
      );
    this.client?.done(transfer, parts.status);
  }

  private settle(): void {
    if (this.sent.size === 0) for (const resolve of this.idle.splice(0)) resolve();
  }

  // --- standing still, letting go ---

  async quiesce(): Promise<void> {
    this.commit();
    this.waiting.length = 0;
    if (this.sent.size > 0) {
      const done = new Promise<void>((resolve) => this.idle.push(resolve));
      await Promise.race([done, pause(QUIESCE_MS)]);
    }
    this.waiting.length = 0;
    if (this.sent.size > 0) await this.hangUp();
  }

  /** Says goodbye: a server finishes what it has before it closes. What was not answered by then is given up. */
  private async hangUp(): Promise<void> {
    const { stream } = this;
    this.stream = undefined;
    this.sent.clear();
    this.parts.clear();
    this.intoLeft = 0;
    if (stream !== undefined) {
      const closed = new Promise<void>((resolve) => stream.once('close', () => resolve()));
      const head = Buffer.alloc(REQUEST_BYTES);
      head.writeUInt32BE(NBD_REQUEST_MAGIC, 0);
      head.writeUInt16BE(NBD_CMD_DISC, 6);
      stream.resume();
      stream.on('end', () => stream.destroy());
      stream.end(head);
      await Promise.race([closed, pause(GOODBYE_MS)]);
      stream.destroy();
    }
    if (this.wanted) this.connecting ??= this.reconnect();
  }

  async release(): Promise<void> {
    this.wanted = false;
    await this.hangUp();
    await this.connecting;
    await this.options.released?.();
  }
  async acquire(): Promise<void> {
    this.wanted = true;
    if (this.stream !== undefined) return;
    try {
      await this.connectAgain();
    } catch (error) {
      this.wanted = false;
      throw new Error(`disk ${this.name}: ${(error as Error).message}`);
    }
  }
  later(): Promise<void> {
    return pause(RECONNECT_MS);
  }
  async close(): Promise<void> {
    clearTimeout(this.failTimer);
    await this.release();
    this.options.closed?.();
  }

  another(): Promise<DiskLink> {
    return NbdLink.open({ ...this.options, readOnly: true, released: undefined, closed: undefined });
  }
}

const pause = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, ms).unref();
  });
