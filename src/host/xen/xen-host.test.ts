import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { FakeXen, PLACE_A, PLACE_B, UUID } from '../../../test/support/fake-xen.js';
import { XenHost, type XenHostOptions } from './xen-host.js';

const DISK = { kind: 'vbd', devid: 51712 } as const;
const SECOND = { kind: 'vbd', devid: 51728 } as const;
const NETWORK = { kind: 'vif', devid: 0, mac: '00:16:3e:01:02:03' } as const;
const HOME = `/local/domain/${PLACE_A.domid}`;

let xen: FakeXen;
let host: XenHost | undefined;
let logged: string[];

beforeEach(async () => {
  xen = await FakeXen.start(mkdtempSync(join(tmpdir(), 'sp-xen-')), [DISK, NETWORK]);
  logged = [];
});
afterEach(async () => {
  await host?.close();
  host = undefined;
  await xen.stop();
});

const open = async (options: Partial<XenHostOptions> = {}): Promise<XenHost> => {
  host = await XenHost.open({ places: xen.places, log: (line) => logged.push(line), ...options });
  return host;
};

/** A kernel's suspends, as a test wants them. */
function fakeSuspends() {
  const listeners = new Set<() => void>();
  return {
    totalNs: 0,
    look() {
      return this.totalNs;
    },
    onSuspend(run: () => void) {
      listeners.add(run);
      return () => listeners.delete(run);
    },
    suspend(ns: number) {
      this.totalNs += ns;
      for (const run of listeners) run();
    },
  };
}

describe('a real Xen, as the helper sees it', () => {
  it("shows the domain's own outer values", async () => {
    const here = await open();
    expect(here.domid).toBe(5);
    expect([here.storePort, here.storeFrame, here.consolePort, here.consoleFrame]).toEqual([
      1, 0xfeffc, 2, 0xfefff,
    ]);
    expect(here.identity).toEqual({ name: 'helper', xenVersion: '4.17.5', cpuModel: 'CPU of 4.17.5' });
    expect(here.clock.tscKhz).toBe(2_400_000);
    expect(here.pretended.size).toBe(0);
    expect(here.facts).toMatchObject({
      capabilities: 'hvm-3.0-x86_64',
      'clock source': 'xen',
      TSC: '2400000 kHz, constant_tsc',
      'domain uuid': UUID,
    });
    const [disk, network] = here.devices;
    expect(disk).toMatchObject({ kind: 'vbd', devid: 51712 });
    expect(disk.nodes).toEqual({
      backend: '/local/domain/0/backend/vbd/5/51712',
      'backend-id': '0',
      state: '4',
      'backend-state': '4',
      'ring-ref': '8',
      'event-channel': '15',
    });
    expect(network.nodes).toMatchObject({ 'tx-ring-ref': '9', 'rx-ring-ref': '10', mac: NETWORK.mac });
  });

  it('has other values after it was moved, once its devices are connected, and says so once', async () => {
    const suspends = fakeSuspends();
    const here = await open({ suspends });
    const changes: boolean[] = [];
    here.onChanged((moved) => changes.push(moved));
    const devices = vi.fn();
    here.onDevices(devices);
    suspends.suspend(7e9);
    await xen.migrate(PLACE_B, [DISK, NETWORK]);
    await vi.waitFor(() => expect(changes).toContain(true));
    // The first is the time that was lost, which the guest's clock must have before it runs.
    expect(changes).toEqual([false, true]);
    expect(here.domid).toBe(9);
    expect([here.storePort, here.consolePort]).toEqual([3, 4]);
    expect(here.identity.xenVersion).toBe('4.19.1');
    expect(here.clock.tscKhz).toBe(3_100_000);
    expect(here.devices[0].nodes).toMatchObject({ 'ring-ref': '771', 'backend-state': '4' });
    expect(here.clock.suspended?.()).toBe(7e9);
    await xen.migrate(PLACE_A, [DISK, NETWORK]);
    await vi.waitFor(() => expect(changes).toEqual([false, true, true]));
    expect(here.domid).toBe(5);
  });

  it('was not moved because its clocks say that it was suspended, or because a device came', async () => {
    const suspends = fakeSuspends();
    const here = await open({ suspends });
    const changes: boolean[] = [];
    here.onChanged((moved) => changes.push(moved));
    const devices = vi.fn();
    here.onDevices(devices);
    suspends.suspend(1e9);
    await vi.waitFor(() => expect(changes).toEqual([false, false]));
    expect(devices).not.toHaveBeenCalled();
    xen.host.addDevice(SECOND);
    await vi.waitFor(() => expect(here.devices.length).toBe(3));
    await vi.waitFor(() => expect(here.devices[1].nodes['backend-state']).toBe('4'));
    expect(devices).toHaveBeenCalled();
    xen.host.setState(SECOND, 5);
    await vi.waitFor(() => expect(here.devices[1].nodes['backend-state']).toBe('5'));
    xen.host.removeDevice(SECOND);
    await vi.waitFor(() => expect(here.devices.length).toBe(2));
    suspends.suspend(1e9);
    await vi.waitFor(() => expect(changes).toEqual([false, false, false, false]));
  });

  it('passes on what dom0 wants of memory and processors, less what is the helper’s own', async () => {
    const here = await open({ guestKib: 128 * 1024 });
    const asked: string[] = [];
    here.store.onChange(({ path, value }) => asked.push(`${path} ${value}`));
    xen.host.write(`${HOME}/memory/target`, String(368 * 1024));
    await vi.waitFor(() => expect(asked).toEqual([`memory/target ${96 * 1024}`]));
    xen.host.write(`${HOME}/cpu/1/availability`, 'offline');
    await vi.waitFor(() => expect(asked.at(-1)).toBe('cpu/1/availability offline'));
    xen.host.write(`${HOME}/memory/target`, '12');
    await vi.waitFor(() => expect(asked.at(-1)).toBe('memory/target 0'));
    xen.host.write(`${HOME}/memory/target`, 'much');
    // Another host has the same values: that is no request.
    await xen.migrate(PLACE_B, [DISK, NETWORK]);
    await vi.waitFor(() => expect(here.domid).toBe(9));
    xen.host.write('/local/domain/9/cpu/0/availability', 'offline');
    await vi.waitFor(() => expect(asked.at(-1)).toBe('cpu/0/availability offline'));
  });

  it('passes a key on that dom0 writes for it, and takes it', async () => {
    const here = await open();
    const asked: string[] = [];
    here.store.onChange(({ path, value }) => asked.push(`${path} ${value}`));
    xen.host.write(`${HOME}/data/stillpoint/sysrq`, 's');
    await vi.waitFor(() => expect(asked).toEqual(['control/sysrq s']));
    await vi.waitFor(() => expect(xen.host.read('data/stillpoint/sysrq')).toBe(''));
    xen.host.write(`${HOME}/data/stillpoint/sysrq`, 'all of them');
    xen.host.write(`${HOME}/data/stillpoint/sysrq`, 'u');
    await vi.waitFor(() => expect(asked).toEqual(['control/sysrq s', 'control/sysrq u']));
  });
});

describe("the helper's home in dom0's xenstore", () => {
  it('shows what the guest writes as far as it is for people, in every new home', async () => {
    const here = await open();
    here.store.write([
      { path: 'data/os', value: 'guest' },
      { path: 'device/vbd/51712/state', value: '4' },
      { path: 'control/shutdown', value: '' },
      { path: 'control/feature-suspend', value: '1' },
      { path: 'control/feature-poweroff', value: '1' },
      { path: 'data/stillpoint', value: 'mine' },
      { path: 'data/stillpoint/state', value: 'mine' },
    ]);
    here.store.publish('state', 'running');
    await here.store.settled();
    const shown = (): (string | undefined)[] =>
      [
        'data/os',
        'device/vbd/51712/state',
        'control/feature-suspend',
        'control/feature-poweroff',
        'data/stillpoint/state',
      ].map((path) => xen.host.read(path));
    expect(shown()).toEqual(['guest', '4', '', '1', 'running']);
    await xen.migrate(PLACE_B, [DISK, NETWORK]);
    await vi.waitFor(() => expect(shown()).toEqual(['guest', '4', '', '1', 'running']));
    here.store.write([{ path: 'data/os', value: null }]);
    await here.store.settled();
    expect(xen.host.read('data/os')).toBeUndefined();
  });

  it('is bounded, whatever the guest writes, and what is refused is said once', async () => {
    const here = await open();
    here.store.publish('state', 'running');
    for (let i = 0; i < 2000; i++) here.store.write([{ path: `data/n${i}`, value: 'x' }]);
    for (let i = 0; i < 10; i++) here.store.write([{ path: `data/long${i}`, value: 'x'.repeat(3000) }]);
    await here.store.settled();
    const nodes = xen.host.dom0.list(`${HOME}/data`);
    expect(nodes.length).toBeLessThanOrEqual(129);
    expect(xen.host.read('data/stillpoint/state')).toBe('running');
    here.store.publish('log', 'still possible');
    await here.store.settled();
    expect(xen.host.read('data/stillpoint/log')).toBe('still possible');
    expect(logged.length).toBe(2);
  });
});
