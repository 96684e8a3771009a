/**
 * The configuration of a vif: what the guest sees of it, and which of a host's networks it is connected to. It moves
 * with the guest and is the same on every host.
 */
import type { DeviceTreeInput } from '../../guest/device-tree.js';
import type { VifRate, VifSpec } from '../../guest/vif-spec.js';
import { parseMac } from '../../net/mac.js';
import { parseIps, SourceFilter } from '../../net/source-filter.js';
import { RecordError } from '../../records/fields.js';
import type { GuestAccess } from '../guest-access.js';
import { Vif } from './vif.js';

/** The prefix of the addresses that libxl makes up: Xen's OUI. */
const XEN_OUI = '00:16:3e';
const DEFAULT_MTU = 1500;
/** The script that libxl would have named. A guest's tools may look for the node, but nobody runs the script. */
const SCRIPT = '/etc/xen/scripts/vif-bridge';

/** The settings are saved as JSON. */
export interface VifSettings {
  readonly mac: string;
  readonly mtu: number;
  /** The host's name for the network, or "" for the host's default network. */
  readonly bridge: string;
  readonly ip: string;
  readonly gatewayDevice: string;
  readonly vifName: string;
  readonly rate: VifRate | null;
  /** Whether the vif may only send from its own addresses. */
  readonly antispoof: boolean;
  /**
   * A secret that shows a switch that this vif is the same one on another host. It is "" in settings of version 0.1.
   */
  readonly token: string;
}

/**
 * `random` holds three random bytes, which are used if the configuration has no address. `token` becomes the vif's
 * secret.
 */
export function vifSettings(spec: VifSpec, random: Uint8Array, token: string): VifSettings {
  const made = Array.from(random.subarray(0, 3), (byte, i) =>
    (i === 0 ? byte & 0x7f : byte).toString(16).padStart(2, '0'),
  );
  return {
    mac: spec.mac ?? [XEN_OUI, ...made].join(':'),
    mtu: spec.mtu ?? DEFAULT_MTU,
    bridge: spec.bridge ?? '',
    ip: spec.ip ?? '',
    gatewayDevice: spec.gatewayDevice ?? '',
    vifName: spec.vifName ?? '',
    rate: spec.rate ?? null,
    antispoof: spec.antispoof,
    token,
  };
}

/** The nodes that libxl makes for a vif (libxl_nic.c, libxl__set_xenstore_nic). */
export function vifNodes(devid: number, spec: string): Omit<DeviceTreeInput, 'domid'> {
  const s = parseVifSettings(spec);
  const given = (name: string, value: string): Record<string, string> =>
    value === '' ? {} : { [name]: value };
  return {
    kind: 'vif',
    devid,
    back: {
      script: SCRIPT,
      ...given('vifname', s.vifName),
      mac: s.mac,
      ...given('ip', s.ip),
      ...given('gatewaydev', s.gatewayDevice),
      bridge: s.bridge === '' ? 'xenbr0' : s.bridge,
      ...(s.rate === null ? {} : { rate: `${s.rate.bytesPerInterval},${s.rate.intervalUs}` }),
      handle: devid,
      type: 'vif',
      mtu: s.mtu,
    },
    front: { handle: devid, mac: s.mac, mtu: s.mtu },
  };
}

/** Parses and checks settings. Throws RecordError. */
export function parseVifSettings(json: string): VifSettings {
  const wrong = (what: string): never => {
    throw new RecordError(0, `settings of a vif: ${what}`);
  };
  let s: Partial<VifSettings>;
  try {
    s = JSON.parse(json);
  } catch {
    return wrong('no JSON');
  }
  if (typeof s.mac !== 'string' || !/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(s.mac)) return wrong('no mac');
  const text = (value: unknown): string => (typeof value === 'string' ? value : '');
  const { rate } = s;
  if (rate && !(rate.bytesPerInterval >= 1 && rate.intervalUs >= 1)) return wrong('rate');
  return {
    mac: s.mac,
    mtu: typeof s.mtu === 'number' && s.mtu >= 68 && s.mtu <= 65_535 ? s.mtu : DEFAULT_MTU,
    bridge: text(s.bridge),
    ip: text(s.ip),
    gatewayDevice: text(s.gatewayDevice),
    vifName: text(s.vifName),
    rate: rate ? { bytesPerInterval: rate.bytesPerInterval, intervalUs: rate.intervalUs } : null,
    antispoof: s.antispoof !== false,
    token: text(s.token),
  };
}

export function makeVif(access: GuestAccess, spec: string, log: (line: string) => void): Vif {
  const { mac, rate, ip, antispoof } = parseVifSettings(spec);
  const filter = antispoof ? new SourceFilter(parseMac(mac), parseIps(ip)) : undefined;
  return new Vif(access, { mac, rate: rate ?? undefined, filter }, spec, log);
}
