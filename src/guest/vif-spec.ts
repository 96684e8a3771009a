/**
 * Parses one entry of `vif = [...]` as xl does: optional `key=value` pairs separated by commas. Keys for emulated
 * network cards, and those that need a program of the host, are refused, and the message names them.
 * Source: Xen, docs/man/xl-network-configuration.5.pod, tools/xl/xl_parse.c (parse_nic_config),
 * tools/libs/util/libxlu_vif.c.
 */

import { parseIp } from '../net/source-filter.js';
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
  const groups = text.split(':');
  if (groups.length !== 6 || !groups.every((g) => /^[0-9a-f]{1,2}$/i.test(g)))
    return fail(`mac "${text}" is not six groups of two hexadecimal digits`);
  const mac = groups.map((g) => g.toLowerCase().padStart(2, '0')).join(':');
  if (Number.parseInt(mac, 16) & 1)
    return fail(`mac "${text}" is a group address, not that of one interface`);
  return mac;
}

/**
 * Parses one specification. `failWith` is called with a description of a mistake and must throw; `warn` is called for
 * settings that have no effect. What a program or another domain of the host does is refused or passed over.
 */
export function parseVif(
  spec: string,
  failWith: (message: string) => never,
  warn: (message: string) => void,
  ofHost: OfHost = 'refused',
): VifSpec {
  const fail = (message: string): never => failWith(`vif '${spec}': ${message}`);
  const given = new Map<string, string>();
  for (const part of spec.split(',').filter((p) => p.trim() !== '')) {
    const text = part.replace(/^ +/, '');
    const key = /^([a-z][a-z0-9_]*)=/.exec(text)?.[1];
    if (key === undefined) return fail(`"${text}" is not of the form key=value`);
    given.set(key, text.slice(key.length + 1));
  }
  const whole = (key: string, low: number, high: number): number | undefined => {
    const text = given.get(key);
    if (text === undefined) return undefined;
    if (!/^\d+$/.test(text) || Number(text) < low || Number(text) > high)
      return fail(`${key} "${text}" is not a whole number from ${low} to ${high}`);
    return Number(text);
  };
  for (const [key, value] of given) {
    if (/^(mac|bridge|gatewaydev|netdev|ip|vifname|devid|mtu|rate|antispoof)$/.test(key)) continue;
    if (ofHost === 'passed-over' && /^(script|backend)$/.test(key)) continue;
    if (key === 'type' && value === 'vif') continue;
    if (key === 'type') return fail(`type "${value}" is for HVM guests (vif)`);
    if (key === 'backend' && /^(|0|Domain-0)$/.test(value)) continue;
    if (key === 'backend') return fail(`backend "${value}": driver domains are not supported`);
    if (key === 'model') warn(`vif '${spec}': model has no effect on a PV guest`);
    else if (/^(script|accel|forwarddev|colo_.*)$/.test(key)) return fail(`${key} is not supported`);
    else return fail(`${key} is not a parameter of a vif`);
  }
  if (given.has('netdev')) warn(`vif '${spec}': netdev is deprecated, it is called gatewaydev`);
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
  };
}
