/** A file on a file system that hangs, when its guest must stand still to move. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FrontMemory } from '../../../test/support/block-front.js';
import { DISK_FLUSH, DiskTransfer, QUIESCE_LIMIT_MS } from '../../devices/vbd/disk-link.js';
import { FileLink } from './file-link.js';
import { SLOTS } from './file-ring.js';

// Threads that are inside a system call that does not return.
vi.mock('node:worker_threads', () => ({
  Worker: class {
    on(): void {}
    unref(): void {}
    async terminate(): Promise<void> {}
  },
}));

describe('a disk whose file system hangs', () => {
  const dir = mkdtempSync(join(tmpdir(), 'stillpoint-quiesce-'));
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  });
  afterEach(() => {
    vi.useRealTimers();
    rmSync(dir, { recursive: true, force: true });
  });

  it('does not let its guest move: the move is refused within its limit, and no request is lost', async () => {
    const path = join(dir, 'disk');
    writeFileSync(path, Buffer.alloc(512));
    const link = await FileLink.open({ path, readOnly: false, discard: false });
    const done: DiskTransfer[] = [];
    link.begin(
      { done: (one) => done.push(one), batchDone: () => undefined },
      new FrontMemory(8).mem,
      () => undefined,
    );
    // There are more requests than slots, so that some wait for a slot.
    for (let i = 0; i < SLOTS + 3; i++) {
      const flush = new DiskTransfer(1);
      flush.operation = DISK_FLUSH;
      link.submit(flush);
    }
    link.commit();
    const refused = expect(link.quiesce()).rejects.toThrow(
      'this host has not done what it was asked to within 5 s',
    );
    await vi.advanceTimersByTimeAsync(QUIESCE_LIMIT_MS);
    await refused;
    expect(done).toEqual([]);
    expect((link as unknown as { waiting: unknown[] }).waiting).toHaveLength(3);
    await link.close();
  });
});
