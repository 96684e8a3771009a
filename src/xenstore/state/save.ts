/**
 * Saves the whole state of a server as a stream: tree, limits and domains, and for every client its watches,
 * transactions, partly read request and unsent messages. Clients inside the process are not saved, because their code
 * is not either. Saving changes nothing, and is possible between any two bytes of a conversation.
 */

import { childPath } from '../core/path.js';
import { QUOTA_NAMES } from '../core/quotas.js';
import { ABSENT } from '../core/transaction.js';
import { INTRODUCE_DOMAIN, type Node, RELEASE_DOMAIN } from '../core/tree.js';
import { UNLIMITED } from '../core/watches.js';
import type { Connection } from '../server/connection.js';
import type { Hub } from '../server/hub.js';
import { encodeMessage } from '../wire/message.js';
import type { Cause } from '../wire/output.js';
import { putCount, writeTransaction } from './exact.js';
import {
  ACCESS_READ,
  ACCESS_WRITTEN,
  writeConnection,
  writeNode,
  writeQuotas,
  writeWatch,
} from './records.js';
import * as stream from './stream.js';

export interface SaveOptions {
  /** False to save only what outlives all clients: the tree, limits and domains. True by default. */
  readonly connections?: boolean;
  /** The number of the journal that continues this state. */
  readonly journal?: number;
  /** Returns the file descriptor to write into a socket's record; -1 by default. */
  socketFd?(connection: Connection): number;
}

export function saveState(hub: Hub, options: SaveOptions = {}): Uint8Array {
  const out = new stream.StateWriter();
  out.record(stream.TYPE_GLOBAL, (w) => {
    w.u32(0xffffffff);
    w.u32(0xffffffff);
  });
  const { journal } = options;
  if (journal !== undefined) out.record(stream.TYPE_JOURNAL, (w) => putCount(w, journal));
  saveLimits(out, hub);
  const connections = new Map<number, Connection>();
  if (options.connections ?? true)
    for (const c of hub.connections) if (c.kind !== 'local') connections.set(connections.size + 1, c);

  const causes = new Map<Cause, number>();
  for (const [id, c] of connections) saveConnection(out, id, c, causes, options.socketFd?.(c) ?? -1);
  const generations = saveNodes(out, hub);
  out.record(stream.TYPE_EXACT_GENERATIONS, (w) => {
    putCount(w, hub.store.generation);
    for (const generation of generations) putCount(w, generation);
  });
  for (const [id, c] of connections) saveTransactions(out, hub, id, c);
  return out.end();
}

function saveLimits(out: stream.StateWriter, hub: Hub): void {
  const { accounts } = hub.store;
  out.record(stream.TYPE_GLOBAL_QUOTA, (w) => {
    w.u16(QUOTA_NAMES.length);
    w.u16(1);
    writeQuotas(w, [
      ...QUOTA_NAMES.map((name) => [name, accounts.quotas[name]] as const),
      ['soft-memory', accounts.softMemory],
    ]);
  });
  for (const account of accounts.byDomid.values()) {
    const own = Object.entries(account.limits);
    out.record(stream.TYPE_DOMAIN, (w) => {
      w.u16(account.domid);
      w.u16(own.length);
      w.u32(account.features);
      writeQuotas(w, own);
    });
    out.record(stream.TYPE_EXACT_DOMAIN, (w) => {
      w.u16(account.domid);
      w.u16(0);
      w.u32(0);
      putCount(w, account.generation);
    });
  }
}

function saveConnection(
  out: stream.StateWriter,
  id: number,
  c: Connection,
  causes: Map<Cause, number>,
  fd: number,
): void {
  const waiting = c.output.waiting();
  const unsent = waiting.messages.map(encodeMessage);
  const first = waiting.gone > 0 ? unsent[0] : new Uint8Array(0);
  if (waiting.gone > 0) unsent[0] = first.subarray(waiting.gone);
  const output = new Uint8Array(unsent.reduce((sum, bytes) => sum + bytes.length, 0));
  let at = 0;
  for (const bytes of unsent) {
    output.set(bytes, at);
    at += bytes.length;
  }
  const { domid, target } = c.actor;
  out.record(stream.TYPE_CONNECTION, (w) =>
    writeConnection(w, {
      id,
      kind: c.kind === 'ring' ? 'ring' : 'socket',
      domid,
      target,
      port: c.port,
      fd,
      input: c.parser.partial,
      partialBytes: waiting.gone > 0 ? unsent[0].length : 0,
      output,
    }),
  );
  out.record(stream.TYPE_EXACT_CONNECTION, (w) => {
    w.u32(id);
    w.u16(domid);
    w.u16(c.state === 'open' ? 0 : 1);
    w.u32(c.nextTransactionId);
    w.u32(waiting.gone);
    w.u32(first.length);
    w.raw(first);
    w.u32(waiting.causes.length);
    for (const cause of waiting.causes) {
      if (cause !== undefined && !causes.has(cause)) causes.set(cause, causes.size + 1);
      w.u32(cause === undefined ? 0 : causes.get(cause)!);
      w.u32(cause?.domid ?? 0);
    }
  });
  for (const watch of c.watches) {
    const type = watch.depth === UNLIMITED ? stream.TYPE_WATCH : stream.TYPE_WATCH_EXTENDED;
    const { token, depth } = watch;
    const path = watch.path.slice(watch.prefix);
    out.record(type, (w) => writeWatch(w, { connection: id, path, token, depth }));
  }
  for (const t of c.transactions.keys())
    out.record(stream.TYPE_TRANSACTION, (w) => {
      w.u32(id);
      w.u32(t);
    });
}

/** Writes parents before children and siblings in their order. Returns the generations in the same order. */
function saveNodes(out: stream.StateWriter, hub: Hub): number[] {
  const generations: number[] = [];
  const walk = (path: string, n: Node): void => {
    const { value, permissions, generation } = n;
    generations.push(generation);
    out.record(stream.TYPE_NODE, (w) =>
      writeNode(w, { connection: 0, transaction: 0, access: 0, path, value, permissions }),
    );
    for (const name of n.children.names()) walk(childPath(path, name), n.children.get(name)!);
  };
  for (const top of [RELEASE_DOMAIN, INTRODUCE_DOMAIN, '/']) walk(top, hub.store.tree.find(top)!);
  return generations;
}

function saveTransactions(out: stream.StateWriter, hub: Hub, connection: number, c: Connection): void {
  for (const t of c.transactions.values()) {
    for (const a of t.accesses.values()) {
      const content = t.tree.find(a.path);
      const read = a.generation !== ABSENT || !a.modified ? ACCESS_READ : 0;
      const deleted = content === undefined && a.modified;
      const access = deleted ? 0 : read | (a.modified ? ACCESS_WRITTEN : 0);
      out.record(stream.TYPE_NODE, (w) =>
        writeNode(w, {
          connection,
          transaction: t.id,
          access,
          path: a.path,
          value: content?.value ?? '',
          permissions: content?.permissions ?? [],
        }),
      );
    }
    out.record(stream.TYPE_EXACT_TRANSACTION, (w) => {
      w.u32(connection);
      w.u32(t.id);
      writeTransaction(w, hub.store.tree, t);
    });
  }
}
