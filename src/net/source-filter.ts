/**
 * Restricts an interface to its own addresses: every frame that it sends must name it as the source, as with
 * `antispoof` of Xen's vif-bridge. The filter always checks the Ethernet source, the sender of ARP and RARP, and the
 * link-layer addresses in Neighbour Discovery; if the interface has known IP addresses, it checks those too.
 *
 * An interface with known IP addresses may also send what it needs while it has no address yet (DHCP, ARP probes,
 * duplicate address detection), and may use the address that follows from its Ethernet address (the link-local
 * address of RFC 4291, appendix A). Source: Xen, tools/hotplug/Linux/vif-common.sh (handle_iptable); RFC 5227; RFC
 * 4861, 4.1 to 4.6; RFC 4862, 5.4.2.
 */
import {
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  ETHERTYPE_RARP,
  findHeaders,
  newHeaders,
  PROTOCOL_ICMPV6,
  PROTOCOL_UDP,
  u16be,
  u32be,
} from './headers.js';
import { readMac } from './mac.js';

const ETHERTYPE_VLAN = 0x8100;
const ETHERTYPE_QINQ = 0x88a8;
const ARP_BYTES = 28;
const DHCP_CLIENT = 68;
const ROUTER_SOLICITATION = 133;
const ROUTER_ADVERTISEMENT = 134;
const NEIGHBOUR_SOLICITATION = 135;
const NEIGHBOUR_ADVERTISEMENT = 136;
const REDIRECT = 137;
/** Offset of the options in each Neighbour Discovery message, from the start of the message. */
const OPTIONS_AT: Readonly<Record<number, number>> = {
  [ROUTER_SOLICITATION]: 8,
  [ROUTER_ADVERTISEMENT]: 16,
  [NEIGHBOUR_SOLICITATION]: 24,
  [NEIGHBOUR_ADVERTISEMENT]: 24,
  [REDIRECT]: 40,
};
/**
 * Option 1 is the link-layer address of the message's sender, option 2 that of its target. In a redirect the target
 * is another machine.
 */
const SOURCE_LINK_ADDRESS = 1;
const TARGET_LINK_ADDRESS = 2;

const same = (b: Uint8Array, at: number, address: Uint8Array): boolean => {
  for (let i = 0; i < address.length; i++) if (b[at + i] !== address[i]) return false;
  return true;
};
const isZero = (b: Uint8Array, at: number, bytes: number): boolean => {
  for (let i = 0; i < bytes; i++) if (b[at + i] !== 0) return false;
  return true;
};

export class SourceFilter {
  private readonly headers = newHeaders();
  private readonly addresses: readonly Uint8Array[];
  private readonly linkLocal: Uint8Array;

  /** `addresses` are of 4 or 16 bytes each. If there are none, any may be used. */
  constructor(
    readonly mac: number,
    addresses: readonly Uint8Array[] = [],
  ) {
    this.addresses = addresses;
    this.linkLocal = linkLocalOf(mac);
  }

  /** Whether the interface may have this address (4 or 16 bytes). */
  has(address: Uint8Array): boolean {
    return this.addresses.length === 0 || this.owns(address, 0, address.length);
  }

  private owns(b: Uint8Array, at: number, bytes: number): boolean {
    for (const one of this.addresses) if (one.length === bytes && same(b, at, one)) return true;
    return bytes === 16 && same(b, at, this.linkLocal);
  }

  /** Whether this frame may be sent. A frame that is too short for an Ethernet header may not. */
  passes(b: Uint8Array): boolean {
    if (b.length < 14 || readMac(b, 6) !== this.mac) return false;
    const { headers } = this;
    findHeaders(b, headers);
    switch (headers.etherType) {
      case ETHERTYPE_ARP:
      case ETHERTYPE_RARP:
        return this.arp(b, headers.l3);
      case ETHERTYPE_IPV4:
        return this.addresses.length === 0 || (headers.ip === 4 && this.ipv4(b));
      case ETHERTYPE_IPV6:
        return headers.ip === 6 ? this.ipv6(b) : this.addresses.length === 0;
      case ETHERTYPE_VLAN:
      case ETHERTYPE_QINQ:
        // The frame has more tags than are parsed, so its contents are unknown.
        return this.addresses.length === 0;
      default:
        return true;
    }
  }

  private arp(b: Uint8Array, at: number): boolean {
    // Only ARP for Ethernet and IPv4 passes; such an interface uses no other.
    if (b.length < at + ARP_BYTES || u32be(b, at) !== 0x0001_0800 || u16be(b, at + 4) !== 0x0604)
      return false;
    if (readMac(b, at + 8) !== this.mac) return false;
    return this.addresses.length === 0 || isZero(b, at + 14, 4) || this.owns(b, at + 14, 4);
  }

  private ipv4(b: Uint8Array): boolean {
    const { l3, l4, end, protocol } = this.headers;
    if (this.owns(b, l3 + 12, 4)) return true;
    const asksForOne = protocol === PROTOCOL_UDP && l4 + 8 <= end && u16be(b, l4) === DHCP_CLIENT;
    return asksForOne && isZero(b, l3 + 12, 4) && u32be(b, l3 + 16) === 0xffff_ffff;
  }

  private ipv6(b: Uint8Array): boolean {
    const { l3, l4, end, protocol } = this.headers;
    const known = this.addresses.length > 0;
    const unspecified = isZero(b, l3 + 8, 16);
    if (known && !unspecified && !this.owns(b, l3 + 8, 16)) return false;
    // A packet without a source address can only be ICMPv6, which allows that.
    if (known && unspecified && protocol !== PROTOCOL_ICMPV6) return false;
    // Nobody accepts Neighbour Discovery in fragments (RFC 6980).
    if (protocol !== PROTOCOL_ICMPV6) return true;
    const options = l4 < end ? OPTIONS_AT[b[l4]] : undefined;
    return options === undefined || this.discovery(b, b[l4], l4, l4 + options, end, known);
  }

  private discovery(
    b: Uint8Array,
    type: number,
    at: number,
    options: number,
    end: number,
    known: boolean,
  ): boolean {
    if (options > end) return false;
    // An interface that is restricted to its own addresses is not a router.
    if (known && (type === ROUTER_ADVERTISEMENT || type === REDIRECT)) return false;
    if (known && type === NEIGHBOUR_ADVERTISEMENT && !this.owns(b, at + 8, 16)) return false;
    for (let o = options; o + 8 <= end; ) {
      const bytes = b[o + 1] * 8;
      if (bytes === 0) return false;
      const ofSender = b[o] === SOURCE_LINK_ADDRESS || (b[o] === TARGET_LINK_ADDRESS && type !== REDIRECT);
      if (ofSender && readMac(b, o + 2) !== this.mac) return false;
      o += bytes;
    }
    return true;
  }
}

function linkLocalOf(mac: number): Uint8Array {
  const b = new Uint8Array(16);
  b[0] = 0xfe;
  b[1] = 0x80;
  const octet = (i: number): number => Math.floor(mac / 2 ** (8 * (5 - i))) & 0xff;
  b.set([octet(0) ^ 2, octet(1), octet(2), 0xff, 0xfe, octet(3), octet(4), octet(5)], 8);
  return b;
}

/**
 * Parses an IP address into 4 or 16 bytes and ignores a prefix length after it. Returns undefined if the text is not
 * an address.
 */
export function parseIp(text: string): Uint8Array | undefined {
  const plain = text.replace(/\/\d{1,3}$/, '');
  return plain.includes(':') ? parseIpv6(plain) : parseIpv4(plain);
}

function parseIpv4(text: string): Uint8Array | undefined {
  const parts = text.split('.');
  if (parts.length !== 4 || !parts.every((p) => /^(0|[1-9]\d{0,2})$/.test(p) && Number(p) < 256))
    return undefined;
  return Uint8Array.from(parts, Number);
}

function parseIpv6(text: string): Uint8Array | undefined {
  const last = text.slice(text.lastIndexOf(':') + 1);
  const v4 = last.includes('.') ? parseIpv4(last) : undefined;
  if (last.includes('.') && v4 === undefined) return undefined;
  const hex = (n: number): string => n.toString(16);
  const whole =
    v4 === undefined
      ? text
      : `${text.slice(0, text.length - last.length)}${hex((v4[0] << 8) | v4[1])}:${hex((v4[2] << 8) | v4[3])}`;
  const halves = whole.split('::');
  if (halves.length > 2) return undefined;
  const groups = halves.map((half) => (half === '' ? [] : half.split(':')));
  const count = groups.flat().length;
  if (halves.length === 1 ? count !== 8 : count > 7) return undefined;
  const middle = Array<string>(8 - count).fill('0');
  const all = halves.length === 1 ? groups[0] : [...groups[0], ...middle, ...groups[1]];
  if (!all.every((g) => /^[0-9a-f]{1,4}$/i.test(g))) return undefined;
  return Uint8Array.from(
    all.flatMap((g) => {
      const n = Number.parseInt(g, 16);
      return [n >> 8, n & 0xff];
    }),
  );
}

/** Parses addresses that are separated by blanks or semicolons. Words that are not addresses are left out. */
export const parseIps = (text: string): Uint8Array[] =>
  text
    .split(/[\s;]+/)
    .map(parseIp)
    .filter((address) => address !== undefined);
