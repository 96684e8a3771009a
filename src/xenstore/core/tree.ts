/**
 * The tree of nodes: immutable, with structural sharing. A change makes new nodes from the changed one up to
 * the root and shares all others, so a snapshot is a reference.
 * Invariant: a node's generation changes exactly when its value, its permissions or the set of its children
 * changes; a change further below leaves it alone.
 */
import { type Children, noChildren } from './children.js';
import { type Permissions, permission } from './permissions.js';

export interface Node {
  /** Octet string. */
  readonly value: string;
  readonly permissions: Permissions;
  readonly generation: number;
  readonly children: Children<Node>;
}

export interface Tree {
  readonly root: Node;
  /** Nodes without place in the tree: they carry the permissions of the special watches. */
  readonly introduceDomain: Node;
  readonly releaseDomain: Node;
}

export const INTRODUCE_DOMAIN = '@introduceDomain';
export const RELEASE_DOMAIN = '@releaseDomain';

export const node = (
  value: string,
  permissions: Permissions,
  generation: number,
  children: Children<Node> = noChildren(),
): Node => ({ value, permissions, generation, children });

/** What a fresh xenstored holds: `/`, `/tool/xenstored` and the special nodes, all of domain 0. */
export function initialTree(): Tree {
  const dom0 = [permission(0, 0)];
  const bare = (generation: number): Node => node('', dom0, generation);
  const tool = node('', dom0, 2, noChildren<Node>().with('xenstored', bare(1)));
  return {
    root: node('', dom0, 3, noChildren<Node>().with('tool', tool)),
    introduceDomain: bare(4),
    releaseDomain: bare(5),
  };
}

export const INITIAL_GENERATION = 5;

export function lookup(tree: Tree, path: string): Node | undefined {
  if (path.charCodeAt(0) !== 0x2f) {
    if (path === INTRODUCE_DOMAIN) return tree.introduceDomain;
    return path === RELEASE_DOMAIN ? tree.releaseDomain : undefined;
  }
  let here: Node | undefined = tree.root;
  if (path.length === 1) return here;
  for (let start = 1; ; ) {
    const end = path.indexOf('/', start);
    here = here.children.get(end < 0 ? path.slice(start) : path.slice(start, end));
    if (end < 0 || here === undefined) return here;
    start = end + 1;
  }
}

/** The tree with `changed` at `path`, whose parent exists; generations of ancestors stay. */
export function replace(tree: Tree, path: string, changed: Node): Tree {
  if (path === INTRODUCE_DOMAIN) return { ...tree, introduceDomain: changed };
  if (path === RELEASE_DOMAIN) return { ...tree, releaseDomain: changed };
  if (path.length === 1) return { ...tree, root: changed };
  return { ...tree, root: rebuild(tree.root, path, 1, changed) };
}

/** The tree without the node at `path` and everything below it. The root cannot go. */
export const removed = (tree: Tree, path: string): Tree => ({
  ...tree,
  root: rebuild(tree.root, path, 1, undefined),
});

function rebuild(here: Node, path: string, start: number, leaf: Node | undefined): Node {
  const end = path.indexOf('/', start);
  const name = end < 0 ? path.slice(start) : path.slice(start, end);
  let children: Children<Node>;
  if (end >= 0) {
    const below = here.children.get(name);
    if (below === undefined) throw new Error(`no node at ${path.slice(0, end)}`);
    children = here.children.with(name, rebuild(below, path, end + 1, leaf));
  } else {
    children = leaf === undefined ? here.children.without(name) : here.children.with(name, leaf);
  }
  return { value: here.value, permissions: here.permissions, generation: here.generation, children };
}
