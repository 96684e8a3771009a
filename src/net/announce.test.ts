import { expect, test } from 'vitest';
import { ethernet, GUEST } from '../../test/support/packets.js';
import { announcements, SnoopedAddresses } from './announce.js';
import { formatMac, parseMac, readMac } from './mac.js';

const MAC = parseMac('00:16:3e:00:00:01');
const hex = (b: Uint8Array): string => Buffer.from(b).toString('hex');
const arp = (from: readonly number[], ip: readonly number[]): Uint8Array =>
  ethernet(0x0806, [0, 1, 8, 0, 6, 4, 0, 1, ...from, ...ip, ...new Array(6).fill(0), 10, 0, 0, 9]);

test('an address is parsed and printed in the usual notation', () => {
  expect(MAC).toBe(0x00163e000001);
  expect(formatMac(MAC)).toBe('00:16:3e:00:00:01');
  expect(formatMac(readMac(Uint8Array.from([255, 254, 253, 252, 251, 250]), 0))).toBe('ff:fe:fd:fc:fb:fa');
});

test("a guest's addresses are learned from its own ARP and Neighbour Discovery, the latest last, and not from those of others", () => {
  const known = new SnoopedAddresses(MAC);
  known.look(arp(GUEST, [10, 0, 0, 1]));
  known.look(arp([2, 2, 2, 2, 2, 2], [10, 0, 0, 66]));
  known.look(arp(GUEST, [0, 0, 0, 0]));
  known.look(arp(GUEST, [10, 0, 0, 5]));
  known.look(arp(GUEST, [10, 0, 0, 1]));
  expect(known.addresses.map((a) => a.join('.'))).toEqual(['10.0.0.5', '10.0.0.1']);
  const fe80 = [0xfe, 0x80, ...new Array(13).fill(0), 7];
  const target = [0xfd, 0, ...new Array(13).fill(0), 9];
  const icmp = (type: number) => [type, 0, 0, 0, 0, 0, 0, 0, ...target];
  const ip6 = [0x60, 0, 0, 0, 0, 24, 58, 255, ...fe80, ...target];
  known.look(ethernet(0x86dd, [...ip6, ...icmp(135)]));
  known.look(ethernet(0x86dd, [...ip6, ...icmp(136)]));
  expect(known.addresses.slice(2).map((a) => [...a])).toEqual([fe80, target]);
  for (let i = 0; i < 100; i++) known.look(arp(GUEST, [10, 1, 0, i + 1]));
  expect(known.addresses.filter((a) => a.length === 4).length).toBe(8);
});

test('an announcement is a RARP frame for switches, and for each address the frame of its protocol', () => {
  const fd = Uint8Array.from([0xfd, ...new Array(14).fill(0), 1]);
  const [rarp, arp4, na] = announcements(MAC, [Uint8Array.from([10, 0, 0, 1]), fd]).map(hex);
  const mac = '00163e000001';
  expect(rarp).toBe(`ffffffffffff${mac}80350001080006040003${mac}00000000${mac}00000000${'00'.repeat(18)}`);
  expect(arp4).toBe(
    `ffffffffffff${mac}08060001080006040001${mac}0a0000010000000000000a000001${'00'.repeat(18)}`,
  );
  const address = 'fd000000000000000000000000000001';
  // The checksum computed by hand over: addresses, length 32, next header 58, type, flags, target, option.
  expect(na).toBe(
    `333300000001${mac}86dd6000000000203aff${address}ff020000000000000000000000000001` +
      `8800${na.slice(112, 116)}20000000${address}0201${mac}`,
  );
  const words = (text: string) => text.match(/.{4}/g)!.map((w) => Number.parseInt(w, 16));
  const all = words(`${na.slice(44, 108)}0020003a${na.slice(108)}`);
  expect(all.reduce((sum, w) => (sum + w > 0xffff ? sum + w - 0xffff : sum + w), 0)).toBe(0xffff);
});
