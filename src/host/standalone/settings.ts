/**
 * What a host without Xen is like: its part of the host's configuration file (docs/hosts.md), so that two hosts on one
 * machine can be as unlike as two real ones. What has no real value here is pretended.
 */
import { cpus } from 'node:os';
import { parseLinkAddress } from '../../net/links/address.js';
import type { OuterKind } from '../host.js';

export interface StandaloneSettings {
  /** Pretended: there is no Xen. As `xl info` has it. */
  readonly xenVersion: string;
  /** The machine's own, unless the file pretends others. */
  readonly cpuModel: string;
  readonly tscKhz: number;
  /** Seconds added to the machine's uptime and to its wall clock. */
  readonly uptimeS: number;
  readonly wallClockS: number;
  /** The first domain id that this host gives, and the greatest before it begins again from 1. */
  readonly firstDomid: number;
  readonly maxDomid: number;
  /** Links for guests' vifs, by bridge; "default" for those that name none (docs/networks.md). */
  readonly networks: Readonly<Record<string, string>>;
  /** Folders of disks, as guests' configurations name them, and where they are here (docs/disks.md). */
  readonly images: Readonly<Record<string, string>>;
  /** Folders whose files an image may name as lying beneath it: any guest's image may (docs/disks.md). */
  readonly backing: readonly string[];
}

/** The kinds of values that such a host invents. The machine's own values are pretended where the settings change them. */
export function pretendedBy({ cpuModel, wallClockS }: StandaloneSettings): ReadonlySet<OuterKind> {
  const kinds: OuterKind[] = ['domid', 'ports', 'frames', 'xenVersion', 'tscKhz', 'uptime', 'xenstore'];
  if (cpuModel !== defaultSettings().cpuModel) kinds.push('cpuModel');
  if (wallClockS !== 0) kinds.push('wallClock');
  return new Set(kinds);
}

/** The greatest domain id of an ordinary domain: below DOMID_FIRST_RESERVED (xen.h), with libxl's own margin. */
const MAX_DOMID = 0x7fef;

export function defaultSettings(): StandaloneSettings {
  const [cpu] = cpus();
  return {
    xenVersion: '4.17.0',
    cpuModel: cpu?.model ?? 'unknown',
    tscKhz: Math.max(cpu?.speed ?? 0, 1000) * 1000,
    uptimeS: 0,
    wallClockS: 0,
    firstDomid: 1,
    maxDomid: MAX_DOMID,
    networks: {},
    images: {},
    backing: [],
  };
}

/** `settings` have the types of the defaults. Throws with the key and with what is wrong with it. */
export function checkSettings({ networks, images, backing, firstDomid, maxDomid }: StandaloneSettings): void {
  for (const [name, link] of Object.entries<unknown>(networks)) {
    try {
      if (typeof link !== 'string') throw new Error('a link, as "switch:unix:PATH", is expected');
      parseLinkAddress(link);
    } catch (error) {
      throw new Error(`networks: ${name}: ${(error as Error).message}`);
    }
  }
  const isFolder = (path: unknown): boolean =>
    typeof path === 'string' && /^\/.*[^/]$/.test(path) && !/\/\.\.?(\/|$)/.test(path);
  for (const [folder, here] of Object.entries<unknown>(images))
    if (!isFolder(folder) || !isFolder(here))
      throw new Error(`images: ${folder}: two folders by their whole paths expected`);
  if (
    !Array.isArray(backing) ||
    !backing.every((path) => typeof path === 'string' && /^\/.*[^/]$/.test(path))
  )
    throw new Error('backing: folders by their whole paths expected');
  if (firstDomid < 1 || maxDomid > MAX_DOMID || firstDomid > maxDomid)
    throw new Error(`domain ids go from 1 to ${MAX_DOMID}`);
}
