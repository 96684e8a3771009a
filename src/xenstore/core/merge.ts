/**
 * A transaction's changes as a list, and what they make of a tree that others have changed meanwhile
 * elsewhere. Invariant: on the transaction's own base the result equals its own tree, down to the order of
 * children.
 */
import { noChildren } from './children.js';
import type { Transaction } from './transaction.js';
import { type Content, lookup, type Node, removed, replace, replaceContent, type Tree } from './tree.js';

/** One node gets this content, being made if it is not there; or goes, with all below it. */
export interface Change {
  readonly path: string;
  readonly content: Content | undefined;
}

/** In an order in which they can be made: parents stand before children, older siblings before younger. */
export function changesOf(t: Transaction): Change[] {
  const modified = [...t.accesses.values()].filter((access) => access.modified);
  const changes: Change[] = [];
  // What went, or went and came back (then at the end of its siblings), goes first.
  for (const { path, created } of modified)
    if (created > 0 || lookup(t.tree, path) === undefined) changes.push({ path, content: undefined });
  const news = modified.filter((access) => access.created > 0).sort((a, b) => a.created - b.created);
  const kept = modified.filter((access) => access.created === 0);
  for (const { path } of [...news, ...kept]) {
    const own = lookup(t.tree, path);
    if (own !== undefined) changes.push({ path, content: own.content });
  }
  return changes;
}

export function applied(tree: Tree, { path, content }: Change): Tree {
  const there = lookup(tree, path);
  if (content === undefined) return there === undefined ? tree : removed(tree, path);
  if (there !== undefined) return replaceContent(tree, path, content);
  return replace(tree, path, { content, children: noChildren<Node>() });
}
