import { beforeEach, describe, expect, it } from 'vitest';
import { TestGuest, TestHost } from '../../test/support/guest-on-host.js';
import type { HostLinks } from '../devices/links.js';
import type { Bus, XenbusDriver } from '../devices/xenbus.js';
import type { DeviceConfig, DeviceKind } from './devices.js';

const log: string[] = [];

/** A disk whose link alone matters here; src/devices tests the rings. */
class TestDriver implements XenbusDriver {
  bus: Bus | undefined;
  private link: string | undefined;
  private devid = 0;
  constructor(private readonly spec: string) {}
  connectsAt = () => false;
  offers = () => ({ 'feature-test': 1 });
  connect = () => ({});
  start(): void {}
  async pause(): Promise<void> {}
  disconnect(done: () => void): void {
    done();
  }
  save = () => new Uint8Array(0);
  restore(): void {}
  async attach(links: HostLinks, devid: number): Promise<void> {
    this.link = String(await links.vbd?.(devid, this.spec));
    this.devid = devid;
    log.push(`open ${this.link}`);
  }
  async detach(): Promise<void> {
    log.push(`close ${this.link}`);
    this.link = undefined;
  }
  points() {
    return [{ name: 'link', inner: () => `${this.spec} ${this.devid}`, outer: () => String(this.link) }];
  }
}

const kinds: Record<string, DeviceKind> = {
  vbd: {
    driver: (_access, spec) => new TestDriver(spec),
    nodes: (devid, spec) => ({
      kind: 'vbd',
      devid,
      front: { 'virtual-device': devid },
      back: { params: spec },
    }),
  },
};
const config = (devid: number, spec: string): DeviceConfig => ({ kind: 'vbd', devid, spec });
const links = (host: string, refuse = -1): HostLinks => ({
  vbd: async (devid) => {
    if (devid === refuse) throw new Error(`${host} has no disk ${devid}`);
    return `disk ${devid} of ${host}` as never;
  },
});
const options = { devices: [config(1, 'one'), config(2, 'two')], deviceKinds: kinds };

describe('a guest with devices', () => {
  beforeEach(() => log.splice(0));
  const a = () => new TestHost('A', 5, links('A'));

  it('keeps its devices over a move, with the links of each host', async () => {
    const here = await TestGuest.on(a(), options);
    here.guest.start();
    here.run(5e6);
    const nodes = (g: TestGuest) => g.guest.store.dom0.list('/local/domain/0/backend/vbd/1/2');
    const before = nodes(here);
    await here.guest.pause();
    const there = await here.arriveOn(new TestHost('B', 90, links('B')));
    there.guest.start();
    expect(there.guest.devices.configs).toEqual(options.devices);
    expect(nodes(there)).toEqual(before);
    const rows = there.guest.ledgerRows().filter((r) => r.name.startsWith('vbd'));
    expect(rows.map((r) => [r.name, r.inner, r.outer])).toEqual([
      ['vbd 1: link', 'one 1', 'disk 1 of B'],
      ['vbd 2: link', 'two 2', 'disk 2 of B'],
    ]);
    expect(log).toEqual([
      'open disk 1 of A',
      'open disk 2 of A',
      'open disk 1 of B',
      'open disk 2 of B',
      'close disk 2 of A',
      'close disk 1 of A',
    ]);
  });

  it('leaves nothing open on a host that refuses one of them', async () => {
    const here = await TestGuest.on(a(), options);
    here.guest.start();
    await here.guest.pause();
    log.splice(0);
    await expect(here.arriveOn(new TestHost('B', 90, links('B', 2)))).rejects.toThrow('B has no disk 2');
    expect(log).toEqual(['open disk 1 of B', 'close disk 1 of B']);
  });

  it('may release a device long after it was told to; its number is then free again, even if a caller still waits', async () => {
    const gone: [string, number][] = [];
    let letGo: () => void = () => undefined;
    const slow: Record<string, DeviceKind> = {
      vbd: {
        ...kinds.vbd,
        driver: (_access, spec) =>
          Object.assign(new TestDriver(spec), {
            connectsAt: () => true,
            disconnect: (done: () => void) => {
              letGo = done;
            },
          }),
      },
    };
    const here = await TestGuest.on(a(), {
      deviceKinds: slow,
      unplugged: (kind, devid) => gone.push([kind, devid]),
    });
    here.guest.start();
    const { devices, store } = here.guest;
    const front = (state: string): void => store.dom0.write('/local/domain/1/device/vbd/7/state', state);
    await here.guest.plug(config(7, 'seven'));
    front('4');
    const device = devices.find('vbd', 7)!;
    const patient = devices.unplug(device, new AbortController().signal);
    expect(await devices.unplug(device, AbortSignal.timeout(1))).toBe(false);
    expect(await devices.remove(device, AbortSignal.timeout(1))).toBe(false);
    expect(gone).toEqual([]);
    front('6');
    letGo();
    expect(await patient).toBe(true);
    expect(gone).toEqual([['vbd', 7]]);
    expect(devices.configs).toEqual([]);
    await here.guest.plug(config(7, 'again'));
    expect(devices.configs).toEqual([config(7, 'again')]);
  });

  it('can be given another while it runs, and lose it again', async () => {
    const here = await TestGuest.on(a(), { deviceKinds: kinds });
    here.guest.start();
    await here.guest.plug(config(7, 'seven'));
    await expect(here.guest.plug(config(7, 'again'))).rejects.toThrow('vbd 7 is there already');
    const { dom0 } = here.guest.store;
    expect(dom0.read('/local/domain/0/backend/vbd/1/7/params')).toBe('seven');
    const device = here.guest.devices.find('vbd', 7)!;
    expect(await here.guest.devices.unplug(device, AbortSignal.timeout(1000))).toBe(true);
    expect(dom0.exists('/local/domain/1/device/vbd/7')).toBe(false);
    expect(log).toEqual(['open disk 7 of A', 'close disk 7 of A']);
  });
});
