import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { GuestRunner } from '../guest-process/guest-runner.js';
import type { DeviceConfig } from '../helper/devices.js';
import type { Host, OuterDevice } from '../host/host.js';
import { readDiskSpec, readVifSettings } from '../protocol/guest-config.js';
import { OwnDevices } from './own-devices.js';

const UUID = '6d5fa2b1-3e31-4c6a-9d0f-1b2c3d4e5f60';
const MAC = '00:16:3E:01:02:09';
const device = (kind: string, devid: number, back = '4', front = '4'): OuterDevice => {
  return { kind, devid, nodes: { state: front, 'backend-state': back, mac: MAC } };
};

let sys: string;
let own: OwnDevices;
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  sys = mkdtempSync(join(tmpdir(), 'sp-own-'));
  for (const [devid, name, ro] of [
    [51712, 'xvda', 0],
    [768, 'xvdc', 1],
  ]) {
    mkdirSync(join(sys, `bus/xen/devices/vbd-${devid}/block/${name}`), { recursive: true });
    mkdirSync(join(sys, `class/block/${name}`), { recursive: true });
    writeFileSync(join(sys, `class/block/${name}/ro`), `${ro}\n`);
  }
});
afterEach(() => {
  own.stop();
  vi.useRealTimers();
  rmSync(sys, { recursive: true });
});

/** A guest with these devices, in a helper with those. `releases`: what it does when it is asked to. */
function setting(guests: DeviceConfig[], helpers: OuterDevice[], releases = true) {
  const did: string[] = [];
  const logged: string[] = [];
  let listener: (() => void) | undefined;
  const host = {
    devices: helpers,
    onDevices: (told: (() => void) | undefined) => {
      listener = told;
    },
  };
  const runner = {
    config: { uuid: UUID },
    devices: () => guests,
    plug: async (config: DeviceConfig) => {
      guests.push(config);
      did.push(`plug ${config.kind} ${config.devid}`);
    },
    unplug: async (kind: string, devid: number, force: boolean) => {
      did.push(`${force ? 'take' : 'ask for'} ${kind} ${devid}`);
      if (!releases && !force) return false;
      guests.splice(
        guests.findIndex((one) => one.kind === kind && one.devid === devid),
        1,
      );
      return true;
    },
  };
  let changes = 0;
  own = new OwnDevices(
    host as unknown as Host,
    runner as unknown as GuestRunner,
    { sys, dev: '/dev' },
    (line) => logged.push(line),
    () => changes++,
  );
  const event = async (): Promise<void> => {
    const before = changes;
    listener?.();
    for (let i = 0; changes === before && i < 100; i++) await vi.advanceTimersByTimeAsync(100);
  };
  return { host, guests, did, logged, event };
}

describe("the helper's own devices", () => {
  it('become the guest’s when they are connected, with their numbers, names and addresses', async () => {
    const { host, guests, did, event } = setting([], []);
    host.devices = [device('vbd', 768, '2', '1'), device('vif', 3, '2', '1')];
    await event();
    expect(did).toEqual([]);
    host.devices = [device('vbd', 768), device('vif', 3)];
    await event();
    await event();
    expect(did).toEqual(['plug vbd 768', 'plug vif 3']);
    expect(readDiskSpec(guests[0].spec)).toMatchObject({
      target: '/dev/xvdc',
      format: 'raw',
      virtualDevice: 768,
      readOnly: true,
    });
    expect(readVifSettings(guests[1].spec)).toMatchObject({ mac: MAC.toLowerCase(), bridge: '' });
  });

  it('are taken from the guest when dom0 takes them, after it was asked', async () => {
    const { host, did, event } = setting(
      [{ kind: 'vbd', devid: 51712, spec: '' }],
      [device('vbd', 51712)],
      false,
    );
    await event();
    expect(did).toEqual([]);
    host.devices = [device('vbd', 51712, '5')];
    await event();
    expect(did).toEqual(['ask for vbd 51712', 'take vbd 51712']);
  });

  it('are not taken because they are missing for a moment, as after a move', async () => {
    const { host, did, event } = setting([{ kind: 'vbd', devid: 51712, spec: '' }], [device('vbd', 51712)]);
    host.devices = [];
    const looked = event();
    await vi.advanceTimersByTimeAsync(500);
    host.devices = [device('vbd', 51712, '2', '1')];
    await looked;
    expect(did).toEqual([]);
    host.devices = [];
    await event();
    expect(did).toEqual(['ask for vbd 51712']);
  });

  it('that the guest cannot have are said once', async () => {
    const { host, did, logged, event } = setting([], [device('vbd', 51713)]);
    await event();
    await event();
    expect(did).toEqual([]);
    expect(logged).toEqual([expect.stringMatching(/^vbd 51713: the guest does not get it: ENOENT/)]);
    host.devices = [device('vbd', 51713, '6')];
    await event();
    host.devices = [device('vbd', 51713)];
    await event();
    expect(logged.length).toBe(2);
  });
});
