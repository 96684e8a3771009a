/**
 * CRC-32C in WebAssembly (AssemblyScript): sixteen tables, sixteen bytes in each step. The memory holds the tables
 * from address 0 on and the input from BUFFER on.
 * Source: RFC 3720, appendix B.4; the tables follow Sarwate, the steps Intel's "slicing-by-8".
 */

const POLYNOMIAL: u32 = 0x82f63b78;
const TABLE_BYTES: u32 = 1024;
const TABLES: u32 = 16;

/** Address and size of the input buffer, in bytes. */
export const BUFFER: u32 = 16384;
export const BUFFER_BYTES: u32 = 65536;

for (let byte: u32 = 0; byte < 256; byte++) {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
  store<u32>(byte << 2, crc);
}
for (let byte: u32 = 0; byte < 256; byte++) {
  for (let t: u32 = 1; t < TABLES; t++) {
    const before = load<u32>((t - 1) * TABLE_BYTES + (byte << 2));
    store<u32>(t * TABLE_BYTES + (byte << 2), (before >>> 8) ^ load<u32>((before & 0xff) << 2));
  }
}

// @ts-ignore: decorator
@inline
function four(word: u32, last: u32): u32 {
  return (
    load<u32>((last + 3) * TABLE_BYTES + ((word & 0xff) << 2)) ^
    load<u32>((last + 2) * TABLE_BYTES + (((word >>> 8) & 0xff) << 2)) ^
    load<u32>((last + 1) * TABLE_BYTES + (((word >>> 16) & 0xff) << 2)) ^
    load<u32>(last * TABLE_BYTES + ((word >>> 24) << 2))
  );
}

/** Continues `c`, the inverted checksum so far, over `length` bytes at BUFFER. */
export function update(c: u32, length: u32): u32 {
  let at = BUFFER;
  const end = BUFFER + length;
  for (; at + 16 <= end; at += 16) {
    c =
      four(c ^ load<u32>(at), 12) ^
      four(load<u32>(at, 4), 8) ^
      four(load<u32>(at, 8), 4) ^
      four(load<u32>(at, 12), 0);
  }
  for (; at < end; at++) c = (c >>> 8) ^ load<u32>(((c ^ load<u8>(at)) & 0xff) << 2);
  return c;
}
