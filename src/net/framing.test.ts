import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { pattern } from '../../test/support/packets.js';
import { copyFrame, type Frame, GSO_TCPV4, NEEDS_CSUM, plainFrame } from './frame.js';
import { FrameDecoder, FramingError, framedBytes, writeFramed } from './framing.js';

const encode = (frames: readonly Frame[], offloads: boolean): Uint8Array => {
  const out = new Uint8Array(frames.reduce((sum, f) => sum + framedBytes(f, offloads), 0));
  let at = 0;
  for (const f of frames) at = writeFramed(out, at, f, offloads);
  expect(at).toBe(out.length);
  return out;
};

describe('frames on a stream', () => {
  test('are in the format of QEMU and passt: four bytes of length, big-endian, then the frame', () => {
    expect([...encode([plainFrame(pattern(300))], false).subarray(0, 4)]).toEqual([0, 0, 1, 44]);
  });

  test('arrive the same however the stream is divided', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 14, max: 3000 }), { maxLength: 10 }),
        fc.array(fc.integer({ min: 1, max: 2000 }), { maxLength: 40 }),
        fc.boolean(),
        (sizes, cuts, offloads) => {
          const work = offloads
            ? { flags: NEEDS_CSUM, csumStart: 5, csumOffset: 6, gsoType: GSO_TCPV4, gsoSize: 1448 }
            : {};
          const frames = sizes.map((n, i) => ({ ...plainFrame(pattern(n, i)), ...work }));
          const stream = encode(frames, offloads);
          const got: Frame[] = [];
          const decoder = new FrameDecoder(offloads, (f) => got.push(copyFrame(f)));
          let at = 0;
          for (const n of cuts) decoder.push(stream.subarray(at, (at += n)));
          decoder.push(stream.subarray(at));
          const text = (all: readonly Frame[]) =>
            all.map((f) => ({ ...f, bytes: Buffer.from(f.bytes).toString('hex') }));
          expect(text(got)).toEqual(text(frames));
        },
      ),
    );
  });

  test('that are invalid end the stream with the reason', () => {
    const decoder = (offloads: boolean) => new FrameDecoder(offloads, () => {});
    expect(() => decoder(false).push(Uint8Array.from([0x47, 0x45, 0x54, 0x20]))).toThrow(FramingError);
    expect(() => decoder(true).push(Uint8Array.from([0, 0, 0, 3, 1, 2, 3]))).toThrow(/header/);
    const large = encode([{ ...plainFrame(pattern(100)), gsoType: GSO_TCPV4, gsoSize: 1, flags: 1 }], true);
    expect(() => decoder(true).push(large)).toThrow(/header/);
    const outside = encode(
      [{ ...plainFrame(pattern(100)), flags: NEEDS_CSUM, csumStart: 90, csumOffset: 9 }],
      true,
    );
    expect(() => decoder(true).push(outside)).toThrow(/header/);
  });
});
