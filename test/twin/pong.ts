/** A machine on a network that answers ARP for its address and pings, one frame at a time. */
import { internetChecksum } from '../support/packets.js';

export const PEER_IP = [10, 9, 0, 2];
const PEER_MAC = [2, 0, 0, 0, 0, 0x77];
const ARP = 0x0806;
const IPV4 = 0x0800;
const ICMP = 1;
const HEADER = 14;

const is = (bytes: Uint8Array, at: number, what: readonly number[]): boolean =>
  what.every((byte, i) => bytes[at + i] === byte);

/** Returns its answer to a frame, or undefined. */
export function pong(frame: Uint8Array): Uint8Array | undefined {
  const type = (frame[12] << 8) | frame[13];
  const out = frame.slice();
  out.set(frame.subarray(6, 12), 0);
  out.set(PEER_MAC, 6);
  if (type === ARP && frame[21] === 1 && is(frame, 38, PEER_IP)) {
    out[21] = 2;
    out.set(PEER_MAC, 22);
    out.set(PEER_IP, 28);
    out.set(frame.subarray(22, 32), 32);
    return out;
  }
  if (type !== IPV4 || frame[23] !== ICMP || !is(frame, 30, PEER_IP) || frame[34] !== 8) return undefined;
  out.set(frame.subarray(26, 30), 30);
  out.set(PEER_IP, 26);
  const end = HEADER + ((frame[16] << 8) | frame[17]);
  out.set([0, 0, 0], 34);
  out[37] = 0;
  const sum = internetChecksum([...out.subarray(34, end)]);
  out.set([sum >> 8, sum & 255], 36);
  return out;
}
