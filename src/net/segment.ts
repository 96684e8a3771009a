/**
 * Cuts a large TCP packet into segments, as a network card with TSO does, and finishes frames for links that accept
 * none with work left to do. Source: RFC 9293; Linux, Documentation/networking/segmentation-offloads.rst.
 */
import { completeChecksum, fold, pseudoSum, sumBytes, sumIpv4Header } from './checksum.js';
import { type Frame, GSO_NONE, GSO_TCPV4, GSO_TCPV6, plainFrame } from './frame.js';
import {
  findHeaders,
  newHeaders,
  PROTOCOL_TCP,
  setU16be,
  setU32be,
  TCP_BYTES,
  u16be,
  u32be,
} from './headers.js';

const FIN = 0x01;
const PSH = 0x08;
const CWR = 0x80;
const FLAGS = 13;

const headers = newHeaders();
const segment = plainFrame(new Uint8Array(0));
let room = new Uint8Array(4096);

/**
 * The length of the headers of a frame that may be cut as `gsoType` says. Returns 0 if it may not; the sender is then
 * at fault.
 */
export function segmentHeaderBytes(b: Uint8Array, gsoType: number): number {
  findHeaders(b, headers);
  const { ip, protocol, l4, end } = headers;
  if (ip !== (gsoType === GSO_TCPV4 ? 4 : gsoType === GSO_TCPV6 ? 6 : -1) || protocol !== PROTOCOL_TCP)
    return 0;
  if (l4 + TCP_BYTES > end) return 0;
  const tcp = (b[l4 + 12] >>> 4) * 4;
  return tcp >= TCP_BYTES && l4 + tcp <= end ? l4 + tcp : 0;
}

/**
 * Passes the frame to `emit` in pieces on which no work is left. Each piece is valid during the call only. A frame
 * that claims to be a large TCP packet but is not one is dropped.
 */
export function finishFrame(f: Frame, emit: (f: Frame) => void): void {
  if (f.gsoType === GSO_NONE) {
    completeChecksum(f);
    emit(f);
    return;
  }
  const head = segmentHeaderBytes(f.bytes, f.gsoType);
  if (head === 0 || f.gsoSize === 0) return;
  const b = f.bytes;
  const { ip, l3, l4, end } = headers;
  if (room.length < head + f.gsoSize) room = new Uint8Array(head + f.gsoSize);
  const sequence = u32be(b, l4 + 4);
  const identification = ip === 4 ? u16be(b, l3 + 4) : 0;
  const flags = b[l4 + FLAGS];
  for (let at = head, i = 0; at < end || i === 0; at += f.gsoSize, i++) {
    const payload = Math.min(f.gsoSize, end - at);
    const last = at + payload >= end;
    const out = room.subarray(0, head + payload);
    out.set(b.subarray(0, head));
    out.set(b.subarray(at, at + payload), head);
    setU32be(out, l4 + 4, (sequence + at - head) >>> 0);
    out[l4 + FLAGS] = flags & ~((last ? 0 : FIN | PSH) | (i === 0 ? 0 : CWR));
    if (ip === 4) {
      setU16be(out, l3 + 2, out.length - l3);
      setU16be(out, l3 + 4, (identification + i) & 0xffff);
      sumIpv4Header(out, l3, l4 - l3);
    } else setU16be(out, l3 + 4, out.length - l3 - 40);
    setU16be(out, l4 + 16, 0);
    headers.end = out.length;
    const pseudo = pseudoSum(out, headers, out.length - l4);
    setU16be(out, l4 + 16, ~fold(sumBytes(out, l4, out.length, pseudo)) & 0xffff);
    segment.bytes = out;
    segment.flags = 0;
    emit(segment);
  }
}
