import { execFileSync } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { vifLinks } from '../../src/host/net/networks.js';
import { checksumHolds } from '../../src/net/checksum.js';
import { copyFrame, type Frame, GSO_TCPV4, NEEDS_CSUM, plainFrame } from '../../src/net/frame.js';
import type { LinkClient, NetLink } from '../../src/net/link.js';
import { parseLinkAddress } from '../../src/net/links/address.js';
import { openLink } from '../../src/net/links/open-link.js';
import { SwitchServer } from '../../src/net/links/switch-server.js';
import { ethernet, pattern, tcp, udp } from '../support/packets.js';

class Client implements LinkClient {
  readonly got: Frame[] = [];
  readonly changes: boolean[] = [];
  drains = 0;
  receive(frame: Frame): void {
    this.got.push(copyFrame(frame));
  }
  received(): void {}
  drained(): void {
    this.drains++;
  }
  linkChanged(up: boolean): void {
    this.changes.push(up);
  }
}

const until = async (what: () => boolean, seconds = 20): Promise<void> => {
  for (const end = performance.now() + seconds * 1000; !what(); ) {
    if (performance.now() > end) throw new Error(`did not happen: ${what}`);
    await new Promise((done) => setTimeout(done, 5));
  }
};
const broadcast = (n: number, from: number): Frame =>
  plainFrame(ethernet(0x88b5, [...pattern(60, n)], [255, 255, 255, 255, 255, 255], [2, 0, 0, 0, 0, from]));

let directory: string;
let path: string;
const open: NetLink[] = [];
const log: string[] = [];
const link = async (address: string, client: LinkClient): Promise<NetLink> => {
  const made = await openLink(parseLinkAddress(address), client, (line) => log.push(line));
  open.push(made);
  return made;
};
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'stillpoint-links-'));
  path = join(directory, 's');
  log.length = 0;
});
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
  rmSync(directory, { recursive: true, force: true });
});

describe('a link to our switch', () => {
  test('carries large packets whole; a plain port gets them in finished segments', async () => {
    const fabric = new SwitchServer(() => {});
    await fabric.listen({ path }, 0o600);
    const [a, b, c] = [new Client(), new Client(), new Client()];
    const from = await link(`switch:unix:${path}`, a);
    await link(`switch:unix:${path}`, b);
    const plain = await link(`stream:unix:${path}`, c);
    plain.send(broadcast(1, 3));
    plain.flush();
    await until(() => a.got.length === 1 && b.got.length === 1);
    const packet = tcp(4, pattern(20_000));
    const work = { flags: NEEDS_CSUM, csumStart: 34, csumOffset: 16, gsoType: GSO_TCPV4, gsoSize: 1448 };
    from.send({ ...plainFrame(packet), ...work });
    from.flush();
    await until(() => b.got.length === 2 && c.got.length === 14);
    expect(b.got[1]).toMatchObject(work);
    expect(Buffer.compare(b.got[1].bytes, packet)).toBe(0);
    expect(c.got.every((f) => checksumHolds(f.bytes))).toBe(true);
    await fabric.close();
  });

  test("proves whose it is: nobody else gets its guest's frames, whatever others send, until the guest is elsewhere", async () => {
    const far = new SwitchServer(() => {});
    const fabric = new SwitchServer(() => {});
    await far.listen({ path: `${path}-far` }, 0o600, true);
    await fabric.listen({ path }, 0o600);
    await fabric.uplink((client) => openLink(parseLinkAddress(`switch:unix:${path}-far`), client, () => {}));
    const vif = (mac: string, token: string, more: object = {}) =>
      JSON.stringify({ mac, mtu: 1500, bridge: '', ip: '', token, ...more });
    const guest = async (at: string, spec: string, client: LinkClient): Promise<NetLink> => {
      const { link: made } = await vifLinks({ default: `switch:unix:${at}` }, () => {})(0, spec, client);
      open.push(made);
      return made;
    };
    const [victim, thief, peer, there] = [new Client(), new Client(), new Client(), new Client()];
    const from = await guest(path, vif('02:00:00:00:00:01', 'secret'), victim);
    const foe = await guest(path, vif('02:00:00:00:00:02', 'its own'), thief);
    const friend = await guest(path, vif('02:00:00:00:00:03', 'friend', { antispoof: false }), peer);
    const send = (by: NetLink, frame: Frame): void => {
      by.send(frame);
      by.flush();
    };
    const toVictim = () =>
      plainFrame(ethernet(0x88b5, [...pattern(60)], [2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 3]));
    /** Sends one frame to the victim's address, and returns who gets it. */
    const taker = async (): Promise<Client> => {
      const all = [victim, thief, there];
      for (const client of all) client.got.length = 0;
      send(friend, toVictim());
      await until(() => all.some((client) => client.got.length > 0));
      return all.find((client) => client.got.length > 0)!;
    };
    send(from, broadcast(1, 1));
    await until(() => peer.got.length === 1);
    // It is tried with its own link, with its own claim, as a plain port, and as a link of version 0.1: nothing
    // arrives.
    const liar = await guest(path, vif('02:00:00:00:00:01', 'a guess'), new Client());
    const plain = await link(`stream:unix:${path}`, new Client());
    const old = await link(`switch:unix:${path}`, new Client());
    for (const by of [foe, liar, plain, old]) send(by, broadcast(2, 1));
    send(foe, broadcast(3, 2));
    await until(() => peer.got.length >= 2);
    await until(() => [...fabric.fabric.ports.values()].filter((p) => p.refused === 1).length === 4);
    expect(peer.got.length).toBe(2);
    expect(await taker()).toBe(victim);
    // The guest moves to the other switch and is announced there: from then on its frames go there and no longer here.
    const moved = await guest(`${path}-far`, vif('02:00:00:00:00:01', 'secret'), there);
    await from.close();
    send(moved, broadcast(4, 1));
    await until(() => peer.got.length >= 3);
    send(foe, broadcast(5, 1));
    expect(await taker()).toBe(there);
    await fabric.close();
    await far.close();
  });

  test('with an invalid claim is refused, and harms nobody', async () => {
    const lines: string[] = [];
    const fabric = new SwitchServer((line) => lines.push(line));
    await fabric.listen({ path }, 0o600);
    const say = async (part: Uint8Array): Promise<void> => {
      const socket = createConnection({ path });
      socket.on('error', () => {});
      const closed = new Promise((done) => socket.once('close', done));
      socket.end(part);
      socket.resume();
      await closed;
    };
    const hello = (json: string, length = json.length): Uint8Array =>
      Buffer.concat([Buffer.from('SPNET02\n'), Buffer.of(length >>> 8, length & 255), Buffer.from(json)]);
    await say(hello('null'));
    await say(hello('{'));
    await say(hello('{"mac":"01:00:00:00:00:01","ips":[],"token":""}'));
    await say(hello('{"mac":"02:00:00:00:00:01","ips":[7],"token":""}'));
    await say(hello('', 60_000));
    const good = hello('{"mac":"02:00:00:00:00:01","ips":[],"token":""}');
    const whole = createConnection({ path });
    for (const byte of good) whole.write(Buffer.of(byte));
    expect(String(await new Promise<Buffer>((done) => whole.once('data', done)))).toBe('SPNET02\n');
    whole.destroy();
    expect(lines.filter((line) => /a connection was refused/.test(line)).length).toBe(4);
    await fabric.close();
  });

  test('reconnects when the switch returns, and logs both', async () => {
    let fabric = new SwitchServer(() => {});
    await fabric.listen({ path }, 0o600);
    const [a, b] = [new Client(), new Client()];
    const from = await link(`switch:unix:${path}`, a);
    await link(`switch:unix:${path}`, b);
    await fabric.close();
    await until(() => a.changes.at(-1) === false && b.changes.at(-1) === false);
    from.send(broadcast(1, 1));
    expect(from.writable).toBe(true);
    fabric = new SwitchServer(() => {});
    await fabric.listen({ path }, 0o600);
    await until(() => a.changes.at(-1) === true && b.changes.at(-1) === true);
    await until(() => fabric.fabric.ports.size === 2);
    from.send(broadcast(2, 1));
    from.flush();
    await until(() => b.got.length === 1);
    expect(log.filter((line) => /far end closed/.test(line)).length).toBeGreaterThan(0);
    expect(log.filter((line) => /connected again/.test(line)).length).toBe(2);
    await fabric.close();
  });

  test('is refused with the reason where there is no switch, or something else', async () => {
    await expect(link(`switch:unix:${path}`, new Client())).rejects.toThrow(
      /network link switch:unix:.*ENOENT/,
    );
    const other = createServer((socket) => socket.end('HTTP/1.1 400\r\n')).listen({ path });
    await new Promise((done) => other.once('listening', done));
    await expect(link(`switch:unix:${path}`, new Client())).rejects.toThrow(/not a Stillpoint switch/);
    other.close();
  });

  test('holds the sender back while it is full, loses nothing, and reports when there is room', async () => {
    const fabric = new SwitchServer(() => {});
    await fabric.listen({ path }, 0o600);
    const [a, b] = [new Client(), new Client()];
    const from = await link(`switch:unix:${path}`, a);
    await link(`switch:unix:${path}`, b);
    let sent = 0;
    const frame = (n: number) => ({
      ...broadcast(n, 1),
      bytes: new Uint8Array([...broadcast(n, 1).bytes, ...pattern(60_000)]),
    });
    while (from.writable) {
      from.send(frame(sent++));
      from.flush();
    }
    expect(sent).toBeLessThan(20);
    await until(() => a.drains > 0 && b.got.length === sent);
    await fabric.close();
  });
});

test('a port that sends invalid frames is disconnected, and a port that only listens gets the frames of others', async () => {
  const lines: string[] = [];
  const fabric = new SwitchServer((line) => lines.push(line));
  await fabric.listen({ path }, 0o600);
  const sockets: Socket[] = [];
  const dial = (): Promise<Socket> =>
    new Promise((done) => {
      const socket = createConnection({ path }, () => done(socket));
      sockets.push(socket);
    });
  (await dial()).write('GET / HTTP/1.1\r\n\r\n');
  await until(() => lines.some((line) => /port 1 left: a frame of \d+ bytes/.test(line)));
  const listener = await dial();
  let heard = 0;
  listener.on('data', (d: Buffer) => {
    heard += d.length;
  });
  await until(() => fabric.fabric.ports.size === 1);
  const from = await link(`switch:unix:${path}`, new Client());
  from.send(broadcast(1, 1));
  from.flush();
  await until(() => heard === 4 + 74);
  for (const socket of sockets) socket.destroy();
  await fabric.close();
});

test('datagrams go from one end to the other, one frame each', async () => {
  const [a, b] = [new Client(), new Client()];
  const base = 20_000 + (process.pid % 20_000);
  const from = await link(`dgram:127.0.0.1:${base}/127.0.0.1:${base + 1}`, a);
  const to = await link(`dgram:127.0.0.1:${base + 1}/127.0.0.1:${base}`, b);
  from.send(broadcast(1, 1));
  await until(() => b.got.length === 1);
  to.send(plainFrame(udp(4, pattern(8000))));
  await until(() => a.got.length === 1);
  expect(Buffer.compare(a.got[0].bytes, udp(4, pattern(8000)))).toBe(0);
});

test.each([
  ['swich:unix:/x', /switch:, stream:/],
  ['switch:/x', /not HOST:PORT/],
  ['switch:host:70000', /not HOST:PORT/],
  [`switch:unix:/${'x'.repeat(200)}`, /1 to 107 bytes/],
  ['tap:a name', /not a valid interface name/],
  ['tap:', /not a valid interface name/],
  ['dgram:127.0.0.1:5', /dgram:HOST:PORT\/HOST:PORT/],
])('%s is no link, and the message says why', (text, message) => {
  expect(() => parseLinkAddress(text)).toThrow(message);
});

const tun = (() => {
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
    execFileSync('ip', ['link', 'show', 'lo'], { stdio: 'ignore' });
    return process.getuid?.() === 0;
  } catch {
    return false;
  }
})();

describe.skipIf(!tun)('a tap device of the kernel', () => {
  const OURS = [10, 213, 77, 2];
  const KERNEL = [10, 213, 77, 1];
  const MAC = [2, 0, 0, 0, 0, 9];

  test('answers ARP and UDP, and completes the checksums that are left to it', async () => {
    const client = new Client();
    const name = `spt${process.pid % 100_000}`;
    const tap = await link(`tap:${name}`, client);
    expect(tap.name).toBe(`tap:${name}`);
    execFileSync('ip', ['addr', 'add', `${KERNEL.join('.')}/24`, 'dev', name]);
    const broadcastMac = [255, 255, 255, 255, 255, 255];
    const ask = ethernet(
      0x0806,
      [0, 1, 8, 0, 6, 4, 0, 1, ...MAC, ...OURS, 0, 0, 0, 0, 0, 0, ...KERNEL],
      broadcastMac,
      MAC,
    );
    tap.send(plainFrame(ask));
    const arp = () => client.got.find((f) => f.bytes[12] === 8 && f.bytes[13] === 6 && f.bytes[21] === 2);
    await until(() => arp() !== undefined);
    const kernelMac = [...arp()!.bytes.subarray(6, 12)];
    // A UDP packet with a blank checksum, to a closed port: the kernel reports that only if the checksum was right.
    const packet = udp(4, pattern(500), { from: OURS, to: KERNEL, toPort: 9 });
    packet.set([...kernelMac, ...MAC]);
    packet.set([0, 0], 40);
    const { findHeaders, newHeaders } = await import('../../src/net/headers.js');
    const { leaveChecksum } = await import('../../src/net/checksum.js');
    const headers = newHeaders();
    findHeaders(packet, headers);
    const frame = plainFrame(packet);
    leaveChecksum(frame, headers);
    tap.send(frame);
    const unreachable = () =>
      client.got.some(
        (f) => f.bytes[12] === 8 && f.bytes[13] === 0 && f.bytes[23] === 1 && f.bytes[34] === 3,
      );
    await until(unreachable);
  });

  test('on a bridge that does not exist is refused', async () => {
    await expect(link('bridge:nosuchbridge', new Client())).rejects.toThrow(
      /network link bridge:nosuchbridge/,
    );
  });
});
