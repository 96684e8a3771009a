/** What a link reports of a disk whose server does not answer, when its guest must stand still to move. */
import net from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { SilentNbd } from '../../../test/disk/silent-nbd.js';
import { FrontMemory } from '../../../test/support/block-front.js';
import { DISK_READ, DISK_WRITE, DiskTransfer, QUIESCE_LIMIT_MS } from '../../devices/vbd/disk-link.js';
import { NbdLink } from './nbd-link.js';

describe('a disk whose server hangs', () => {
  let server: SilentNbd;
  let link: NbdLink;
  const done: DiskTransfer[] = [];
  const memory = new FrontMemory(8);
  const io = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) await new Promise((turn) => setImmediate(turn));
  };
  const until = async (so: () => boolean): Promise<void> => {
    for (let i = 0; i < 2000 && !so(); i++) await io();
    expect(so()).toBe(true);
  };
  const ask = async (operation: 0 | 1): Promise<DiskTransfer> => {
    const transfer = new DiskTransfer(1);
    transfer.operation = operation;
    transfer.sectors = 1;
    transfer.addExtent(0, 512);
    const before = server.requests;
    link.submit(transfer);
    link.commit();
    await until(() => server.requests > before);
    return transfer;
  };

  beforeEach(async () => {
    server = new SilentNbd();
    const port = await server.listen();
    link = await NbdLink.open({
      name: 'disk',
      exportName: '',
      readOnly: false,
      discard: false,
      answerMs: 10_000,
      lostS: Number.POSITIVE_INFINITY,
      connect: async () => net.connect(port, '127.0.0.1'),
      secure: undefined,
    });
    server.answering = false;
    done.length = 0;
    link.begin(
      { done: (transfer) => done.push(transfer), batchDone: () => undefined },
      memory.mem,
      () => undefined,
    );
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  });
  afterEach(async () => {
    vi.useRealTimers();
    await link.close();
    await server.close();
  });

  it('does not let its guest move with an unfinished write: that is refused within the limit, and nothing changes', async () => {
    const write = await ask(DISK_WRITE);
    const quiet = link.quiesce();
    const refused = expect(quiet).rejects.toThrow('its server has 1 write that it has not answered');
    await vi.advanceTimersByTimeAsync(QUIESCE_LIMIT_MS + 200);
    await refused;
    expect(done).toEqual([]);
    server.answer();
    await until(() => done.length > 0);
    expect(done).toEqual([write]);
  });

  it('lets its guest move if it answers its writes late, but within the limit', async () => {
    const write = await ask(DISK_WRITE);
    const quiet = link.quiesce();
    await vi.advanceTimersByTimeAsync(QUIESCE_LIMIT_MS / 2);
    server.answer();
    await quiet;
    expect(done).toEqual([write]);
  });

  it('gives reads up soon, and never writes their answers into memory that is not its own any more', async () => {
    await ask(DISK_READ);
    memory.mem.bytes(0, 512).fill(0x55);
    const quiet = link.quiesce();
    await vi.advanceTimersByTimeAsync(200);
    await quiet;
    server.answer();
    await io();
    expect(done).toEqual([]);
    expect(memory.mem.bytes(0, 512).every((byte) => byte === 0x55)).toBe(true);
  });

  it('can be closed without the help of the server', async () => {
    await expect(link.release()).resolves.toBeUndefined();
  });
});
