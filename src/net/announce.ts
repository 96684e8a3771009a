/**
 * Frames that announce where the guest is after a move. They speak for the guest, which does not know that it has
 * moved. RARP teaches switches the new port of its address; ARP and Neighbour Advertisements also reach those who
 * talk to the guest. Source: RFC 903, RFC 5227 (announcement), RFC 4861 7.2.6; QEMU, net/announce.c (the same RARP
 * frame).
 */
import { fold, pseudoSum, sumBytes } from './checksum.js';
import {
  ETHERTYPE_ARP,
  ETHERTYPE_IPV6,
  ETHERTYPE_RARP,
  findHeaders,
  newHeaders,
  PROTOCOL_ICMPV6,
  setU16be,
  u16be,
} from './headers.js';
import { BROADCAST, readMac, writeMac } from './mac.js';

/** How many addresses of each kind are remembered for one interface. */
const MAX_ADDRESSES = 8;
const NEIGHBOUR_SOLICITATION = 135;
const NEIGHBOUR_ADVERTISEMENT = 136;
const NA_OVERRIDE = 0x20;
/** The minimum size of a frame in bytes, without its check sequence. */
const MIN_FRAME_BYTES = 60;

const headers = newHeaders();
const isZero = (b: Uint8Array): boolean => b.every((byte) => byte === 0);
const same = (a: Uint8Array, b: Uint8Array): boolean => a.every((byte, i) => byte === b[i]);

/** The IP addresses of one interface, learned from its own ARP and Neighbour Discovery. The latest one is last. */
export class SnoopedAddresses {
  constructor(
    private readonly mac: number,
    /** Each has 4 or 16 bytes. */
    readonly addresses: Uint8Array[] = [],
  ) {}

  /** Inspects a frame that the interface sends. */
  look(b: Uint8Array): void {
    const type = u16be(b, 12);
    if (type === ETHERTYPE_ARP) {
      // ARP for Ethernet and IPv4: the sender's Ethernet address is at 22, its IP address at 28.
      if (b.length >= 42 && u16be(b, 16) === 0x0800 && readMac(b, 22) === this.mac)
        this.know(b.slice(28, 32));
    } else if (
      type === ETHERTYPE_IPV6 &&
      b.length >= 78 &&
      b[20] === PROTOCOL_ICMPV6 &&
      readMac(b, 6) === this.mac
    ) {
      findHeaders(b, headers);
      if (headers.ip !== 6 || headers.end < 78) return;
      if (b[54] === NEIGHBOUR_ADVERTISEMENT) this.know(b.slice(62, 78));
      else if (b[54] === NEIGHBOUR_SOLICITATION) this.know(b.slice(22, 38));
    }
  }

  private know(address: Uint8Array): void {
    if (isZero(address)) return;
    const known = this.addresses.findIndex((a) => a.length === address.length && same(a, address));
    if (known >= 0) {
      if (known < this.addresses.length - 1) this.addresses.push(...this.addresses.splice(known, 1));
      return;
    }
    const alike = this.addresses.filter((a) => a.length === address.length);
    if (alike.length >= MAX_ADDRESSES) this.addresses.splice(this.addresses.indexOf(alike[0]), 1);
    this.addresses.push(address);
  }
}

/** The frames that announce an interface: a RARP frame, then one frame for each address. */
export function announcements(mac: number, addresses: readonly Uint8Array[]): Uint8Array[] {
  return [rarp(mac), ...addresses.map((a) => (a.length === 4 ? arp(mac, a) : advertisement(mac, a)))];
}

function ethernet(destination: number, source: number, type: number, bytes: number): Uint8Array {
  const b = new Uint8Array(Math.max(bytes, MIN_FRAME_BYTES));
  writeMac(b, 0, destination);
  writeMac(b, 6, source);
  setU16be(b, 12, type);
  return b;
}

function arpBody(b: Uint8Array, operation: number, mac: number): void {
  setU16be(b, 14, 1);
  setU16be(b, 16, 0x0800);
  b[18] = 6;
  b[19] = 4;
  setU16be(b, 20, operation);
  writeMac(b, 22, mac);
}

function rarp(mac: number): Uint8Array {
  const b = ethernet(BROADCAST, mac, ETHERTYPE_RARP, 42);
  arpBody(b, 3, mac);
  writeMac(b, 32, mac);
  return b;
}

function arp(mac: number, address: Uint8Array): Uint8Array {
  const b = ethernet(BROADCAST, mac, ETHERTYPE_ARP, 42);
  arpBody(b, 1, mac);
  b.set(address, 28);
  b.set(address, 38);
  return b;
}

function advertisement(mac: number, address: Uint8Array): Uint8Array {
  const b = ethernet(0x3333_0000_0001, mac, ETHERTYPE_IPV6, 86);
  b[14] = 0x60;
  setU16be(b, 18, 32);
  b[20] = PROTOCOL_ICMPV6;
  b[21] = 255;
  b.set(address, 22);
  // All nodes on the link: ff02::1.
  b[38] = 0xff;
  b[39] = 0x02;
  b[53] = 0x01;
  b[54] = NEIGHBOUR_ADVERTISEMENT;
  b[58] = NA_OVERRIDE;
  b.set(address, 62);
  // The option with the target's link-layer address; its length is given in units of 8 bytes.
  b[78] = 2;
  b[79] = 1;
  writeMac(b, 80, mac);
  findHeaders(b, headers);
  setU16be(b, 56, ~fold(sumBytes(b, 54, 86, pseudoSum(b, headers, 32))) & 0xffff);
  return b;
}
