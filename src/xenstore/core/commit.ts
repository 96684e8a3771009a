/**
 * The end of a transaction: its changes as a list, and what they make of the tree that others may have changed
 * meanwhile. Invariants: a transaction that commits might as well have run at that moment, alone; on a tree that
 * nobody has changed meanwhile the result is the transaction's own tree, down to the order of children.
 */
import { EAGAIN, ENOMEM, ENOSPC } from '../../xen/errno.js';
import type { Errno } from './errno.js';
import { isDenied } from './gate.js';
import type { Actor } from './permissions.js';
import type { Store } from './store.js';
import { ABSENT, type Transaction } from './transaction.js';
import type { Content, Tree } from './tree.js';

/** One node gets this content, being made if it is not there; or goes, with all below it. */
interface Change {
  readonly path: string;
  readonly content: Content | undefined;
}

/**
 * Makes a transaction's changes visible to all, and tells of them; or answers why not, having changed nothing.
 * The transaction is over either way: `release` is due.
 */
export function commit(store: Store, actor: Actor, t: Transaction): 0 | Errno {
  const { accounts, tree } = store;
  if (t.failed) return ENOMEM;
  if (t.nodeCreated && !actor.privileged) {
    for (const [domid, more] of t.nodesOf) {
      const limit = accounts.limit(domid, 'nodes');
      if (domid !== 0 && limit !== 0 && store.account(domid).nodes + more > limit) return ENOSPC;
    }
  }
  if (tree.changes !== t.startedAt && conflicts(store, actor, t)) return EAGAIN;
  // Before the changes are made, so that they need not spare the transaction's view.
  const changes = changesOf(t);
  tree.release(t.tree);
  for (const { path, content } of changes) {
    apply(tree, path, content);
    store.onStored?.(path, content);
  }
  for (const [domid, more] of t.nodesOf) store.account(domid).nodes += more;
  for (const [domid, more] of t.memoryOf) {
    store.account(domid).nodeBytes += more;
    store.account(domid).memory += more;
  }
  for (const access of t.accesses.values()) {
    if (access.fire !== undefined)
      store.onChange(access.path, tree.find(access.path), access.fire, access.permissions);
  }
  return 0;
}

/** Makes one change. A node that is to go and is not there is no error. */
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
  // What was denied must still be: that, and no more, is what the transaction knows of it.
  const find = (path: string): Content | undefined => (t.accesses.has(path) ? t.tree : tree).find(path);
  for (const { path, wanted } of t.denied.values())
    if (!isDenied(accounts, actor, path, wanted, find)) return true;
  return false;
}

/** In an order in which they can be made: parents stand before children, older siblings before younger. */
function changesOf(t: Transaction): Change[] {
  const modified = [...t.accesses.values()].filter((access) => access.modified);
  const changes: Change[] = [];
  // What went, or went and came back (then at the end of its siblings), goes first.
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
