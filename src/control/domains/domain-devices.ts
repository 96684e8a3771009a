/**
 * The devices of this host's domains: attaches and detaches them, and keeps the domains' nodes in the host's xenstore.
 */
import type { Logger } from 'pino';
import { DEVICE_KINDS } from '../../helper/device-kinds.js';
import type { DeviceConfig } from '../../helper/devices.js';
import type { HostNode } from '../../host/host.js';
import type { HostImages } from '../../host/images.js';
import type { DomainRelay, ToolstackStore } from '../../host/platform.js';
import type { DomainChange } from '../../protocol/control.js';
import { disksOf, type GuestConfig } from '../../protocol/guest-config.js';
import { Seldom } from '../seldom.js';
import type { World } from '../world.js';
import type { DomainFiles } from './domain-files.js';
import type { HostedDomain } from './hosted-domain.js';

/** How long a guest may take to release a device; it may have to write much data back to a disk. */
const DETACH_TIMEOUT_S = 30;
/** How long a guest's process may take to list its devices. */
const LOOK_MS = 10_000;

/** What DomainDevices uses of its host. */
export interface DevicesContext {
  readonly world: World;
  readonly store: ToolstackStore;
  readonly images: HostImages;
  readonly log: Logger;
  changed(domain: HostedDomain, change: DomainChange): void;
}

export class DomainDevices {
  private readonly store: ToolstackStore;
  private readonly images: HostImages;
  private readonly log: Logger;
  private readonly relays = new Map<HostedDomain, DomainRelay>();
  private readonly refusals: Seldom;

  constructor(
    private readonly context: DevicesContext,
    private readonly files: DomainFiles,
  ) {
    this.store = context.store;
    this.images = context.images;
    this.log = context.log;
    this.refusals = new Seldom(context.world.clock);
  }

  /** Writes the domain's nodes into the host's xenstore, as libxl does. */
  show(domain: HostedDomain, config: GuestConfig): void {
    const { domid, uuid, storePort, consolePort, storeFrame, consoleFrame, createdMs } = domain.state;
    const tree = {
      domid,
      name: domain.state.name,
      uuid,
      vcpus: config.vcpus,
      onlineVcpus: config.onlineVcpus ?? config.vcpus,
      staticMaxKib: domain.state.memoryLimitKib ?? config.maxMemoryKib,
      targetKib: config.memoryKib,
      storePort,
      storeRingRef: storeFrame,
      consolePort,
      consoleRingRef: consoleFrame,
      consoleTty: '',
      kernel: config.kernel,
      ramdisk: config.ramdisk,
      cmdline: config.cmdline,
      startTime: (createdMs / 1000).toFixed(2),
    };
    this.store.addDomain(tree);
    for (const device of config.devices ?? []) this.showDevice(domid, device);
    this.relays.set(
      domain,
      this.store.relay(domid, (node) => domain.changed(node)),
    );
  }

  private showDevice(domid: number, { kind, devid, spec }: DeviceConfig): void {
    const known = DEVICE_KINDS[kind];
    if (known !== undefined) this.store.addDevice(domid, known.nodes(devid, spec));
  }

  /** Removes its nodes from the host's xenstore, and its relay. */
  unlist(domain: HostedDomain): void {
    if (!this.relays.delete(domain)) return;
    this.store.removeDomain(domain.domid, domain.state.uuid);
  }

  /** Writes nodes that the domain's process has sent into the host's xenstore. */
  write(domain: HostedDomain, nodes: readonly HostNode[]): void {
    const refused = this.relays.get(domain)?.write(nodes) ?? [];
    if (refused.length > 0 && this.refusals.allows())
      this.log.warn({ domid: domain.domid, refused: refused.slice(0, 8) }, 'nodes refused by the host');
  }

  /** Attaches a device to a running guest. As with libxl, its xenstore nodes are written before the guest sees it. */
  async plug(domain: HostedDomain, device: DeviceConfig): Promise<void> {
    const before = domain.state.grants ?? [];
    await this.files.giveDisks(domain, [device]);
    const [disk] = disksOf([device]);
    const lends = disk !== undefined && domain.places.uid === undefined;
    const at = lends ? this.images.lend(domain.directory, disk) : null;
    this.showDevice(domain.domid, device);
    try {
      await domain.ask('plug', { device, at });
      const { config } = domain.state;
      if (config !== null) domain.keepConfig({ ...config, devices: [...config.devices, device] });
      this.context.changed(domain, 'devices');
    } catch (error) {
      // A device that the guest has and the daemon has not recorded could never be detached.
      const { kind, devid } = device;
      if (domain.rpc !== undefined)
        await domain.ask('unplug', { kind, devid, force: true, timeoutS: 1 }, LOOK_MS).catch(() => undefined);
      this.store.removeDevice(domain.domid, device.kind, device.devid);
      await this.files.takeDisks(domain, (given) => !before.includes(given));
      this.takeBackLent(domain, device);
      throw error;
    }
  }

  /** Asks the guest to release a device, or takes it away (`force`). */
  async unplug(domain: HostedDomain, device: DeviceConfig, force: boolean): Promise<void> {
    const { kind, devid } = device;
    await domain.ask('unplug', { kind, devid, force, timeoutS: DETACH_TIMEOUT_S });
    this.unplugged(domain, kind, devid);
  }

  private takeBackLent(domain: HostedDomain, { kind, devid }: DeviceConfig): void {
    if (kind === 'vbd') this.images.takeBackLent(domain.directory, devid);
  }

  /** A device is gone, in time or late: its number is free. */
  unplugged(domain: HostedDomain, kind: string, devid: number): void {
    const { config } = domain.state;
    const device = config?.devices.find((one) => one.kind === kind && one.devid === devid);
    if (config === null || device === undefined) return;
    this.store.removeDevice(domain.domid, device.kind, device.devid);
    this.takeBackLent(domain, device);
    domain.keepConfig({ ...config, devices: config.devices.filter((one) => one !== device) });
    this.context.changed(domain, 'devices');
    // A file that lies beneath this disk may also lie beneath another disk of the guest.
    for (const disk of disksOf([device]))
      this.files
        .takeDisks(domain, (given) => this.images.isOf(given, disk))
        .catch((error: Error) =>
          this.log.warn(
            { domid: domain.domid, error: error.message },
            'what was taken back is not on record',
          ),
        );
  }

  /** Finds the devices that were detached while no daemon was running. */
  async findUnplugged(domain: HostedDomain): Promise<void> {
    if ((domain.state.config?.devices ?? []).length === 0) return;
    const has = await domain.ask('devices', {}, LOOK_MS);
    for (const { kind, devid } of domain.state.config?.devices ?? [])
      if (!has.some((one) => one.kind === kind && one.devid === devid)) this.unplugged(domain, kind, devid);
  }
}
