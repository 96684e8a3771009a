// The parts of bench -- net that need sockets, and a guest.
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NoPackages } from '../../scripts/lib/debian.js';
import { messageOf } from '../../scripts/lib/errors.js';
import { ensureGuests, type Guests } from '../../scripts/lib/guests.js';
import { GATEWAY, GUEST_ADDRESS, Passt } from '../../scripts/lib/passt.js';
import { Vif } from '../../src/devices/vif/vif.js';
import { openSingleHost } from '../../src/host/standalone/single-host.js';
import { plainFrame } from '../../src/net/frame.js';
import { openLink } from '../../src/net/links/open-link.js';
import { StreamLink } from '../../src/net/links/stream-link.js';
import { SwitchServer } from '../../src/net/links/switch-server.js';
import { networkConfig } from '../../test/support/devices.js';
import { LinuxGuest } from '../../test/support/linux-guest.js';
import { NetPeer } from '../../test/support/net-peer.js';
import { pattern, udp } from '../../test/support/packets.js';
import { report } from '../harness.js';

const silent = () => {};

/** Returns the frames a second from one port of the switch to another, over unix sockets, all in one thread. */
export async function benchSwitch(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'stillpoint-bench-'));
  const path = join(directory, 's');
  const fabric = new SwitchServer(silent);
  await fabric.listen({ path }, 0o600);
  for (const offloads of [true, false]) {
    let got = 0;
    let room: () => void = silent;
    const client = (receive: () => void) => ({
      receive,
      received: silent,
      drained: () => room(),
      linkChanged: silent,
    });
    const a = await StreamLink.connect({ path }, offloads, client(silent), silent);
    const b = await StreamLink.connect(
      { path },
      offloads,
      client(() => got++),
      silent,
    );
    const frame = plainFrame(udp(4, pattern(1400)));
    const back = plainFrame(frame.bytes.slice());
    back.bytes.set(frame.bytes.subarray(0, 6), 6);
    back.bytes.set(frame.bytes.subarray(6, 12), 0);
    b.send(back);
    b.flush();
    await new Promise((done) => setTimeout(done, offloads ? 100 : 1500));
    const begin = performance.now();
    let sent = 0;
    while (performance.now() - begin < 2000) {
      if (!a.writable) await new Promise<void>((done) => (room = done));
      for (let i = 0; i < 64; i++, sent++) a.send(frame);
      a.flush();
      await new Promise((done) => setImmediate(done));
    }
    const seconds = (performance.now() - begin) / 1000;
    report(
      'net',
      `switch, 1442 bytes, ${offloads ? 'ports with offloads' : 'plain ports'}`,
      got / seconds,
      'frames/s',
      {
        lost: sent - got,
      },
    );
    await Promise.all([a.close(), b.close()]);
  }
  await fabric.close();
  rmSync(directory, { recursive: true, force: true });
}

/** A download and pings, as measured by Debian's own programs in the guest. */
export async function benchGuest(): Promise<void> {
  let files: Guests;
  let passt: Passt;
  try {
    files = await ensureGuests();
    passt = await Passt.start();
  } catch (error) {
    if (!(error instanceof NoPackages)) throw error;
    console.error(`in the guest: left out, ${messageOf(error).split('\n')[0]}`);
    return;
  }
  const directory = mkdtempSync(join(tmpdir(), 'stillpoint-bench-'));
  const path = join(directory, 's');
  const fabric = new SwitchServer(silent);
  await fabric.listen({ path }, 0o600);
  await fabric.uplink((client) => openLink({ kind: 'stream', to: { path: passt.socket } }, client, silent));
  await NetPeer.connect(path, '02:00:00:00:00:77', '10.0.2.77');
  const body = Buffer.alloc(4 << 20, 'stillpoint');
  const sum = createHash('md5').update(body).digest('hex');
  const server = http.createServer((_, response) => response.end(body));
  server.listen(0, '127.0.0.1');
  await new Promise((done) => server.once('listening', () => done(undefined)));
  const host = openSingleHost('bench', { networks: { default: `switch:unix:${path}` }, log: silent });
  const guest = await LinuxGuest.boot('bench', files, host, { devices: [networkConfig('')] });
  await guest.until(/guest# /, 600);
  await guest.command(
    `ifconfig eth0 ${GUEST_ADDRESS} up; route add default gw ${GATEWAY}; arp -s 10.0.2.77 02:00:00:00:00:77; stty -echo`,
  );
  const vif = guest.inner.devices.find('vif', 0)?.driver;
  if (!(vif instanceof Vif)) throw new Error('the guest has no network');
  const { stats } = vif;
  const url = `http://${GATEWAY}:${(server.address() as AddressInfo).port}/`;
  const cycles = async (command: string) => {
    const before = guest.inner.domain.state.vcpus[0].cpu.retired!;
    const packets = stats.rxPackets + stats.txPackets;
    const begin = performance.now();
    const text = await guest.command(command, 600);
    const seconds = (performance.now() - begin) / 1000;
    const retired = guest.inner.domain.state.vcpus[0].cpu.retired! - before;
    return { text, seconds, packets: stats.rxPackets + stats.txPackets - packets, retired };
  };
  const get = await cycles(`wget -q -O - ${url} | md5sum`);
  if (!get.text.includes(sum)) throw new Error(`the download is wrong: ${get.text}`);
  report('net', 'in the guest: HTTP download and md5sum', body.length / 1e6 / get.seconds, 'MB/s', {
    'packets/s': get.packets / get.seconds,
    "guest's instructions a packet": get.retired / get.packets,
  });
  const only = await cycles(`wget -q -O /dev/null ${url}`);
  report('net', 'in the guest: HTTP download', body.length / 1e6 / only.seconds, 'MB/s', {
    'packets/s': only.packets / only.seconds,
    "guest's instructions a packet": only.retired / only.packets,
  });
  const ping = await cycles('ping -c 50 -i 0.05 -q 10.0.2.77');
  const [, low, mean, high] = /= ([\d.]+)\/([\d.]+)\/([\d.]+) ms/.exec(ping.text) ?? [];
  report('net', 'in the guest: ping', Number(mean), 'ms', { least: Number(low), most: Number(high) });
  passt.stop();
  if (existsSync(directory)) rmSync(directory, { recursive: true, force: true });
}
