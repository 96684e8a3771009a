/**
 * What all connections share: the store, the watches, the delivery of answers and events, and the introduction and
 * release of domains. It has no clock, no I/O and no timers; transports bring bytes in and take them away.
 *
 * Invariant: callbacks of local watches and of transports run between requests, never inside one.
 */

import { ENOENT, ENOSPC } from '../../xen/errno.js';
import { XENSTORE_ERROR_NONE, XENSTORE_PAYLOAD_MAX, XS_WATCH_EVENT } from '../../xen/xs-wire.js';
import type { Errno } from '../core/errno.js';
import { Store } from '../core/store.js';
import { Transaction } from '../core/transaction.js';
import { INTRODUCE_DOMAIN, RELEASE_DOMAIN } from '../core/tree.js';
import { type Watch, Watches } from '../core/watches.js';
import { type Message, messageBytes } from '../wire/message.js';
import type { Cause } from '../wire/output.js';
import { FEATURES, HEADER_BYTES } from '../wire/protocol.js';
import { Connection, type ConnectionKind } from './connection.js';
import { traceLine } from './trace.js';
import { dropWatches, fireChange, fireSpecial } from './watching.js';
import { WriteRate, type WriteRateOptions } from './write-rate.js';

export interface ServerOptions {
  /** The server features that domains are shown; all known ones by default. */
  readonly features?: number;
  /** Domains besides domain 0 that may do everything. */
  readonly privileged?: readonly number[];
  /** How many bytes of output a client may leave untaken before it is cut off; 16 MiB by default. */
  readonly outputLimit?: number;
  /**
   * A toolstack has sent INTRODUCE: attach the domain's ring to the connection. Returning an errno refuses the
   * request.
   */
  onIntroduce?(connection: Connection, mfn: number, port: number): 0 | Errno;
  /** Gets the lines of the log: from CONTROL print, check and memreport, and every message while CONTROL log is on. */
  log?(line: string): void;
  /** CONTROL logfile: from now on the log goes to this file. Without this function the command is refused. */
  logTo?(file: string): void;
  /** CONTROL memreport with a file. Without this function the command is refused. */
  writeReport?(file: string, text: string): void;
  /** Limits how fast unprivileged domains may change the store; no limit by default. */
  readonly writeRate?: WriteRateOptions;
}

/** A socket's requests are served while fewer than this many bytes of answers wait for it. */
const READ_WHILE_BELOW = 256 * 1024;

export class Hub {
  readonly store: Store;
  readonly watches = new Watches();
  readonly connections = new Set<Connection>();
  readonly features: number;
  /** Called when limits, features or the set of domains have changed. Journals use it. */
  onSettings: () => void = () => {};
  /** Set by CONTROL log. */
  logging = false;
  private readonly domains = new Map<number, Connection>();
  private nextOrder = 0;
  private dirty: Connection[] = [];
  private resumed: Connection[] = [];
  private readonly localEvents: (() => void)[] = [];
  private settling = false;
  protected readonly writeRate: WriteRate | undefined;
  /** The request that is being served, if its domain's outstanding requests are limited. */
  protected cause: Cause | undefined;

  constructor(readonly options: ServerOptions = {}) {
    this.features = options.features ?? FEATURES;
    this.store = new Store(this.features);
    if (options.writeRate !== undefined)
      this.writeRate = new WriteRate(options.writeRate, (domid) => {
        this.resumeDomain(domid);
        this.settle();
      });
    this.store.onChange = (path, content, match, before) => fireChange(this, path, content, match, before);
  }

  // --- connections ---

  /** Makes a new client. A ring's client is made by `introduce`. */
  connect(kind: ConnectionKind, domid: number): Connection {
    const privileged = domid === 0 || (this.options.privileged?.includes(domid) ?? false);
    const connection = new Connection(
      kind,
      domid,
      privileged,
      this.nextOrder++,
      (c, m, cause) => this.left(c, m, cause),
      (c, path, token) => this.event(c, path, token),
    );
    this.store.account(domid);
    this.connections.add(connection);
    return connection;
  }

  /** Ends a client: its watches and transactions are dropped, the tree stays. */
  disconnect(connection: Connection): void {
    if (connection.state === 'closed') return;
    this.reset(connection);
    connection.state = 'closed';
    this.connections.delete(connection);
    if (this.domains.get(connection.actor.domid) === connection) this.domains.delete(connection.actor.domid);
    this.settle();
  }

  /**
   * Drops everything that belongs to a client except the client itself: watches, transactions, partly read and unsent
   * bytes.
   */
  reset(connection: Connection): void {
    dropWatches(this, connection);
    this.dropTransactions(connection);
    connection.parser.reset();
    connection.output.clear();
  }

  /** To be called when the client broke the protocol. Its state is dropped, and nothing more is sent to it. */
  fail(connection: Connection, error: number): void {
    if (connection.state !== 'open') return;
    connection.state = 'failed';
    this.reset(connection);
    connection.transport?.fail(error);
    if (connection.kind === 'socket') this.disconnect(connection);
  }

  // --- messages ---

  /** Whether a client's next request may be read now. */
  canRead(connection: Connection): boolean {
    if (connection.state !== 'open') return false;
    if (connection.kind === 'socket' && connection.output.bytes >= READ_WHILE_BELOW) return false;
    const { actor } = connection;
    if (actor.privileged) return true;
    const limit = this.store.accounts.limit(actor.domid, 'outstanding');
    if (limit !== 0 && this.store.account(actor.domid).outstanding >= limit) return false;
    return this.writeRate?.mayGoOn(actor.domid) ?? true;
  }

  protected send(connection: Connection, m: Message, cause: Cause | undefined): boolean {
    if (connection.state !== 'open' || !connection.output.push(m, cause)) return false;
    if (this.logging) this.options.log?.(traceLine('OUT', connection, m));
    this.store.account(connection.actor.domid).memory += messageBytes(m);
    if (!connection.dirty) {
      connection.dirty = true;
      this.dirty.push(connection);
    }
    return true;
  }

  /** To be called when the last byte of a message has been sent. */
  private left(connection: Connection, m: Message, cause: Cause | undefined): void {
    this.store.account(connection.actor.domid).memory -= messageBytes(m);
    if (cause === undefined || --cause.pending > 0) return;
    const account = this.store.accounts.byDomid.get(cause.domid);
    if (account === undefined) return;
    account.outstanding--;
    if (account.outstanding + 1 === this.store.accounts.limit(cause.domid, 'outstanding'))
      this.resumeDomain(cause.domid);
  }

  private resumeDomain(domid: number): void {
    for (const c of this.connections)
      if (c.actor.domid === domid && c.transport !== undefined) this.resumed.push(c);
  }

  /**
   * Delivers what the last requests have produced: messages to transports, events to local watches. What those do in
   * turn is delivered too before this returns.
   */
  settle(): void {
    if (this.settling) return;
    this.settling = true;
    try {
      for (;;) {
        const connection = this.dirty.pop();
        if (connection !== undefined) {
          connection.dirty = false;
          connection.transport?.flush();
          if (connection.output.bytes > (this.options.outputLimit ?? 16 << 20))
            this.fail(connection, XENSTORE_ERROR_NONE);
          continue;
        }
        const waiting = this.resumed.shift();
        if (waiting !== undefined) {
          if (waiting.state === 'open') waiting.transport?.resume();
          continue;
        }
        const callback = this.localEvents.shift();
        if (callback === undefined) return;
        callback();
      }
    } finally {
      this.settling = false;
    }
  }

  // --- watches ---

  private event(connection: Connection, path: string, token: string): void {
    if (connection.kind === 'local') {
      this.localEvents.push(() => connection.listener?.(path, token));
      return;
    }
    const body = `${path}\0${token}\0`;
    if (body.length > XENSTORE_PAYLOAD_MAX) return;
    const { actor } = connection;
    const used = this.store.account(actor.domid).memory + body.length + HEADER_BYTES;
    if (this.store.accounts.exceeds(actor, 'memory', used)) return;
    const sent = this.send(connection, { type: XS_WATCH_EVENT, reqId: 0, txId: 0, body }, this.cause);
    if (sent && this.cause !== undefined) this.cause.pending++;
  }

  /** Fires the first event of a new watch, which only says that the watch is set. */
  fireFirst(watch: Watch): void {
    this.cause = undefined;
    watch.watcher.event(watch.path.slice(watch.prefix), watch.token);
  }

  // --- transactions ---

  startTransaction(connection: Connection): Transaction | Errno {
    const { store } = this;
    const account = store.account(connection.actor.domid);
    if (store.accounts.exceeds(connection.actor, 'transactions', account.transactions)) return ENOSPC;
    let id: number;
    do {
      id = connection.nextTransactionId;
      connection.nextTransactionId = (id + 1) >>> 0;
    } while (id === 0 || connection.transactions.has(id));
    const t = new Transaction(id, store.tree.snapshot(), store.tree.changes);
    connection.transactions.set(id, t);
    account.transactions++;
    return t;
  }

  dropTransactions(connection: Connection): void {
    for (const t of connection.transactions.values()) this.store.release(connection.actor, t);
    connection.transactions.clear();
  }

  /** Ends a transaction, whether it was committed or not. */
  endTransaction(connection: Connection, t: Transaction): void {
    connection.transactions.delete(t.id);
    this.store.release(connection.actor, t);
  }

  // --- domains ---

  /** The connection of a domain's ring. */
  domain(domid: number): Connection | undefined {
    return this.domains.get(domid);
  }

  isIntroduced(domid: number): boolean {
    return domid === 0 || this.domains.has(domid);
  }

  /**
   * Introduces a domain and returns its connection, to which the caller attaches a transport. If the domain is
   * already introduced, its connection is reset.
   */
  introduce(domid: number, port = 0): Connection {
    const known = this.domains.get(domid);
    if (known !== undefined) {
      known.port = port;
      known.state = 'open';
      this.reset(known);
      return known;
    }
    const connection = this.restoreDomain(domid, port);
    fireSpecial(this, INTRODUCE_DOMAIN, domid);
    return connection;
  }

  /** Makes the connection of a domain that was introduced before the server was saved. */
  restoreDomain(domid: number, port: number): Connection {
    const connection = this.connect('ring', domid);
    connection.port = port;
    this.domains.set(domid, connection);
    return connection;
  }

  /** Runs `action` at the next `settle`. */
  later(action: () => void): void {
    this.localEvents.push(action);
  }

  /** Serves a toolstack's INTRODUCE: as `introduce`, with the ring that the host finds at machine frame `mfn`. */
  introduceFor(domid: number, mfn: number, port: number): 0 | Errno {
    const isNew = !this.domains.has(domid);
    const connection = this.introduce(domid, port);
    const error = this.options.onIntroduce?.(connection, mfn, port) ?? 0;
    if (error !== 0 && isNew) this.release(domid);
    return error;
  }

  /** Releases a domain that is gone: its connection, its nodes, and the permissions that it was granted. */
  release(domid: number): 0 | Errno {
    const connection = this.domains.get(domid);
    if (connection === undefined) return ENOENT;
    this.reset(connection);
    connection.state = 'closed';
    this.connections.delete(connection);
    this.domains.delete(domid);
    for (const other of this.connections) if (other.actor.target === domid) other.actor.target = -1;
    this.store.removeNodesOf(domid);
    this.store.accounts.byDomid.delete(domid);
    this.writeRate?.delete(domid);
    this.onSettings();
    fireSpecial(this, RELEASE_DOMAIN, domid);
    return 0;
  }

  /** Fires the watches for a domain that has shut down (crash, halt, suspend). It stays introduced. */
  domainShutdown(domid: number): void {
    fireSpecial(this, RELEASE_DOMAIN, domid);
    this.settle();
  }
}
