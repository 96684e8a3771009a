import { mkdtempSync, rmSync } from 'node:fs';
import { connect as connectSocket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { XS_READ, XS_WATCH } from '../xen/xs-wire.js';
import { XenstoreClient } from './client.js';
import { XenstoreServer } from './server/server.js';
import { SocketServer } from './socket/socket-server.js';
import { encodeMessage } from './wire/message.js';

let dir: string;
let path: string;
let server: XenstoreServer;
let sockets: SocketServer;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'xenstore-client-'));
  path = join(dir, 'socket');
  server = new XenstoreServer({ outputLimit: 1_000_000 });
  sockets = await SocketServer.listen(server, path);
});
afterEach(async () => {
  await sockets.close();
  rmSync(dir, { recursive: true });
});

describe('the client', () => {
  test('can use everything in the protocol', async () => {
    const xs = await XenstoreClient.connect({ path });
    await xs.write('/a/b', 'größer');
    expect(await xs.read('/a/b')).toBe('größer');
    await xs.write('/a/raw', Uint8Array.of(0, 200, 255));
    expect(await xs.readBytes('/a/raw')).toEqual(Uint8Array.of(0, 200, 255));
    await xs.mkdir('/a/d');
    expect(await xs.list('/a')).toEqual(['b', 'raw', 'd']);
    expect(await xs.list('/a/d')).toEqual([]);
    expect([await xs.exists('/a'), await xs.exists('/x')]).toEqual([true, false]);
    await xs.setPermissions('/a', ['n0', 'r3']);
    expect(await xs.getPermissions('/a')).toEqual(['n0', 'r3']);
    await xs.remove('/a/b');
    await expect(xs.read('/a/b')).rejects.toMatchObject({
      code: 'ENOENT',
      message: 'xenstore: read /a/b: ENOENT',
    });
    await expect(xs.write('/a', 'x'.repeat(5000))).rejects.toMatchObject({ code: 'E2BIG' });
    expect(await xs.domainPath(3)).toBe('/local/domain/3');
    await xs.introduce(3, 1, 1);
    expect(await xs.isIntroduced(3)).toBe(true);
    await xs.introduce(4, 1, 1);
    await xs.setTarget(3, 4);
    await xs.resume(3);
    expect(await xs.getFeatures(3)).toBe(7);
    await xs.setFeatures(9, 3);
    expect(await xs.getFeatures(9)).toBe(3);
    expect(await xs.quotaNames()).toContain('watches');
    await xs.setQuota('watches', 20);
    await xs.setQuota('watches', 7, 4);
    expect([await xs.getQuota('watches'), await xs.getQuota('watches', 4)]).toEqual([20, 7]);
    await expect(xs.getQuota('nonsense')).rejects.toMatchObject({ code: 'EINVAL' });
    await xs.release(3);
    expect(await xs.isIntroduced(3)).toBe(false);
    expect(await xs.control('quota', '0')).toContain('Domain 0:');
    await xs.close();
  });

  test('lists a folder that changes while it is read in parts', async () => {
    const xs = await XenstoreClient.connect({ path });
    const dom0 = server.local();
    for (let i = 0; i < 900; i++) dom0.write(`/many/child-${i}`, '');
    const listing = xs.list('/many');
    for (let i = 900; i < 950; i++) {
      dom0.write(`/many/child-${i}`, '');
      await new Promise((resolve) => setImmediate(resolve));
    }
    const names = await listing;
    expect(names).toEqual(Array.from({ length: names.length }, (_, i) => `child-${i}`));
    expect(names.length).toBeGreaterThanOrEqual(900);
    await xs.close();
  });

  test('gets each change once through a watch, until it leaves the loop', async () => {
    const xs = await XenstoreClient.connect({ path });
    const dom0 = server.local();
    const seen: string[] = [];
    for await (const changed of xs.watch('/w')) {
      seen.push(changed);
      if (seen.length === 1) {
        dom0.write('/w/a', '1');
        dom0.write('/w/a', '2');
        dom0.write('/w/b', '1');
      }
      if (seen.length === 3) break;
    }
    expect(seen).toEqual(['/w', '/w/a', '/w/b']);
    // The next request is answered after the watch is removed.
    await xs.read('/');
    expect([...server.connections].map((c) => c.watches.length)).toEqual([0, 0]);
    await xs.close();
  });

  test('ends a watch by a signal, and with an error when the connection ends', async () => {
    const xs = await XenstoreClient.connect({ path });
    const stop = new AbortController();
    for await (const _ of xs.watch('/w', { signal: stop.signal, depth: 1 })) setImmediate(() => stop.abort());
    const broken = (async () => {
      for await (const _ of xs.watch('/w')) void xs.close();
    })();
    await expect(broken).rejects.toMatchObject({ code: 'ECONNRESET' });
    await expect(xs.read('/')).rejects.toMatchObject({ code: 'ECONNRESET' });
  });

  test('counts correctly if several clients count at once in transactions', async () => {
    const clients = await Promise.all([0, 1, 2, 3].map(() => XenstoreClient.connect({ path })));
    await clients[0].write('/n', '0');
    await Promise.all(
      clients.flatMap((xs) =>
        [0, 1, 2, 3, 4].map(() =>
          xs.transaction(async (t) => {
            await t.write('/n', String(Number(await t.read('/n')) + 1));
          }),
        ),
      ),
    );
    expect(await clients[0].read('/n')).toBe('20');
    await expect(
      clients[0].transaction(async (t) => {
        await t.write('/n', 'lost');
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    expect(await clients[1].read('/n')).toBe('20');
    await Promise.all(clients.map((xs) => xs.close()));
  });

  test('gives a transaction up after the given number of attempts', async () => {
    const xs = await XenstoreClient.connect({ path });
    const dom0 = server.local();
    dom0.write('/n', '0');
    let tries = 0;
    const losing = xs.transaction(
      async (t) => {
        await t.read('/n');
        dom0.write('/n', String(++tries));
        await t.write('/m', '');
      },
      { retries: 3 },
    );
    await expect(losing).rejects.toMatchObject({ code: 'EAGAIN' });
    expect(tries).toBe(4);
    await xs.close();
  });
});

describe('a harmful client', () => {
  test('that does not take its events is disconnected, and others continue', async () => {
    const xs = await XenstoreClient.connect({ path });
    const lazy = connectSocket(path);
    const ended = new Promise<void>((resolve) => lazy.once('close', () => resolve()));
    lazy.on('error', () => {});
    lazy.pause();
    lazy.write(encodeMessage({ type: XS_WATCH, reqId: 1, txId: 0, body: '/\0t\0' }));
    await xs.read('/');
    for (let i = 0; i < 20_000 && server.connections.size > 1; i++)
      await xs.write(`/flood/${'x'.repeat(100)}/${i}`, '');
    expect(server.connections.size).toBe(1);
    lazy.resume();
    await ended;
    expect(await xs.exists('/flood')).toBe(true);
    await xs.close();
  });

  test('that announces a payload above the limit is disconnected', async () => {
    const xs = await XenstoreClient.connect({ path });
    const bad = connectSocket(path);
    const ended = new Promise<void>((resolve) => bad.once('close', () => resolve()));
    const header = Buffer.alloc(16);
    header.writeUInt32LE(4097, 12);
    bad.write(header);
    bad.resume();
    await ended;
    expect(await xs.read('/')).toBe('');
    await xs.close();
  });

  test('that sends requests without end and takes no answers has to wait, and loses none of them', async () => {
    const xs = await XenstoreClient.connect({ path });
    await xs.write('/big', 'x'.repeat(4000));
    const greedy = connectSocket(path);
    greedy.pause();
    const ask = encodeMessage({ type: XS_READ, reqId: 1, txId: 0, body: '/big\0' });
    greedy.write(Buffer.concat(Array.from({ length: 8000 }, () => ask)));
    for (let i = 0; i < 200; i++) {
      await xs.read('/big');
      for (const c of server.connections) expect(c.output.bytes).toBeLessThan(300_000);
    }
    let bytes = 0;
    greedy.on('data', (chunk) => {
      bytes += chunk.length;
    });
    greedy.resume();
    while (bytes < 8000 * 4016) await new Promise((resolve) => setImmediate(resolve));
    expect(bytes).toBe(8000 * 4016);
    greedy.destroy();
    await xs.close();
  });
});
