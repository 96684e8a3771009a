/**
 * A guest's connection: the page it shares with the server, two queues of bytes and some words.
 * Invariants: everything in the page may change under us and is hostile; each word and each byte of a request
 * is read once, at the moment of use. All that must survive a move is in the page and in the Connection
 * (half a request, unsent messages); this object holds nothing.
 *
 *     0     1024   requests        1024  1024   replies and events
 *     2048  req_cons  req_prod  rsp_cons  rsp_prod     free-running u32, taken modulo 1024
 *     2064  server_features     2068  connection      2072  error
 *
 * Source: docs/misc/xenstore-ring.txt; struct xenstore_domain_interface in xs_wire.h.
 */
import type { LinearMemory } from '../../xen/memory.js';
import type { Connection, Transport } from '../server/connection.js';
import type { XenstoreServer } from '../server/server.js';
import { FEATURE_ERROR, FEATURE_RECONNECTION } from '../wire/protocol.js';

const RING_SIZE = 1024;
const REQ = 0;
const RSP = 1024;
const REQ_CONS = 2048;
const REQ_PROD = 2052;
const RSP_CONS = 2056;
const RSP_PROD = 2060;
const SERVER_FEATURES = 2064;
const CONNECTION = 2068;
const ERROR = 2072;

const CONNECTED = 0;
const RECONNECT = 1;

/** An index pair that cannot be; value of the error field. */
const ERROR_RINGIDX = 2;

export interface RingHost {
  /** Signals the guest's event channel. */
  notify(): void;
  /** The server has written into the page at this linear address. */
  touch?(linear: number): void;
}

export class RingTransport implements Transport {
  private pumping = false;
  /** The page has changed since the guest was last notified. */
  private news = false;

  /**
   * Takes over the page at linear address `at`. `fresh` for a domain just introduced, whose queues start
   * empty; not for one that was restored, whose page is as it was saved.
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
    this.set(SERVER_FEATURES, this.get(SERVER_FEATURES) | this.features);
    if (fresh) this.empty();
    else this.pump();
  }

  /** The guest has signalled, or may have: reads requests, answers, and takes up a reconnection. */
  pump(): void {
    if (this.pumping) return;
    this.pumping = true;
    do {
      if (this.get(CONNECTION) === RECONNECT && (this.features & FEATURE_RECONNECTION) !== 0)
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
      const cons = this.get(RSP_CONS);
      const prod = this.get(RSP_PROD);
      const used = (prod - cons) >>> 0;
      if (used > RING_SIZE) {
        this.server.fail(this.connection, ERROR_RINGIDX);
        return;
      }
      const offset = prod & (RING_SIZE - 1);
      const room = Math.min(RING_SIZE - used, RING_SIZE - offset);
      if (room === 0) break;
      const moved = output.take(this.mem.u8, this.at + RSP + offset, room);
      this.set(RSP_PROD, prod + moved);
    }
    if (!this.pumping) this.signal();
  }

  resume(): void {
    this.pump();
  }

  fail(error: number): void {
    if ((this.features & FEATURE_ERROR) !== 0) this.set(ERROR, error);
    if (!this.pumping) this.signal();
  }

  /** Reads what lies in one piece; false if there was nothing, or nothing may be read now. */
  private readChunk(): boolean {
    const { server, connection, mem } = this;
    if (!server.canRead(connection)) return false;
    const cons = this.get(REQ_CONS);
    const prod = this.get(REQ_PROD);
    const ready = (prod - cons) >>> 0;
    if (ready === 0) return false;
    if (ready > RING_SIZE) {
      server.fail(connection, ERROR_RINGIDX);
      return false;
    }
    const offset = cons & (RING_SIZE - 1);
    const from = this.at + REQ + offset;
    const to = from + Math.min(ready, RING_SIZE - offset);
    const end = server.receive(connection, mem.u8, from, to);
    this.set(REQ_CONS, cons + (end - from));
    return end > from;
  }

  private reconnect(): void {
    this.server.reset(this.connection);
    this.connection.state = 'open';
    this.empty();
  }

  private empty(): void {
    for (const field of [REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, ERROR]) this.set(field, 0);
    if (this.get(CONNECTION) === RECONNECT) {
      this.set(CONNECTION, CONNECTED);
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
