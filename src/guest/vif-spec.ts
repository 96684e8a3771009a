/**
 * Parses one entry of `vif = [...]` as xl does: optional `key=value` pairs separated by commas. Each parameter has its
 * verdict in VIF_KEYS. A parameter that is unknown is warned about, because xl ignores it.
 * Source: Xen, docs/man/xl-network-configuration.5.pod, tools/xl/xl_parse.c (parse_nic_config),
 * tools/libs/util/libxlu_vif.c.
 */

import { parseIp } from '../net/source-filter.js';
import { done, type KeyRow, warned } from './config-keys.js';
import type { OfHost } from './disk-spec.js';

export interface VifRate {
  readonly bytesPerInterval: number;
  readonly intervalUs: number;
}

export interface VifSpec {
  /** In lower case, as "00:16:3e:01:02:03". Undefined: one will be made up. */
  readonly mac: string | undefined;
  /** Undefined means the host's default network. */
  readonly bridge: string | undefined;
  readonly gatewayDevice: string | undefined;
  readonly ip: string | undefined;
  /** Name of the interface on the host's side. Undefined means vifDOMID.DEVID. */
  readonly vifName: string | undefined;
  /** Undefined means the position in the list. */
  readonly devid: number | undefined;
  readonly mtu: number | undefined;
  readonly rate: VifRate | undefined;
  /** Our own setting: whether the vif may only send from its own addresses, as with antispoof of vif-bridge. */
  readonly antispoof: boolean;
  /** Whether the guest is told to trust its back end. */
  readonly trusted: boolean;
}

const COLO = warned('has no effect here: a guest has no second copy of itself (COLO)');

/** The parameters of a vif, with their verdicts: docs/configuration.md is made from them. */
export const VIF_KEYS: Readonly<Record<string, KeyRow>> = {
  mac: done(
    'the address; one is derived from the uuid if it is left out. Two vifs with one address are refused',
  ),
  bridge: done(
    "the name by which a host's configuration finds the link; the host's `default` if it is left out",
  ),
  ip: done('the IP addresses that the guest may use, separated by blanks'),
  rate: done('the most that the guest may send: `10Mb/s`, `1MB/s@20ms`'),
  mtu: done('written to xenstore, as with xl'),
  vifname: done('written to xenstore, as with xl'),
  devid: done('the number of the interface; its place in the list if it is left out'),
  gatewaydev: done('written to xenstore, as with xl'),
  type: done('`vif`; `ioemu` is refused, as by libxl for a PV guest'),
  antispoof: done('our own parameter: `no` lets the guest send from addresses other than its own'),
  trusted: done('the guest is told to trust its back end (`trusted`, the default), or not to (`untrusted`)'),
  untrusted: done('see `trusted`'),
  netdev: warned('is deprecated, it is called gatewaydev'),
  script: warned('does not run here unless it is `vif-bridge`: the link of the bridge does its work'),
  backend: warned('has no effect here: the host serves the vif itself, and there are no driver domains'),
  model: warned('has no effect on a PV guest'),
  accel: warned('has no effect, as with xl'),
  vlan: warned('has no effect here: let bridge name a network of that VLAN'),
  forwarddev: COLO,
  'colo_*': COLO,
};

/** The links that do what the scripts of Xen do: docs/networks.md tells how a host maps bridges to them. */
const LINKS: Readonly<Record<string, string>> = {
  'vif-nat': 'passt:PATH',
  'vif-route': 'tap:NAME',
  'vif-openvswitch': 'tap:NAME',
};
const ANY_LINK = 'bridge:NAME';

/** Why a script does not run, and the link to use; undefined for the default of Xen, which a bridge is. */
function scriptFault(script: string): string | undefined {
  const name = script.replace(/^.*[/]/, '').trim();
  if (name === '' || name === 'vif-bridge') return undefined;
  const link = Object.hasOwn(LINKS, name) ? LINKS[name] : ANY_LINK;
  return `script=${script} does not run here: let the host's "networks" map the vif's bridge to a link, such as ${link} (docs/networks.md)`;
}

const rowOf = (key: string): KeyRow | undefined =>
  Object.hasOwn(VIF_KEYS, key) ? VIF_KEYS[key] : /^colo_/.test(key) ? COLO : undefined;

/** What to say of a parameter without effect; undefined for a value that asks for what is done anyway. */
function faultOf(key: string, value: string, words: string, ofHost: OfHost): string | undefined {
  if (ofHost === 'passed-over' && /^(script|backend)$/.test(key)) return undefined;
  if (key === 'script') return scriptFault(value);
  if (key === 'backend' && /^(|0|Domain-0)$/.test(value)) return undefined;
  return `${key} ${words}`;
}

const DEFAULT_INTERVAL_US = 50_000;
const U32 = 2 ** 32;
const UNITS: Readonly<Record<string, number>> = { G: 1e9, M: 1e6, K: 1e3, '': 1 };

/**
 * Parses a rate such as "10Mb/s", "250KB/s" or "1MB/s@20ms" into the number of bytes that may pass in each interval.
 */
export function parseRate(text: string, fail: (message: string) => never): VifRate {
  const [speed, interval] = text.split(/@(.*)/s);
  const s = /^(\d+)([GMK]?)([Bb])\/s$/.exec(speed);
  if (!s) return fail(`rate "${speed}" is not a rate such as 10Mb/s, 250KB/s or 1MB/s@20ms`);
  const i = interval === undefined ? undefined : /^(\d+)([mu]?)s?$/.exec(interval);
  if (i === null) return fail(`rate: interval "${interval}" is not a time such as 20ms or 500us`);
  const count = Number(s[1]);
  if (count === 0 || count >= U32) return fail(`rate "${speed}" is out of range`);
  const bytesPerSecond = Math.floor((count * UNITS[s[2]]) / (s[3] === 'b' ? 8 : 1));
  const scale = i?.[2] === 'u' ? 1 : i?.[2] === 'm' ? 1e3 : 1e6;
  const intervalUs = i ? Number(i[1]) * scale : DEFAULT_INTERVAL_US;
  if (intervalUs === 0 || intervalUs >= U32) return fail(`rate: interval "${interval}" is out of range`);
  const bytesPerInterval = Number((BigInt(bytesPerSecond) * BigInt(intervalUs)) / 1_000_000n);
  return { bytesPerInterval, intervalUs };
}

function parseMac(text: string, fail: (message: string) => never): string {
  const groups = text.split(/[:-]/);
  if (groups.length !== 6 || !groups.every((g) => /^[0-9a-f]{1,2}$/i.test(g)))
    return fail(`mac "${text}" is not six groups of two hexadecimal digits`);
  const mac = groups.map((g) => g.toLowerCase().padStart(2, '0')).join(':');
  if (Number.parseInt(mac, 16) & 1)
    return fail(`mac "${text}" is a group address, not that of one interface`);
  return mac;
}

/**
 * Parses one specification. `failWith` is called with a description of a mistake and must throw; `warn` is called for
 * settings that have no effect. What a program or another domain of the host does is warned about or passed over.
 */
export function parseVif(
  spec: string,
  failWith: (message: string) => never,
  warn: (message: string) => void,
  ofHost: OfHost = 'refused',
): VifSpec {
  const fail = (message: string): never => failWith(`vif '${spec}': ${message}`);
  const given = new Map<string, string>();
  let trusted: boolean | undefined;
  const note = (message: string): void => warn(`vif '${spec}': ${message}`);
  for (const part of spec.split(',').filter((p) => p.trim() !== '')) {
    const text = part.trim();
    const [key, value = ''] = text.split(/=(.*)/s);
    const row = rowOf(key);
    if (row === undefined) {
      note(`${text} is no parameter of a vif, and is ignored, as by xl`);
      continue;
    }
    if (!text.includes('=') && !/^(un)?trusted$/.test(key))
      return fail(`"${text}" is not of the form key=value`);
    if (key === 'trusted' || key === 'untrusted') trusted = key === 'trusted';
    else given.set(key, value);
    const fault = row.verdict === 'warned' ? faultOf(key, value, row.words, ofHost) : undefined;
    if (fault !== undefined) note(fault);
  }
  const whole = (key: string, low: number, high: number): number | undefined => {
    const text = given.get(key);
    if (text === undefined) return undefined;
    if (!/^\d+$/.test(text) || Number(text) < low || Number(text) > high)
      return fail(`${key} "${text}" is not a whole number from ${low} to ${high}`);
    return Number(text);
  };
  const type = given.get('type');
  if (type !== undefined && type !== 'vif')
    return fail(`type "${type}" is for HVM guests (vif). Leave type out`);
  const mac = given.get('mac');
  const rate = given.get('rate');
  const antispoof = given.get('antispoof') ?? 'yes';
  if (!/^(yes|no|on|off|1|0)$/.test(antispoof)) return fail(`antispoof "${antispoof}" is neither yes nor no`);
  for (const ip of (given.get('ip') ?? '').split(/[\s;]+/))
    if (ip !== '' && parseIp(ip) === undefined) return fail(`ip "${ip}" is not an IP address`);
  return {
    mac: mac === undefined ? undefined : parseMac(mac, fail),
    bridge: given.get('bridge'),
    gatewayDevice: given.get('gatewaydev') ?? given.get('netdev'),
    ip: given.get('ip'),
    vifName: given.get('vifname'),
    devid: whole('devid', 0, 0xffff),
    mtu: whole('mtu', 68, 65535),
    rate: rate === undefined ? undefined : parseRate(rate, fail),
    antispoof: /^(yes|on|1)$/.test(antispoof),
    trusted: trusted ?? true,
  };
}
