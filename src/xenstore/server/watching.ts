/** Who may set watches, who is told of a change, and what watches cost their domain. */
import { E2BIG, EEXIST, ENOMEM } from '../../xen/errno.js';
import type { Errno } from '../core/errno.js';
import { parentPath } from '../core/path.js';
import { type Permissions, READ } from '../core/permissions.js';
import type { Match } from '../core/transaction.js';
import type { Content } from '../core/tree.js';
import { type Watch, type Watcher, Watches } from '../core/watches.js';
import type { Connection } from './connection.js';
import type { Hub } from './hub.js';

/** A node was changed or created, or is about to be removed: tells those who watch it and may know. */
export function fireChange(
  { store, watches }: Hub,
  path: string,
  content: Content | undefined,
  match: Match,
  before: Permissions | undefined,
): void {
  if (watches.size === 0) return;
  const readable = ({ actor }: Watcher, permissions: Permissions, generation: number): boolean =>
    (store.access(actor, permissions, generation) & READ) !== 0;
  watches.fire(path, match, (watcher) => {
    // Those who could read the node before, can read it now, or can read the list of names that contains it, may
    // know.
    if (before !== undefined && readable(watcher, before, content?.generation ?? store.generation))
      return true;
    if (content === undefined) return false;
    if (readable(watcher, content.permissions, content.generation)) return true;
    const parent = store.tree.find(parentPath(path));
    return parent !== undefined && readable(watcher, parent.permissions, parent.generation);
  });
}

/** A domain came or went: fires the watches for `name`. Watches with a depth also get the id of the domain. */
export function fireSpecial({ store, watches }: Hub, name: string, domid: number): void {
  const { permissions, generation } = store.tree.find(name)!;
  const permitted = ({ actor }: Watcher): boolean =>
    (store.access(actor, permissions, generation) & READ) !== 0;
  watches.fire(name, 'special', permitted);
  watches.fire(`${name}/${domid}`, 'below', permitted);
}

/** Sets a watch, within the limits. The caller fires its first event. */
export function addWatch(
  hub: Hub,
  connection: Connection,
  path: string,
  token: string,
  prefix: number,
  depth: number,
): Watch | Errno {
  const { store, watches } = hub;
  const { actor } = connection;
  if (watches.find(connection, path, token) !== undefined) return EEXIST;
  const account = store.account(actor.domid);
  if (store.accounts.exceeds(actor, 'watches', account.watches)) return E2BIG;
  if (store.accounts.exceeds(actor, 'memory', account.memory + path.length + token.length)) return ENOMEM;
  return putWatch(hub, connection, path, token, prefix, depth);
}

/** Sets a watch, whatever the limits are. */
export function putWatch(
  { store, watches }: Hub,
  connection: Connection,
  path: string,
  token: string,
  prefix: number,
  depth: number,
): Watch {
  const watch = watches.add(connection, path, token, prefix, depth);
  connection.watches.push(watch);
  const account = store.account(connection.actor.domid);
  account.watches++;
  account.memory += Watches.bytes(watch);
  return watch;
}

export function removeWatch({ store, watches }: Hub, connection: Connection, watch: Watch): void {
  watches.delete(watch);
  connection.watches.splice(connection.watches.indexOf(watch), 1);
  const account = store.account(connection.actor.domid);
  account.watches--;
  account.memory -= Watches.bytes(watch);
}

export function dropWatches(hub: Hub, connection: Connection): void {
  for (const watch of [...connection.watches].reverse()) removeWatch(hub, connection, watch);
}
