/**
 * The tree of nodes: immutable, with structural sharing. A change makes new nodes from the changed one up to
 * the root and shares all others, so a snapshot is a reference.
 * Invariant: a node's generation changes exactly when its value, its permissions or the set of its children
 * changes; a change further below leaves it alone.
 */
import { type Children, noChildren } from './children.js';
import { leafName, parentPath } from './path.js';
import { type Permissions, permission } from './permissions.js';

/** What a node is beside its place in the tree. */
export interface Content {
  /** Octet string. */
  readonly value: string;
  readonly permissions: Permissions;
  readonly generation: number;
}

/** A change below makes a new Node with the same Content. */
export interface Node {
  readonly content: Content;
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
): Node => ({ content: { value, permissions, generation }, children });

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

/** The tree with `changed` at `path`, whose parent exists. */
export function replace(tree: Tree, path: string, changed: Node): Tree {
  if (path === INTRODUCE_DOMAIN) return { ...tree, introduceDomain: changed };
  if (path === RELEASE_DOMAIN) return { ...tree, releaseDomain: changed };
  if (path.length === 1) return { ...tree, root: changed };
  const parent = parentPath(path);
  const add = (n: Node): Node => ({
    content: n.content,
    children: n.children.with(leafName(path), changed),
  });
  return { ...tree, root: alter(tree.root, parent, 1, add) };
}

/** The tree with other content in the node at `path`, which exists, and the same below it. */
export function replaceContent(tree: Tree, path: string, content: Content): Tree {
  const change = (n: Node): Node => ({ content, children: n.children });
  if (path === INTRODUCE_DOMAIN) return { ...tree, introduceDomain: change(tree.introduceDomain) };
  if (path === RELEASE_DOMAIN) return { ...tree, releaseDomain: change(tree.releaseDomain) };
  return { ...tree, root: alter(tree.root, path, 1, change) };
}

/** The tree without the node at `path` and everything below it. The root cannot go. */
export function removed(tree: Tree, path: string): Tree {
  const drop = (n: Node): Node => ({
    content: n.content,
    children: n.children.without(leafName(path)),
  });
  return { ...tree, root: alter(tree.root, parentPath(path), 1, drop) };
}

/** `change` applied to the node at `path`, of which the components from `start` on lead down from `here`. */
function alter(here: Node, path: string, start: number, change: (n: Node) => Node): Node {
  if (start >= path.length) return change(here);
  const end = path.indexOf('/', start);
  const last = end < 0;
  const name = last ? path.slice(start) : path.slice(start, end);
  const next = last ? path.length : end + 1;
  return {
    content: here.content,
    children: here.children.replaced(name, (below) => alter(below, path, next, change)),
  };
}
