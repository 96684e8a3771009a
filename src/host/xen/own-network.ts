/**
 * The helper's own interfaces: how one is found, and how the one that is not its guest's, for moves, gets an address.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { addAddress, addDefaultRoute, netlink, setUp } from '../../net/links/netlink.js';
import type { XenPlaces } from './places.js';

const EEXIST = 17;
/** How long the interface may take to appear: the kernel's front end connects while the program starts, ms. */
const APPEARS_MS = 10_000;
const LOOK_MS = 50;

/** The name of the helper's own interface with this address. */
export function interfaceOf(sys: string, mac: string): string | undefined {
  const net = `${sys}/class/net`;
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

export const indexOf = (sys: string, name: string): number =>
  Number(readFileSync(`${sys}/class/net/${name}/ifindex`, 'latin1'));

export async function tellNetwork(message: Uint8Array, words: string, fine = 0): Promise<void> {
  const errno = await netlink(message);
  if (errno !== 0 && errno !== fine) throw new Error(`network: ${words}: errno ${errno}`);
}

export interface OwnAddress {
  /** Of the helper's vif, lower case. */
  readonly mac: string;
  /** IPv4. */
  readonly address: string;
  readonly prefix: number;
  readonly gateway?: string;
}

/** Brings the helper's own vif up with its address. It may have it already: the program was started anew. */
export async function giveAddress(
  { sys, proc }: Pick<XenPlaces, 'sys' | 'proc'>,
  { mac, address, prefix, gateway }: OwnAddress,
): Promise<void> {
  const end = performance.now() + APPEARS_MS;
  let name = interfaceOf(sys, mac);
  while (name === undefined && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    name = interfaceOf(sys, mac);
  }
  if (name === undefined) throw new Error(`network: the helper has no vif ${mac} for moves`);
  const index = indexOf(sys, name);
  // The kernel announces the address when the interface comes up: another domain may have had it before.
  writeFileSync(`${proc}/sys/net/ipv4/conf/${name}/arp_notify`, '1');
  await tellNetwork(addAddress(index, address, prefix), `${name} does not get ${address}`, EEXIST);
  await tellNetwork(setUp(index), `${name} cannot be brought up`);
  if (gateway !== undefined)
    await tellNetwork(addDefaultRoute(index, gateway), `no route by ${gateway}`, EEXIST);
}
