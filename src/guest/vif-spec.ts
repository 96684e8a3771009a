/**
 * Reads one entry of `vif = [...]` as xl does: `key=value` pairs separated by commas, any of them left out.
 * What exists for emulated cards or needs a program of the host's is refused by name.
 * Source: Xen, docs/man/xl-network-configuration.5.pod, tools/xl/xl_parse.c (parse_nic_config),
 * tools/libs/util/libxlu_vif.c.
 */

import { parseIp } from '../net/source-filter.js';

export interface VifRate {
  readonly bytesPerInterval: number;
  readonly intervalUs: number;
}

export interface VifSpec {
  /** Lower case, "00:16:3e:..."; undefined: one is to be made. */
  readonly mac: string | undefined;
  /** Undefined: the host's default. */
  readonly bridge: string | undefined;
  readonly gatewayDevice: string | undefined;
  readonly ip: string | undefined;
  /** Name of the host's side of it; undefined: vifDOMID.DEVID. */
  readonly vifName: string | undefined;
  /** Undefined: its place in the list. */
  readonly devid: number | undefined;
  readonly mtu: number | undefined;
  readonly rate: VifRate | undefined;
  /** Ours: whether it is held to its own addresses, as vif-bridge's antispoof does it. */
  readonly antispoof: boolean;
}

const DEFAULT_INTERVAL_US = 50_000;
const U32 = 2 ** 32;
const UNITS: Readonly<Record<string, number>> = { G: 1e9, M: 1e6, K: 1e3, '': 1 };

/** "10Mb/s", "250KB/s", "1MB/s@20ms": how many bytes may pass in each interval. */
export function parseRate(text: string, fail: (message: string) => never): VifRate {
  const [speed, interval] = text.split(/@(.*)/s);
  const s = /^(\d+)([GMK]?)([Bb])\/s$/.exec(speed);
  if (!s) return fail(`rate "${speed}" is none, as 10Mb/s, 250KB/s or 1MB/s@20ms are`);
  const i = interval === undefined ? undefined : /^(\d+)([mu]?)s?$/.exec(interval);
  if (i === null) return fail(`rate: interval "${interval}" is none, as 20ms or 500us are`);
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
    return fail(`mac "${text}" is an address of a group, not of one interface`);
  return mac;
}

/**
 * Parses one specification. `fail` is called with what is wrong and must throw; `warn` with what has no effect.
 */
export function parseVif(
  spec: string,
  failWith: (message: string) => never,
  warn: (message: string) => void,
): VifSpec {
  const fail = (message: string): never => failWith(`vif '${spec}': ${message}`);
  const given = new Map<string, string>();
  for (const part of spec.split(',').filter((p) => p.trim() !== '')) {
    const text = part.replace(/^ +/, '');
    const key = /^([a-z][a-z0-9_]*)=/.exec(text)?.[1];
    if (key === undefined) return fail(`"${text}" is no key=value`);
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
    if (key === 'type' && value === 'vif') continue;
    if (key === 'type') return fail(`type "${value}" is for HVM guests (vif)`);
    if (key === 'backend' && /^(|0|Domain-0)$/.test(value)) continue;
    if (key === 'backend') return fail(`backend "${value}": driver domains are not supported`);
    if (key === 'model') warn(`vif '${spec}': model has no effect on a PV guest`);
    else if (/^(script|accel|forwarddev|colo_.*)$/.test(key)) return fail(`${key} is not supported`);
    else return fail(`${key} is no parameter of a vif`);
  }
  if (given.has('netdev')) warn(`vif '${spec}': netdev is deprecated, it is called gatewaydev`);
  const mac = given.get('mac');
  const rate = given.get('rate');
  const antispoof = given.get('antispoof') ?? 'yes';
  if (!/^(yes|no|on|off|1|0)$/.test(antispoof)) return fail(`antispoof "${antispoof}" is neither yes nor no`);
  for (const ip of (given.get('ip') ?? '').split(/[\s;]+/))
    if (ip !== '' && parseIp(ip) === undefined) return fail(`ip "${ip}" is no IP address`);
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
