/**
 * What is still to be sent on a connection: whole messages, of which the first may have been sent in part.
 *
 * Invariant: bytes are sent in the order in which the messages came. Identical watch events are kept once as long as
 * none of their bytes has been sent, which bounds how much a slow reader can make the server hold.
 */

import { XS_INVALID, XS_WATCH_EVENT } from '../../xen/xs-wire.js';
import { octetsFromBytes, writeOctets } from '../core/octets.js';
import { type Message, messageBytes, writeHeader, writeMessage } from './message.js';
import { HEADER_BYTES } from './protocol.js';

/** A request whose answer or events have not all been sent. */
export interface Cause {
  readonly domid: number;
  /** How many of its messages (the reply and the events) have not been sent. */
  pending: number;
}

interface Queued {
  readonly message: Message;
  readonly cause: Cause | undefined;
}

export class Output {
  private queue: Queued[] = [];
  private first = 0;
  /** How many bytes of the first message have been sent. */
  private gone = 0;
  private readonly events = new Set<string>();
  private readonly header = new Uint8Array(HEADER_BYTES);
  /** How many bytes have not been sent. */
  bytes = 0;

  /** `done` is called for each message when its last byte has been sent, or when it is dropped. */
  constructor(private readonly done: (m: Message, cause: Cause | undefined) => void) {}

  get length(): number {
    return this.queue.length - this.first;
  }

  /** Adds a message. Returns false if it is a watch event that is already waiting. */
  push(message: Message, cause: Cause | undefined): boolean {
    if (message.type === XS_WATCH_EVENT && message.body.charCodeAt(0) !== 0x40) {
      if (this.events.has(message.body)) return false;
      this.events.add(message.body);
    }
    this.queue.push({ message, cause });
    this.bytes += messageBytes(message);
    return true;
  }

  /** Moves up to `limit` bytes into `into` at `at`. Returns how many. */
  take(into: Uint8Array, at: number, limit: number): number {
    let moved = 0;
    while (moved < limit && this.first < this.queue.length) {
      const { message } = this.queue[this.first];
      this.beginning(message);
      const whole = messageBytes(message);
      if (this.gone === 0 && limit - moved >= whole) {
        writeMessage(message, into, at + moved);
        moved += whole;
        this.gone = whole;
      } else {
        moved += this.takePart(message, into, at + moved, limit - moved);
      }
      if (this.gone === whole) this.shift();
    }
    this.bytes -= moved;
    return moved;
  }

  /** Takes everything that is waiting, as one array. */
  drain(): Uint8Array {
    const all = new Uint8Array(this.bytes);
    this.take(all, 0, all.length);
    return all;
  }

  /** Restores a message whose first `gone` bytes have been sent. To be called before anything else is added. */
  pushStarted(message: Message, gone: number, cause: Cause | undefined): void {
    this.queue.push({ message, cause });
    this.gone = gone;
    this.bytes += messageBytes(message) - gone;
  }

  /** Does the same if only the rest of the message is known. */
  pushRest(rest: Uint8Array, cause: Cause | undefined): void {
    const body = octetsFromBytes(rest, 0, rest.length);
    this.pushStarted({ type: XS_INVALID, reqId: 0, txId: 0, body }, HEADER_BYTES, cause);
  }

  /** Drops everything. */
  clear(): void {
    const left = this.queue.slice(this.first);
    this.queue = [];
    this.first = 0;
    this.gone = 0;
    this.bytes = 0;
    this.events.clear();
    for (const { message, cause } of left) this.done(message, cause);
  }

  /** The messages that are not completely sent, first to last, and how much of the first has been sent. */
  waiting(): {
    readonly messages: readonly Message[];
    readonly causes: readonly (Cause | undefined)[];
    gone: number;
  } {
    const left = this.queue.slice(this.first);
    return { messages: left.map((q) => q.message), causes: left.map((q) => q.cause), gone: this.gone };
  }

  private beginning(message: Message): void {
    if (this.gone === 0 && message.type === XS_WATCH_EVENT) this.events.delete(message.body);
  }

  private takePart(message: Message, into: Uint8Array, at: number, limit: number): number {
    let moved = 0;
    if (this.gone < HEADER_BYTES) {
      writeHeader(message, this.header, 0);
      const count = Math.min(limit, HEADER_BYTES - this.gone);
      for (let i = 0; i < count; i++) into[at + i] = this.header[this.gone + i];
      this.gone += count;
      moved = count;
    }
    if (this.gone >= HEADER_BYTES && moved < limit) {
      const count = writeOctets(message.body, this.gone - HEADER_BYTES, into, at + moved, limit - moved);
      this.gone += count;
      moved += count;
    }
    return moved;
  }

  private shift(): void {
    const { message, cause } = this.queue[this.first];
    this.first++;
    this.gone = 0;
    if (this.first === this.queue.length) {
      this.queue = [];
      this.first = 0;
    } else if (this.first > 1024 && this.first * 2 > this.queue.length) {
      this.queue = this.queue.slice(this.first);
      this.first = 0;
    }
    this.done(message, cause);
  }
}
