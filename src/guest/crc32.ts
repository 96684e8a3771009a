/**
 * CRC-32 (ISO 3309, polynomial 0xedb88320), as used in xz and gzip. It processes eight bytes at a time with a table
 * for each ("slicing by 8", Intel 2006), because the whole kernel has to be checked before it boots.
 */
const SLICES = 8;
/** Entry 256 * k + b is the remainder of byte b followed by k zero bytes. */
const table = new Uint32Array(256 * SLICES);
for (let i = 0; i < 256; i++) {
  let c = i;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
  table[i] = c;
}
for (let i = 256; i < table.length; i++) table[i] = table[table[i - 256] & 0xff] ^ (table[i - 256] >>> 8);

export function crc32(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let c = 0xffffffff;
  let i = 0;
  for (; i + SLICES <= bytes.length; i += SLICES) {
    const a = view.getUint32(i, true) ^ c;
    const b = view.getUint32(i + 4, true);
    c =
      table[0x700 + (a & 0xff)] ^
      table[0x600 + ((a >>> 8) & 0xff)] ^
      table[0x500 + ((a >>> 16) & 0xff)] ^
      table[0x400 + (a >>> 24)] ^
      table[0x300 + (b & 0xff)] ^
      table[0x200 + ((b >>> 8) & 0xff)] ^
      table[0x100 + ((b >>> 16) & 0xff)] ^
      table[b >>> 24];
  }
  for (; i < bytes.length; i++) c = table[(c ^ bytes[i]) & 0xff] ^ (c >>> 8);
  return ~c >>> 0;
}
