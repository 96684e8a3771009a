/** A file whose threads fail one after another, in the middle of their transfers. */
import { EventEmitter } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { FrontMemory } from '../../../test/support/block-front.js';
import { DISK_FLUSH, type DiskClient, DiskTransfer } from '../../devices/vbd/disk-link.js';
import { FileLink } from './file-link.js';
import { FileRing, MAX_EXTENTS } from './file-ring.js';
import type { FileWorkerData } from './file-worker.js';

/** Threads that the test drives: each takes a transfer when it is told to. */
const world = vi.hoisted(() => ({ threads: [] as unknown[] }));
class Thread extends EventEmitter {
  readonly ring: FileRing;
  ended = false;
  private readonly request = {
    operation: 0,
    sector: 0,
    sectors: 0,
    nrExtents: 0,
    address: new Uint32Array(MAX_EXTENTS),
    length: new Uint32Array(MAX_EXTENTS),
  };
  constructor(_: URL, { workerData }: { workerData: FileWorkerData }) {
    super();
    this.ring = FileRing.over(workerData.ring);
    world.threads.push(this);
  }
  unref(): void {}
  async terminate(): Promise<void> {
    this.ended = true;
  }
  /** Takes a transfer. Returns its sector. */
  take(): number {
    this.slot = this.ring.take();
    this.ring.read(this.slot, this.request);
    return this.request.sector;
  }
  private slot = -1;
  finish(): void {
    this.ring.finish(this.slot, 0, 1);
    this.emit('message', 0);
  }
  async fail(): Promise<void> {
    this.emit('error', new Error('out of memory'));
    await new Promise((resolve) => setImmediate(resolve));
  }
}
vi.mock('node:worker_threads', () => ({
  Worker: function worker(...args: [URL, never]) {
    return new Thread(...args);
  },
}));

describe('a disk one of whose threads fails', () => {
  const dir = mkdtempSync(join(tmpdir(), 'stillpoint-threads-'));
  const path = join(dir, 'disk');
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  async function open() {
    writeFileSync(path, Buffer.alloc(4096));
    const link = await FileLink.open({ path, readOnly: false, discard: false });
    const done: [sector: number, status: number][] = [];
    const client: DiskClient = {
      done: ({ sector }, status) => done.push([sector, status]),
      batchDone: () => undefined,
    };
    link.begin(client, new FrontMemory(8).mem, () => undefined);
    world.threads.length = 0;
    const flush = (sector: number): void => {
      const transfer = new DiskTransfer(1);
      transfer.operation = DISK_FLUSH;
      transfer.sector = sector;
      link.submit(transfer);
      link.commit();
    };
    return { link, done, flush, threads: world.threads as Thread[] };
  }

  it('has the work of the failed thread and of the other repeated by new threads, and answers each request once', async () => {
    const { link, done, flush, threads } = await open();
    for (const sector of [0, 1, 2, 3]) flush(sector);
    const [a, b] = threads;
    expect([a.take(), b.take()]).toEqual([0, 1]);
    b.finish();
    expect(b.take()).toBe(2);
    const failed = a.fail();
    // Meanwhile the guest sends more requests.
    flush(4);
    link.poll();
    await failed;
    expect(threads.map((thread) => thread.ended)).toEqual([false, true, false, false]);
    const [, , c, d] = threads;
    const quiet = link.quiesce();
    expect([c.take(), d.take()].sort()).toEqual([0, 2]);
    c.finish();
    d.finish();
    expect([c.take(), d.take()].sort()).toEqual([3, 4]);
    c.finish();
    d.finish();
    await quiet;
    expect(done.sort()).toEqual([0, 1, 2, 3, 4].map((sector) => [sector, 0]));
    // An error of a thread that was replaced already changes nothing.
    await b.fail();
    flush(5);
    expect(threads).toHaveLength(4);
    c.take();
    c.finish();
    expect(done.at(-1)).toEqual([5, 0]);
    await link.close();
  });

  it('fails a transfer at which every thread fails, and everything after it', async () => {
    const { link, done, flush, threads } = await open();
    for (const sector of [0, 1]) flush(sector);
    threads[0].take();
    threads[1].take();
    threads[1].finish();
    await threads[0].fail();
    expect([threads.length, done]).toEqual([4, [[1, 0]]]);
    threads[2].take();
    await threads[2].fail();
    flush(2);
    expect([threads.length, done]).toEqual([
      4,
      [
        [1, 0],
        [0, 5],
        [2, 5],
      ],
    ]);
    await link.quiesce();
    await link.close();
  });
});
