import net from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { addressKey, Doorkeeper } from './doorkeeper.js';

const LIMITS = { greetingMs: 60_000, unknown: 6, unknownPerAddress: 3, known: 4, knownPerPeer: 3 };

describe('connections that are not authenticated', () => {
  let server: net.Server;
  let door: Doorkeeper;
  let inside: net.Socket[];
  let outside: net.Socket[];
  const listen = async (greetingMs = LIMITS.greetingMs): Promise<void> => {
    door = new Doorkeeper({ ...LIMITS, greetingMs });
    inside = [];
    server = net.createServer((socket) => {
      socket.on('error', () => {});
      door.admit(socket);
      inside.push(socket);
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  };
  const knock = async (localAddress = '127.0.0.1'): Promise<net.Socket> => {
    const { port } = server.address() as net.AddressInfo;
    const before = inside.length;
    const socket = net.connect({ host: '127.0.0.1', port, localAddress });
    socket.on('error', () => {});
    outside.push(socket);
    while (inside.length === before) await new Promise((done) => setTimeout(done, 1));
    return socket;
  };
  const closed = (socket: net.Socket): Promise<unknown> =>
    socket.destroyed ? Promise.resolve() : new Promise((done) => socket.once('close', done).resume());

  beforeEach(() => {
    outside = [];
  });
  afterEach(() => {
    for (const socket of [...outside, ...inside]) socket.destroy();
    server.close();
  });

  it('are closed if they have sent nothing in time, and not otherwise', async () => {
    await listen(50);
    const silent = await knock();
    await knock();
    expect(door.known(inside[1], 'peer')).toBe(true);
    await closed(silent);
    await closed(inside[0]);
    expect(door.counts).toEqual({ unknown: 0, known: 1 });
    expect(inside[1].destroyed).toBe(false);
  });

  it('are limited in all and for each address: the oldest is closed', async () => {
    await listen();
    const first = await knock();
    for (let i = 0; i < 3; i++) await knock();
    await closed(first);
    expect(door.counts.unknown).toBe(3);
    for (let i = 0; i < 3; i++) await knock('127.0.0.2');
    expect(door.counts.unknown).toBe(6);
    await knock('127.0.0.3');
    await closed(inside[1]);
    expect(door.counts.unknown).toBe(6);
    // One that was closed is not admitted later.
    expect(door.known(inside[1], 'peer')).toBe(false);
    expect(inside.map((s) => s.destroyed)).toEqual([true, true, ...Array(6).fill(false)]);
  });

  it('do not take the place of authenticated ones, which have their own limit', async () => {
    await listen();
    for (const [peer, right] of [
      ['a', true],
      ['a', true],
      ['a', true],
      ['a', false],
      ['b', true],
      ['b', false],
    ] as const) {
      await knock();
      const socket = inside[inside.length - 1];
      expect(door.known(socket, peer)).toBe(right);
      if (!right) socket.destroy();
    }
    for (let i = 0; i < 10; i++) await knock();
    expect(door.counts.known).toBe(4);
    const gone = closed(inside[0]);
    outside[0].destroy();
    await gone;
    expect(door.counts.known).toBe(3);
  });

  it('are counted by address, and for IPv6 by network', () => {
    expect(addressKey('::ffff:192.0.2.7')).toBe('192.0.2.7');
    expect(addressKey('2001:db8:1:2:3:4:5:6')).toBe(addressKey('2001:db8:1:2::9'));
    expect(addressKey('2001:db8::1')).toBe('2001:db8:0:0::/64');
    expect(addressKey('::1')).toBe('0:0:0:0::/64');
    expect(addressKey('2001:db8:1:3::9')).not.toBe(addressKey('2001:db8:1:2::9'));
  });
});
