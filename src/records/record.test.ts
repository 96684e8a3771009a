import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { crc32c } from './crc32c.js';
import { big64, bool, bytes, int, list, optional, RecordError, struct, text, u8, u16 } from './fields.js';
import { concatBytes, decodeAll, decodeRaw, decodeRecord, encodeRecord, recordType } from './record.js';

const sample = recordType('TEST', 2, 'a record for tests', {
  name: [text, 'any text'],
  when: [int, 'nanoseconds'],
  all: [big64, 'all bits'],
  flag: [bool, 'yes or no'],
  blob: [bytes, 'bytes'],
  items: [list(struct({ a: [u8, 'a'], b: [optional(u16), 'b'] })), 'items'],
});
const value = {
  name: 'wälder',
  when: -5,
  all: 0xffff_ffff_ffff_fffen,
  flag: true,
  blob: Uint8Array.of(1, 2, 3),
  items: [
    { a: 1, b: null },
    { a: 2, b: 65535 },
  ],
};

describe('a record', () => {
  it('has the checksum of RFC 3720', () => {
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(0xff))).toBe(0x62a8ab43);
    expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
  });

  it('comes back as it was written, several in a row', () => {
    const stream = concatBytes([encodeRecord(sample, value), encodeRecord(sample, { ...value, name: '' })]);
    expect(stream.length % 8).toBe(0);
    expect(decodeAll(stream).map((r) => decodeRecord(sample, r))).toEqual([value, { ...value, name: '' }]);
  });

  it('is refused with the byte offset when any one byte is altered or missing', () => {
    const whole = encodeRecord(sample, value);
    const length = new DataView(whole.buffer).getUint32(8, true) + 16;
    fc.assert(
      fc.property(fc.nat(length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const bad = whole.slice();
        bad[at] ^= flip;
        expect(() => decodeRecord(sample, decodeRaw(bad, 0, 1000))).toThrow(RecordError);
        expect(() => decodeRecord(sample, decodeRaw(whole.subarray(0, at), 0, 1000))).toThrow(
          /byte 1\d\d\d: /,
        );
      }),
    );
  });

  it('of an earlier version is upgraded, of a later one refused', () => {
    const v1 = recordType('TEST', 1, 'the first', { name: [text, 'any text'] });
    const now = recordType('TEST', 2, 'the second', { name: [text, 'any text'], size: [u8, 'new'] }, [
      { version: 1, body: v1.body, upgrade: (old: { name: string }) => ({ ...old, size: 7 }) },
    ]);
    expect(decodeRecord(now, decodeRaw(encodeRecord(v1, { name: 'x' })))).toEqual({ name: 'x', size: 7 });
    expect(() => decodeRecord(v1, decodeRaw(encodeRecord(now, { name: 'x', size: 1 })))).toThrow(/version 2/);
  });
});
