/**
 * Access to nodes: every access goes through here and is checked against the permissions. Inside a transaction each
 * node that is looked at is recorded, so that the commit can tell whether it has changed since.
 */

import { EACCES, ENOENT, ENOSPC } from '../../xen/errno.js';
import type { Accounts } from './accounts.js';
import { nodeBytes } from './accounts.js';
import type { Errno } from './errno.js';
import { parentPath } from './path.js';
import { type Actor, accessOf } from './permissions.js';
import type { Store } from './store.js';
import { ABSENT, type Access, type Transaction } from './transaction.js';
import type { Content, Node, Tree } from './tree.js';

/** Who is asking, and inside which transaction. */
export interface View {
  readonly actor: Actor;
  readonly transaction: Transaction | undefined;
}

export const treeOf = (store: Store, view: View): Tree => view.transaction?.tree ?? store.tree;

/** Returns a node that exists and to which the view has all the access bits in `wanted`. */
export function get(store: Store, view: View, path: string, wanted: number): Node | Errno {
  const { actor, transaction: t } = view;
  if (t !== undefined && !actor.privileged) {
    const denied = isDenied(store.accounts, actor, path, wanted, (p) => t.tree.find(p));
    // Denied nodes are not watched for conflicts like others: such a conflict would reveal that the node was created
    // or removed. See `conflicts`.
    if (denied) return enterDenied(store, actor, t, path, wanted);
  }
  const n = fetch(store, view, path);
  if (typeof n === 'number') return n;
  if (n !== undefined) {
    const granted = accessOf(actor, n.permissions, n.generation, store.accounts.counts);
    return (granted & wanted) === wanted ? n : EACCES;
  }
  // Only those who may access the nearest existing node above are told that a node is missing.
  for (let above = path; ; ) {
    above = parentPath(above);
    const parent = fetch(store, view, above);
    if (typeof parent === 'number') return parent;
    if (parent === undefined) continue;
    const granted = accessOf(actor, parent.permissions, parent.generation, store.accounts.counts);
    return (granted & wanted) !== 0 ? ENOENT : EACCES;
  }
}

/**
 * Returns a node as the view sees it, without a check of permissions. A transaction watches the node for conflicts
 * from now on.
 */
export function fetch(store: Store, view: View, path: string): Node | undefined | Errno {
  const t = view.transaction;
  if (t === undefined) return store.tree.find(path);
  const n = t.tree.find(path);
  const access = enter(store, view.actor, t, path, n);
  return typeof access === 'number' ? access : n;
}

/** Records that the transaction has looked at a node. Returns ENOSPC if it has looked at too many. */
export function enter(
  store: Store,
  actor: Actor,
  t: Transaction,
  path: string,
  n: Node | undefined,
): Access | Errno {
  const known = t.accesses.get(path);
  if (known !== undefined) return known;
  if (isFull(store, actor, t)) return ENOSPC;
  const access: Access = {
    path,
    generation: n?.generation ?? ABSENT,
    permissions: n?.permissions,
    modified: false,
    created: 0,
    fire: undefined,
  };
  t.accesses.set(path, access);
  store.charge(actor, t, path.length + (n === undefined ? 0 : nodeBytes(n)));
  return access;
}

function enterDenied(store: Store, actor: Actor, t: Transaction, path: string, wanted: number): Errno {
  const key = `${wanted}${path}`;
  if (t.denied.has(key)) return EACCES;
  if (isFull(store, actor, t)) return ENOSPC;
  t.denied.set(key, { path, wanted });
  store.charge(actor, t, path.length);
  return EACCES;
}

function isFull(store: Store, actor: Actor, t: Transaction): boolean {
  const full = store.accounts.exceeds(actor, 'transaction-nodes', t.accesses.size + t.denied.size + 1);
  if (full) t.failed = true;
  return full;
}

/** Whether this access is answered with EACCES. */
export function isDenied(
  accounts: Accounts,
  actor: Actor,
  path: string,
  wanted: number,
  find: (path: string) => Content | undefined,
): boolean {
  const there = find(path);
  if (there !== undefined)
    return (accessOf(actor, there.permissions, there.generation, accounts.counts) & wanted) !== wanted;
  for (let above = path; ; ) {
    above = parentPath(above);
    const parent = find(above);
    if (parent !== undefined)
      return (accessOf(actor, parent.permissions, parent.generation, accounts.counts) & wanted) === 0;
  }
}
