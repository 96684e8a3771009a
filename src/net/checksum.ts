/** The Internet checksum (RFC 1071) and how it is applied to frames. */
import { type Frame, NEEDS_CSUM } from './frame.js';
import {
  checksumOffset,
  findHeaders,
  type Headers,
  newHeaders,
  PROTOCOL_UDP,
  setU16be,
  u16be,
} from './headers.js';

/**
 * Adds the bytes from `from` up to `to` to `sum` as big-endian 16-bit words. An odd last byte is the high half of a
 * word.
 */
export function sumBytes(b: Uint8Array, from: number, to: number, sum: number): number {
  let at = from;
  // An int32 holds the sum of 2^15 bytes, taken as 16-bit words, with room to spare. Folding every 64 bytes would
  // cost more than it saves.
  while (at < to) {
    const stop = Math.min(to, at + 32_768);
    let part = 0;
    for (; at + 8 <= stop; at += 8) {
      part += (b[at] << 8) + b[at + 1] + (b[at + 2] << 8) + b[at + 3];
      part += (b[at + 4] << 8) + b[at + 5] + (b[at + 6] << 8) + b[at + 7];
    }
    for (; at + 2 <= stop; at += 2) part += (b[at] << 8) + b[at + 1];
    if (at < stop) part += b[at++] << 8;
    sum += part;
  }
  return sum;
}

/** Reduces the sum to 16 bits by adding the carries back in (end-around carry). */
export function fold(sum: number): number {
  while (sum > 0xffff) sum = (sum % 0x1_0000) + Math.floor(sum / 0x1_0000);
  return sum;
}

/** The sum of the pseudo header for a transport packet of `length` bytes. */
export function pseudoSum(b: Uint8Array, h: Headers, length: number): number {
  const [from, to] = h.ip === 4 ? [h.l3 + 12, h.l3 + 20] : [h.l3 + 8, h.l3 + 40];
  return sumBytes(b, from, to, h.protocol + (length >>> 16) + (length & 0xffff));
}

/** Writes the checksum of an IPv4 header of `bytes` bytes at `l3`. */
export function sumIpv4Header(b: Uint8Array, l3: number, bytes: number): void {
  setU16be(b, l3 + 10, 0);
  setU16be(b, l3 + 10, ~fold(sumBytes(b, l3, l3 + bytes, 0)) & 0xffff);
}

const headers = newHeaders();

/**
 * Marks the frame's transport checksum as still to be computed, based on the frame's headers. Returns false and
 * changes nothing if there is no complete TCP or UDP header.
 */
export function leaveChecksum(f: Frame, h: Headers): boolean {
  const offset = checksumOffset(h);
  if (offset === 0) return false;
  f.flags = NEEDS_CSUM;
  f.csumStart = h.l4;
  f.csumOffset = offset;
  setU16be(f.bytes, h.l4 + offset, fold(pseudoSum(f.bytes, h, h.end - h.l4)));
  return true;
}

/** Computes the checksum that was left to do. Segmentation, if it is left to do, stays so. */
export function completeChecksum(f: Frame): void {
  if ((f.flags & NEEDS_CSUM) === 0) return;
  const b = f.bytes;
  const at = f.csumStart + f.csumOffset;
  findHeaders(b, headers);
  const end = headers.l4 === f.csumStart ? headers.end : b.length;
  let sum = ~fold(sumBytes(b, f.csumStart, end, 0)) & 0xffff;
  if (sum === 0 && headers.protocol === PROTOCOL_UDP) sum = 0xffff;
  setU16be(b, at, sum);
  f.flags &= ~NEEDS_CSUM;
  f.csumStart = 0;
  f.csumOffset = 0;
}

/** Whether the transport checksum in the frame is correct. Returns true if the frame has none. */
export function checksumHolds(b: Uint8Array): boolean {
  findHeaders(b, headers);
  const offset = checksumOffset(headers);
  if (offset === 0) return true;
  if (headers.protocol === PROTOCOL_UDP && u16be(b, headers.l4 + offset) === 0) return headers.ip === 4;
  const { l4, end } = headers;
  return fold(sumBytes(b, l4, end, pseudoSum(b, headers, end - l4))) === 0xffff;
}
