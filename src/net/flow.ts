/** A hash that is the same for all packets of one flow, so that a flow stays on one queue and its packets in order. */
import { findHeaders, newHeaders, PROTOCOL_TCP, PROTOCOL_UDP } from './headers.js';

const headers = newHeaders();

/** FNV-1a over addresses, protocol and ports (RFC draft-eastlake-fnv). */
export function flowHash(b: Uint8Array): number {
  findHeaders(b, headers);
  const { ip, l3, l4, protocol, end } = headers;
  if (ip === 0) return 0;
  let hash = 0x811c9dc5 ^ protocol;
  const take = (from: number, to: number): void => {
    for (let at = from; at < to; at++) hash = Math.imul(hash ^ b[at], 0x01000193);
  };
  if (ip === 4) take(l3 + 12, l3 + 20);
  else take(l3 + 8, l3 + 40);
  if ((protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP) && l4 + 4 <= end) take(l4, l4 + 4);
  return (hash ^ (hash >>> 15)) >>> 0;
}
