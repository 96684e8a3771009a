import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { blank, pattern, tcp, udp } from '../../test/support/packets.js';
import { checksumHolds, completeChecksum, leaveChecksum } from './checksum.js';
import { type Frame, GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM, plainFrame } from './frame.js';
import { findHeaders, newHeaders, u16be, u32be } from './headers.js';
import { finishFrame } from './segment.js';

const headersOf = (b: Uint8Array) => {
  const h = newHeaders();
  findHeaders(b, h);
  return h;
};
/** The frame in the state in which a guest with checksum offload sends it. */
const unfinished = (b: Uint8Array, gsoType = 0, gsoSize = 0): Frame => {
  const h = headersOf(b);
  const frame = plainFrame(blank(b, h.l4 + (h.protocol === 6 ? 16 : 6)));
  expect(leaveChecksum(frame, h)).toBe(true);
  return Object.assign(frame, { gsoType, gsoSize });
};
const finished = (frame: Frame): Uint8Array[] => {
  const out: Uint8Array[] = [];
  finishFrame(frame, (f) => out.push(f.bytes.slice()));
  return out;
};

describe('a checksum that a guest left blank', () => {
  test.each([
    ['TCP over IPv4', tcp(4, pattern(1000))],
    ['TCP over IPv6', tcp(6, pattern(999))],
    ['UDP over IPv4', udp(4, pattern(1))],
    ['UDP over IPv6', udp(6, pattern(0))],
  ])("is filled in with the packet's true checksum: %s", (_, whole) => {
    const frame = unfinished(whole);
    expect(frame.flags).toBe(NEEDS_CSUM);
    completeChecksum(frame);
    expect(frame.bytes).toEqual(whole);
    expect(checksumHolds(whole)).toBe(true);
  });

  test('does not count the padding of a short frame', () => {
    const whole = udp(4, pattern(3));
    const padded = new Uint8Array(60).fill(0x55);
    padded.set(whole);
    const frame = unfinished(padded);
    completeChecksum(frame);
    expect(frame.bytes).toEqual(padded);
  });

  test('of a UDP packet whose sum is zero is sent as ffff', () => {
    const payload = new Uint8Array(2);
    let whole = udp(4, payload);
    for (let v = 0; v < 65_536; v++) {
      payload[0] = v >>> 8;
      payload[1] = v;
      whole = udp(4, payload);
      if (u16be(whole, headersOf(whole).l4 + 6) === 0xffff) break;
    }
    expect(u16be(whole, headersOf(whole).l4 + 6)).toBe(0xffff);
    const frame = unfinished(whole);
    completeChecksum(frame);
    expect(frame.bytes).toEqual(whole);
  });
});

describe('a large TCP packet', () => {
  test.each([
    [4, GSO_TCPV4],
    [6, GSO_TCPV6],
  ] as const)('is cut into the segments that TCP would have sent: IPv%i', (version, gso) => {
    const payload = pattern(10_000);
    const out = finished(
      unfinished(tcp(version, payload, { seq: 0xffff_f000, flags: 0x19, id: 0xfffe }), gso, 1448),
    );
    expect(out.length).toBe(7);
    for (const [i, bytes] of out.entries()) {
      const part = payload.subarray(i * 1448, (i + 1) * 1448);
      const flags = i === 6 ? 0x19 : 0x10;
      expect(bytes).toEqual(
        tcp(version, part, { seq: (0xffff_f000 + i * 1448) >>> 0, flags, id: (0xfffe + i) & 0xffff }),
      );
    }
  });

  test('reports a reduced window only once', () => {
    const out = finished(unfinished(tcp(4, pattern(3000), { flags: 0x90 }), GSO_TCPV4, 1000));
    expect(out.map((b) => b[headersOf(b).l4 + 13])).toEqual([0x90, 0x10, 0x10]);
  });

  test('that is invalid is sent nowhere', () => {
    for (const [frame, gso] of [
      [udp(4, pattern(3000)), GSO_TCPV4],
      [tcp(6, pattern(3000)), GSO_TCPV4],
      [tcp(4, pattern(3000)), GSO_TCPV6],
      [tcp(4, pattern(3000)), 9],
    ] as const) {
      expect(finished({ ...plainFrame(frame), gsoType: gso, gsoSize: 1000 })).toEqual([]);
    }
  });

  test('of any length and cut arrives complete and in order', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20_000 }),
        fc.integer({ min: 32, max: 9000 }),
        (length, gsoSize) => {
          const payload = pattern(length);
          let got = 0;
          for (const bytes of finished(unfinished(tcp(4, payload), GSO_TCPV4, gsoSize))) {
            const { l4, end } = headersOf(bytes);
            expect(u32be(bytes, l4 + 4)).toBe(1 + got);
            expect(checksumHolds(bytes)).toBe(true);
            const part = bytes.subarray(l4 + 32, end);
            expect(Buffer.compare(part, payload.subarray(got, got + part.length))).toBe(0);
            got += part.length;
          }
          expect(got).toBe(length);
        },
      ),
      { numRuns: 50 },
    );
  });
});

test('no frame, however malformed, leads the search for headers beyond its end', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.constantFrom(0x0800, 0x86dd, 0x8100, 0x88a8, 1),
      (b, type) => {
        if (b.length > 14) {
          b[12] = type >>> 8;
          b[13] = type;
        }
        const h = headersOf(b);
        expect(h.l3).toBeLessThanOrEqual(b.length);
        expect(h.end).toBeLessThanOrEqual(b.length);
        expect(h.l4).toBeLessThanOrEqual(b.length);
        finishFrame({ ...plainFrame(b), gsoType: GSO_TCPV4, gsoSize: 100 }, () => {});
        if (leaveChecksum(plainFrame(b), h)) expect(h.l4 + 8).toBeLessThanOrEqual(h.end);
      },
    ),
    { numRuns: 2000 },
  );
});
