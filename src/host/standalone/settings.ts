/**
 * The settings of a host without Xen: its part of the host's configuration file (docs/hosts.md). With them two hosts
 * on one machine can differ as much as two real ones. A value that has no real counterpart here is pretended.
 */
import { cpus } from 'node:os';
import * as v from 'valibot';
import { parseLinkAddress } from '../../net/links/address.js';
import { check } from '../../protocol/check.js';
import { fields, many, quantity, text, whole } from '../../protocol/shapes.js';
import type { OuterKind } from '../host.js';

const MAX_PATH = 4096;
const MAX_WORDS = 256;
const MAX_FOLDERS = 4096;

export interface StandaloneSettings {
  /** Pretended: there is no Xen. In the form of `xl info`. */
  readonly xenVersion: string;
  /** The machine's own values, unless the file says otherwise. */
  readonly cpuModel: string;
  readonly tscKhz: number;
  /** Seconds added to the machine's uptime and to its wall clock. */
  readonly uptimeS: number;
  readonly wallClockS: number;
  /** The first domain id that this host gives, and the greatest before numbering starts again from 1. */
  readonly firstDomid: number;
  readonly maxDomid: number;
  /** Links for guests' vifs, by bridge; "default" is for vifs that name no bridge (docs/networks.md). */
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

/** What is wrong with the address of a link; undefined: nothing. */
function linkFault(link: string): string | undefined {
  try {
    parseLinkAddress(link);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
const link = v.pipe(
  v.string('a link, as "switch:unix:PATH", is expected'),
  v.check(
    (address) => linkFault(address) === undefined,
    (issue) => linkFault(issue.input) ?? '',
  ),
);
const FOLDER = 'a folder by its whole path is expected';
const folder = v.pipe(
  text(MAX_PATH),
  v.check((path) => /^\/.*[^/]$/.test(path) && !/\/\.\.?(\/|$)/.test(path), FOLDER),
);
const settings: v.GenericSchema<unknown, StandaloneSettings> = v.pipe(
  fields({
    xenVersion: text(MAX_WORDS),
    cpuModel: text(MAX_WORDS),
    tscKhz: quantity,
    uptimeS: quantity,
    wallClockS: quantity,
    firstDomid: whole(1, MAX_DOMID),
    maxDomid: whole(1, MAX_DOMID),
    networks: v.record(v.string(), link),
    images: v.record(folder, folder),
    backing: many(v.pipe(text(MAX_PATH), v.regex(/^\/.*[^/]$/, FOLDER)), MAX_FOLDERS),
  }),
  v.check(({ firstDomid, maxDomid }) => firstDomid <= maxDomid, `domain ids go from 1 to ${MAX_DOMID}`),
);

/** Throws ProtocolError with the key and with what is wrong with it. */
export const readSettings = (given: unknown): StandaloneSettings => check(settings, given, 'settings');
