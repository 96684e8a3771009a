/**
 * The configuration of a vif: what the guest sees of it, and which of a host's networks it is connected to. It moves
 * with the guest and is the same on every host.
 */
import type { DeviceTreeInput } from '../../guest/device-tree.js';
import type { VifSpec } from '../../guest/vif-spec.js';
import { parseMac } from '../../net/mac.js';
import { parseIps, SourceFilter } from '../../net/source-filter.js';
import { readVifSettings, type VifSettings } from '../../protocol/guest-config.js';
import { RecordError } from '../../records/fields.js';
import type { GuestAccess } from '../guest-access.js';
import { Vif } from './vif.js';

/** The prefix of the addresses that libxl makes up: Xen's OUI. */
const XEN_OUI = '00:16:3e';
const DEFAULT_MTU = 1500;
/** The script that libxl would have named. A guest's tools may look for the node, but nobody runs the script. */
const SCRIPT = '/etc/xen/scripts/vif-bridge';

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
    trusted: spec.trusted,
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
    front: { handle: devid, mac: s.mac, mtu: s.mtu, trusted: s.trusted ? 1 : 0 },
  };
}

/** Parses and checks settings. Throws RecordError. */
export function parseVifSettings(json: string): VifSettings {
  try {
    return readVifSettings(json);
  } catch (error) {
    throw new RecordError(0, (error as Error).message);
  }
}

export function makeVif(access: GuestAccess, spec: string, log: (line: string) => void): Vif {
  const { mac, rate, ip, antispoof } = parseVifSettings(spec);
  const filter = antispoof ? new SourceFilter(parseMac(mac), parseIps(ip)) : undefined;
  return new Vif(access, { mac, rate: rate ?? undefined, filter }, spec, log);
}
