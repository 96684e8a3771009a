/** What a link says of a disk whose server does not answer, when its guest is to stand still for another host. */
import net from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FrontMemory } from '../../../../test/support/block-front.js';
import { DISK_READ, DISK_WRITE, DiskTransfer, QUIESCE_LIMIT_MS } from '../../../devices/vbd/disk-link.js';
import { NbdLink } from './nbd-link.js';

/** Speaks just enough of NBD; answers no request until it is told to. */
class SilentServer {
  private readonly server = net.createServer((socket) => this.serve(socket));
  private readonly held: (() => void)[] = [];
  requests = 0;

  async listen(): Promise<number> {
    await new Promise<void>((done) => this.server.listen(0, '127.0.0.1', done));
    return (this.server.address() as net.AddressInfo).port;
  }
  close(): void {
    this.server.close();
  }
  answer(): void {
    for (const one of this.held.splice(0)) one();
  }

  private serve(socket: net.Socket): void {
    let got = Buffer.alloc(0);
    let transmission = false;
    socket.on('error', () => undefined);
    socket.write(Buffer.from('4e42444d4147494349484156454f50540001', 'hex'));
    socket.on('data', (chunk) => {
      got = Buffer.concat([got, chunk]);
      if (!transmission) {
        // The client's flags, and OPT_GO with an empty name.
        if (got.length < 4 + 16 + 8) return;
        got = got.subarray(4 + 16 + 8);
        transmission = true;
        const reply = (type: number, data: Buffer): Buffer => {
          const head = Buffer.alloc(20);
          head.writeBigUInt64BE(0x0003e889045565a9n, 0);
          head.writeUInt32BE(7, 8);
          head.writeUInt32BE(type, 12);
          head.writeUInt32BE(data.length, 16);
          return Buffer.concat([head, data]);
        };
        const size = Buffer.alloc(12);
        size.writeBigUInt64BE(1n << 20n, 2);
        size.writeUInt16BE(5, 10);
        socket.write(Buffer.concat([reply(3, size), reply(1, Buffer.alloc(0))]));
      }
      while (got.length >= 28) {
        const [type, length] = [got.readUInt16BE(6), got.readUInt32BE(24)];
        const all = 28 + (type === 1 ? length : 0);
        if (got.length < all) return;
        const reply = Buffer.alloc(16);
        reply.writeUInt32BE(0x67446698, 0);
        got.copy(reply, 8, 8, 16);
        got = got.subarray(all);
        if (type === 2) return;
        this.requests++;
        this.held.push(() => socket.write(type === 0 ? Buffer.concat([reply, Buffer.alloc(length)]) : reply));
      }
    });
  }
}

describe('a disk whose server hangs', () => {
  const server = new SilentServer();
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
    const port = await server.listen();
    link = await NbdLink.open({
      name: 'disk',
      exportName: '',
      readOnly: false,
      discard: false,
      lostS: Number.POSITIVE_INFINITY,
      connect: async () => net.connect(port, '127.0.0.1'),
      secure: undefined,
    });
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
    server.close();
  });

  it('cannot be left to another host while it has a write: that is refused within the limit, and all is as it was', async () => {
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

  it('may be left when it answers its writes late, within the limit', async () => {
    const write = await ask(DISK_WRITE);
    const quiet = link.quiesce();
    await vi.advanceTimersByTimeAsync(QUIESCE_LIMIT_MS / 2);
    server.answer();
    await quiet;
    expect(done).toEqual([write]);
  });

  it('gives reads up soon, and never puts their answers into memory that is not its own any more', async () => {
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

  it('is let go of without its help', async () => {
    await expect(link.release()).resolves.toBeUndefined();
  });
});
