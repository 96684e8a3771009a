import net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { DataListener, openData } from './data-channel.js';

const KEY = 'ab'.repeat(32);
const open: net.Socket[] = [];
afterEach(() => {
  for (const socket of open.splice(0)) socket.destroy();
});

describe('the port for the data of a move', () => {
  it('accepts the side that knows the key, however many strangers hold connections, and then nobody else', async () => {
    const address = { host: '127.0.0.1', identity: 'move', key: KEY };
    const listener = await DataListener.listen(address, [0]);
    const { port } = listener;
    const strangers: net.Socket[] = [];
    const gone: Promise<unknown>[] = [];
    for (let i = 0; i < 20; i++) {
      const socket = net.connect(port, '127.0.0.1');
      socket.on('error', () => {});
      socket.resume();
      strangers.push(socket);
      open.push(socket);
      gone.push(new Promise((done) => socket.once('close', done)));
      await new Promise((done) => socket.once('connect', done));
    }
    strangers[19].write('GET / HTTP/1.1\r\n\r\n');
    // The oldest connections are closed before any of them has proved that it knows the key.
    await Promise.all(gone.slice(0, 12));
    await expect(openData({ ...address, port, key: 'cd'.repeat(32) })).rejects.toThrow();
    const [sender, receiver] = await Promise.all([openData({ ...address, port }), listener.connection()]);
    open.push(sender, receiver);
    await Promise.all(gone);
    sender.end('all of it');
    expect(String(await new Promise<Buffer>((done) => receiver.once('data', done)))).toBe('all of it');
  });
});
