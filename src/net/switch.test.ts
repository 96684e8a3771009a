import { describe, expect, test } from 'vitest';
import { ethernet, pattern, tcp } from '../../test/support/packets.js';
import { announcements } from './announce.js';
import { checksumHolds } from './checksum.js';
import { copyFrame, type Frame, GSO_TCPV4, NEEDS_CSUM, plainFrame } from './frame.js';
import { parseMac } from './mac.js';
import { SourceFilter } from './source-filter.js';
import { LearningSwitch, type PortGuard, type SwitchPort } from './switch.js';

const BROADCAST = [255, 255, 255, 255, 255, 255];
const A = [2, 0, 0, 0, 0, 0xa];
const B = [2, 0, 0, 0, 0, 0xb];
const C = [2, 0, 0, 0, 0, 0xc];

class Port implements SwitchPort {
  writable = true;
  got: Frame[] = [];
  constructor(
    readonly name: string,
    readonly offloads = true,
  ) {}
  send(frame: Frame): void {
    this.got.push(copyFrame(frame));
  }
  flush(): void {}
  take(): number {
    return this.got.splice(0).length;
  }
}
const frame = (from: number[], to: number[]): Frame =>
  plainFrame(ethernet(0x88b5, [...pattern(50)], to, from));

function setUp() {
  const clock = { ms: 0 };
  const fabric = new LearningSwitch(() => clock.ms);
  const ports = [new Port('a'), new Port('b'), new Port('c', false)];
  for (const port of ports) fabric.attach(port);
  const [a, b, c] = ports;
  return { clock, fabric, ports, a, b, c, counts: () => ports.map((p) => p.take()) };
}

describe('the switch', () => {
  test('sends to all other ports until it knows where an address is, then only there', () => {
    const { fabric, a, b, counts } = setUp();
    fabric.forward(a, frame(A, B));
    expect(counts()).toEqual([0, 1, 1]);
    fabric.forward(b, frame(B, A));
    expect(counts()).toEqual([1, 0, 0]);
    fabric.forward(a, frame(A, B));
    expect(counts()).toEqual([0, 1, 0]);
    fabric.forward(a, frame(A, BROADCAST));
    expect(counts()).toEqual([0, 1, 1]);
    fabric.forward(b, frame(B, B));
    expect(counts()).toEqual([0, 0, 0]);
  });

  test("learns a guest's new place from the first frame that announces it", () => {
    const { fabric, a, b, c, counts } = setUp();
    fabric.forward(a, frame(A, BROADCAST));
    fabric.forward(c, frame(C, BROADCAST));
    counts();
    const [rarp] = announcements(parseMac('02:00:00:00:00:0a'), []);
    fabric.forward(b, plainFrame(rarp));
    expect(counts()).toEqual([1, 0, 1]);
    fabric.forward(c, frame(C, A));
    expect(counts()).toEqual([0, 1, 0]);
  });

  test('forgets an address after five minutes of silence, and at once those behind a port that left', () => {
    const { clock, fabric, a, b, counts } = setUp();
    fabric.forward(a, frame(A, BROADCAST));
    fabric.forward(b, frame(B, BROADCAST));
    counts();
    clock.ms = 200_000;
    fabric.forward(b, frame(B, A));
    clock.ms = 310_000;
    fabric.age();
    expect(fabric.where(parseMac('02:00:00:00:00:0a'))).toBeUndefined();
    expect(fabric.where(parseMac('02:00:00:00:00:0b'))).toBe(b);
    fabric.detach(b);
    expect(fabric.where(parseMac('02:00:00:00:00:0b'))).toBeUndefined();
  });

  test('keeps a port that invents addresses from displacing those of others', () => {
    const { fabric, a, b } = setUp();
    fabric.forward(b, frame(B, BROADCAST));
    for (let i = 0; i < 5000; i++) fabric.forward(a, frame([2, 1, 0, 0, i >>> 8, i & 255], BROADCAST));
    expect(fabric.where(parseMac('02:00:00:00:00:0b'))).toBe(b);
    expect(fabric.ports.get(a)?.addresses).toBe(1024);
  });

  test('drops frames for a port that does not keep up, and no other port loses anything', () => {
    const { fabric, a, b, c, counts } = setUp();
    b.writable = false;
    fabric.forward(a, frame(A, BROADCAST));
    expect(counts()).toEqual([0, 0, 1]);
    expect(fabric.ports.get(b)?.dropped).toBe(1);
    expect(fabric.ports.get(c)?.dropped).toBe(0);
  });

  test('passes a large packet whole to ports that accept it, and in segments to those that do not', () => {
    const { fabric, a, b, c } = setUp();
    const large = tcp(4, pattern(4000));
    const work = { flags: NEEDS_CSUM, csumStart: 34, csumOffset: 16, gsoType: GSO_TCPV4, gsoSize: 1448 };
    fabric.forward(a, { ...plainFrame(large.slice()), ...work });
    expect(b.got).toEqual([{ ...plainFrame(large), ...work }]);
    expect(c.got.length).toBe(3);
    for (const segment of c.got) expect(checksumHolds(segment.bytes)).toBe(true);
  });

  const claimed = (mac: string, token: string): PortGuard => ({
    kind: 'claimed',
    filter: new SourceFilter(parseMac(mac), [Uint8Array.of(10, 0, 0, 1)]),
    token,
  });
  /** The ports to which a frame for A from C goes. */
  const whereIsA = (fabric: LearningSwitch, ports: Port[], c: Port): string => {
    for (const port of ports) port.take();
    fabric.forward(c, frame(C, A));
    return ports
      .filter((port) => port.take() > 0)
      .map((port) => port.name)
      .join();
  };

  test("gives the traffic of a port that has claimed its address only to who knows that port's token", () => {
    const fabric = new LearningSwitch(() => 0);
    const [a, b, c, d, e] = ['a', 'b', 'c', 'd', 'e'].map((name) => new Port(name));
    const ports = [a, b, c, d, e];
    fabric.attach(a, claimed('02:00:00:00:00:0a', 'secret'));
    fabric.attach(b, claimed('02:00:00:00:00:0b', 'other'));
    fabric.attach(c);
    fabric.attach(d, { kind: 'plain' });
    fabric.attach(e, claimed('02:00:00:00:00:0a', 'guess'));
    // The same holds before the port has sent anything.
    fabric.forward(d, frame(A, BROADCAST));
    expect(fabric.where(parseMac('02:00:00:00:00:0a'))).toBeUndefined();
    fabric.forward(a, frame(A, BROADCAST));
    expect(whereIsA(fabric, ports, c)).toBe('a');
    const [rarp, arp] = announcements(parseMac('02:00:00:00:00:0a'), [Uint8Array.of(10, 0, 0, 1)]);
    for (const thief of [b, d, e])
      for (const bytes of [rarp, arp, frame(A, BROADCAST).bytes, frame(A, C).bytes]) {
        for (const port of ports) port.take();
        fabric.forward(thief, plainFrame(bytes.slice()));
        expect(
          ports.map((port) => port.take()),
          thief.name,
        ).toEqual([0, 0, 0, 0, 0]);
        expect(whereIsA(fabric, ports, c), thief.name).toBe('a');
      }
    expect([b, d, e].map((port) => fabric.ports.get(port)!.refused)).toEqual([4, 5, 4]);
    // Gratuitous ARP for an IP address of another, from the sender's own Ethernet address.
    const [, foreign] = announcements(parseMac('02:00:00:00:00:0b'), [Uint8Array.of(10, 0, 0, 7)]);
    fabric.forward(b, plainFrame(foreign));
    expect(c.take()).toBe(0);
    // The guest's link on another host; both exist for a while, and the announcement decides.
    const next = new Port('next');
    fabric.attach(next, claimed('02:00:00:00:00:0a', 'secret'));
    expect(whereIsA(fabric, [...ports, next], c)).toBe('a');
    fabric.forward(next, plainFrame(rarp.slice()));
    expect(whereIsA(fabric, [...ports, next], c)).toBe('next');
    fabric.detach(a);
    expect(whereIsA(fabric, [...ports, next], c)).toBe('next');
    // Nobody has the address any more, so it is free.
    fabric.detach(next);
    fabric.forward(e, frame(A, BROADCAST));
    expect(whereIsA(fabric, ports, c)).toBe('e');
  });

  test('gives a port without a claim the traffic that nobody claims, and a port to another switch all of it', () => {
    const { fabric, a, b } = setUp();
    const plain = [new Port('p'), new Port('q')];
    for (const port of plain) fabric.attach(port, { kind: 'plain' });
    fabric.forward(plain[0], frame(C, BROADCAST));
    expect(fabric.where(parseMac('02:00:00:00:00:0c'))).toBe(plain[0]);
    fabric.forward(plain[1], frame(C, BROADCAST));
    expect(fabric.where(parseMac('02:00:00:00:00:0c'))).toBe(plain[0]);
    fabric.forward(a, frame(C, BROADCAST));
    expect(fabric.where(parseMac('02:00:00:00:00:0c'))).toBe(a);
    // What is behind another switch also belongs to somebody.
    fabric.forward(plain[1], frame(C, BROADCAST));
    expect(fabric.where(parseMac('02:00:00:00:00:0c'))).toBe(a);
    fabric.attach(b, claimed('02:00:00:00:00:0c', ''));
    fabric.forward(b, frame(C, BROADCAST));
    expect(fabric.where(parseMac('02:00:00:00:00:0c'))).toBe(b);
    // A guest that has moved to another switch.
    fabric.forward(a, frame(C, BROADCAST));
    expect(fabric.where(parseMac('02:00:00:00:00:0c'))).toBe(a);
  });

  test('learns nothing from a frame whose source is a group address', () => {
    const { fabric, a, counts } = setUp();
    fabric.forward(a, frame(BROADCAST, B));
    expect(counts()).toEqual([0, 0, 0]);
  });
});
