/**
 * Devices that dom0 gives the helper, or takes from it, while the guest runs (`xl block-attach`, `network-detach` and
 * the like): the guest gets and loses the same ones, with the same numbers.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { vifConfig } from '../guest-process/device-requests.js';
import type { GuestRunner } from '../guest-process/guest-runner.js';
import type { DeviceConfig } from '../helper/devices.js';
import { vbdConfig } from '../helper/kinds/vbd.js';
import type { Host, OuterDevice } from '../host/host.js';
import { XenbusStateClosed, XenbusStateClosing, XenbusStateConnected } from '../xen/xenbus.js';

/** A device that seems gone is looked at again after this time: after a resume its nodes come one by one, ms. */
const DOUBT_MS = 1000;
/** How long the guest may take to release a device, ms. After that it is taken away. */
const RELEASE_MS = 10_000;

const CONNECTED = String(XenbusStateConnected);
const ENDED = new Set([XenbusStateClosing, XenbusStateClosed].map(String));

const isThere = ({ nodes }: OuterDevice): boolean =>
  nodes['state'] === CONNECTED && nodes['backend-state'] === CONNECTED;
const isGone = (device: OuterDevice | undefined): boolean =>
  device === undefined || ENDED.has(device.nodes['backend-state'] ?? '');

export interface DevicePlaces {
  readonly sys: string;
  readonly dev: string;
}

/** The guest's configuration of a device of the helper's own. Throws if Linux does not show it. */
export function configOf(
  { kind, devid, nodes }: OuterDevice,
  { sys, dev }: DevicePlaces,
  uuid: string,
): DeviceConfig {
  if (kind === 'vif') {
    const none = undefined;
    const others = {
      bridge: none,
      gatewayDevice: none,
      ip: none,
      vifName: none,
      devid,
      mtu: none,
      rate: none,
      trusted: true,
    };
    return vifConfig({ ...others, mac: (nodes['mac'] ?? '').toLowerCase(), antispoof: true }, devid, uuid);
  }
  const [name] = readdirSync(`${sys}/bus/xen/devices/vbd-${devid}/block`);
  return vbdConfig({
    target: `${dev}/${name}`,
    format: 'raw',
    vdev: name,
    virtualDevice: devid,
    readOnly: readFileSync(`${sys}/class/block/${name}/ro`, 'latin1').trim() === '1',
    cdrom: false,
    backendType: '',
    discard: false,
    directIoSafe: true,
    trusted: true,
  });
}

export class OwnDevices {
  private working: Promise<void> | undefined;
  private again = false;
  private stopped = false;
  private held = false;
  /** Devices that the guest cannot have, so that this is said once. */
  private readonly refused = new Set<string>();

  constructor(
    private readonly host: Host,
    private readonly runner: GuestRunner,
    private readonly places: DevicePlaces,
    private readonly log: (line: string) => void,
    /** Called after the guest's or the helper's devices have changed. */
    private readonly changed: () => void,
  ) {
    host.onDevices?.(() => this.look());
  }

  /** While the guest is moving to another host, its devices stay as they are. */
  hold(held: boolean): void {
    this.held = held;
    if (!held && this.again) this.look();
  }

  /** Brings the guest's devices in line with the helper's. */
  look(): void {
    this.again = true;
    if (this.held) return;
    this.working ??= this.work().finally(() => {
      this.working = undefined;
    });
  }

  stop(): void {
    this.stopped = true;
    this.host.onDevices?.(undefined);
  }

  private outer(kind: string, devid: number): OuterDevice | undefined {
    return this.host.devices?.find((device) => device.kind === kind && device.devid === devid);
  }

  private async work(): Promise<void> {
    while (this.again && !this.stopped && !this.held) {
      this.again = false;
      for (const { kind, devid } of this.runner.devices()) await this.release(kind, devid);
      for (const device of this.host.devices ?? []) await this.give(device);
      if (!this.stopped) this.changed();
    }
  }

  private async give(device: OuterDevice): Promise<void> {
    const { kind, devid } = device;
    const name = `${kind} ${devid}`;
    if (isGone(device)) this.refused.delete(name);
    if (!isThere(device) || this.stopped) return;
    if (this.refused.has(name) || this.runner.devices().some((d) => d.kind === kind && d.devid === devid))
      return;
    try {
      await this.runner.plug(configOf(device, this.places, this.runner.config.uuid));
      this.log(`${name}: the guest has it`);
    } catch (error) {
      this.refused.add(name);
      this.log(`${name}: the guest does not get it: ${(error as Error).message}`);
    }
  }

  private async release(kind: string, devid: number): Promise<void> {
    if (!isGone(this.outer(kind, devid))) return;
    await new Promise((resolve) => setTimeout(resolve, DOUBT_MS));
    const device = this.outer(kind, devid);
    if (!isGone(device) || this.stopped) return;
    const name = `${kind} ${devid}`;
    const why =
      device === undefined
        ? 'it has no nodes any more'
        : `its back end is in state ${device.nodes['backend-state']}`;
    this.log(`${name}: dom0 takes it away: ${why}`);
    try {
      if (await this.runner.unplug(kind, devid, false, AbortSignal.timeout(RELEASE_MS))) return;
      this.log(`${name}: the guest does not release it within ${RELEASE_MS / 1000} s`);
      await this.runner.unplug(kind, devid, true, AbortSignal.timeout(RELEASE_MS));
    } catch (error) {
      this.log(`${name}: ${(error as Error).message}`);
    }
  }
}
