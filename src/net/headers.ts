/**
 * Finds the headers in a frame: Ethernet with VLAN tags, IPv4, IPv6 with extension headers, TCP, UDP and ICMPv6.
 *
 * Invariant: every offset in the result lies within the frame. A header that does not fit is not reported. Source:
 * IEEE 802.1Q, RFC 791, RFC 8200, RFC 9293.
 */
import { ETHERNET_HEADER_BYTES } from './frame.js';

export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_RARP = 0x8035;
export const ETHERTYPE_IPV6 = 0x86dd;
const ETHERTYPE_VLAN = 0x8100;
const ETHERTYPE_QINQ = 0x88a8;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const PROTOCOL_ICMPV6 = 58;

const IPV4_BYTES = 20;
const IPV6_BYTES = 40;
export const TCP_BYTES = 20;
const UDP_BYTES = 8;
/** IPv6 extension headers that contain their own length: hop-by-hop, routing and destination options. */
const EXTENSIONS = new Set([0, 43, 60]);
/** A packet with more extension headers than this is not parsed further. */
const MAX_HEADERS = 8;

export const u16be = (b: Uint8Array, at: number): number => (b[at] << 8) | b[at + 1];
export const u32be = (b: Uint8Array, at: number): number =>
  ((b[at] << 24) | (b[at + 1] << 16) | (b[at + 2] << 8) | b[at + 3]) >>> 0;
export function setU16be(b: Uint8Array, at: number, v: number): void {
  b[at] = v >>> 8;
  b[at + 1] = v;
}
export function setU32be(b: Uint8Array, at: number, v: number): void {
  b[at] = v >>> 24;
  b[at + 1] = v >>> 16;
  b[at + 2] = v >>> 8;
  b[at + 3] = v;
}

/** Where the headers of a frame are. `ip` is 4, 6, or 0 for neither; `protocol` is -1 if none is visible. */
export interface Headers {
  etherType: number;
  l3: number;
  ip: 0 | 4 | 6;
  protocol: number;
  l4: number;
  /** The end of the IP packet; the bytes after it are padding. */
  end: number;
}
export const newHeaders = (): Headers => ({ etherType: 0, l3: 0, ip: 0, protocol: -1, l4: 0, end: 0 });

/** Parses `b` and fills `h`. In a fragment other than the first no protocol is visible. */
export function findHeaders(b: Uint8Array, h: Headers): void {
  h.ip = 0;
  h.protocol = -1;
  h.end = b.length;
  h.l4 = b.length;
  if (b.length < ETHERNET_HEADER_BYTES) {
    h.etherType = 0;
    h.l3 = b.length;
    return;
  }
  let at = 12;
  for (let tags = 0; tags < 2 && b.length >= at + 6; tags++) {
    const type = u16be(b, at);
    if (type !== ETHERTYPE_VLAN && type !== ETHERTYPE_QINQ) break;
    at += 4;
  }
  h.etherType = u16be(b, at);
  h.l3 = at + 2;
  if (h.etherType === ETHERTYPE_IPV4) ipv4(b, h);
  else if (h.etherType === ETHERTYPE_IPV6) ipv6(b, h);
}

function ipv4(b: Uint8Array, h: Headers): void {
  const { l3 } = h;
  if (b.length < l3 + IPV4_BYTES || b[l3] >>> 4 !== 4) return;
  const bytes = (b[l3] & 15) * 4;
  const end = l3 + u16be(b, l3 + 2);
  if (bytes < IPV4_BYTES || l3 + bytes > end || end > b.length) return;
  h.ip = 4;
  h.end = end;
  h.l4 = l3 + bytes;
  if ((u16be(b, l3 + 6) & 0x1fff) === 0) h.protocol = b[l3 + 9];
}

function ipv6(b: Uint8Array, h: Headers): void {
  const { l3 } = h;
  if (b.length < l3 + IPV6_BYTES || b[l3] >>> 4 !== 6) return;
  const end = l3 + IPV6_BYTES + u16be(b, l3 + 4);
  if (end > b.length) return;
  h.ip = 6;
  h.end = end;
  let next = b[l3 + 6];
  let at = l3 + IPV6_BYTES;
  for (let i = 0; EXTENSIONS.has(next) && i < MAX_HEADERS; i++) {
    if (at + 8 > end) return;
    next = b[at];
    at += 8 * (b[at + 1] + 1);
  }
  if (at > end || EXTENSIONS.has(next)) return;
  h.l4 = at;
  h.protocol = next;
}

/** Offset of the checksum within the transport header, or 0 if `h` has no complete TCP or UDP header. */
export function checksumOffset(h: Headers): number {
  if (h.protocol === PROTOCOL_TCP) return h.l4 + TCP_BYTES <= h.end ? 16 : 0;
  if (h.protocol === PROTOCOL_UDP) return h.l4 + UDP_BYTES <= h.end ? 6 : 0;
  return 0;
}
