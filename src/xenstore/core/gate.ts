/**
 * The way to every node: whether the one who asks may have it. Inside a transaction all that is looked at is
 * noted, so that the commit can tell whether it still holds.
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

/** Who asks, and inside which transaction. */
export interface View {
  readonly actor: Actor;
  readonly transaction: Transaction | undefined;
}

export const treeOf = (store: Store, view: View): Tree => view.transaction?.tree ?? store.tree;

/** A node that exists and to which the view has all the access bits `wanted`. */
export function get(store: Store, view: View, path: string, wanted: number): Node | Errno {
  const { actor, transaction: t } = view;
  if (t !== undefined && !actor.privileged) {
    const denied = isDenied(store.accounts, actor, path, wanted, (p) => t.tree.find(p));
    // What is denied is not watched for conflicts, or their absence would tell of it; see `conflicts`.
    if (denied) return enterDenied(store, actor, t, path, wanted);
  }
  const n = fetch(store, view, path);
  if (typeof n === 'number') return n;
  if (n !== undefined) {
    const granted = accessOf(actor, n.permissions, n.generation, store.accounts.counts);
    return (granted & wanted) === wanted ? n : EACCES;
  }
  // Whether a node is missing is told only to those who may access the nearest node above it.
  for (let above = path; ; ) {
    above = parentPath(above);
    const parent = fetch(store, view, above);
    if (typeof parent === 'number') return parent;
    if (parent === undefined) continue;
    const granted = accessOf(actor, parent.permissions, parent.generation, store.accounts.counts);
    return (granted & wanted) !== 0 ? ENOENT : EACCES;
  }
}

/** A node as the view sees it, whatever its rights; in a transaction it is from now on watched for conflicts. */
export function fetch(store: Store, view: View, path: string): Node | undefined | Errno {
  const t = view.transaction;
  if (t === undefined) return store.tree.find(path);
  const n = t.tree.find(path);
  const access = enter(store, view.actor, t, path, n);
  return typeof access === 'number' ? access : n;
}

/** Notes that the transaction has looked at a node; ENOSPC if it has looked at too many. */
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

/** Whether the answer is EACCES. */
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
