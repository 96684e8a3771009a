/** Tests that the source of a move notices when the other side, or a disk, stops answering. */
import net from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openData, socketSink } from './data-channel.js';
import { DiskSender, type TravellingDisk } from './disk-sender.js';
import type { PageSender } from './page-sender.js';
import { WRITES_UNDER_WAY } from './stream-writer.js';

const ANSWER_MS = 1000;

describe('a move whose other side stops answering', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('is given up when that side takes no data', async () => {
    const socket = { write: () => true } as unknown as net.Socket;
    const sink = socketSink(socket, ANSWER_MS);
    for (let i = 0; i < WRITES_UNDER_WAY; i++) await sink(new Uint8Array(1));
    const stuck = expect(sink(new Uint8Array(1))).rejects.toThrow('took no data for 1 s');
    await vi.advanceTimersByTimeAsync(ANSWER_MS);
    await stuck;
  });

  it('is given up when that side accepts the connection and does not identify itself', async () => {
    const taken: net.Socket[] = [];
    const server = net.createServer((socket) => taken.push(socket));
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    const { port } = server.address() as net.AddressInfo;
    const key = '00'.repeat(32);
    const connecting = expect(openData({ host: '127.0.0.1', port, identity: 'h', key })).rejects.toThrow(
      'no answer',
    );
    while (taken.length === 0) await new Promise((turn) => setImmediate(turn));
    await vi.advanceTimersByTimeAsync(10_000);
    await connecting;
    for (const socket of taken) socket.destroy();
    server.close();
  });

  it('is given up when a disk that is copied returns no data, but not because the connection is slow', async () => {
    const disk = {
      devid: 7,
      bytes: 1024,
      pending: 1024,
      sweep: async (block: (at: number, data: Uint8Array) => Promise<void>) => {
        await block(0, new Uint8Array(512));
        await new Promise(() => undefined);
      },
    } satisfies TravellingDisk;
    const sender = {
      disk: async () => undefined,
      blocks: () => new Promise<void>((done) => setTimeout(done, 10 * ANSWER_MS)),
    } as unknown as PageSender;
    const diskSender = new DiskSender([disk], sender, () => undefined, ANSWER_MS);
    let said = '';
    diskSender.sweep().catch((error: Error) => {
      said = error.message;
    });
    await vi.advanceTimersByTimeAsync(10 * ANSWER_MS);
    expect([diskSender.copied, said]).toEqual([512, '']);
    await vi.advanceTimersByTimeAsync(ANSWER_MS);
    expect(said).toBe('disk 7 cannot be read: no answer within 1 s');
  });
});
