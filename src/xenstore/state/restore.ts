/**
 * Restores a server that was saved by this implementation or by xenstored. Invariant: a malformed stream throws
 * RecordError; the server into which it was read cannot be used then.
 */
import type { ByteReader } from '../../records/fields.js';
import { XS_WATCH_EVENT } from '../../xen/xs-wire.js';
import { apply } from '../core/commit.js';
import { canonical, parentPath } from '../core/path.js';
import { isQuotaName } from '../core/quotas.js';
import { Transaction } from '../core/transaction.js';
import { Tree } from '../core/tree.js';
import type { Connection } from '../server/connection.js';
import type { Hub } from '../server/hub.js';
import type { XenstoreServer } from '../server/server.js';
import { putWatch } from '../server/watching.js';
import { messageBytes } from '../wire/message.js';
import type { Cause } from '../wire/output.js';
import { MessageParser } from '../wire/parser.js';
import { HEADER_BYTES } from '../wire/protocol.js';
import { getCount, readTransaction } from './exact.js';
import { adoptPendingNode } from './foreign.js';
import {
  type ConnectionRecord,
  type NodeRecord,
  readConnection,
  readNode,
  readQuotas,
  readWatch,
} from './records.js';
import * as stream from './stream.js';

interface ExactConnection {
  readonly domid: number;
  readonly failed: boolean;
  readonly nextTransactionId: number;
  readonly gone: number;
  readonly first: Uint8Array;
  /** The number and the domain of the cause of each unsent message. The number 0 means that there is none. */
  readonly causes: readonly (readonly [number, number])[];
}

export interface Restored {
  /** The connections by their numbers in the stream. Those of rings are also found with `server.domain`. */
  readonly connections: ReadonlyMap<number, Connection>;
}

/** Restores into a server that has not served anything yet. The caller attaches the transports. */
export function restoreState(server: XenstoreServer, bytes: Uint8Array): Restored {
  const records = stream.readStream(bytes);
  const all = (type: number): ByteReader[] => records.filter((r) => r.type === type).map((r) => r.body);
  restoreLimits(
    server,
    all(stream.TYPE_GLOBAL_QUOTA),
    all(stream.TYPE_DOMAIN),
    all(stream.TYPE_EXACT_DOMAIN),
  );
  const nodes = all(stream.TYPE_NODE).map((r) => [readNode(r), r] as const);
  const committed = nodes.filter(([n]) => n.connection === 0);
  restoreTree(server, committed, all(stream.TYPE_EXACT_GENERATIONS)[0]);
  server.store.accounts.recount(server.store.tree);

  const exact = new Map(all(stream.TYPE_EXACT_CONNECTION).map((r) => [r.u32(), readExactConnection(r)]));
  const connections = new Map<number, Connection>();
  const causes = new Map<number, Cause>();
  for (const r of all(stream.TYPE_CONNECTION)) {
    const record = readConnection(r);
    if (connections.has(record.id)) r.fail(`connection ${record.id} appears twice`);
    connections.set(record.id, restoreConnection(server, record, exact.get(record.id), causes, r));
  }
  const connectionOf = (id: number, r: ByteReader): Connection =>
    connections.get(id) ?? r.fail(`connection ${id} is not in the stream before this record`);
  for (const { type, body } of records) {
    if (type === stream.TYPE_WATCH || type === stream.TYPE_WATCH_EXTENDED)
      restoreWatch(server, body, type === stream.TYPE_WATCH_EXTENDED, connectionOf);
    else if (type === stream.TYPE_TRANSACTION) {
      const connection = connectionOf(body.u32(), body);
      const id = body.u32();
      // The transaction may have started before the last changes of the tree.
      connection.transactions.set(id, new Transaction(id, server.store.tree.snapshot(), -1));
      server.store.account(connection.actor.domid).transactions++;
    }
  }
  restoreTransactions(server, all(stream.TYPE_EXACT_TRANSACTION), nodes, connectionOf);
  return { connections };
}

function restoreLimits(
  server: XenstoreServer,
  global: readonly ByteReader[],
  domains: readonly ByteReader[],
  exact: readonly ByteReader[],
): void {
  const { accounts } = server.store;
  for (const r of global) {
    const count = r.u16() + r.u16();
    for (const [name, value] of readQuotas(r, count)) {
      if (isQuotaName(name)) accounts.quotas[name] = value;
      else if (name === 'soft-memory') accounts.softMemory = value;
    }
  }
  for (const r of exact) {
    const domid = r.u16();
    r.u16();
    r.u32();
    accounts.byDomid.delete(domid);
    accounts.of(domid, getCount(r));
  }
  for (const r of domains) {
    const account = accounts.of(r.u16(), 0);
    const count = r.u16();
    account.features = r.u32();
    for (const [name, value] of readQuotas(r, count)) if (isQuotaName(name)) account.limits[name] = value;
  }
}

function restoreTree(
  server: XenstoreServer,
  nodes: readonly (readonly [NodeRecord, ByteReader])[],
  generations: ByteReader | undefined,
): void {
  const { store } = server;
  let generation = generations === undefined ? 0 : getCount(generations);
  const tree = Tree.bare();
  for (const [n, r] of nodes) {
    const { path, value, permissions } = n;
    if (permissions.length === 0) r.fail(`node ${path} has no permissions`);
    const good = canonical(path, '', true, 0) === path;
    if (!good) r.fail(`'${path}' is not a valid path`);
    const own = generations === undefined ? ++generation : getCount(generations);
    const there = tree.find(path) !== undefined;
    if (there && path !== '/' && !path.startsWith('@')) r.fail(`node ${path} appears twice`);
    if (!there && path.startsWith('@')) r.fail(`there is no special node ${path}`);
    if (tree.find(parentPath(path)) === undefined) r.fail(`node ${path} appears before its parent`);
    apply(tree, path, { value, permissions, generation: own });
    // A stream of another implementation has no generations. The domains that its permissions name are taken to
    // exist.
    if (generations === undefined) for (const p of permissions) if (!p.ignored) store.accounts.of(p.domid, 0);
  }
  store.restore(tree, generation);
}

function readExactConnection(r: ByteReader): ExactConnection {
  const domid = r.u16();
  const failed = r.u16() !== 0;
  const nextTransactionId = r.u32();
  const gone = r.u32();
  const first = r.raw(r.u32());
  const causes: [number, number][] = [];
  for (let left = r.u32(); left > 0; left--) causes.push([r.u32(), r.u32()]);
  return { domid, failed, nextTransactionId, gone, first, causes };
}

function restoreConnection(
  server: XenstoreServer,
  record: ConnectionRecord,
  exact: ExactConnection | undefined,
  causes: Map<number, Cause>,
  r: ByteReader,
): Connection {
  const connection =
    record.kind === 'ring'
      ? server.restoreDomain(record.domid, record.port)
      : server.connect('socket', exact?.domid ?? 0);
  connection.actor.target = record.target;
  if (exact !== undefined) {
    connection.state = exact.failed ? 'failed' : 'open';
    connection.nextTransactionId = exact.nextTransactionId;
  }
  let queued = 0;
  const causeOfNext = (isEvent: boolean): Cause | undefined => {
    const [number, domid] = exact?.causes[queued++] ?? [0, 0];
    if (exact === undefined) {
      if (isEvent || connection.actor.privileged) return undefined;
      server.store.account(connection.actor.domid).outstanding++;
      return { domid: connection.actor.domid, pending: 1 };
    }
    if (number === 0) return undefined;
    let cause = causes.get(number);
    if (cause === undefined) {
      cause = { domid, pending: 0 };
      causes.set(number, cause);
      server.store.account(domid).outstanding++;
    }
    cause.pending++;
    return cause;
  };
  const account = server.store.account(connection.actor.domid);
  const { output } = connection;
  let at = record.partialBytes;
  if (at > 0) {
    const first =
      exact === undefined ? undefined : new MessageParser().push(exact.first, 0, exact.first.length);
    if (first?.kind === 'message' && exact!.gone === exact!.first.length - at) {
      output.pushStarted(first.message, exact!.gone, causeOfNext(false));
      account.memory += messageBytes(first.message);
    } else {
      output.pushRest(record.output.slice(0, at), causeOfNext(false));
      account.memory += HEADER_BYTES + at;
    }
  }
  const parser = new MessageParser();
  while (at < record.output.length) {
    const state = parser.push(record.output, at, record.output.length);
    if (state.kind !== 'message') return r.fail('whole unsent messages expected');
    at = parser.consumed;
    output.push(state.message, causeOfNext(state.message.type === XS_WATCH_EVENT));
    account.memory += messageBytes(state.message);
  }
  // Usually this is less than one request, but xenstored may hand over whole requests that it had delayed.
  for (let read = 0; read < record.input.length; read = connection.parser.consumed) {
    const state = connection.parser.push(record.input, read, record.input.length);
    if (state.kind === 'failed') return r.fail(`a request of ${state.length} bytes`);
    if (state.kind === 'message') server.later(() => server.handle(connection, state.message));
  }
  return connection;
}

function restoreWatch(
  server: Hub,
  r: ByteReader,
  extended: boolean,
  connectionOf: (id: number, r: ByteReader) => Connection,
): void {
  const record = readWatch(r, extended);
  const connection = connectionOf(record.connection, r);
  const path = canonical(record.path, connection.home, true, 0);
  if (typeof path === 'number') {
    r.fail(`'${record.path}' is not a path that can be watched`);
    return;
  }
  const relative = !record.path.startsWith('/') && !record.path.startsWith('@');
  const prefix = relative ? connection.home.length + 1 : 0;
  putWatch(server, connection, path, record.token, prefix, record.depth);
}

function restoreTransactions(
  server: XenstoreServer,
  exact: readonly ByteReader[],
  nodes: readonly (readonly [NodeRecord, ByteReader])[],
  connectionOf: (id: number, r: ByteReader) => Connection,
): void {
  const transactionOf = (connection: Connection, id: number, r: ByteReader): Transaction =>
    connection.transactions.get(id) ?? r.fail(`transaction ${id} is not in the stream before this record`);
  const done = new Set<Transaction>();
  for (const r of exact) {
    const connection = connectionOf(r.u32(), r);
    const t = transactionOf(connection, r.u32(), r);
    readTransaction(r, t);
    server.store.account(connection.actor.domid).memory += t.charged;
    done.add(t);
  }
  for (const [n, r] of nodes) {
    if (n.connection === 0) continue;
    const t = transactionOf(connectionOf(n.connection, r), n.transaction, r);
    if (!done.has(t)) adoptPendingNode(t, server.store.tree, n);
  }
}
