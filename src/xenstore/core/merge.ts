/**
 * A transaction's changes on top of a tree that others have changed meanwhile elsewhere.
 * Invariant: if nobody else changed anything, the result equals the transaction's own tree, down to the order
 * of children.
 */
import { noChildren } from './children.js';
import type { Transaction } from './transaction.js';
import { lookup, type Node, removed, replace, type Tree } from './tree.js';

/** To be called only if no node that the transaction looked at has changed since its start. */
export function merged(tree: Tree, t: Transaction): Tree {
  let result = tree;
  const modified = [...t.accesses.values()].filter((access) => access.modified);
  // What went, or went and came back (then at the end of its siblings), goes first.
  for (const { path, created } of modified) {
    if ((created > 0 || lookup(t.tree, path) === undefined) && lookup(result, path) !== undefined)
      result = removed(result, path);
  }
  // In the order of creation: parents stand before their children, older siblings before younger.
  const news = modified.filter((access) => access.created > 0).sort((a, b) => a.created - b.created);
  const kept = modified.filter((access) => access.created === 0);
  for (const { path } of [...news, ...kept]) {
    const own = lookup(t.tree, path);
    if (own === undefined) continue;
    const there = lookup(result, path);
    result = replace(result, path, { content: own.content, children: there?.children ?? noChildren<Node>() });
  }
  return result;
}
