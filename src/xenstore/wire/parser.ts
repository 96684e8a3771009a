/**
 * Reads messages incrementally: it gets bytes in pieces of any size and produces whole messages.
 *
 * Invariant: it holds less than one message (at most 4112 bytes). After a message that is too long it reads nothing
 * more, because the start of the next message cannot be found.
 */

import { XENSTORE_PAYLOAD_MAX, XsdSockmsg } from '../../xen/xs-wire.js';
import { octetsFromBytes } from '../core/octets.js';
import { getU32, type Message } from './message.js';
import { HEADER_BYTES } from './protocol.js';

type ParserState =
  /** At least this many bytes are missing, first of the header, then of the payload. */
  | { readonly kind: 'need'; readonly bytes: number }
  | { readonly kind: 'message'; readonly message: Message }
  /** The header announced a payload of `length` bytes, which is too long. The state is final. */
  | { readonly kind: 'failed'; readonly length: number };

export class MessageParser {
  private readonly held = new Uint8Array(HEADER_BYTES + XENSTORE_PAYLOAD_MAX);
  private have = 0;
  private failed = -1;

  /** The bytes of a message that is not complete yet. */
  get partial(): Uint8Array {
    return this.held.slice(0, this.have);
  }

  /** Drops the held bytes and forgets a failure. */
  reset(): void {
    this.have = 0;
    this.failed = -1;
  }

  /** Where the last `push` stopped reading. */
  consumed = 0;

  /**
   * Reads from `bytes` between `from` and `to`, at most up to the end of one message. `consumed` then says where it
   * stopped.
   */
  push(bytes: Uint8Array, from: number, to: number): ParserState {
    this.consumed = from;
    if (this.failed >= 0) return { kind: 'failed', length: this.failed };
    if (this.have === 0 && to - from >= HEADER_BYTES) {
      // The usual case, a whole message at once, is taken without copying.
      const length = getU32(bytes, from + XsdSockmsg.len);
      if (length > XENSTORE_PAYLOAD_MAX) return this.fail(length, from + HEADER_BYTES);
      if (to - from >= HEADER_BYTES + length) {
        this.consumed = from + HEADER_BYTES + length;
        return { kind: 'message', message: decode(bytes, from, length) };
      }
    }
    let at = from;
    if (this.have < HEADER_BYTES) {
      at = this.take(bytes, at, to, HEADER_BYTES);
      this.consumed = at;
      if (this.have < HEADER_BYTES) return { kind: 'need', bytes: HEADER_BYTES - this.have };
      const length = getU32(this.held, XsdSockmsg.len);
      if (length > XENSTORE_PAYLOAD_MAX) return this.fail(length, at);
    }
    const length = getU32(this.held, XsdSockmsg.len);
    this.consumed = this.take(bytes, at, to, HEADER_BYTES + length);
    if (this.have < HEADER_BYTES + length) return { kind: 'need', bytes: HEADER_BYTES + length - this.have };
    this.have = 0;
    return { kind: 'message', message: decode(this.held, 0, length) };
  }

  private take(bytes: Uint8Array, from: number, to: number, upTo: number): number {
    const count = Math.min(to - from, upTo - this.have);
    for (let i = 0; i < count; i++) this.held[this.have + i] = bytes[from + i];
    this.have += count;
    return from + count;
  }

  private fail(length: number, consumed: number): ParserState {
    this.failed = length;
    this.have = 0;
    this.consumed = consumed;
    return { kind: 'failed', length };
  }
}

function decode(bytes: Uint8Array, at: number, length: number): Message {
  return {
    type: getU32(bytes, at + XsdSockmsg.type),
    reqId: getU32(bytes, at + XsdSockmsg.req_id),
    txId: getU32(bytes, at + XsdSockmsg.tx_id),
    body: octetsFromBytes(bytes, at + HEADER_BYTES, length),
  };
}
