/**
 * The networks of this host, by the names that guests' configurations use for bridges. Each host has its own link for
 * a name, and a guest that moves gets the next host's link.
 */
import { existsSync } from 'node:fs';
import type { VifHost, VifTimers } from '../../devices/links.js';
import { parseVifSettings } from '../../devices/vif/settings.js';
import type { LinkClaim } from '../../net/framing.js';
import type { LinkClient } from '../../net/link.js';
import { DEFAULT_NETWORK, type LinkAddress, parseLinkAddress } from '../../net/links/address.js';
import { openLink } from '../../net/links/open-link.js';
import type { VifSettings } from '../../protocol/guest-config.js';

/** The addresses of links (address.ts), by name of the bridge. "default" is for vifs that name no bridge. */
export type Networks = Readonly<Record<string, string>>;

export const vifTimers: VifTimers = {
  now: () => performance.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};

const isBridge = (name: string): boolean =>
  !name.includes('/') && existsSync(`/sys/class/net/${name}/bridge`);

/** The address of the link that a vif gets here. Throws and says what is missing. */
function addressFor(devid: number, { bridge }: VifSettings, networks: Networks): LinkAddress {
  const name = bridge === '' ? DEFAULT_NETWORK : bridge;
  if (Object.hasOwn(networks, name)) return parseLinkAddress(networks[name]);
  if (bridge !== '' && isBridge(bridge)) return { kind: 'bridge', name: bridge };
  const missing =
    bridge === ''
      ? `vif ${devid} names no bridge, and this host has no network "${DEFAULT_NETWORK}"`
      : `vif ${devid}: this host has no network or bridge "${bridge}"`;
  throw new Error(`${missing}. "networks" in its configuration maps names to links (docs/networks.md)`);
}

/** What a switch is told about a vif; undefined if the vif may use addresses other than its own. */
function claimOf({ mac, ip, antispoof, token }: VifSettings): LinkClaim | undefined {
  return antispoof ? { mac, ips: ip.split(/[\s;]+/).filter((one) => one !== ''), token } : undefined;
}

/** Makes the function that gives links to vifs on a host with these networks. */
export function vifLinks(
  networks: Networks,
  log: (line: string) => void,
): (devid: number, spec: string, client: LinkClient) => Promise<VifHost> {
  return async (devid, spec, client) => {
    const settings = parseVifSettings(spec);
    const address = addressFor(devid, settings, networks);
    const words = (line: string): void => log(`vif ${devid}: ${line}`);
    return { link: await openLink(address, client, words, claimOf(settings)), timers: vifTimers };
  };
}
