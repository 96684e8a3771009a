/**
 * The fake guest with disks: those of its configuration and those that are plugged in. It opens them through its host's
 * links, which must be disks in memory (fake-platform.ts), and writes its name on each disk that is new to it.
 */

import type { DiskLink } from '../../src/devices/vbd/disk-link.js';
import type {
  DeviceStatus,
  DiskSize,
  OpenDisks,
  RunnerFactory,
  RunnerHooks,
} from '../../src/guest-process/guest-runner.js';
import type { DeviceConfig } from '../../src/helper/devices.js';
import type { Host } from '../../src/host/host.js';
import type { GuestConfig } from '../../src/protocol/guest-config.js';
import { type FakeConfig, FakeGuest, readConfig } from '../migration/fake-guest.js';

export { readConfig };

const SECTOR = 512;
const BLOCK = 65_536;
const text = (contents: Uint8Array): string =>
  Buffer.from(contents.subarray(0, 64)).toString('utf8').replace(/\0+$/, '');

class DiskGuest extends FakeGuest {
  private readonly disks = new Map<number, DiskLink & { readonly contents: Uint8Array }>();

  constructor(
    config: FakeConfig,
    private readonly at: Host,
    hooks: RunnerHooks,
  ) {
    super(config, at, hooks);
  }

  private async open({ devid, spec }: DeviceConfig): Promise<void> {
    const link = await this.at.links.vbd!(devid, spec);
    this.disks.set(devid, link as DiskLink & { readonly contents: Uint8Array });
  }
  override async attach(): Promise<void> {
    await super.attach();
    for (const device of this.config.devices) await this.open(device);
  }
  override async plug(device?: DeviceConfig): Promise<void> {
    await this.open(device!);
    this.disks.get(device!.devid)!.contents.set(Buffer.from(`written by ${this.name}`));
    this.config = { ...this.config, devices: [...this.config.devices, device!] };
  }
  override async unplug(_kind?: string, devid?: number): Promise<boolean> {
    await this.disks.get(devid!)?.close();
    this.disks.delete(devid!);
    this.config = { ...this.config, devices: this.config.devices.filter((one) => one.devid !== devid) };
    return true;
  }
  override devices(): readonly DeviceStatus[] {
    return this.config.devices.map((device) => {
      const disk = this.disks.get(device.devid)!;
      return { ...device, front: {}, link: `${disk.name}: ${text(disk.contents)}` };
    });
  }
  diskSizes(): readonly DiskSize[] {
    return [...this.disks].map(([devid, { geometry }]) => ({ devid, bytes: geometry.sectors * SECTOR }));
  }
  async openDisks(devids: readonly number[]): Promise<OpenDisks> {
    const disks = devids.map((devid) => {
      const { contents } = this.disks.get(devid)!;
      let pending = contents.length;
      return {
        devid,
        bytes: contents.length,
        get pending(): number {
          return pending;
        },
        async sweep(block: (at: number, data: Uint8Array) => Promise<void>): Promise<void> {
          for (let at = 0; at < pending; at += BLOCK) {
            const data = new Uint8Array(new SharedArrayBuffer(Math.min(BLOCK, contents.length - at)));
            data.set(contents.subarray(at, at + data.length));
            await block(at, data);
          }
          pending = 0;
        },
      };
    });
    return { disks, close: async () => {} };
  }
}

export function openFactory(host: Host, hooks: RunnerHooks): RunnerFactory {
  return {
    create: async (config: GuestConfig) => new DiskGuest(config as FakeConfig, host, hooks),
    construct: async (_description, given) => new DiskGuest(given as FakeConfig, host, hooks),
  };
}
