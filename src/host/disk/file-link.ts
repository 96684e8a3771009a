/**
 * A disk that is a raw file or a block device of this host. It is read and written through the host's page cache,
 * usually by threads, several transfers at once. Small transfers are done by the guest's own thread as long as the
 * page cache answers quickly, because that takes less time than waking another thread and being woken by it.
 */

import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats } from 'node:fs';
import { getSystemErrorMap } from 'node:util';
import { Worker } from 'node:worker_threads';
import {
  DISK_READ,
  DISK_WRITE,
  type DiskClient,
  type DiskGeometry,
  type DiskLink,
  type DiskTransfer,
  QUIESCE_LIMIT_MS,
} from '../../devices/vbd/disk-link.js';
import { within } from '../../os/within.js';
import { WORKER_LIMITS } from '../../os/worker-limits.js';
import type { LinearMemory } from '../../xen/memory.js';

import { DiskLock } from './disk-lock.js';
import { FileRing, ringBuffer, SLOTS } from './file-ring.js';
import { EIO, transferFile } from './file-transfer.js';
import type { FileWorkerData } from './file-worker.js';

/** How many threads serve one disk. This is also how many transfers can be in the kernel at once. */
const THREADS = 2;
/**
 * The most bytes that the guest's thread transfers at a time. At the speed of memory this takes a tenth of a
 * millisecond.
 */
const OWN_BYTES = 131_072;
/**
 * If transfers of at most that size take longer than this, in µs, they have waited for a medium. Then the threads do
 * them.
 */
const SWIFT_US = 100;
/** Time between two attempts to lock a disk again, in ms. */
const RETRY_MS = 500;

interface FileLinkOptions {
  readonly path: string;
  readonly readOnly: boolean;
  readonly discard: boolean;
  /**
   * The host's page cache is not used: what was answered is with the medium's own cache, and a flush reaches it. For a
   * block device that is this process's alone, so no lock is taken either. A file system that knows no O_DIRECT is used
   * without it.
   */
  readonly direct?: boolean;
}

/**
 * The device number as MAJOR:MINOR. Linux's C libraries put the bits that were added later above the original ones,
 * for both parts.
 */
export function deviceNumber(rdev: number): string {
  const dev = BigInt(rdev);
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xffff_f000n);
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffff_ff00n);
  return `${major}:${minor}`;
}

/** Determines the size and properties of a file or device. Throws with a message for the user. */
function geometryOf(stats: Stats, options: FileLinkOptions): DiskGeometry {
  const { path, readOnly } = options;
  if (stats.isBlockDevice()) {
    const number = (name: string): number =>
      Number(readFileSync(`/sys/dev/block/${deviceNumber(stats.rdev)}/${name}`, 'latin1'));
    // A partition has no queue directory of its own, so its disk's is used.
    const queue = (name: string): number => {
      try {
        return number(`queue/${name}`);
      } catch {
        return number(`../queue/${name}`);
      }
    };
    const discards = options.discard && !readOnly && queue('discard_max_bytes') > 0;
    return {
      sectors: number('size'),
      sectorBytes: queue('logical_block_size'),
      physicalSectorBytes: queue('physical_block_size'),
      readOnly,
      discard: discards
        ? { granularity: queue('discard_granularity'), alignment: Math.max(0, number('discard_alignment')) }
        : undefined,
    };
  }
  if (!stats.isFile()) throw new Error(`disk ${path}: neither a file nor a block device`);
  // The guest sees whole sectors. Beyond the end of the file the last sector reads as zeros, and a write to it
  // extends the file.
  const sectors = Math.ceil(stats.size / 512);
  if (sectors === 0) throw new Error(`disk ${path}: the file is empty`);
  const discard = options.discard && !readOnly ? { granularity: stats.blksize, alignment: 0 } : undefined;
  return { sectors, sectorBytes: 512, physicalSectorBytes: 512, readOnly, discard };
}

export class FileLink implements DiskLink {
  private client: DiskClient | undefined;
  private log: (line: string) => void = () => undefined;
  private buffer = ringBuffer();
  private ring = FileRing.over(this.buffer);
  private threads: Worker[] = [];
  /** The transfers that occupy a slot, by slot; the free slots; and the transfers that wait for a free slot. */
  private readonly lent: (DiskTransfer | undefined)[] = new Array(SLOTS).fill(undefined);
  private readonly free: number[] = Array.from({ length: SLOTS }, (_, i) => SLOTS - 1 - i);
  private readonly waiting: DiskTransfer[] = [];
  /** The transfers that were submitted since the last commit. */
  private readonly fresh: DiskTransfer[] = [];
  private committing = false;
  /** While this is not 0, no waiting transfer is started. */
  private quiescing = 0;
  /** A moving average of how long small transfers take, in µs. */
  private usualUs = 0;
  private u8: Uint8Array = new Uint8Array(0);
  private toWake = 0;
  private idle: (() => void)[] = [];
  private reported = 0;
  /** True while threads that are left are ended because one has failed. No transfer is handed to threads meanwhile. */
  private mending = false;
  /** True if the present threads have finished a transfer. */
  private useful = false;
  /** True after threads have failed that had finished nothing. */
  private broken = false;

  private constructor(
    private fd: number,
    readonly geometry: DiskGeometry,
    private readonly lock: DiskLock | undefined,
    private readonly options: FileLinkOptions,
    /** Whether this is a block device. */
    private readonly device: boolean,
  ) {
    this.ring.clear();
  }

  get name(): string {
    return this.options.path;
  }

  /** Opens and locks the disk. Rejects with a message for the user. */
  static async open(options: FileLinkOptions): Promise<FileLink> {
    const { path } = options;
    const fd = FileLink.openFile(options);
    try {
      const stats = fstatSync(fd);
      const geometry = geometryOf(stats, options);
      const lock = options.direct ? undefined : await DiskLock.take(path, options.readOnly);
      return new FileLink(fd, geometry, lock, options, stats.isBlockDevice());
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  private static openFile({ path, readOnly, direct }: FileLinkOptions): number {
    const access = readOnly ? constants.O_RDONLY : constants.O_RDWR;
    try {
      return openSync(path, direct ? access | constants.O_DIRECT : access);
    } catch (error) {
      if (direct && (error as NodeJS.ErrnoException).code === 'EINVAL') return openSync(path, access);
      throw new Error(`disk ${path}: ${(error as Error).message}`);
    }
  }

  begin(client: DiskClient, memory: LinearMemory, log: (line: string) => void): void {
    this.client = client;
    this.log = log;
    this.u8 = memory.u8;
  }

  /**
   * Threads are started when there is work for them, so that a guest that has just arrived does not wait for threads
   * that it may never need.
   */
  private startThreads(): void {
    const workerData: FileWorkerData = {
      ring: this.buffer,
      memory: this.u8.buffer as SharedArrayBuffer,
      fd: this.fd,
      device: this.device,
    };
    for (let i = 0; i < THREADS; i++) {
      const thread = new Worker(new URL('./file-worker.js', import.meta.url), {
        workerData,
        resourceLimits: WORKER_LIMITS,
      });
      thread.on('message', () => this.poll());
      thread.on('error', (error) => void this.lostThread(thread, error));
      thread.unref();
      this.threads.push(thread);
    }
  }

  /**
   * To be called when a thread has failed. It answers no more what it had, and what that was is known when none of the
   * others works any more. So all of them are ended, and new ones do again what is not answered. Threads that fail
   * before they have finished anything are not replaced: everything fails from then on.
   */
  private async lostThread(thread: Worker, { message }: Error): Promise<void> {
    this.log(`disk ${this.name}: a thread failed: ${message}`);
    if (this.mending || !this.threads.includes(thread)) return;
    this.mending = true;
    const others = this.threads.filter((other) => other !== thread);
    await Promise.all(others.map((other) => other.terminate()));
    this.threads = [];
    if (this.fd < 0) return;
    this.poll();
    this.broken = !this.useful;
    this.useful = false;
    this.buffer = ringBuffer();
    this.ring = FileRing.over(this.buffer);
    this.ring.clear();
    this.mending = false;
    if (this.broken) this.failAll();
    else this.again();
  }

  /** Hands everything that is not answered to new threads. */
  private again(): void {
    const { lent } = this;
    if (lent.some((transfer) => transfer !== undefined)) this.startThreads();
    for (let slot = 0; slot < SLOTS; slot++) {
      const transfer = lent[slot];
      if (transfer === undefined) continue;
      this.ring.submit(slot, transfer);
      this.toWake++;
    }
    while (this.free.length > 0 && this.handWaiting());
    this.commit();
  }

  private failAll(): void {
    const all = [...this.lent.filter((transfer) => transfer !== undefined), ...this.waiting.splice(0)];
    this.lent.fill(undefined);
    this.free.length = 0;
    for (let slot = 0; slot < SLOTS; slot++) this.free.push(slot);
    for (const transfer of all) this.answer(transfer, EIO);
    if (all.length > 0) this.client?.batchDone();
    for (const resolve of this.idle.splice(0)) resolve();
  }

  submit(transfer: DiskTransfer): void {
    this.fresh.push(transfer);
  }

  commit(): void {
    // An answer may lead to further submits and commits. The loop below handles those too.
    if (this.committing) return;
    this.committing = true;
    while (this.fresh.length > 0) {
      const batch = this.fresh.splice(0);
      if (this.isSwift(batch)) this.doHere(batch);
      else for (const transfer of batch) this.hand(transfer);
    }
    this.committing = false;
    if (this.toWake > 0) this.ring.wake(this.toWake);
    this.toWake = 0;
  }

  private isSwift(batch: readonly DiskTransfer[]): boolean {
    if (this.usualUs > SWIFT_US) return false;
    let sectors = 0;
    for (const transfer of batch) {
      if (transfer.operation !== DISK_READ && transfer.operation !== DISK_WRITE) return false;
      sectors += transfer.sectors;
    }
    return sectors * 512 <= OWN_BYTES;
  }

  private doHere(batch: readonly DiskTransfer[]): void {
    for (const transfer of batch) {
      const began = performance.now();
      const status = transferFile(this.fd, this.u8, transfer);
      this.measured((performance.now() - began) * 1000);
      this.answer(transfer, status);
    }
    this.client?.batchDone();
  }

  private measured(us: number): void {
    this.usualUs += (us - this.usualUs) / 8;
  }

  private answer(transfer: DiskTransfer, status: number): void {
    if (status !== 0) this.report(transfer, status);
    this.client?.done(transfer, status);
  }

  /** Hands a transfer to the threads. */
  private hand(transfer: DiskTransfer): void {
    if (this.broken) {
      this.answer(transfer, EIO);
      this.client?.batchDone();
      return;
    }
    if (this.mending) {
      this.waiting.push(transfer);
      return;
    }
    if (this.threads.length === 0) this.startThreads();
    const slot = this.free.pop();
    if (slot === undefined) {
      this.waiting.push(transfer);
      return;
    }
    this.lent[slot] = transfer;
    this.ring.submit(slot, transfer);
    this.toWake++;
  }

  poll(): void {
    const { ring, client } = this;
    ring.looking();
    let any = false;
    for (let slot = ring.finished(); slot >= 0; slot = ring.finished()) {
      const { status, microseconds } = ring;
      const transfer = this.lent[slot] as DiskTransfer;
      this.useful = true;
      this.lent[slot] = undefined;
      this.free.push(slot);
      this.handWaiting();
      const small = transfer.operation <= DISK_WRITE && transfer.sectors * 512 <= OWN_BYTES;
      if (small) this.measured(microseconds);
      this.answer(transfer, status);
      any = true;
    }
    if (any) client?.batchDone();
    this.commit();
    if (this.free.length === SLOTS) for (const resolve of this.idle.splice(0)) resolve();
  }

  /** Logs the first failures and then ever fewer, because a full disk fails thousands of times. */
  private report(transfer: DiskTransfer, status: number): void {
    const n = ++this.reported;
    if (n > 8 && (n & (n - 1)) !== 0) return;
    const what = ['read', 'write', 'flush', 'discard'][transfer.operation];
    const [name, text] = getSystemErrorMap().get(-status) ?? [String(status), ''];
    this.log(
      `disk ${this.name}: ${what} of ${transfer.sectors} sectors at ${transfer.sector}: ${name}, ${text} (failure ${n})`,
    );
  }

  async quiesce(): Promise<void> {
    this.commit();
    this.quiescing++;
    try {
      const quiet =
        this.free.length < SLOTS
          ? new Promise<void>((resolve) => this.idle.push(resolve))
          : Promise.resolve();
      const words = `disk ${this.name}: this host has not done what it was asked to within ${QUIESCE_LIMIT_MS / 1000} s`;
      await within(quiet, QUIESCE_LIMIT_MS, words);
      this.waiting.length = 0;
    } finally {
      this.quiescing--;
      while (this.free.length > 0 && this.handWaiting());
      this.commit();
    }
  }

  /** Starts one of the transfers that wait for a slot. Returns false if there is none or none may start. */
  private handWaiting(): boolean {
    const next = this.quiescing > 0 || this.mending ? undefined : this.waiting.shift();
    if (next !== undefined) this.hand(next);
    return next !== undefined;
  }

  async release(): Promise<void> {
    this.lock?.release();
  }
  async acquire(): Promise<void> {
    await this.lock?.retake();
  }

  later(): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, RETRY_MS).unref());
  }

  async close(): Promise<void> {
    this.ring.close();
    await Promise.all(this.threads.map((thread) => thread.terminate()));
    this.lock?.close();
    if (this.fd >= 0) closeSync(this.fd);
    this.fd = -1;
  }

  async another(): Promise<DiskLink> {
    const { geometry, options, device } = this;
    // Opens the same open file again, because its path may belong to another file by now.
    const fd = openSync(`/proc/self/fd/${this.fd}`, constants.O_RDONLY);
    const reading = { ...options, readOnly: true };
    return new FileLink(fd, { ...geometry, readOnly: true }, undefined, reading, device);
  }
}
