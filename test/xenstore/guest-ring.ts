/** The guest's end of a xenstore ring, used as a kernel uses it; for tests. */
import { LinearMemory } from '../../src/xen/memory.js';
import { XenstoreDomainInterface as Page, XENSTORE_RING_SIZE } from '../../src/xen/xs-wire.js';
import { RingTransport } from '../../src/xenstore/ring/ring.js';
import type { Connection } from '../../src/xenstore/server/connection.js';
import type { XenstoreServer } from '../../src/xenstore/server/server.js';
import { encodeMessage, type Message } from '../../src/xenstore/wire/message.js';
import { MessageParser } from '../../src/xenstore/wire/parser.js';

const AT = 8192;

export class GuestRing {
  readonly ring: RingTransport;
  notified = 0;
  private readonly parser = new MessageParser();

  /** `mem` has the ring's page at 8192; a new memory has an empty page. */
  constructor(
    server: XenstoreServer,
    readonly connection: Connection,
    readonly mem = new LinearMemory(new ArrayBuffer(4 * 4096)),
    fresh = true,
  ) {
    const host = { notify: () => void this.notified++ };
    this.ring = new RingTransport(server, connection, mem, AT, host, fresh);
  }

  get(field: number): number {
    return this.mem.getU32(AT + field);
  }
  set(field: number, value: number): void {
    this.mem.setU32(AT + field, value);
  }

  /** Puts as many of the bytes on the ring as fit. Returns how many. Does not notify. */
  put(bytes: Uint8Array): number {
    const prod = this.get(Page.req_prod);
    const room = XENSTORE_RING_SIZE - ((prod - this.get(Page.req_cons)) >>> 0);
    const count = Math.min(room, bytes.length);
    for (let i = 0; i < count; i++)
      this.mem.setU8(AT + Page.req + ((prod + i) & (XENSTORE_RING_SIZE - 1)), bytes[i]);
    this.set(Page.req_prod, prod + count);
    return count;
  }

  /** Takes up to `limit` bytes of answers and events. Does not notify. */
  take(limit = Number.POSITIVE_INFINITY): Uint8Array {
    const cons = this.get(Page.rsp_cons);
    const count = Math.min(limit, (this.get(Page.rsp_prod) - cons) >>> 0);
    const bytes = new Uint8Array(count);
    for (let i = 0; i < count; i++)
      bytes[i] = this.mem.getU8(AT + Page.rsp + ((cons + i) & (XENSTORE_RING_SIZE - 1)));
    this.set(Page.rsp_cons, cons + count);
    return bytes;
  }

  /** Sends a message, however large. Returns all messages that arrived until the ring was quiet. */
  ask(type: number, body: string, txId = 0, reqId = 1): Message[] {
    const bytes = encodeMessage({ type, reqId, txId, body });
    const came: Message[] = [];
    for (let at = 0; ; ) {
      at += this.put(bytes.subarray(at));
      this.ring.pump();
      const taken = this.hear();
      came.push(...taken.messages);
      if (at === bytes.length && taken.bytes === 0) return came;
    }
  }

  /** Returns the complete messages that have arrived so far. */
  hear(): { messages: Message[]; bytes: number } {
    const messages: Message[] = [];
    let bytes = 0;
    for (;;) {
      const chunk = this.take();
      bytes += chunk.length;
      if (chunk.length === 0) return { messages, bytes };
      for (let at = 0; at < chunk.length; at = this.parser.consumed) {
        const state = this.parser.push(chunk, at, chunk.length);
        if (state.kind === 'message') messages.push(state.message);
      }
      this.ring.pump();
    }
  }
}
