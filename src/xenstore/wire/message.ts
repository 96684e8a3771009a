/**
 * A message of the protocol and its bytes. Invariant: `body` is an octet string of at most XENSTORE_PAYLOAD_MAX.
 * Source: struct xsd_sockmsg in xen/include/public/io/xs_wire.h.
 */
import { XsdSockmsg } from '../../xen/xs-wire.js';
import { writeOctets } from '../core/octets.js';
import { HEADER_BYTES } from './protocol.js';

export interface Message {
  readonly type: number;
  readonly reqId: number;
  readonly txId: number;
  readonly body: string;
}

export const messageBytes = (m: Message): number => HEADER_BYTES + m.body.length;

function putU32(bytes: Uint8Array, at: number, v: number): void {
  bytes[at] = v;
  bytes[at + 1] = v >>> 8;
  bytes[at + 2] = v >>> 16;
  bytes[at + 3] = v >>> 24;
}

export const getU32 = (bytes: Uint8Array, at: number): number =>
  (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;

/** Writes only the header. */
export function writeHeader(m: Message, bytes: Uint8Array, at: number): void {
  putU32(bytes, at + XsdSockmsg.type, m.type);
  putU32(bytes, at + XsdSockmsg.req_id, m.reqId);
  putU32(bytes, at + XsdSockmsg.tx_id, m.txId);
  putU32(bytes, at + XsdSockmsg.len, m.body.length);
}

/** Writes the whole message; `bytes` must have room for it. Returns the offset after it. */
export function writeMessage(m: Message, bytes: Uint8Array, at: number): number {
  writeHeader(m, bytes, at);
  writeOctets(m.body, 0, bytes, at + HEADER_BYTES, m.body.length);
  return at + HEADER_BYTES + m.body.length;
}

export function encodeMessage(m: Message): Uint8Array {
  const bytes = new Uint8Array(messageBytes(m));
  writeMessage(m, bytes, 0);
  return bytes;
}
