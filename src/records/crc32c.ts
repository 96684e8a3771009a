/**
 * CRC-32C (Castagnoli), the checksum of every saved record. Source: RFC 3720, appendix B.4.
 * Eight tables, eight bytes a step: about 1 GB/s, so that RAM can be checked too.
 */

const tables: Int32Array[] = Array.from({ length: 8 }, () => new Int32Array(256));
for (let byte = 0; byte < 256; byte++) {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  tables[0][byte] = crc;
}
for (let byte = 0; byte < 256; byte++) {
  for (let t = 1; t < 8; t++) {
    const before = tables[t - 1][byte];
    tables[t][byte] = (before >>> 8) ^ tables[0][before & 0xff];
  }
}
const [t0, t1, t2, t3, t4, t5, t6, t7] = tables;

/** CRC-32C of `bytes` from `start` up to `end`, continuing from `crc` (0 at the beginning); unsigned 32 bits. */
export function crc32c(bytes: Uint8Array, start = 0, end = bytes.length, crc = 0): number {
  let c = ~crc;
  let i = start;
  for (const last = end - 8; i <= last; i += 8) {
    const low = c ^ (bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24));
    c =
      t7[low & 0xff] ^
      t6[(low >>> 8) & 0xff] ^
      t5[(low >>> 16) & 0xff] ^
      t4[low >>> 24] ^
      t3[bytes[i + 4]] ^
      t2[bytes[i + 5]] ^
      t1[bytes[i + 6]] ^
      t0[bytes[i + 7]];
  }
  for (; i < end; i++) c = (c >>> 8) ^ t0[(c ^ bytes[i]) & 0xff];
  return ~c >>> 0;
}
