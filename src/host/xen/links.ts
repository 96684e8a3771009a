/**
 * The links of a helper domain: its disks are its own block devices (blkfront), its networks its own interfaces
 * (netfront). Nothing is cached on the way: what the guest has flushed is with dom0's disk.
 */
import { readdirSync, readFileSync } from 'node:fs';
import type { HostLinks, VifHost } from '../../devices/links.js';
import { parseVifSettings } from '../../devices/vif/settings.js';
import type { LinkClient, NetLink } from '../../net/link.js';
import { deleteLink, netlink, newMacvtap, setUp } from '../../net/links/netlink.js';
import { openMacvtap } from '../../net/links/tap-link.js';
import { readDiskSpec } from '../../protocol/guest-config.js';
import { FileLink } from '../disk/file-link.js';
import { openDisk } from '../disk/open-disk.js';
import { type Networks, vifLinks, vifTimers } from '../net/networks.js';
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

  readonly vbd = (_devid: number, spec: string) => {
    const disk = readDiskSpec(spec);
    const { target: path, format, readOnly } = disk;
    if (!path.startsWith(`${this.places.dev}/`)) return openDisk(disk);
    if (format !== 'raw') throw new Error(`disk ${path}: a device of the helper is raw, not ${format}`);
    // There is no program for discards in a helper domain (file-worker.ts).
    return FileLink.open({ path, readOnly, discard: false, direct: true });
  };

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
    const lower = this.interfaceOf(mac);
    if (lower === undefined) throw new Error(`vif ${mac}: the helper has no interface with this address`);
    const upper = `sp-${lower}`.slice(0, 15);
    await this.ask(setUp(this.index(lower)), `${lower} cannot be brought up`);
    await this.ask(newMacvtap(upper, this.index(lower), mac), `no macvtap on ${lower}`, EEXIST);
    const index = this.index(upper);
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

  private async ask(message: Uint8Array, words: string, fine = 0): Promise<void> {
    const errno = await netlink(message);
    if (errno !== 0 && errno !== fine) throw new Error(`network: ${words}: errno ${errno}`);
  }

  private index(name: string): number {
    return Number(readFileSync(`${this.places.sys}/class/net/${name}/ifindex`, 'latin1'));
  }

  private interfaceOf(mac: string): string | undefined {
    const net = `${this.places.sys}/class/net`;
    return readdirSync(net).find((name) => {
      try {
        return (
          !name.startsWith('sp-') &&
          readFileSync(`${net}/${name}/address`, 'latin1').trim().toLowerCase() === mac
        );
      } catch {
        return false;
      }
    });
  }
}
