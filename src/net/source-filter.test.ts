import { describe, expect, it } from 'vitest';
import { ethernet, GUEST, PEER, tcp, udp } from '../../test/support/packets.js';
import { announcements } from './announce.js';
import { parseMac } from './mac.js';
import { parseIp, parseIps, SourceFilter } from './source-filter.js';

const MAC = parseMac('00:16:3e:00:00:01');
const OURS = [10, 0, 0, 5];
const OURS6 = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
const OTHER = [10, 0, 0, 9];
const OTHER6 = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
const NONE6 = Array<number>(16).fill(0);
const LINK_LOCAL = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x02, 0x16, 0x3e, 0xff, 0xfe, 0, 0, 1];

const free = new SourceFilter(MAC);
const bound = new SourceFilter(MAC, [Uint8Array.from(OURS), Uint8Array.from(OURS6)]);

const sentFrom = (mac: readonly number[], frame: Uint8Array): Uint8Array => {
  frame.set(mac, 6);
  return frame;
};
const tagged = (frame: Uint8Array, tags: number): Uint8Array =>
  Uint8Array.from([...frame.slice(0, 12), ...Array(tags).fill([0x81, 0, 0, 7]).flat(), ...frame.slice(12)]);
const arp = (operation: number, mac: readonly number[], ip: readonly number[], type = 0x0806): Uint8Array =>
  ethernet(type, [0, 1, 8, 0, 6, 4, 0, operation, ...mac, ...ip, ...PEER, ...OTHER]);
const icmp6 = (from: readonly number[], message: readonly number[], next = 58): Uint8Array =>
  ethernet(0x86dd, [0x60, 0, 0, 0, 0, message.length, next, 255, ...from, ...OTHER6, ...message]);
const option = (kind: number, mac: readonly number[]): number[] => [kind, 1, ...mac];
const discovery = (type: number, target: readonly number[], options: readonly number[] = []): number[] => [
  type,
  ...[0, 0, 0, 0, 0, 0, 0],
  ...target,
  ...options,
];
const dhcp = udp(4, new Uint8Array(20), {
  from: [0, 0, 0, 0],
  to: [255, 255, 255, 255],
  fromPort: 68,
  toPort: 67,
});
const data = new Uint8Array(30);

describe('an interface that is restricted to its addresses', () => {
  /** Name, frame, whether it leaves an interface with no known IP addresses, and whether it leaves one with some. */
  const cases: [string, Uint8Array, boolean, boolean][] = [
    ['IPv4 of its own', tcp(4, data, { from: OURS }), true, true],
    ['IPv4 of another', tcp(4, data, { from: OTHER }), true, false],
    ['IPv4 of another behind a VLAN tag', tagged(tcp(4, data, { from: OTHER }), 1), true, false],
    ['IPv4 of its own behind two VLAN tags', tagged(tcp(4, data, { from: OURS }), 2), true, true],
    [
      'IPv4 of another behind more tags than are looked at',
      tagged(tcp(4, data, { from: OTHER }), 3),
      true,
      false,
    ],
    ['IPv4 cut off', tcp(4, data, { from: OURS }).slice(0, 30), true, false],
    ['a request for an IPv4 address', dhcp, true, true],
    ['no IPv4 address, for something else', tcp(4, data, { from: [0, 0, 0, 0] }), true, false],
    ['Ethernet of another', ethernet(0x0800, [...data], PEER, PEER), false, false],
    ['Ethernet of another, IPv4 of its own', sentFrom(PEER, tcp(4, data, { from: OURS })), false, false],
    ['no whole header', tcp(4, data).slice(0, 13), false, false],
    ['another protocol', ethernet(0x88b5, [...data]), true, true],
    ['ARP for itself', arp(1, GUEST, OURS), true, true],
    ['an ARP probe', arp(1, GUEST, [0, 0, 0, 0]), true, true],
    ['gratuitous ARP with a foreign IPv4 address', arp(2, GUEST, OTHER), true, false],
    ['gratuitous ARP with a foreign Ethernet address', arp(2, PEER, OURS), false, false],
    ['the same behind a VLAN tag', tagged(arp(2, PEER, OURS), 1), false, false],
    [
      'ARP that is none',
      ethernet(0x0806, [0, 1, 8, 0, 6, 6, 0, 2, ...GUEST, ...OURS, ...PEER, ...OTHER]),
      false,
      false,
    ],
    ['ARP cut off', arp(2, GUEST, OURS).slice(0, 40), false, false],
    ['RARP of another', arp(3, PEER, [0, 0, 0, 0], 0x8035), false, false],
    ['IPv6 of its own', tcp(6, data, { from: OURS6 }), true, true],
    ['IPv6 of its link', tcp(6, data, { from: LINK_LOCAL }), true, true],
    ['IPv6 of another', tcp(6, data, { from: OTHER6 }), true, false],
    ['IPv6 of another of the link', tcp(6, data, { from: [...LINK_LOCAL.slice(0, 15), 9] }), true, false],
    ['no IPv6 address, for TCP', tcp(6, data, { from: NONE6 }), true, false],
    ['duplicate address detection', icmp6(NONE6, discovery(135, OURS6)), true, true],
    ['a solicitation', icmp6(OURS6, discovery(135, OTHER6, option(1, GUEST))), true, true],
    [
      "a solicitation with another's Ethernet address",
      icmp6(OURS6, discovery(135, OTHER6, option(1, PEER))),
      false,
      false,
    ],
    ['an advertisement', icmp6(OURS6, discovery(136, OURS6, option(2, GUEST))), true, true],
    [
      'an advertisement of a foreign address',
      icmp6(OURS6, discovery(136, OTHER6, option(2, GUEST))),
      true,
      false,
    ],
    [
      'an advertisement of an Ethernet address',
      icmp6(OURS6, discovery(136, OURS6, option(2, PEER))),
      false,
      false,
    ],
    [
      'the same as its second option',
      icmp6(OURS6, discovery(136, OURS6, [14, 1, 0, 0, 0, 0, 0, 0, ...option(2, PEER)])),
      false,
      false,
    ],
    [
      'an option without a length',
      icmp6(OURS6, discovery(136, OURS6, [14, 0, 0, 0, 0, 0, 0, 0])),
      false,
      false,
    ],
    [
      'an advertisement behind an extension header',
      icmp6(OURS6, [58, 0, 0, 0, 0, 0, 0, 0, ...discovery(136, OTHER6, option(2, PEER))], 60),
      false,
      false,
    ],
    [
      'a router advertisement',
      icmp6(LINK_LOCAL, [134, ...Array(15).fill(0), ...option(1, GUEST)]),
      true,
      false,
    ],
    [
      "a router advertisement with another's",
      icmp6(LINK_LOCAL, [134, ...Array(15).fill(0), ...option(1, PEER)]),
      false,
      false,
    ],
    [
      'a redirect to another',
      icmp6(LINK_LOCAL, discovery(137, OTHER6, [...OTHER6, ...option(2, PEER)])),
      true,
      false,
    ],
    ['a ping', icmp6(OURS6, [128, 0, 0, 0, 0, 0, 0, 0]), true, true],
    ['IPv6 cut off', tcp(6, data, { from: OTHER6 }).slice(0, 40), true, false],
  ];
  it.each(cases)('sends %s: %#', (_, frame, asFree, asBound) => {
    expect([free.passes(frame), bound.passes(frame)]).toEqual([asFree, asBound]);
  });

  it('may be announced after a move with its own address, and with no other', () => {
    const own = announcements(MAC, [Uint8Array.from(OURS), Uint8Array.from(OURS6)]);
    expect(own.map((f) => bound.passes(f))).toEqual([true, true, true]);
    const others = announcements(MAC, [Uint8Array.from(OTHER), Uint8Array.from(OTHER6)]);
    expect(others.map((f) => bound.passes(f))).toEqual([true, false, false]);
    expect([
      bound.has(Uint8Array.from(OTHER)),
      bound.has(Uint8Array.from(OURS)),
      free.has(Uint8Array.from(OTHER)),
    ]).toEqual([false, true, true]);
  });

  it('has addresses in the usual notation', () => {
    expect(parseIp('10.0.0.5')).toEqual(Uint8Array.from(OURS));
    expect(parseIp('10.0.0.5/24')).toEqual(Uint8Array.from(OURS));
    expect(parseIp('2001:db8::5')).toEqual(Uint8Array.from(OURS6));
    expect(parseIp('2001:db8:0:0:0:0:0:5/64')).toEqual(Uint8Array.from(OURS6));
    expect(parseIp('::')).toEqual(new Uint8Array(16));
    expect(parseIp('::ffff:10.0.0.5')?.slice(12)).toEqual(Uint8Array.from(OURS));
    for (const wrong of [
      '',
      '10.0.0',
      '10.0.0.256',
      '010.0.0.1',
      '1:2',
      '::1::2',
      '1:2:3:4:5:6:7:8:9',
      'fe80::g',
      '::1.2.3',
    ])
      expect(parseIp(wrong), wrong).toBeUndefined();
    expect(parseIps('10.0.0.5 nonsense 2001:db8::5')).toEqual([
      Uint8Array.from(OURS),
      Uint8Array.from(OURS6),
    ]);
  });
});
