/**
 * The split devices of one guest: its disks and networks, which are plugged in and out while it runs and saved with
 * it. Invariant: a device's nodes in the guest's store and the state of its back end exist together or not at all.
 */
import type { GuestAccess } from '../devices/guest-access.js';
import type { DevicePoint, HostLinks } from '../devices/links.js';
import {
  backPath,
  frontPath,
  type SavedXenbusDevice,
  XenbusBackend,
  type XenbusDriver,
  type XenbusEvents,
  xenbusRecord,
} from '../devices/xenbus.js';
import { plant } from '../devices/xenstore.js';
import { type DeviceTreeInput, deviceTree } from '../guest/device-tree.js';
import { RecordError } from '../records/fields.js';
import { decodeRaw, decodeRecord, encodeRecord } from '../records/record.js';
import type { LocalClient } from '../xenstore/server/local.js';

/** The configuration of a device. It can be written as JSON and is the same on every host. */
export interface DeviceConfig {
  /** "vbd", "vif". */
  readonly kind: string;
  readonly devid: number;
  /** The device's settings as JSON. */
  readonly spec: string;
}

/**
 * Makes the driver of a device, which has no link to the host yet. Throws RecordError for settings that it does not
 * know.
 */
type DriverFactory = (access: GuestAccess, spec: string, log: (line: string) => void) => XenbusDriver;

export interface DeviceKind {
  readonly driver: DriverFactory;
  /**
   * The nodes that the toolstack makes for the device: once in the guest's own store, and in the store of each host.
   */
  nodes(devid: number, spec: string): Omit<DeviceTreeInput, 'domid'>;
}

interface Device {
  readonly kind: string;
  readonly devid: number;
  /** The device's settings as JSON, which say what a host connects it to. They move with the guest. */
  readonly spec: string;
  readonly bus: XenbusBackend;
  readonly driver: XenbusDriver;
}

export class Devices {
  private readonly all: Device[] = [];
  /** The callbacks of those who wait until a device is gone. */
  private readonly waiting = new Map<Device, Set<() => void>>();

  constructor(
    private readonly store: LocalClient,
    private readonly access: GuestAccess,
    private readonly domid: number,
    private readonly kinds: Readonly<Record<string, DeviceKind>>,
    private readonly log: (line: string) => void,
    /** Called when an unplugged device is gone, even if nobody waits for that any more. */
    private readonly unplugged: (device: Device) => void = () => undefined,
  ) {}

  list(): readonly Device[] {
    return this.all;
  }
  find(kind: string, devid: number): Device | undefined {
    return this.all.find((d) => d.kind === kind && d.devid === devid);
  }

  private kind(kind: string): DeviceKind {
    if (!Object.hasOwn(this.kinds, kind)) throw new RecordError(0, `a device of kind ${kind} is not known`);
    return this.kinds[kind];
  }

  private make(kind: string, devid: number, spec: string): Device {
    const driver = this.kind(kind).driver(this.access, spec, this.log);
    const events: XenbusEvents = { log: this.log, gone: () => this.gone(device) };
    const bus = new XenbusBackend(this.store, { kind, devid, domid: this.domid }, driver, events);
    const device: Device = { kind, devid, spec, bus, driver };
    this.all.push(device);
    return device;
  }

  get configs(): readonly DeviceConfig[] {
    return this.all.map(({ kind, devid, spec }) => ({ kind, devid, spec }));
  }

  /** Makes a device of a guest that is being switched on: its nodes, and its driver without a link. */
  create({ kind, devid, spec }: DeviceConfig): Device {
    if (this.find(kind, devid) !== undefined) throw new Error(`${kind} ${devid} is there already`);
    const nodes = this.kind(kind).nodes(devid, spec);
    const device = this.make(kind, devid, spec);
    plant(this.store, deviceTree({ ...nodes, domid: this.domid }));
    device.bus.begin();
    return device;
  }

  /**
   * Adds a device to a running guest. Its driver gets a link first, then the nodes are made. If this fails there is
   * no device.
   */
  async plug({ kind, devid, spec }: DeviceConfig, links: HostLinks): Promise<Device> {
    if (this.find(kind, devid) !== undefined) throw new Error(`${kind} ${devid} is there already`);
    const nodes = this.kind(kind).nodes(devid, spec);
    const device = this.make(kind, devid, spec);
    try {
      await device.driver.attach?.(links, devid);
    } catch (error) {
      this.all.splice(this.all.indexOf(device), 1);
      throw error;
    }
    plant(this.store, deviceTree({ ...nodes, domid: this.domid }));
    device.bus.begin();
    return device;
  }

  /** Gives this host's links to all devices. If one fails, none keeps its link. */
  async attach(links: HostLinks): Promise<void> {
    const attached: Device[] = [];
    try {
      for (const device of this.all) {
        await device.driver.attach?.(links, device.devid);
        attached.push(device);
      }
    } catch (error) {
      for (const device of attached.reverse()) await device.driver.detach?.();
      throw error;
    }
  }

  async detach(): Promise<void> {
    for (const device of [...this.all].reverse()) await device.driver.detach?.();
  }

  points(): DevicePoint[] {
    return this.all.flatMap(({ kind, devid, driver }) =>
      (driver.points?.() ?? []).map((p) => ({
        name: `${kind} ${devid}: ${p.name}`,
        inner: () => p.inner(),
        outer: () => p.outer(),
      })),
    );
  }

  /**
   * Asks the guest to release a device. Resolves with true when it has done so, or with false if `signal` fired
   * first; the request then stays.
   */
  unplug(device: Device, signal: AbortSignal): Promise<boolean> {
    const gone = this.untilGone(device, signal);
    device.bus.unplug();
    return gone;
  }

  /**
   * Removes a device without asking. Resolves as soon as nothing of the guest's is in use any more, which a disk's
   * server may delay.
   */
  remove(device: Device, signal: AbortSignal): Promise<boolean> {
    const gone = this.untilGone(device, signal);
    device.bus.surpriseRemove();
    return gone;
  }

  private untilGone(device: Device, signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const all = this.waiting.get(device) ?? new Set();
      this.waiting.set(device, all);
      const gone = (): void => resolve(true);
      all.add(gone);
      signal.addEventListener('abort', () => {
        all.delete(gone);
        resolve(false);
      });
    });
  }

  private gone(device: Device): void {
    const at = this.all.indexOf(device);
    if (at < 0) return;
    this.all.splice(at, 1);
    device.bus.stop();
    this.store.transact((view) => {
      if (view.exists(backPath(device.bus.id))) view.remove(backPath(device.bus.id));
      if (view.exists(frontPath(device.bus.id))) view.remove(frontPath(device.bus.id));
    });
    // What is left of the link closes by itself.
    device.driver
      .detach?.()
      .catch((error: Error) => this.log(`${device.kind} ${device.devid}: ${error.message}`));
    this.unplugged(device);
    for (const gone of this.waiting.get(device) ?? []) gone();
    this.waiting.delete(device);
  }

  /** The guest is stopped: resolves when the devices have no I/O in progress. */
  async pause(): Promise<void> {
    await Promise.all(this.all.map((device) => device.bus.pause()));
  }

  /**
   * To be called after `pause`, when the guest is about to be handed to another host: locks are released until
   * `resume`.
   */
  async release(): Promise<void> {
    await Promise.all(this.all.map((device) => device.driver.release?.()));
  }

  save(): Uint8Array {
    return encodeRecord(xenbusRecord, { devices: this.all.map((d) => d.bus.save(d.spec)) });
  }

  /** Restores all devices. The guest's ports and grants must be restored before. Throws RecordError. */
  restore(record: Uint8Array): void {
    const saved: SavedXenbusDevice[] = decodeRecord(xenbusRecord, decodeRaw(record)).devices;
    for (const one of saved) this.make(one.kind, one.devid, one.spec).bus.restore(one);
  }

  /** The guest continues: changes of front ends are noticed again, and requests are taken from the rings. */
  resume(): void {
    for (const device of [...this.all]) device.bus.resume();
  }
}
