/**
 * A disk behind an NBD server. A lost connection is made again; meanwhile requests wait or fail, as configured.
 *
 * Invariant: a transfer is answered once. If the connection is lost before the reply, the transfer is sent again on
 * the next connection: reads, writes, flushes and discards may all be repeated, because no two transfers in progress
 * depend on each other. Bytes of a reply go into guest memory only while the transfer is lent to this link.
 */
import type { Duplex } from 'node:stream';
import { getSystemErrorMap } from 'node:util';
import {
  DISK_DISCARD,
  DISK_FLUSH,
  DISK_READ,
  DISK_WRITE,
  type DiskClient,
  type DiskGeometry,
  type DiskLink,
  DiskTransfer,
  QUIESCE_LIMIT_MS,
} from '../../devices/vbd/disk-link.js';
import { within } from '../../os/within.js';
import type { LinearMemory } from '../../xen/memory.js';
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
/** The longest length of one command, in bytes: the field has 32 bits. A discard may be longer and is then split. */
const MAX_COMMAND_BYTES = 0x8000_0000;
/**
 * When the guest is stopped, reads get this long to finish, in ms. After that they are given up, because they can be
 * repeated.
 */
const QUIESCE_MS = 150;
/** How long a server is given to receive our disconnect request when nothing depends on it, in ms. */
const GOODBYE_MS = 100;
/**
 * How long the program behind the connection may take to write to its medium what it has received and to let go of
 * it, in ms.
 */
const RELEASE_MS = 4_000;
/** How long one attempt to take the disk back may last, in ms. */
const ACQUIRE_MS = 10_000;
/**
 * Errors which say that the other side has closed the connection or is dead. It then does none of our requests any
 * more.
 */
const CLOSED = new Set(['ECONNRESET', 'EPIPE', 'ECONNABORTED']);
/** Time between two attempts to connect, in ms. It doubles after each attempt until the server answers. */
const RECONNECT_MS = 250;
const MAX_RECONNECT_MS = 4_000;
const ENOSPC = 28;

export interface NbdOptions {
  /** The name in messages. */
  readonly name: string;
  readonly exportName: string;
  readonly readOnly: boolean;
  readonly discard: boolean;
  /** For how many seconds requests wait for a lost server before they fail. Infinity: they wait for ever. */
  readonly lostS: number;
  /** How long connecting may take, and after that the handshake, in ms. */
  readonly answerMs: number;
  /** Opens a connection to the server. TLS has not begun on it. */
  connect(): Promise<Duplex>;
  readonly secure: ((stream: Duplex) => Promise<Duplex>) | undefined;
  /**
   * Called after the connection was closed: makes the program behind it let go of the disk. `flushed` says that
   * everything it has received is on its medium. Rejects if it does not let go.
   */
  released?(flushed: boolean): Promise<void>;
  /** Called at the end, also after a failed attempt to open. */
  closed?(): void;
}

function geometryOf(e: NbdExport, { readOnly, discard, name }: NbdOptions): DiskGeometry {
  if ((e.flags & NBD_FLAG_READ_ONLY) !== 0 && !readOnly)
    throw new Error(`disk ${name}: the server exports it read-only`);
  if (e.minimumBlock > 4096) throw new Error(`disk ${name}: its smallest block is ${e.minimumBlock} bytes`);
  const sectorBytes = Math.max(512, e.minimumBlock);
  // The last sector may be partial. Beyond the end it reads as zeros.
  const sectors = e.minimumBlock > 1 ? Math.floor(e.bytes / 512) : Math.ceil(e.bytes / 512);
  const can = discard && !readOnly && (e.flags & NBD_FLAG_SEND_TRIM) !== 0;
  return {
    sectors,
    sectorBytes,
    physicalSectorBytes: sectorBytes,
    readOnly,
    discard: can ? { granularity: Math.max(4096, sectorBytes), alignment: 0 } : undefined,
  };
}

/**
 * Connects and does the handshake, each within its time limit. Rejects with the reason; the connection is then
 * closed.
 */
async function dial(options: NbdOptions): Promise<{ stream: Duplex; export: NbdExport }> {
  const { answerMs } = options;
  const seconds = `within ${answerMs / 1000} s`;
  const connecting = options.connect();
  let plain: Duplex;
  try {
    plain = await within(connecting, answerMs, `the server does not answer ${seconds}`);
  } catch (error) {
    connecting.then(
      (late) => late.destroy(),
      () => undefined,
    );
    throw error;
  }
  const step = { at: '' };
  const shaking = handshake(plain, options.exportName, options.secure, step);
  try {
    return await within(shaking, answerMs, () => `the server does not send ${step.at} ${seconds}`);
  } catch (error) {
    shaking.catch(() => undefined);
    plain.destroy();
    throw error;
  }
}

export class NbdLink implements DiskLink {
  private client: DiskClient | undefined;
  private memory: LinearMemory | undefined;
  private log: (line: string) => void = () => undefined;
  private stream: Duplex | undefined;
  private connecting: Promise<void> | undefined;
  /** Whether the connection is to be kept up. */
  private wanted = true;
  /**
   * The transfers that were sent, by cookie. `parts` counts the commands of each transfer that are still to be
   * answered.
   */
  private readonly sent = new Map<number, DiskTransfer>();
  private readonly parts = new Map<DiskTransfer, { left: number; status: number }>();
  private waiting: DiskTransfer[] = [];
  /** While this is not 0, nothing is sent again. */
  private quiescing = 0;
  /** How many writes were on their way when a connection was lost: a server may still have them. */
  private astray = 0;
  /** True if something was written that no flush has covered yet. `lastFlush` resets it. */
  private dirty = false;
  /** The flush that this link sends itself when it releases the disk. */
  private lastFlush: DiskTransfer | undefined;
  private cookie = 0;
  private lostAt: number | undefined;
  private reconnectMs = RECONNECT_MS;
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
    /** The size of the export in bytes. It may be up to a sector less than the geometry has. */
    private exportBytes: number,
    private readonly options: NbdOptions,
  ) {
    this.listen(stream);
  }

  get name(): string {
    return this.options.name;
  }

  /** Connects. Rejects with a message for the user. */
  static async open(options: NbdOptions): Promise<NbdLink> {
    let stream: Duplex | undefined;
    try {
      const { stream: connected, export: e } = await dial(options);
      stream = connected;
      const canFlush = (e.flags & NBD_FLAG_SEND_FLUSH) !== 0;
      return new NbdLink(stream, canFlush, geometryOf(e, options), e.bytes, options);
    } catch (error) {
      stream?.destroy();
      // Nothing was written so far.
      await options.released?.(true).catch(() => undefined);
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
    const lost = (error?: NodeJS.ErrnoException): void => {
      if (this.stream !== stream) return;
      if (error !== undefined && !CLOSED.has(error.code ?? '')) this.astray += this.unansweredWrites;
      this.lost(error?.message ?? 'the server closed the connection');
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
    this.settle();
    if (!this.wanted) return;
    this.lostAt ??= performance.now();
    this.log(`disk ${this.name}: ${why}; requests ${this.options.lostS > 0 ? 'wait' : 'fail'}`);
    this.armFailure();
    this.connecting ??= this.reconnect();
  }

  private get unansweredWrites(): number {
    let writes = 0;
    for (const transfer of new Set(this.sent.values())) if (isWrite(transfer)) writes++;
    return writes;
  }

  /** Arms the timer that fails the waiting requests when the server has been lost for too long. */
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
    let said = '';
    while (this.wanted && this.stream === undefined) {
      await pause(this.reconnectMs);
      this.reconnectMs = Math.min(2 * this.reconnectMs, MAX_RECONNECT_MS);
      if (!this.wanted) break;
      try {
        await this.connectAgain();
      } catch (error) {
        const { message } = error as Error;
        // The same message is not logged each time, because the server may be away for days.
        if (message !== said && this.wanted) this.log(`disk ${this.name}: ${message}; tried again`);
        said = message;
      }
    }
    this.connecting = undefined;
  }

  private async connectAgain(): Promise<void> {
    const { options, geometry } = this;
    const { stream, export: e } = await dial(options);
    try {
      const now = geometryOf(e, options);
      if (now.sectors < geometry.sectors)
        throw new Error(`it came back with ${now.sectors} sectors, it had ${geometry.sectors}`);
      if (!this.wanted || this.stream !== undefined) throw new Error('no longer wanted');
      this.canFlush = (e.flags & NBD_FLAG_SEND_FLUSH) !== 0;
      this.exportBytes = e.bytes;
      if (this.lostAt !== undefined) this.log(`disk ${this.name}: the server is back`);
      this.listen(stream);
    } catch (error) {
      stream.destroy();
      throw error;
    }
    this.sendWaiting();
  }

  private sendWaiting(): void {
    if (this.stream === undefined || this.quiescing > 0) return;
    for (const transfer of this.waiting.splice(0)) this.send(transfer);
    this.commit();
  }

  // --- requests ---

  submit(transfer: DiskTransfer): void {
    if (this.stream !== undefined && this.quiescing === 0) this.send(transfer);
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
    const { operation, sector } = transfer;
    const bytes = this.bytesOf(transfer);
    if (isWrite(transfer)) this.dirty = true;
    if (operation === DISK_READ) this.command(transfer, NBD_CMD_READ, sector * 512, bytes);
    else if (operation === DISK_WRITE) {
      const behind = this.behind(transfer, bytes);
      if (behind?.some((byte) => byte !== 0)) {
        this.nothing(transfer, ENOSPC);
        return;
      }
      this.command(transfer, NBD_CMD_WRITE, sector * 512, bytes);
      // The bytes are copied, because the socket may still hold them when the guest has its answer and uses the pages
      // again.
      const u8 = (this.memory as LinearMemory).u8;
      for (let i = 0, left = bytes; i < transfer.nrExtents; left -= transfer.length[i++]) {
        const length = Math.min(transfer.length[i], left);
        this.stream?.write(Buffer.from(u8.slice(transfer.address[i], transfer.address[i] + length)));
      }
    } else if (operation === DISK_DISCARD) this.discard(transfer, sector * 512, bytes);
    else if (this.canFlush) this.command(transfer, NBD_CMD_FLUSH, 0, 0);
    else this.nothing(transfer);
  }

  /** The length of a transfer on the server, in bytes: the export's last sector may be partial. */
  private bytesOf({ sector, sectors }: DiskTransfer): number {
    return Math.min(sectors * 512, Math.max(0, this.exportBytes - sector * 512));
  }
  /**
   * The end of a transfer's memory from byte `bytes` on. It is less than a sector and lies in the last extent.
   * Undefined if there is none.
   */
  private behind(transfer: DiskTransfer, bytes: number): Uint8Array | undefined {
    const length = transfer.sectors * 512 - bytes;
    if (length === 0 || transfer.nrExtents === 0) return undefined;
    const last = transfer.nrExtents - 1;
    const end = transfer.address[last] + transfer.length[last];
    return (this.memory as LinearMemory).u8.subarray(end - length, end);
  }

  private discard(transfer: DiskTransfer, from: number, bytes: number): void {
    if (bytes === 0 || this.geometry.discard === undefined) this.nothing(transfer);
    for (let done = 0; done < bytes && this.geometry.discard !== undefined; done += MAX_COMMAND_BYTES)
      this.command(transfer, NBD_CMD_TRIM, from + done, Math.min(bytes - done, MAX_COMMAND_BYTES));
  }

  /**
   * Answers a transfer for which there is nothing to do, because the server has no volatile cache or cannot discard.
   */
  private nothing(transfer: DiskTransfer, status = 0): void {
    this.parts.set(transfer, { left: 1, status: 0 });
    const cookie = this.cookie++ >>> 0;
    this.sent.set(cookie, transfer);
    queueMicrotask(() => {
      if (this.sent.get(cookie) !== transfer) return;
      this.answered(cookie, transfer, status);
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
        this.lost('the server sent something that is not a reply');
        break;
      }
      this.reconnectMs = RECONNECT_MS;
      const status = this.head.readUInt32BE(4);
      if (status === 0 && transfer.operation === DISK_READ) {
        this.into = transfer;
        this.intoAt = 0;
        this.intoLeft = this.bytesOf(transfer);
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

  /** Copies bytes of a reply to where they belong. Returns how many. */
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
    if (this.intoLeft === 0) {
      this.behind(transfer, this.intoAt)?.fill(0);
      this.answered(this.readingCookie, transfer, 0);
    }
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
          `sectors at ${transfer.sector}: the server answers ${nameOf(parts.status)}`,
      );
    if (transfer === this.lastFlush) this.dirty &&= parts.status !== 0;
    else this.client?.done(transfer, parts.status);
    if (this.astray > 0 && this.unansweredWrites === 0) this.astray = 0;
  }

  private settle(): void {
    for (const resolve of this.idle.splice(0)) resolve();
  }

  // --- quiesce and release ---

  /**
   * Reads are given up by closing their connection. Writes are not: the server may have received a write and may do
   * it at any later time, so its answer is awaited. A connection that is closed while the server works would not show
   * when it is done.
   */
  async quiesce(): Promise<void> {
    this.commit();
    this.quiescing++;
    try {
      await this.idleWithin(QUIESCE_MS, () => this.sent.size === 0);
      await this.idleWithin(QUIESCE_LIMIT_MS, () => this.unansweredWrites === 0);
      const writes = this.unansweredWrites + this.astray;
      if (writes > 0) {
        const they = writes === 1 ? '1 write' : `${writes} writes`;
        throw new Error(`disk ${this.name}: its server has ${they} that it has not answered`);
      }
      this.waiting.length = 0;
      if (this.sent.size > 0) this.hangUp();
    } finally {
      this.quiescing--;
      this.sendWaiting();
    }
  }

  /** Resolves as soon as the condition holds, but after `ms` at the latest. */
  private async idleWithin(ms: number, isSo: () => boolean): Promise<void> {
    const end = performance.now() + ms;
    while (!isSo() && performance.now() < end) {
      const answered = new Promise<void>((resolve) => this.idle.push(resolve));
      const left = end - performance.now();
      await within(answered, left, '').catch(() => undefined);
    }
  }

  /** Ends the connection without waiting for the server. Transfers without an answer are given up. */
  private hangUp(): void {
    const { stream } = this;
    this.stream = undefined;
    this.sent.clear();
    this.parts.clear();
    this.intoLeft = 0;
    if (stream !== undefined) {
      const head = Buffer.alloc(REQUEST_BYTES);
      head.writeUInt32BE(NBD_REQUEST_MAGIC, 0);
      head.writeUInt16BE(NBD_CMD_DISC, 6);
      stream.resume();
      stream.on('end', () => stream.destroy());
      stream.end(head);
      setTimeout(() => stream.destroy(), GOODBYE_MS).unref();
    }
    if (this.wanted) this.connecting ??= this.reconnect();
  }

  /** A server that is ours alone (`released`) must have everything on its medium before it may be forced to end. */
  async release(): Promise<void> {
    this.wanted = false;
    const flushed = this.options.released === undefined || (await this.flush());
    this.hangUp();
    await this.options.released?.(flushed);
  }

  /** Flushes. Returns whether everything that was answered is now on the medium. */
  private async flush(): Promise<boolean> {
    if (!this.dirty) return true;
    if (this.stream === undefined || !this.canFlush) return false;
    const flush = new DiskTransfer(0);
    flush.operation = DISK_FLUSH;
    this.lastFlush = flush;
    this.send(flush);
    this.commit();
    await this.idleWithin(RELEASE_MS, () => !this.parts.has(flush));
    return !this.dirty;
  }
  async acquire(): Promise<void> {
    this.wanted = true;
    if (this.stream !== undefined) return;
    try {
      await within(this.connectAgain(), ACQUIRE_MS, 'no answer');
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
    await this.release().catch((error: Error) => this.log(error.message));
    this.options.closed?.();
  }

  another(): Promise<DiskLink> {
    return NbdLink.open({ ...this.options, readOnly: true, released: undefined, closed: undefined });
  }
}

const isWrite = ({ operation }: DiskTransfer): boolean =>
  operation === DISK_WRITE || operation === DISK_DISCARD;

/** NBD uses the same error numbers as Linux. */
const nameOf = (status: number): string => {
  const [name, text] = getSystemErrorMap().get(-status) ?? [`error ${status}`, ''];
  return text === '' ? name : `${name}, ${text}`;
};

const pause = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, ms).unref();
  });
