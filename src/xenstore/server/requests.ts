/**
 * The operations of the protocol. Each is a function from a request's payload to a reply's payload or an errno; they
 * are in the order of their numbers.
 * Source: docs/misc/xenstore.txt; replies and errors were compared with xenstored 4.17 (test/xenstore).
 */

import { E2BIG, EACCES, EBUSY, EINVAL, ENOENT, ENOSPC, ENOSYS } from '../../xen/errno.js';
import { DOMID_SELF } from '../../xen/hypercalls.js';
import * as op from '../../xen/xs-wire.js';
import { commit } from '../core/commit.js';
import { type Errno, errnoName } from '../core/errno.js';
import type { View } from '../core/gate.js';
import { atoi, canonical, homePath } from '../core/path.js';
import { formatPermission, type Permission, parsePermission, permission } from '../core/permissions.js';
import type { Transaction } from '../core/transaction.js';
import type { Node } from '../core/tree.js';
import { UNLIMITED } from '../core/watches.js';
import type { Message } from '../wire/message.js';
import type { Connection } from './connection.js';
import { control } from './control.js';
import type { Hub } from './hub.js';
import { getFeature, getQuota, setFeature, setQuota } from './limits.js';
import { addWatch, dropWatches, removeWatch } from './watching.js';

/** What the function of an operation gets. */
interface Request {
  readonly hub: Hub;
  readonly connection: Connection;
  readonly body: string;
  readonly transaction: Transaction | undefined;
}

type Handler = (r: Request) => string | Errno;

interface Operation {
  readonly run: Handler;
  /** The transaction id of the request is ignored. */
  readonly ignoresTransaction?: boolean;
  readonly privileged?: boolean;
}

const OK = 'OK\0';
const done = (error: 0 | Errno): string | Errno => (error === 0 ? OK : error);

/** Returns the argument of a request whose payload is exactly one NUL-terminated string. */
function only(body: string): string | undefined {
  return body.length > 0 && body.indexOf('\0') === body.length - 1 ? body.slice(0, -1) : undefined;
}

/** The NUL-terminated strings of a payload. Bytes after the last NUL are not a string. */
const strings = (body: string): string[] => body.split('\0').slice(0, -1);

const viewOf = (r: Request): View => ({ actor: r.connection.actor, transaction: r.transaction });

function pathOf(r: Request, text: string | undefined, special = false): string | Errno {
  if (text === undefined) return EINVAL;
  const { actor, home } = r.connection;
  // A path at which a node exists is valid, so the usual case needs no other check.
  const { tree } = r.hub.store;
  if (actor.privileged && text.charCodeAt(0) === 0x2f && tree.find(text) !== undefined) return text;
  const limit = actor.privileged ? 0 : r.hub.store.accounts.limit(actor.domid, 'path-max');
  return canonical(text, home, special, limit);
}

function nodeOf(r: Request, text: string | undefined): Node | Errno {
  const path = pathOf(r, text);
  return typeof path === 'number' ? path : r.hub.store.directory(viewOf(r), path);
}

function directory(r: Request): string | Errno {
  const n = nodeOf(r, only(r.body));
  return typeof n === 'number' ? n : n.children.list();
}

function read(r: Request): string | Errno {
  const path = pathOf(r, only(r.body));
  return typeof path === 'number' ? path : r.hub.store.read(viewOf(r), path);
}

function getPermissions(r: Request): string | Errno {
  const path = pathOf(r, only(r.body), true);
  const all = typeof path === 'number' ? path : r.hub.store.permissions(viewOf(r), path);
  return typeof all === 'number' ? all : all.map((p) => `${formatPermission(p)}\0`).join('');
}

function watch(r: Request): string | Errno {
  const args = strings(r.body);
  let depth = UNLIMITED;
  const { hub, connection } = r;
  const features = hub.store.account(connection.actor.domid).features;
  if (args.length === 3 && (features & op.XENSTORE_SERVER_FEATURE_WATCHDEPTH) !== 0) {
    depth = atoi(args[2]);
    if (depth < 0) return EINVAL;
  } else if (args.length !== 2) return EINVAL;
  const path = pathOf(r, args[0], true);
  if (typeof path === 'number') return path;
  const relative = args[0][0] !== '/' && args[0][0] !== '@';
  const set = addWatch(hub, connection, path, args[1], relative ? connection.home.length + 1 : 0, depth);
  return typeof set === 'number' ? set : OK;
}

function unwatch(r: Request): string | Errno {
  const args = strings(r.body);
  if (args.length !== 2) return EINVAL;
  const path = pathOf(r, args[0], true);
  if (typeof path === 'number') return path;
  const there = r.hub.watches.find(r.connection, path, args[1]);
  if (there === undefined) return ENOENT;
  removeWatch(r.hub, r.connection, there);
  return OK;
}

function transactionStart(r: Request): string | Errno {
  if (r.transaction !== undefined) return EBUSY;
  const t = r.hub.startTransaction(r.connection);
  return typeof t === 'number' ? t : `${t.id}\0`;
}

function transactionEnd(r: Request): string | Errno {
  if (r.body !== 'T\0' && r.body !== 'F\0') return EINVAL;
  const t = r.transaction;
  if (t === undefined) return ENOENT;
  const error = r.body === 'T\0' ? commit(r.hub.store, r.connection.actor, t) : 0;
  r.hub.endTransaction(r.connection, t);
  return done(error);
}

function introduce(r: Request): string | Errno {
  const args = strings(r.body);
  if (args.length < 3) return EINVAL;
  const domid = atoi(args[0]);
  const port = atoi(args[2]);
  if (port <= 0 || domid <= 0 || domid >= DOMID_SELF) return EINVAL;
  return done(r.hub.introduceFor(domid, atoi(args[1]), port));
}

/** Parses a domain id, which must be that of an introduced domain other than 0. */
function domainOf(r: Request): number | { readonly error: Errno } {
  const text = only(r.body);
  if (text === undefined) return { error: EINVAL };
  const domid = atoi(text);
  if (domid === 0) return { error: EINVAL };
  return r.hub.domain(domid) === undefined ? { error: ENOENT } : domid;
}

function release(r: Request): string | Errno {
  const domid = domainOf(r);
  return typeof domid === 'number' ? done(r.hub.release(domid)) : domid.error;
}

function getDomainPath(r: Request): string | Errno {
  const text = only(r.body);
  return text === undefined ? EINVAL : `${homePath(atoi(text) >>> 0)}\0`;
}

function write(r: Request): string | Errno {
  const end = r.body.indexOf('\0');
  if (end < 0) return EINVAL;
  const path = pathOf(r, r.body.slice(0, end));
  if (typeof path === 'number') return path;
  return done(r.hub.store.write(viewOf(r), path, r.body.slice(end + 1)));
}

function mkdir(r: Request): string | Errno {
  const path = pathOf(r, only(r.body));
  return typeof path === 'number' ? path : done(r.hub.store.mkdir(viewOf(r), path));
}

function remove(r: Request): string | Errno {
  const path = pathOf(r, only(r.body));
  return typeof path === 'number' ? path : done(r.hub.store.remove(viewOf(r), path));
}

function setPermissions(r: Request): string | Errno {
  const [text, ...entries] = strings(r.body);
  if (entries.length === 0) return EINVAL;
  if (r.hub.store.accounts.exceeds(r.connection.actor, 'permissions', entries.length)) return ENOSPC;
  const wanted: Permission[] = [];
  for (const entry of entries) {
    const parsed = parsePermission(entry);
    if (typeof parsed === 'number') return parsed;
    const unknown = parsed.domid >= DOMID_SELF;
    wanted.push(unknown ? permission(parsed.domid, parsed.access, true) : parsed);
  }
  if (wanted[0].ignored) return ENOENT;
  const path = pathOf(r, text, true);
  return typeof path === 'number' ? path : done(r.hub.store.setPermissions(viewOf(r), path, wanted));
}

function isDomainIntroduced(r: Request): string | Errno {
  const text = only(r.body);
  if (text === undefined) return EINVAL;
  const domid = atoi(text);
  return domid === DOMID_SELF || r.hub.isIntroduced(domid) ? 'T\0' : 'F\0';
}

function resume(r: Request): string | Errno {
  const domid = domainOf(r);
  return typeof domid === 'number' ? OK : domid.error;
}

function setTarget(r: Request): string | Errno {
  const args = strings(r.body);
  if (args.length < 2) return EINVAL;
  const connection = r.hub.domain(atoi(args[0]));
  const target = atoi(args[1]);
  if (connection === undefined || r.hub.domain(target) === undefined) return ENOENT;
  connection.actor.target = target;
  return OK;
}

function resetWatches(r: Request): string | Errno {
  dropWatches(r.hub, r.connection);
  r.hub.dropTransactions(r.connection);
  return OK;
}

/**
 * Returns a part of the list of children, from a byte offset on: the node's generation, then as many whole names as
 * fit. The last name is followed by an empty one.
 */
function directoryPart(r: Request): string | Errno {
  const args = strings(r.body);
  if (args.length !== 2) return EINVAL;
  const n = nodeOf(r, args[0]);
  if (typeof n === 'number') return n;
  const generation = `${n.generation}\0`;
  const list = n.children.list();
  const offset = atoi(args[1]) >>> 0;
  if (offset >= list.length) return `${generation}\0`;
  const room = op.XENSTORE_PAYLOAD_MAX - generation.length - 1;
  let end = offset;
  while (end < list.length) {
    const next = list.indexOf('\0', end) + 1;
    if (next - 1 - offset >= room) break;
    end = next;
  }
  return `${generation}${list.slice(offset, end)}${end === list.length ? '\0' : ''}`;
}

const OPERATIONS: readonly (Operation | undefined)[] = Object.assign(
  Array(op.XS_SET_QUOTA + 1).fill(undefined),
  {
    [op.XS_CONTROL]: { run: (r: Request) => control(r.hub, r.body), privileged: true },
    [op.XS_DIRECTORY]: { run: directory },
    [op.XS_READ]: { run: read },
    [op.XS_GET_PERMS]: { run: getPermissions },
    [op.XS_WATCH]: { run: watch, ignoresTransaction: true },
    [op.XS_UNWATCH]: { run: unwatch, ignoresTransaction: true },
    [op.XS_TRANSACTION_START]: { run: transactionStart },
    [op.XS_TRANSACTION_END]: { run: transactionEnd },
    [op.XS_INTRODUCE]: { run: introduce, privileged: true },
    [op.XS_RELEASE]: { run: release, privileged: true },
    [op.XS_GET_DOMAIN_PATH]: { run: getDomainPath },
    [op.XS_WRITE]: { run: write },
    [op.XS_MKDIR]: { run: mkdir },
    [op.XS_RM]: { run: remove },
    [op.XS_SET_PERMS]: { run: setPermissions },
    [op.XS_IS_DOMAIN_INTRODUCED]: { run: isDomainIntroduced, privileged: true },
    [op.XS_RESUME]: { run: resume, privileged: true },
    [op.XS_SET_TARGET]: { run: setTarget, privileged: true },
    [op.XS_RESET_WATCHES]: { run: resetWatches },
    [op.XS_DIRECTORY_PART]: { run: directoryPart },
    [op.XS_GET_FEATURE]: { run: (r: Request) => getFeature(r.hub, r.connection, strings(r.body)) },
    [op.XS_SET_FEATURE]: { run: (r: Request) => setFeature(r.hub, strings(r.body)), privileged: true },
    [op.XS_GET_QUOTA]: { run: (r: Request) => getQuota(r.hub, strings(r.body)), privileged: true },
    [op.XS_SET_QUOTA]: { run: (r: Request) => setQuota(r.hub, strings(r.body)), privileged: true },
  },
);

/** Serves one request. `reply` is called exactly once, with the reply's type and payload. */
export function answer(
  hub: Hub,
  connection: Connection,
  request: Message,
  reply: (type: number, body: string) => void,
): void {
  const result = perform(hub, connection, request);
  if (typeof result === 'number') reply(op.XS_ERROR, `${errnoName(result)}\0`);
  else if (result.length > op.XENSTORE_PAYLOAD_MAX) reply(op.XS_ERROR, `${errnoName(E2BIG)}\0`);
  else {
    reply(request.type, result);
    if (request.type === op.XS_WATCH) hub.fireFirst(connection.watches[connection.watches.length - 1]);
  }
}

function perform(hub: Hub, connection: Connection, request: Message): string | Errno {
  const operation = OPERATIONS[request.type];
  if (operation === undefined) return ENOSYS;
  if (operation.privileged && !connection.actor.privileged) return EACCES;
  let transaction: Transaction | undefined;
  if (request.txId !== 0 && !operation.ignoresTransaction) {
    transaction = connection.transactions.get(request.txId);
    if (transaction === undefined) return ENOENT;
  }
  return operation.run({ hub, connection, body: request.body, transaction });
}
