/**
 * Open transactions from a stream with Xen's records only: what the transaction has read is compared with the tree,
 * and what it has written is written again. If another client has changed one of the nodes since, the commit will
 * fail, as it would have.
 */
import { apply } from '../core/commit.js';
import { parentPath } from '../core/path.js';
import { formatPermission } from '../core/permissions.js';
import { ABSENT, type Transaction } from '../core/transaction.js';
import type { Content, Tree } from '../core/tree.js';
import { ACCESS_WRITTEN, type NodeRecord } from './records.js';

/** A generation that no node has, so that the commit finds a conflict. */
const CONFLICT = -2;

const sameAs = (n: NodeRecord, content: Content): boolean =>
  n.value === content.value &&
  n.permissions.map(formatPermission).join() === content.permissions.map(formatPermission).join();

/**
 * Adds a node that the transaction has looked at. `base` is the tree of all clients. Parents must come before
 * children.
 */
export function adoptPendingNode(t: Transaction, base: Tree, n: NodeRecord): void {
  const live = base.find(n.path);
  const gone = n.permissions.length === 0;
  const written = (n.access & ACCESS_WRITTEN) !== 0 || (gone && n.access === 0);
  let generation = live?.generation ?? ABSENT;
  if (!written && (gone ? live !== undefined : live === undefined || !sameAs(n, live))) generation = CONFLICT;
  const isNew = !gone && live === undefined;
  t.accesses.set(n.path, {
    path: n.path,
    generation,
    permissions: live?.permissions,
    modified: written,
    created: isNew ? ++t.creations : 0,
    fire: written ? 'subtree' : undefined,
  });
  if (gone) {
    if (n.path !== '/') apply(t.tree, n.path, undefined);
    return;
  }
  if (isNew) t.nodeCreated = true;
  if (t.tree.find(n.path) === undefined && t.tree.find(parentPath(n.path)) === undefined) return;
  const content = {
    value: n.value,
    permissions: n.permissions,
    generation: live?.generation ?? base.root.generation,
  };
  apply(t.tree, n.path, content);
}
