/**
 * A guest's connection through the page that it shares with the server, which holds two queues of bytes and some
 * words.
 *
 * Invariants: the guest is hostile and may change anything in the page at any time, so each word and each byte of a
 * request is read once, at the moment of use. Everything that must survive a move is in the page and in the
 * Connection (a partial request, unsent messages); this object holds no such state.
 *
 *     0     1024   requests        1024  1024   replies and events
 *     2048  req_cons  req_prod  rsp_cons  rsp_prod     free-running u32, taken modulo 1024
 *     2064  server_features     2068  connection      2072  error
 *
 * Source: docs/misc/xenstore-ring.txt; struct xenstore_domain_interface in xs_wire.h.
 */
import type { LinearMemory } from '../../xen/memory.js';
import {
  XenstoreDomainInterface as Page,
  XENSTORE_CONNECTED,
  XENSTORE_ERROR_RINGIDX,
  XENSTORE_RECONNECT,
  XENSTORE_RING_SIZE,
  XENSTORE_SERVER_FEATURE_ERROR,
  XENSTORE_SERVER_FEATURE_RECONNECTION,
} from '../../xen/xs-wire.js';
import type { Connection, Transport } from '../server/connection.js';
import type { XenstoreServer } from '../server/server.js';

export interface RingHost {
  /** Signals the guest's event channel. */
  notify(): void;
  /** Called after the server has written into the page at this linear address. */
  touch?(linear: number): void;
}

export class RingTransport implements Transport {
  private pumping = false;
  /** True if the page has changed since the guest was last notified. */
  private news = false;

  /**
   * Takes over the page at linear address `at`. `fresh` is for a domain that was just introduced: its queues start
   * empty. For a restored domain the page stays as it was saved and nothing is signalled, because the guest must not
   * notice that it was moved. If signals from the guest may have been lost, call `pump` once.
   */
  constructor(
    private readonly server: XenstoreServer,
    private readonly connection: Connection,
    private readonly mem: LinearMemory,
    private readonly at: number,
    private readonly host: RingHost,
    fresh: boolean,
  ) {
    connection.transport = this;
    const shown = this.get(Page.server_features);
    if ((this.features & ~shown) !== 0) this.set(Page.server_features, shown | this.features);
    if (fresh) this.empty();
  }

  /**
   * To be called when the guest has signalled, or may have done so. It reads requests, answers them, and handles a
   * reconnection.
   */
  pump(): void {
    if (this.pumping) return;
    this.pumping = true;
    do {
      if (
        this.get(Page.connection) === XENSTORE_RECONNECT &&
        (this.features & XENSTORE_SERVER_FEATURE_RECONNECTION) !== 0
      )
        this.reconnect();
      this.flush();
      this.server.settle();
    } while (this.readChunk());
    this.pumping = false;
    this.signal();
  }

  flush(): void {
    const { output } = this.connection;
    while (output.length > 0 && this.connection.state === 'open') {
      const cons = this.get(Page.rsp_cons);
      const prod = this.get(Page.rsp_prod);
      const used = (prod - cons) >>> 0;
      if (used > XENSTORE_RING_SIZE) {
        this.server.fail(this.connection, XENSTORE_ERROR_RINGIDX);
        return;
      }
      const offset = prod & (XENSTORE_RING_SIZE - 1);
      const room = Math.min(XENSTORE_RING_SIZE - used, XENSTORE_RING_SIZE - offset);
      if (room === 0) break;
      const moved = output.take(this.mem.u8, this.at + Page.rsp + offset, room);
      this.set(Page.rsp_prod, prod + moved);
    }
    if (!this.pumping) this.signal();
  }

  resume(): void {
    this.pump();
  }

  fail(error: number): void {
    if ((this.features & XENSTORE_SERVER_FEATURE_ERROR) !== 0) this.set(Page.error, error);
    if (!this.pumping) this.signal();
  }

  /**
   * Reads one contiguous piece of the queue. Returns false if there was nothing to read, or nothing may be read now.
   */
  private readChunk(): boolean {
    const { server, connection, mem } = this;
    if (!server.canRead(connection)) return false;
    const cons = this.get(Page.req_cons);
    const prod = this.get(Page.req_prod);
    const ready = (prod - cons) >>> 0;
    if (ready === 0) return false;
    if (ready > XENSTORE_RING_SIZE) {
      server.fail(connection, XENSTORE_ERROR_RINGIDX);
      return false;
    }
    const offset = cons & (XENSTORE_RING_SIZE - 1);
    const from = this.at + Page.req + offset;
    const to = from + Math.min(ready, XENSTORE_RING_SIZE - offset);
    const end = server.receive(connection, mem.u8, from, to);
    this.set(Page.req_cons, cons + (end - from));
    return end > from;
  }

  private reconnect(): void {
    this.server.reset(this.connection);
    this.connection.state = 'open';
    this.empty();
  }

  private empty(): void {
    for (const field of [Page.req_cons, Page.req_prod, Page.rsp_cons, Page.rsp_prod, Page.error])
      this.set(field, 0);
    if (this.get(Page.connection) === XENSTORE_RECONNECT) {
      this.set(Page.connection, XENSTORE_CONNECTED);
      if (!this.pumping) this.signal();
    }
  }

  private get features(): number {
    return this.server.store.account(this.connection.actor.domid).features;
  }

  private signal(): void {
    if (!this.news) return;
    this.news = false;
    this.host.touch?.(this.at);
    this.host.notify();
  }

  private get(field: number): number {
    return this.mem.getU32(this.at + field);
  }

  private set(field: number, value: number): void {
    this.mem.setU32(this.at + field, value);
    this.news = true;
  }
}
