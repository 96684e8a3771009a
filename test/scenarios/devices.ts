/** Rows D1 to D5, D7 and D8: devices and rings. D6 is in hosts.test.ts. */
import { readdirSync } from 'node:fs';
import { expect, it } from 'vitest';
import type { Vbd } from '../../src/devices/vbd/vbd.js';
import { diskConfig, networkConfig } from '../support/devices.js';
import { stopWriters, WRITER } from './silent.js';
import type { ScenarioWorld } from './world.js';

/** The number of moves of D3 and of D8; `npm run soak -- scenarios` makes more. */
const LOADED_MOVES = Number(process.env['STILLPOINT_SCENARIO_LOADED_MOVES'] ?? 8);
const MANY_MOVES = Number(process.env['STILLPOINT_SCENARIO_MOVES'] ?? 20);
/** How much this process's memory may grow over many moves, bytes: some containers have not been collected yet. */
const GARBAGE_BYTES = 1.5e9;
const RARP = 0x8035;

const vbd = (w: ScenarioWorld): Vbd => w.inner.devices.find('vbd', 51712)?.driver as Vbd;

/** Everything about devices that the guest reads in its own xenstore. */
export function deviceTree(w: ScenarioWorld): string {
  const store = w.inner.store.dom0;
  const below = (at: string): string =>
    `${at}=${store.read(at)}\n${store
      .list(at)
      .map((name) => below(`${at}/${name}`))
      .join('')}`;
  return below('/local/domain/1/device') + below('/local/domain/0/backend');
}

/** What a leak would increase. */
function inUse(w: ScenarioWorld) {
  const { domain, store } = w.inner;
  return {
    grants: domain.state.grants.pins().length,
    ports: domain.state.events.portsInUse(),
    watches: store.watches,
    transactions: store.openTransactions,
    nodes: deviceTree(w).split('\n').length,
    descriptors: readdirSync('/proc/self/fd').length,
  };
}

export function deviceScenarios(world: () => ScenarioWorld): void {
  it('D1: the helper announces the MAC once the link is up, with repeats, and the guest announces nothing', async () => {
    const w = world();
    const before = w.peer.seen.get(RARP) ?? 0;
    const announced = w.peer.announcements;
    await w.move();
    for (let i = 0; i < 1000 && (w.peer.seen.get(RARP) ?? 0) < before + 3; i++)
      await new Promise((done) => setTimeout(done, 10));
    expect(w.peer.seen.get(RARP) ?? 0).toBeGreaterThanOrEqual(before + 3);
    // A guest that was asked to cooperate announces its own MAC.
    expect(w.peer.announcements).toBe(announced);
    expect(await w.guest.command('ping -c 1 10.0.2.77')).toContain('1 packets received');
  });

  it('D2: requests in flight are issued again and answered once on a host with fewer features; features never shrink', async () => {
    const w = world();
    const holds = w.host({ name: 'holds', domid: 77, xenVersion: '4.17.0', tscKhz: 2e6, diskHolds: true });
    await w.move(holds);
    const tree = deviceTree(w);
    const from = w.guest.text.length;
    w.guest.type(
      'yes in-flight | head -c 262144 >/tmp/d; dd if=/tmp/d of=/dev/xvda bs=256k seek=20 oflag=direct 2>/dev/null; echo "do""ne=$?"\n',
    );
    for (let i = 0; i < 3000 && (holds.disk?.taken.length ?? 0) === 0; i++)
      await new Promise((done) => setTimeout(done, 10));
    const waiting = holds.disk?.taken.length ?? 0;
    expect(waiting).toBeGreaterThan(0);
    // One of them is being served by a host that can no longer answer.
    holds.disk?.runOnly(0);
    const { requests } = vbd(w).counters;
    expect(requests).toBeGreaterThanOrEqual(waiting);
    await w.move(w.b);
    await w.guest.until(/done=0/, 120, from);
    expect(w.b.disk?.done.length).toBeGreaterThanOrEqual(waiting);
    expect(deviceTree(w)).toBe(tree);
    const unanswered = vbd(w)
      .points()
      .find((p) => p.name === 'requests in flight')
      ?.inner();
    expect(unanswered).toBe('0');
    const sums = await w.guest.command(
      'echo 1 >/proc/sys/vm/drop_caches; md5sum </tmp/d; dd if=/dev/xvda bs=256k skip=20 count=1 2>/dev/null | md5sum; rm /tmp/d',
    );
    const [one, other] = sums.trim().split('\n');
    expect(one).toBe(other);
    // A discard was offered, and is accepted on a host that cannot do any.
    expect(tree).toContain('feature-discard=1');
    expect(await w.troubles()).toBe('');
  });

  it(`D3: ${LOADED_MOVES} moves under a verified write load: every block right, no hang`, async () => {
    const w = world();
    await w.guest.command(`${WRITER(1)}; ${WRITER(2)}; w1 & w2 & true`);
    await w.moves(LOADED_MOVES, 60);
    await stopWriters(w, 2, 3);
    expect(await w.troubles()).toBe('');
  });

  it('D4: ports that the guest holds stay valid', async () => {
    const w = world();
    const interrupts = () => w.guest.command("awk '{print $1, $(NF-1), $NF}' /proc/interrupts");
    const from = w.guest.text.length;
    w.guest.type('evtchn\n');
    const [, port] = await w.guest.until(/EVTCHN port=(\d+)/, 60, from);
    expect(Number(port)).toBeGreaterThan(0);
    const ports = w.inner.domain.state.events.portsInUse();
    await w.moves(2, 20);
    expect(w.inner.domain.state.events.portsInUse()).toBe(ports);
    w.guest.type('\n');
    await w.guest.until(/EVTCHN answer=0\n/, 60, from);
    const before = await interrupts();
    await w.move();
    expect(await interrupts()).toBe(before);
    expect(await w.troubles()).toBe('');
  });

  it('D5: backend-id is the same before and after, whatever the host’s is', async () => {
    const w = world();
    const read = () =>
      w.guest.command('cat /sys/bus/xen/devices/*/devtype; cat /sys/bus/xen/devices/*/nodename');
    const before = await read();
    const ids = () => deviceTree(w).match(/(backend-id|frontend-id)=\d+/g);
    const idsBefore = ids();
    expect(idsBefore).toEqual(expect.arrayContaining(['backend-id=0', 'frontend-id=1']));
    for (const domid of [31_000, 3]) {
      await w.move(w.host({ name: 'other', domid, xenVersion: '4.10.0', tscKhz: 2e6 }));
      expect(await read()).toBe(before);
      expect(ids()).toEqual(idsBefore);
    }
    expect(await w.guest.command('dd if=/dev/xvda bs=4k count=1 iflag=direct 2>/dev/null | wc -c')).toBe(
      '4096\n',
    );
  });

  it('D7: devices can be added and removed after a move', async () => {
    const w = world();
    await w.move();
    const appears = (path: string) =>
      w.guest.command(`for i in 1 2 3 4 5 6 7 8 9; do [ -e ${path} ] && break; sleep 0.3; done; ls ${path}`);
    const goes = (path: string) =>
      w.guest.command(
        `for i in 1 2 3 4 5 6 7 8 9; do [ -e ${path} ] || break; sleep 0.3; done; ls ${path} 2>&1`,
      );
    await w.inner.plug(networkConfig('mac=00:16:3e:00:00:02,bridge=other', 1));
    w.guest.type('\n');
    expect(await appears('/sys/class/net/eth1')).not.toContain('No such');
    await w.inner.plug(diskConfig('/second,raw,xvdb,w'));
    w.guest.type('\n');
    expect(await appears('/dev/xvdb')).toContain('/dev/xvdb');
    await w.move();
    for (const [kind, devid, path] of [
      ['vif', 1, '/sys/class/net/eth1'],
      ['vbd', 51728, '/dev/xvdb'],
    ] as const) {
      const device = w.inner.devices.find(kind, devid);
      const gone = w.inner.devices.unplug(device!, AbortSignal.timeout(60_000));
      w.guest.type('\n');
      expect(await gone).toBe(true);
      expect(await goes(path)).toContain('No such');
    }
    expect(await w.guest.command('ls /sys/class/net')).toContain('eth0');
    expect(await w.guest.command('ping -c 1 10.0.2.77')).toContain('1 packets received');
    expect(await w.troubles()).toBe('');
  });

  it(`D8, S1: ${MANY_MOVES} moves back and forth leak no grant, port, watch, node, descriptor or memory`, async () => {
    const w = world();
    await w.moves(2, 0);
    await w.guest.command('true');
    const before = inUse(w);
    const memory = process.memoryUsage();
    for (let i = 0; i < MANY_MOVES; i++) {
      await w.move();
      if (i % 10 === 9) expect(await w.guest.command('echo $((6*7))')).toBe('42\n');
      if (i % 100 === 99)
        console.log(`${i + 1} moves: ${JSON.stringify({ ...inUse(w), ...process.memoryUsage() })}`);
    }
    expect(await w.guest.command('ping -c 1 10.0.2.77')).toContain('1 packets received');
    expect(inUse(w)).toEqual(before);
    const after = process.memoryUsage();
    expect(after.heapUsed + after.external).toBeLessThan(memory.heapUsed + memory.external + GARBAGE_BYTES);
    expect(await w.troubles()).toBe('');
  });
}
