/**
 * The end of a transaction: its list of changes, and how they are applied to a tree that others may have changed
 * meanwhile.
 *
 * Invariants: the result of a commit is as if the transaction had run alone at that moment. If nobody else has
 * changed the tree meanwhile, the result is the transaction's own tree, including the order of children.
 */
import { EAGAIN, ENOMEM, ENOSPC } from '../../xen/errno.js';
import type { Errno } from './errno.js';
import { isDenied } from './gate.js';
import type { Actor } from './permissions.js';
import type { Store } from './store.js';
import { ABSENT, type Transaction } from './transaction.js';
import type { Content, Tree } from './tree.js';

/**
 * A node gets this content and is created if it does not exist. Without content the node and all nodes below it are
 * removed.
 */
interface Change {
  readonly path: string;
  readonly content: Content | undefined;
}

/**
 * Makes a transaction's changes visible to all and fires their watches. If that is not possible, it returns the error
 * and changes nothing. In both cases the transaction is over, and `release` must be called.
 */
export function commit(store: Store, actor: Actor, t: Transaction): 0 | Errno {
  const { accounts, tree } = store;
  if (t.failed) return ENOMEM;
  if (t.nodeCreated && !actor.privileged) {
    for (const [domid, added] of t.nodesOf) {
      const limit = accounts.limit(domid, 'nodes');
      if (domid !== 0 && limit !== 0 && store.account(domid).nodes + added > limit) return ENOSPC;
    }
  }
  if (tree.changes !== t.startedAt && conflicts(store, actor, t)) return EAGAIN;
  // The snapshot is released first. Then the changes below need not copy nodes to preserve the transaction's view.
  const changes = changesOf(t);
  tree.release(t.tree);
  for (const { path, content } of changes) {
    apply(tree, path, content);
    store.onStored?.(path, content);
  }
  for (const [domid, added] of t.nodesOf) store.account(domid).nodes += added;
  for (const [domid, added] of t.memoryOf) {
    store.account(domid).nodeBytes += added;
    store.account(domid).memory += added;
  }
  for (const access of t.accesses.values()) {
    if (access.fire !== undefined)
      store.onChange(access.path, tree.find(access.path), access.fire, access.permissions);
  }
  return 0;
}

/** Applies one change. Removing a node that does not exist is not an error. */
export function apply(tree: Tree, path: string, content: Content | undefined): void {
  const there = tree.find(path) !== undefined;
  if (content === undefined) {
    if (there) tree.remove(path);
  } else if (there) tree.set(path, content);
  else tree.add(path, content);
}

function conflicts({ tree, accounts }: Store, actor: Actor, t: Transaction): boolean {
  for (const access of t.accesses.values())
    if ((tree.find(access.path)?.generation ?? ABSENT) !== access.generation) return true;
  // What was denied must still be denied. This is all that the transaction has learned about such a node.
  const find = (path: string): Content | undefined => (t.accesses.has(path) ? t.tree : tree).find(path);
  for (const { path, wanted } of t.denied.values())
    if (!isDenied(accounts, actor, path, wanted, find)) return true;
  return false;
}

/**
 * Lists the changes in an order in which they can be applied: parents before children, older siblings before younger
 * ones.
 */
function changesOf(t: Transaction): Change[] {
  const modified = [...t.accesses.values()].filter((access) => access.modified);
  const changes: Change[] = [];
  // Removals come first. A node that was removed and created again is removed too, and then added at the end of its
  // siblings.
  for (const { path, created } of modified)
    if (created > 0 || t.tree.find(path) === undefined) changes.push({ path, content: undefined });
  const news = modified.filter((access) => access.created > 0).sort((a, b) => a.created - b.created);
  const kept = modified.filter((access) => access.created === 0);
  for (const { path } of [...news, ...kept]) {
    const content = t.tree.find(path);
    if (content !== undefined) changes.push({ path, content });
  }
  return changes;
}
