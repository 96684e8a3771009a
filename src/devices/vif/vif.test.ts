import { describe, expect, test } from 'vitest';
import { LINUX_FEATURES, type Packet, VifBench } from '../../../test/support/net-front.js';
import { blank, ethernet, GUEST, PEER, pattern, tcp, udp } from '../../../test/support/packets.js';
import { checksumHolds, leaveChecksum } from '../../net/checksum.js';
import { DATA_VALID, type Frame, GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM, plainFrame } from '../../net/frame.js';
import { findHeaders, newHeaders } from '../../net/headers.js';
import { Sring } from '../../xen/ring.js';

const CSUM_BLANK = 1;
const VALIDATED = 2;
const EXTRA_INFO = 8;
const GSO = 1;
const MCAST_ADD = 2;
const MCAST_DEL = 3;
const gsoExtra = (size: number, type: number) => ({ type: GSO, u: [size & 255, size >>> 8, type, 0, 0, 0] });
const toGuest = (bytes: Uint8Array): Frame => plainFrame(bytes);
const small = (n: number): Uint8Array => ethernet(0x88b5, [...pattern(60, n)]);
/** A large TCP packet on its way to the guest, as a sender with segmentation offload sends it. */
const large = (version: 4 | 6, bytes: number): Frame => ({
  ...plainFrame(tcp(version, pattern(bytes))),
  flags: NEEDS_CSUM,
  csumStart: version === 4 ? 34 : 54,
  csumOffset: 16,
  gsoType: version === 4 ? GSO_TCPV4 : GSO_TCPV6,
  gsoSize: 1448,
});
/** Encodes a frame as text, because large frames compare faster so. */
const texts = (all: readonly Uint8Array[]): string[] => all.map((b) => Buffer.from(b).toString('hex'));
const gone = (b: VifBench) => {
  b.vif.disconnect(() => {});
  return b.access.pinned;
};

describe('packets from the guest', () => {
  test('leave unchanged and are each answered, in one slot or in many', () => {
    const b = new VifBench().connect();
    const packets = [
      small(1),
      udp(4, pattern(1400)),
      udp(6, pattern(9000)),
      ethernet(0x88b5, [...pattern(60_000)]),
    ];
    for (const p of packets) b.queue.send(p);
    expect(texts(b.link.sent.map((f) => f.bytes))).toEqual(texts(packets));
    expect(b.queue.reap()).toEqual(new Array(1 + 1 + 3 + 15).fill(0));
    expect(b.access.pinned).toBe(2);
    expect(gone(b)).toBe(0);
  });

  test('may start and end anywhere in a page, and in pieces of any size', () => {
    const b = new VifBench().connect();
    const p = ethernet(0x88b5, [...pattern(5000)]);
    b.queue.send(p, 0, [], [14, 1, 0, 4095, 904]);
    expect(b.link.sent[0].bytes).toEqual(p);
    expect(b.queue.reap()).toEqual([0, 0, 0, 0, 0]);
  });

  test('with a blank checksum leave with it blank, or filled in where the link does not fill it in', () => {
    for (const whole of [
      tcp(4, pattern(500)),
      tcp(6, pattern(501)),
      udp(4, pattern(2)),
      udp(6, pattern(3)),
    ]) {
      const offset = (whole[12] === 8 ? 34 : 54) + (whole[whole[12] === 8 ? 23 : 20] === 6 ? 16 : 6);
      const plain = new VifBench({ offloads: false }).connect();
      plain.queue.send(blank(whole, offset), CSUM_BLANK | VALIDATED);
      expect(plain.link.sent[0].bytes).toEqual(whole);
      expect(plain.link.sent[0].flags).toBe(0);
      const lazy = new VifBench().connect();
      lazy.queue.send(blank(whole, offset), CSUM_BLANK | VALIDATED);
      expect(lazy.link.sent[0].flags).toBe(NEEDS_CSUM);
      expect(lazy.link.sent[0].csumStart + lazy.link.sent[0].csumOffset).toBe(offset);
    }
  });

  test('whose checksum the guest vouches for are marked as checked', () => {
    const b = new VifBench().connect();
    b.queue.send(tcp(4, pattern(10)), VALIDATED);
    expect(b.link.sent[0].flags).toBe(DATA_VALID);
  });

  test('that are large leave whole, or in segments where the link does no segmentation', () => {
    for (const [version, type] of [
      [4, 1],
      [6, 2],
    ] as const) {
      const p = tcp(version, pattern(30_000));
      const b = new VifBench().connect();
      b.queue.send(p, CSUM_BLANK | VALIDATED, [gsoExtra(1448, type)]);
      expect(b.link.sent.length).toBe(1);
      expect(b.link.sent[0]).toMatchObject({ gsoType: version === 4 ? GSO_TCPV4 : GSO_TCPV6, gsoSize: 1448 });
      expect(b.queue.reap()).toEqual(new Array(8).fill(0));
      const plain = new VifBench({ offloads: false }).connect();
      plain.queue.send(p, CSUM_BLANK | VALIDATED, [gsoExtra(1448, type)]);
      expect(plain.link.sent.length).toBe(21);
      expect(plain.link.sent.every((f) => checksumHolds(f.bytes) && f.bytes.length <= 1514 + 20)).toBe(true);
    }
  });

  test('wait in the ring while the link is full, and leave when there is room', () => {
    const b = new VifBench().connect();
    b.link.writable = false;
    b.queue.send(small(1));
    expect(b.link.sent.length).toBe(0);
    b.queue.send(small(2));
    b.link.writable = true;
    b.vif.drained();
    expect(b.link.sent.map((f) => f.bytes)).toEqual([small(1), small(2)]);
    b.queue.send(small(3));
    expect(b.link.sent.length).toBe(3);
  });

  test('of which only a part is in the ring are taken once they are complete', () => {
    const b = new VifBench().connect();
    const p = ethernet(0x88b5, [...pattern(8000)]);
    b.queue.slot(b.queue.txPages, 0, 4, p.length);
    b.queue.push();
    expect(b.queue.reap()).toEqual([]);
    b.queue.slot(b.queue.txPages + 1, 0, 0, 4000);
    b.queue.push();
    expect(b.queue.reap()).toEqual([0, 0]);
    expect(b.link.sent[0].bytes.length).toBe(p.length);
  });

  test('pass at the configured rate and not faster', () => {
    const rate = { bytesPerInterval: 10_000, intervalUs: 50_000 };
    const b = new VifBench({ config: { rate } }).connect();
    const frame = ethernet(0x88b5, [...pattern(1000 - 14)]);
    for (let i = 0; i < 100; i++) b.queue.put(frame);
    b.queue.push();
    expect(b.link.sent.length).toBe(10);
    b.timers.advance(200);
    expect(b.link.sent.length).toBe(50);
    b.timers.advance(1000);
    expect(b.link.sent.length).toBe(100);
    b.timers.advance(1000);
    b.queue.send(ethernet(0x88b5, [...pattern(35_000 - 14)]));
    b.queue.send(frame);
    expect(b.link.sent.length).toBe(101);
    b.timers.advance(190);
    expect(b.link.sent.length).toBe(102);
  });
});

describe('a packet that is wrong is answered with an error, and the next one passes', () => {
  const cases: [string, (b: VifBench) => void, number][] = [
    ['shorter than an Ethernet header', (b) => b.queue.slot(b.queue.txPages, 0, 0, 13), 1],
    ['over the end of a page', (b) => b.queue.slot(b.queue.txPages, 4000, 0, 97), 1],
    ['in a page that was not granted', (b) => b.queue.slot(99_999, 0, 0, 60), 1],
    [
      'whose parts are larger than the whole',
      (b) => {
        b.queue.slot(b.queue.txPages, 0, 4, 100);
        b.queue.slot(b.queue.txPages + 1, 0, 0, 101);
      },
      2,
    ],
    [
      'in more slots than the protocol has',
      (b) => {
        for (let i = 0; i < 19; i++) b.queue.slot(b.queue.txPages, 0, i < 18 ? 4 : 0, i === 0 ? 1900 : 100);
      },
      19,
    ],
    ['with a checksum to do that it has no place for', (b) => b.queue.put(small(1), CSUM_BLANK), 1],
    ['large, but not TCP', (b) => b.queue.put(udp(4, pattern(9)), CSUM_BLANK, [gsoExtra(500, 1)]), 1],
    ['large, of the other IP', (b) => b.queue.put(tcp(4, pattern(9)), CSUM_BLANK, [gsoExtra(500, 2)]), 1],
    [
      'large, in segments of nothing',
      (b) => b.queue.put(tcp(4, pattern(9)), CSUM_BLANK, [gsoExtra(0, 1)]),
      1,
    ],
    ['large in an unknown way', (b) => b.queue.put(tcp(4, pattern(9)), CSUM_BLANK, [gsoExtra(500, 3)]), 1],
    ['with an extra info that does not exist', (b) => b.queue.put(small(1), 0, [{ type: 5, u: [] }]), 1],
    [
      'with an extra info of no type',
      (b) => b.queue.put(small(1), 0, [{ type: 0, u: [] }, gsoExtra(500, 1)]),
      1,
    ],
  ];
  test.each(cases)('%s', (_, put, slots) => {
    const b = new VifBench().connect();
    put(b);
    b.queue.push();
    expect(b.queue.reap()).toEqual(new Array(slots).fill(-1));
    expect(b.link.sent).toEqual([]);
    b.queue.send(small(7));
    expect(b.queue.reap()).toEqual([0]);
    expect(b.link.sent.length).toBe(1);
    expect(b.access.pinned).toBe(2);
    expect(b.log).toEqual([]);
  });
});

describe('a ring that is wrong stops its queue, and says so', () => {
  test('that has more requests than slots', () => {
    const b = new VifBench().connect();
    b.access.mem.setU32(b.queue.tx.pages[0] + Sring.req_prod, 257);
    b.access.handlers.get(b.queue.txPort)?.();
    expect(b.log).toEqual([
      'vif 00:16:3e:00:00:01: transmit ring: more requests than slots; the queue is stopped',
    ]);
    b.access.handlers.get(b.queue.txPort)?.();
    b.arrive(toGuest(small(1)));
    expect(b.log.length).toBe(1);
    expect(gone(b)).toBe(0);
  });

  test('that has a packet of more slots than the ring', () => {
    const b = new VifBench().connect();
    for (let i = 0; i < 256; i++) b.queue.slot(b.queue.txPages, 0, 4, 100);
    b.queue.push();
    expect(b.log[0]).toMatch(/packet without end/);
  });

  test('that has more buffers than slots', () => {
    const b = new VifBench().connect();
    b.access.mem.setU32(b.queue.rx.pages[0] + Sring.req_prod, 1000);
    b.arrive(toGuest(small(1)));
    expect(b.log[0]).toMatch(/receive ring: more requests than slots/);
  });
});

describe('packets for the guest', () => {
  const arrived = (b: VifBench): Packet[] => b.queues.flatMap((q) => q.receive());

  test('are put into as many of its pages as they need, and one event tells of a batch', () => {
    const b = new VifBench().connect();
    b.queue.post();
    const packets = [small(1), udp(4, pattern(4000)), ethernet(0x88b5, [...pattern(60_000)])];
    b.arrive(...packets.map(toGuest));
    expect(b.access.notified).toEqual([b.queue.rxPort]);
    expect(texts(arrived(b).map((p) => p.bytes))).toEqual(texts(packets));
    expect(b.access.pinned).toBe(2);
    for (const page of [b.queue.base + 1, b.queue.rxPages]) expect(b.access.touched.has(page)).toBe(true);
  });

  test('wait for buffers in order, hold back the link, and arrive when there are buffers', () => {
    const b = new VifBench().connect();
    const frames = Array.from({ length: 10 }, (_, i) => ethernet(0x88b5, [...pattern(60_000, i)]));
    for (const f of frames) b.arrive(toGuest(f));
    expect(b.link.reading).toBe(false);
    const got: Uint8Array[] = [];
    for (let i = 0; i < 10; i++) {
      b.queue.post(20);
      got.push(...arrived(b).map((p) => p.bytes));
    }
    expect(texts(got)).toEqual(texts(frames.slice(0, got.length)));
    expect(got.length).toBe(9);
    expect(b.link.reading).toBe(true);
  });

  test('that are large arrive whole, with what the guest needs to know, if it can take them', () => {
    for (const version of [4, 6] as const) {
      const b = new VifBench().connect();
      b.queue.post();
      b.arrive(large(version, 10_000));
      const [p] = arrived(b);
      expect(p.bytes.length).toBe(tcp(version, pattern(10_000)).length);
      expect(p.flags & (CSUM_BLANK | VALIDATED | EXTRA_INFO)).toBeGreaterThan(0);
      expect([...p.extras[0]]).toEqual([GSO, 0, 1448 & 255, 1448 >>> 8, version === 4 ? 1 : 2, 0, 0, 0]);
    }
  });

  test('are finished for a guest without offloads', () => {
    const { 'request-rx-copy': copy, 'feature-sg': sg } = LINUX_FEATURES;
    const features = { 'request-rx-copy': copy, 'feature-sg': sg, 'feature-no-csum-offload': 1 };
    for (const version of [4, 6] as const) {
      const b = new VifBench({ features }).connect();
      b.queue.post();
      b.arrive(large(version, 10_000));
      const got = arrived(b);
      expect(got.length).toBe(7);
      for (const p of got) {
        expect(p.flags & (CSUM_BLANK | EXTRA_INFO)).toBe(0);
        expect(checksumHolds(p.bytes)).toBe(true);
      }
      const lazy = plainFrame(tcp(version, pattern(100)));
      const h = newHeaders();
      findHeaders(lazy.bytes, h);
      leaveChecksum(lazy, h);
      b.arrive(lazy);
      expect(arrived(b)[0].bytes).toEqual(tcp(version, pattern(100)));
    }
  });

  test('that are longer than a page do not go to a guest without scatter-gather', () => {
    const b = new VifBench({ features: { 'request-rx-copy': 1 } }).connect();
    b.queue.post();
    b.arrive(toGuest(udp(4, pattern(5000))), toGuest(small(2)));
    expect(arrived(b).map((p) => p.bytes)).toEqual([small(2)]);
    expect(b.vif.stats.rxDropped).toBe(1);
  });

  test('for a page that the guest does not let us write are an error to it, and the others arrive', () => {
    const b = new VifBench().connect();
    b.access.readonlyRefs.add(b.queue.rxPages + 1);
    b.queue.post();
    b.arrive(toGuest(small(1)), toGuest(udp(4, pattern(5000))), toGuest(small(3)));
    expect(arrived(b).map((p) => p.failed)).toEqual([false, true, false]);
    expect(b.access.pinned).toBe(2);
  });

  test('of one flow stay in one queue, and many flows use all queues', () => {
    const b = new VifBench({ queues: 4 }).connect();
    for (const q of b.queues) q.post();
    for (let flow = 0; flow < 64; flow++)
      for (let i = 0; i < 3; i++) b.arrive(toGuest(udp(4, pattern(20, i), { fromPort: 1000 + flow })));
    const seen = b.queues.map((q) => q.receive().map((p) => (p.bytes[34] << 8) | p.bytes[35]));
    expect(seen.flat().length).toBe(192);
    for (const ports of seen) {
      expect(ports.length).toBeGreaterThan(0);
      for (const port of new Set(ports)) expect(ports.filter((p) => p === port).length).toBe(3);
    }
  });

  test('to groups arrive as the guest asked for them', () => {
    const b = new VifBench({ features: { ...LINUX_FEATURES, 'request-multicast-control': 1 } }).connect();
    b.queue.post();
    const group = [0x33, 0x33, 0, 0, 0, 5];
    const other = [0x33, 0x33, 0, 0, 0, 6];
    const broadcast = [255, 255, 255, 255, 255, 255];
    const frames = [group, other, broadcast, GUEST].map((to) =>
      toGuest(ethernet(0x88b5, [...pattern(60)], to, PEER)),
    );
    const count = () => {
      b.arrive(...frames);
      return arrived(b).length;
    };
    expect(count()).toBe(2);
    b.queue.send(small(1), 0, [{ type: MCAST_ADD, u: group }]);
    expect(count()).toBe(3);
    b.queue.send(small(1), 0, [{ type: MCAST_DEL, u: group }]);
    expect(count()).toBe(2);
    expect(b.queue.reap()).toEqual([0, 0]);
    expect(b.link.sent).toEqual([]);
    for (let i = 0; i < 65; i++)
      b.queue.send(small(1), 0, [{ type: MCAST_ADD, u: [0x33, 0x33, 1, 1, 1, i] }]);
    expect(b.queue.reap()).toEqual([...new Array(64).fill(0), -1]);
  });
});

describe('connecting', () => {
  test('with one event channel for both directions works as with two', () => {
    const b = new VifBench({ oneChannel: true }).connect();
    b.queue.post();
    b.queue.send(small(1));
    b.arrive(toGuest(small(2)));
    expect(b.link.sent.length).toBe(1);
    expect(b.queue.receive().length).toBe(1);
  });

  const refusals: [string, (b: VifBench) => void, RegExp][] = [
    ['no rx-copy', (b) => b.write({ 'request-rx-copy': 0 }), /request-rx-copy/],
    ['a ring that is not granted', (b) => b.write({ 'rx-ring-ref': 77_777 }), /ring-ref 77777/],
    ['a ring reference that is no number', (b) => b.write({ 'tx-ring-ref': '-1' }), /tx-ring-ref/],
    ['no ring', (b) => b.remove('tx-ring-ref'), /tx-ring-ref is missing/],
    ['a port that was not opened', (b) => b.write({ 'event-channel-rx': 4000 }), /event channel 4000/],
    ['too many queues', (b) => b.write({ 'multi-queue-num-queues': 9 }), /multi-queue-num-queues/],
    ['no queues', (b) => b.write({ 'multi-queue-num-queues': 0 }), /multi-queue-num-queues/],
    ['one ring for both directions', (b) => b.write({ 'rx-ring-ref': b.queue.base }), /same grant/],
  ];
  test.each(refusals)('is refused with %s, and no page stays mapped', (_, change, message) => {
    const b = new VifBench();
    change(b);
    expect(() => b.vif.connect(b.front)).toThrow(message);
    expect(b.access.pinned).toBe(0);
    expect(b.access.handlers.size).toBe(0);
  });
});

describe('a move', () => {
  /** Puts the same guest onto another host: its memory and the saved state of the vif, with another link. */
  const move = async (b: VifBench): Promise<void> => {
    await b.vif.pause();
    const record = b.vif.save();
    b.access.handlers.clear();
    b.vif = b.makeVif();
    b.vif.restore(record);
    b.vif.start();
  };

  test('at any point of a conversation loses no packet, doubles none and keeps their order', async () => {
    const b = new VifBench({ queues: 2 }).connect();
    const [q] = b.queues;
    const sent: Uint8Array[] = [];
    const arrivedFrames: Uint8Array[] = [];
    const got: Uint8Array[] = [];
    for (let i = 0; i < 300; i++) {
      if (q.freeTx > 20) {
        const p = i % 3 === 0 ? ethernet(0x88b5, [...pattern(9000, i)]) : small(i);
        sent.push(p);
        q.put(p);
        if (i % 4 === 0) q.push();
      }
      if (i % 5 === 0) q.post(i % 7);
      const p = i % 11 === 0 ? udp(4, pattern(6000, i)) : udp(4, pattern(30, i));
      arrivedFrames.push(p);
      b.arrive(toGuest(p));
      if (i % 6 === 0) await move(b);
      q.reap();
      got.push(...b.queues.flatMap((queue) => queue.receive().map((packet) => packet.bytes)));
    }
    q.push();
    for (let i = 0; i < 20; i++) {
      for (const queue of b.queues) queue.post();
      got.push(...b.queues.flatMap((queue) => queue.receive().map((packet) => packet.bytes)));
    }
    const data = b.link.sent.filter((f) => f.bytes[12] === 0x88).map((f) => f.bytes);
    expect(texts(data)).toEqual(texts(sent));
    expect(texts(got)).toEqual(texts(arrivedFrames));
    expect(q.statuses.every((s) => s === 0)).toBe(true);
    expect(b.access.pinned).toBe(4);
    expect(gone(b)).toBe(0);
  });

  test('announces the guest by RARP and by its addresses, several times, and only at the destination', async () => {
    const b = new VifBench().connect();
    const arp = ethernet(0x0806, [
      0,
      1,
      8,
      0,
      6,
      4,
      0,
      1,
      ...GUEST,
      10,
      0,
      0,
      1,
      0,
      0,
      0,
      0,
      0,
      0,
      10,
      0,
      0,
      2,
    ]);
    b.queue.send(arp);
    b.timers.advance(10_000);
    expect(b.link.sent.length).toBe(1);
    b.link.sent = [];
    await b.vif.pause();
    b.vif.start();
    b.timers.advance(10_000);
    expect(b.link.sent.length).toBe(0);
    await move(b);
    b.timers.advance(10_000);
    const types = b.link.sent.map((f) => (f.bytes[12] << 8) | f.bytes[13]);
    expect(types.filter((t) => t === 0x8035).length).toBeGreaterThanOrEqual(5);
    expect(types.filter((t) => t === 0x0806).length).toBe(types.filter((t) => t === 0x8035).length);
  });

  test("writes nothing into the guest's memory while it stands still, though packets arrive", async () => {
    const b = new VifBench().connect();
    b.queue.post();
    await b.vif.pause();
    b.access.touched.clear();
    const before = b.access.mem.u8.slice();
    b.arrive(toGuest(small(1)));
    b.access.handlers.get(b.queue.rxPort)?.();
    b.vif.drained();
    b.timers.advance(60_000);
    expect(Buffer.compare(before, b.access.mem.u8)).toBe(0);
    expect(b.access.touched.size).toBe(0);
    b.vif.start();
    expect(b.queue.receive().length).toBe(1);
  });

  test('a record that names a ring which is not mapped is refused', async () => {
    const b = new VifBench().connect();
    await b.vif.pause();
    const record = b.vif.save();
    expect(() => new VifBench().vif.restore(record)).toThrow(/ring is not among the grants/);
  });
});
