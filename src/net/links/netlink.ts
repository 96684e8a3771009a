/**
 * Makes a macvtap interface on another one and brings both up, by messages to the kernel (rtnetlink), because a helper
 * domain has no programs. In mode passthru all that comes to the lower interface is the upper one's, whatever its
 * address. Source: Linux, Documentation/userspace-api/netlink/intro.rst, include/uapi/linux/{netlink,rtnetlink,
 * if_link}.h.
 */
import { parseMac, writeMac } from '../mac.js';

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_ROUTE = 0;
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_NEWADDR = 20;
const RTM_NEWROUTE = 24;
const NLMSG_ERROR = 2;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
const NLM_F_EXCL = 0x200;
const NLM_F_CREATE = 0x400;
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_LINK = 5;
const IFLA_LINKINFO = 18;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_MACVLAN_MODE = 1;
const MACVLAN_MODE_PASSTHRU = 8;
const IFF_UP = 1;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFADDRMSG = 8;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTMSG = 12;
const RT_TABLE_MAIN = 254;
const RTPROT_BOOT = 3;
const RTN_UNICAST = 1;
const AF_INET = 2;
const HEADER = 16;
const IFINFOMSG = 16;

const aligned = (bytes: number): number => (bytes + 3) & ~3;

/** struct nlattr and its value. */
function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(aligned(4 + value.length));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 4 + value.length, true);
  view.setUint16(2, type, true);
  bytes.set(value, 4);
  return bytes;
}
const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const name = (text: string): Uint8Array => new TextEncoder().encode(`${text}\0`);
const joined = (parts: readonly Uint8Array[]): Uint8Array => Buffer.concat(parts);

function address(mac: string): Uint8Array {
  const bytes = new Uint8Array(6);
  writeMac(bytes, 0, parseMac(mac));
  return bytes;
}

/** A message about an interface, with struct ifinfomsg. `up`: whether its flag IFF_UP is to be set. */
function message(
  type: number,
  flags: number,
  index: number,
  up: boolean,
  attributes: Uint8Array,
): Uint8Array {
  const bytes = new Uint8Array(HEADER + IFINFOMSG + attributes.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, NLM_F_REQUEST | NLM_F_ACK | flags, true);
  view.setInt32(HEADER + 4, index, true);
  view.setUint32(HEADER + 8, up ? IFF_UP : 0, true);
  view.setUint32(HEADER + 12, up ? IFF_UP : 0, true);
  bytes.set(attributes, HEADER + IFINFOMSG);
  return bytes;
}

/** The message that makes the macvtap interface `upper` on the interface with index `lower`. */
export function newMacvtap(upper: string, lower: number, mac: string): Uint8Array {
  const data = attribute(IFLA_MACVLAN_MODE, u32(MACVLAN_MODE_PASSTHRU));
  const info = [attribute(IFLA_INFO_KIND, name('macvtap')), attribute(IFLA_INFO_DATA, data)];
  const attributes = joined([
    attribute(IFLA_IFNAME, name(upper)),
    attribute(IFLA_LINK, u32(lower)),
    attribute(IFLA_ADDRESS, address(mac)),
    attribute(IFLA_LINKINFO, joined(info)),
  ]);
  return message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, true, attributes);
}
export const setUp = (index: number): Uint8Array => message(RTM_NEWLINK, 0, index, true, new Uint8Array(0));
export const deleteLink = (index: number): Uint8Array =>
  message(RTM_DELLINK, 0, index, false, new Uint8Array(0));

/** Makes something new of IPv4: `head` is the struct that follows the header. */
function newOfIpv4(type: number, head: Uint8Array, attributes: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER + head.length + attributes.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, true);
  bytes.set(head, HEADER);
  bytes.set(attributes, HEADER + head.length);
  return bytes;
}
const ipv4 = (text: string): Uint8Array => Uint8Array.from(text.split('.').map(Number));

/** The message that gives an interface an IPv4 address: struct ifaddrmsg (include/uapi/linux/if_addr.h). */
export function addAddress(index: number, address: string, prefix: number): Uint8Array {
  const head = new Uint8Array(IFADDRMSG);
  head.set([AF_INET, prefix]);
  new DataView(head.buffer).setUint32(4, index, true);
  const value = ipv4(address);
  return newOfIpv4(RTM_NEWADDR, head, joined([attribute(IFA_LOCAL, value), attribute(IFA_ADDRESS, value)]));
}

/** The message that sends what is for no network of ours to a gateway: struct rtmsg. */
export function addDefaultRoute(index: number, gateway: string): Uint8Array {
  const head = new Uint8Array(RTMSG);
  head.set([AF_INET]);
  head.set([RT_TABLE_MAIN, RTPROT_BOOT, 0, RTN_UNICAST], 4);
  const attributes = [attribute(RTA_GATEWAY, ipv4(gateway)), attribute(RTA_OIF, u32(index))];
  return newOfIpv4(RTM_NEWROUTE, head, joined(attributes));
}

/** The errno in the kernel's answer; 0: done. Throws if it is no answer. */
export function answered(answer: Uint8Array): number {
  const view = new DataView(answer.buffer, answer.byteOffset, answer.length);
  if (answer.length < HEADER + 4 || view.getUint16(4, true) !== NLMSG_ERROR)
    throw new Error('netlink: an answer that is none');
  return -view.getInt32(HEADER, true);
}

/** Sends one message and waits for the kernel's answer, which it gives at once. Returns 0 or an errno. */
export async function netlink(request: Uint8Array): Promise<number> {
  // Types: koffi's declarations are of the module, not of its default export.
  const koffi = (await import('koffi')).default as unknown as typeof import('koffi');
  const lib = koffi.load('libc.so.6');
  const socket = lib.func('int socket(int family, int type, int protocol)');
  const send = lib.func('long send(int fd, const void *from, size_t bytes, int flags)');
  const recv = lib.func('long recv(int fd, void *into, size_t bytes, int flags)');
  const close = lib.func('int close(int fd)');
  const fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE) as number;
  if (fd < 0) throw new Error('netlink: no socket');
  try {
    if (send(fd, request, request.length, 0) !== request.length) throw new Error('netlink: cannot send');
    const into = new Uint8Array(4096);
    const bytes = recv(fd, into, into.length, 0) as number;
    return answered(into.subarray(0, Math.max(0, bytes)));
  } finally {
    close(fd);
  }
}
