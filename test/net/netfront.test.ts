import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensureGuests, type Guests } from '../../scripts/lib/guests.js';
import { GATEWAY, GUEST_ADDRESS, Passt, SMALL_WINDOW } from '../../scripts/lib/passt.js';
import type { Vif } from '../../src/devices/vif/vif.js';
import { parseVif } from '../../src/guest/vif-spec.js';
import { vifConfig } from '../../src/guest-process/device-requests.js';
import type { DeviceConfig } from '../../src/helper/devices.js';
import type { Host } from '../../src/host/host.js';
import { openSingleHost } from '../../src/host/standalone/single-host.js';
import { parseLinkAddress } from '../../src/net/links/address.js';
import { openLink } from '../../src/net/links/open-link.js';
import { SwitchServer } from '../../src/net/links/switch-server.js';
import { orSkipped } from '../support/debian.js';
import { LinuxGuest } from '../support/linux-guest.js';
import { NetPeer } from '../support/net-peer.js';

const PEER = '10.0.2.77';
const BODY_BYTES = 3 << 20;
const MINUTES = 60_000;

let passt: Passt | undefined;
const guests: Guests | undefined = await orSkipped(
  "Linux's network driver",
  (async () => {
    const files = await ensureGuests();
    passt = await Passt.start();
    return files;
  })(),
);

const vif = (spec: string, devid = 0): DeviceConfig =>
  vifConfig(
    parseVif(
      spec,
      (message) => {
        throw new Error(message);
      },
      () => {},
    ),
    devid,
    'test',
  );

describe.skipIf(!guests)("Debian's netfront", () => {
  const directory = mkdtempSync(join(tmpdir(), 'stillpoint-net-'));
  const path = join(directory, 'switch.sock');
  const body = Buffer.alloc(BODY_BYTES);
  for (let i = 0; i < body.length; i += 4) body.writeUInt32LE(Math.imul(i + 1, 0x9e3779b1) >>> 0, i);
  const sum = createHash('sha256').update(body).digest('hex');
  const server = http.createServer((_, response) => {
    response.writeHead(200, { 'content-length': body.length });
    response.end(body);
  });
  let fabric: SwitchServer;
  let peer: NetPeer;
  let guest: LinuxGuest;
  let url: string;
  const hosts: Record<string, Host> = {};
  const lines: string[] = [];

  // The guest's switch, and behind it another switch with passt and the peer.
  const far = new SwitchServer(() => {});
  const uplink = (to: SwitchServer, link: string): Promise<void> =>
    to.uplink((client) => openLink(parseLinkAddress(link), client, () => {}));
  async function startSwitch(): Promise<void> {
    fabric = new SwitchServer(() => {});
    await fabric.listen({ path }, 0o600);
    await uplink(fabric, `switch:unix:${path}.far`);
  }
  const device = (devid = 0): Vif => guest.inner.devices.find('vif', devid)!.driver as Vif;

  beforeAll(async () => {
    await far.listen({ path: `${path}.far` }, 0o600);
    await uplink(far, `passt:${passt!.socket}`);
    peer = await NetPeer.connect(`${path}.far`, '02:00:00:00:00:77', PEER);
    await startSwitch();
    server.listen(0, '127.0.0.1');
    await new Promise((done) => server.once('listening', done));
    url = `http://${GATEWAY}:${(server.address() as AddressInfo).port}/`;
    for (const name of ['A', 'B']) {
      const networks = { default: `switch:unix:${path}`, other: 'none' };
      hosts[name] = openSingleHost(name, { networks, log: (line) => lines.push(line) });
    }
    guest = await LinuxGuest.boot('net', guests!, hosts.A, {
      devices: [vif('mac=00:16:3e:00:00:01')],
      vcpus: 2,
    });
    await guest.until(/guest# /, 600);
    await guest.command(
      `ifconfig eth0 ${GUEST_ADDRESS} up; route add default gw ${GATEWAY}; arp -s 10.0.2.77 02:00:00:00:00:77; ${SMALL_WINDOW}; stty -echo`,
      300,
    );
  }, 12 * MINUTES);

  afterAll(async () => {
    await guest?.end();
    peer?.close();
    await fabric?.close();
    await far.close();
    passt?.stop();
    server.close();
    rmSync(directory, { recursive: true, force: true });
  });

  const download = `wget -q -O - URL | sha256sum`;
  const moving = async (from: number, most: number): Promise<void> => {
    for (let i = 0; i < most && !/^done/m.test(guest.text.slice(from)); i++) {
      await new Promise((done) => setTimeout(done, 250));
      await guest.moveTo(hosts[guest.moves % 2 === 0 ? 'B' : 'A']);
    }
  };

  test(
    'has the address of its configuration, and uses the features that it is offered',
    async () => {
      expect(await guest.command('cat /sys/class/net/eth0/address')).toContain('00:16:3e:00:00:01');
      const points = device().points();
      const inner = (name: string) => points.find((p) => p.name === name)?.inner();
      // The guest has two processors, so there are two queues, each with two event channels.
      expect(inner('event channels')).toMatch(/^\d+ \d+, \d+ \d+$/);
      expect(inner('features')).toBe('rx-copy sg gso-tcpv4 gso-tcpv6 csum ipv6-csum');
    },
    5 * MINUTES,
  );

  test(
    'pings a peer on the switch',
    async () => {
      expect(await guest.command(`ping -c 3 ${PEER}`)).toMatch(/3 packets transmitted, 3 packets received/);
    },
    5 * MINUTES,
  );

  test(
    'downloads a file without errors, through the switch and passt',
    async () => {
      expect(await guest.command(download.replace('URL', url), 300)).toContain(sum);
      expect(device().stats.txErrors).toBe(0);
    },
    6 * MINUTES,
  );

  test(
    'continues to download on one connection, and to ping, while it moves from host to host',
    async () => {
      const store = guest.inner.store.dom0;
      const tree = (at: string): string =>
        `${at}=${store.read(at)}\n${store
          .list(at)
          .map((name) => tree(`${at}/${name}`))
          .join('')}`;
      const seenByGuest = () => tree('/local/domain/1/device/vif') + tree('/local/domain/0/backend/vif');
      const before = seenByGuest();
      const connections = await new Promise<number>((done) => server.getConnections((_, n) => done(n)));
      const rarps = peer.seen.get(0x8035) ?? 0;
      const from = guest.text.length;
      guest.type(
        `ping -c 60 -i 0.2 ${PEER} >/tmp/ping & ${download.replace('URL', url)}; wait; cat /tmp/ping; echo "do""ne"\n`,
      );
      await moving(from, 8);
      const out = (await guest.until(/([\s\S]*)^done/m, 400, from))[1];
      expect(out).toContain(sum);
      const [, sent, received] = /(\d+) packets transmitted, (\d+) packets received/.exec(out)!.map(Number);
      expect(received).toBeGreaterThanOrEqual(sent - guest.moves);
      expect(Math.max(...peer.echoes.values())).toBe(1);
      expect(connections).toBeLessThanOrEqual(1);
      expect(guest.moves).toBeGreaterThan(2);
      expect(peer.seen.get(0x8035) ?? 0).toBeGreaterThanOrEqual(rarps + guest.moves);
      const now = guest.inner.store.dom0;
      expect(now).not.toBe(store);
      const treeNow = (at: string): string =>
        `${at}=${now.read(at)}\n${now
          .list(at)
          .map((name) => treeNow(`${at}/${name}`))
          .join('')}`;
      expect(treeNow('/local/domain/1/device/vif') + treeNow('/local/domain/0/backend/vif')).toBe(before);
    },
    10 * MINUTES,
  );

  test(
    'continues when the switch is restarted in the middle of a download, and the log says so',
    async () => {
      const from = guest.text.length;
      const packets = device().stats.rxPackets;
      guest.type(`${download.replace('URL', url)}; echo "do""ne"\n`);
      for (let i = 0; i < 2000 && device().stats.rxPackets < packets + 200; i++)
        await new Promise((done) => setTimeout(done, 20));
      await fabric.close();
      await new Promise((done) => setTimeout(done, 300));
      await startSwitch();
      expect((await guest.until(/([\s\S]*)^done/m, 400, from))[1]).toContain(sum);
      expect(await guest.command(`ping -c 2 ${PEER}`)).toMatch(/2 packets received/);
      expect(lines.some((line) => /far end closed|ECONN/.test(line))).toBe(true);
      expect(lines.some((line) => /connected again/.test(line))).toBe(true);
    },
    10 * MINUTES,
  );

  test(
    'sends large packets whole from one interface to another, over the switch',
    async () => {
      await guest.inner.plug(vif('mac=00:16:3e:00:00:03', 1));
      // Another network namespace is like another machine: nothing passes between the two except over the switch.
      // Their addresses are set by hand, because passt answers for any address.
      const [, sum] = /([0-9a-f]{32})/.exec(
        await guest.command(
          'while [ ! -e /sys/devices/vif-1/net/eth1 ]; do sleep 0.2; done; unshare -n sleep 10000 & N=$!; ' +
            'while [ "$(readlink /proc/$N/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done; ' +
            'ip link set eth1 netns $N; mkdir /www; head -c 1000000 /bin/busybox >/www/f; ' +
            `nsenter -t $N -n sh -c 'ifconfig eth1 10.0.2.50 up; arp -s ${GUEST_ADDRESS} 00:16:3e:00:00:01; httpd -h /www'; ` +
            // Once both have sent a frame, the switch sends neither's frames to passt.
            `arp -s 10.0.2.50 00:16:3e:00:00:03; nsenter -t $N -n ping -c 3 ${GUEST_ADDRESS} >/dev/null; md5sum /www/f`,
          120,
        ),
      )!;
      expect(await guest.command('wget -q -O - http://10.0.2.50/f | md5sum', 120)).toContain(sum);
      const { txBytes, txPackets, txErrors } = device(1).stats;
      expect(txBytes).toBeGreaterThan(1_000_000);
      expect(txBytes / txPackets).toBeGreaterThan(1514);
      expect(txErrors).toBe(0);
      guest.type('kill $N; killall httpd\n');
      const { devices } = guest.inner;
      expect(await devices.unplug(devices.find('vif', 1)!, AbortSignal.timeout(60_000))).toBe(true);
      // Before the next device is plugged in, the guest's driver must have released this one, or it writes Closing into
      // the state of the next: the device leaves its bus first, then its driver, and is then gone.
      await guest.command('while [ -e /sys/devices/vif-1 ]; do sleep 0.2; done', 60);
    },
    6 * MINUTES,
  );

  test(
    'gets a second interface while it runs, after moves, and releases it',
    async () => {
      await guest.inner.plug(vif('mac=00:16:3e:00:00:02,bridge=other', 1));
      // It is known by its address: the previous interface leaves the bus before its network, and may still have the
      // name eth1.
      const address = '00:16:3e:00:00:02';
      const known = `grep -qs ${address} /sys/class/net/*/address`;
      const addresses = 'cat /sys/class/net/*/address';
      expect(
        await guest.command(`for i in $(seq 30); do ${known} && break; sleep 1; done; ${addresses}`),
      ).toContain(address);
      const { devices } = guest.inner;
      guest.type('\n');
      expect(await devices.unplug(devices.find('vif', 1)!, AbortSignal.timeout(60_000))).toBe(true);
      // The guest's own bus removes the device when its nodes are gone.
      expect(
        await guest.command(`for i in $(seq 30); do ${known} || break; sleep 1; done; ${addresses}`),
      ).not.toContain(address);
      expect(await guest.command('ls /sys/class/net')).not.toContain('eth1');
      expect(guest.inner.store.dom0.exists('/local/domain/1/device/vif/1')).toBe(false);
      await expect(guest.inner.plug(vif('bridge=nowhere', 2))).rejects.toThrow(
        /no network or bridge "nowhere"/,
      );
      expect(devices.list().length).toBe(1);
    },
    6 * MINUTES,
  );
});
