/**
 * The links of a helper domain: its disks are its own block devices (blkfront), its networks its own interfaces
 * (netfront). Nothing is cached on the way: what the guest has flushed is with dom0's disk.
 */
import { readdirSync } from 'node:fs';
import type { HostLinks, VifHost } from '../../devices/links.js';
import { EmptyLink } from '../../devices/vbd/empty-link.js';
import { parseVifSettings } from '../../devices/vif/settings.js';
import type { LinkClient, NetLink } from '../../net/link.js';
import { deleteLink, netlink, newMacvtap, setUp } from '../../net/links/netlink.js';
import { openMacvtap } from '../../net/links/tap-link.js';
import { readDiskSpec } from '../../protocol/guest-config.js';
import { FileLink } from '../disk/file-link.js';
import { type Networks, vifLinks, vifTimers } from '../net/networks.js';
import { indexOf, interfaceOf, tellNetwork } from './own-network.js';
import type { XenPlaces } from './places.js';

const EEXIST = 17;

export class XenLinks implements HostLinks {
  /** The vifs that have a link here: they are announced again where the helper has moved. */
  private readonly clients = new Set<LinkClient>();
  private readonly named: ReturnType<typeof vifLinks> | undefined;

  /** `networks`: links in place of the helper's interfaces, by bridge; none is the usual case. */
  constructor(
    private readonly places: XenPlaces,
    networks: Networks,
    log: (line: string) => void,
  ) {
    this.named = Object.keys(networks).length > 0 ? vifLinks(networks, log) : undefined;
  }

  /**
   * A disk is the helper's own with the same number, whatever the configuration names: it may come from another host,
   * where the disk has another name and format.
   */
  readonly vbd = (devid: number, spec: string) => {
    const { format, readOnly, vdev } = readDiskSpec(spec);
    if (format === 'empty') return Promise.resolve(new EmptyLink());
    const [name] = this.blocksOf(devid);
    if (name === undefined) throw new Error(`disk ${vdev}: the helper has no disk with the number ${devid}`);
    const path = `${this.places.dev}/${name}`;
    // There is no program for discards in a helper domain (file-worker.ts).
    return FileLink.open({ path, readOnly, discard: false, direct: true });
  };

  /** The kernel's names for a disk of the helper. */
  private blocksOf(devid: number): string[] {
    try {
      return readdirSync(`${this.places.sys}/bus/xen/devices/vbd-${devid}/block`);
    } catch {
      return [];
    }
  }

  readonly vif = async (devid: number, spec: string, client: LinkClient): Promise<VifHost> => {
    const host =
      this.named === undefined ? await this.own(spec, client) : await this.named(devid, spec, client);
    this.clients.add(client);
    const { link } = host;
    const close = link.close.bind(link);
    link.close = () => {
      this.clients.delete(client);
      return close();
    };
    return host;
  };

  /** Tells the networks where the guests' addresses are now. */
  announce(): void {
    for (const client of this.clients) client.linkChanged(true);
  }

  private async own(spec: string, client: LinkClient): Promise<VifHost> {
    const { mac } = parseVifSettings(spec);
    const lower = interfaceOf(this.places.sys, mac);
    if (lower === undefined) throw new Error(`vif ${mac}: the helper has no interface with this address`);
    const upper = `sp-${lower}`.slice(0, 15);
    await tellNetwork(setUp(indexOf(this.places.sys, lower)), `${lower} cannot be brought up`);
    await tellNetwork(
      newMacvtap(upper, indexOf(this.places.sys, lower), mac),
      `no macvtap on ${lower}`,
      EEXIST,
    );
    const index = indexOf(this.places.sys, upper);
    let link: NetLink;
    try {
      link = await openMacvtap(`${this.places.dev}/tap${index}`, lower, client);
    } catch (error) {
      await netlink(deleteLink(index));
      throw error;
    }
    const close = link.close.bind(link);
    link.close = async () => {
      await close();
      // The interface below may have gone meanwhile, and this one with it.
      await netlink(deleteLink(index));
    };
    return { link, timers: vifTimers };
  }
}
