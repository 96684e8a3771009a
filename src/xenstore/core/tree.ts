/**
 * The tree of nodes. Taking a snapshot costs nothing: it shares all nodes with the tree. Whoever changes a shared
 * node first copies it and the nodes above it. A node that no snapshot shares is changed in place, so a write costs
 * the same in a small tree and in a large one.
 *
 * Invariants: changes elsewhere never change what a snapshot shows. A node's generation changes exactly when its
 * value, its permissions or the set of its children changes; a change further below does not change it.
 */
import { type Children, noChildren } from './children.js';
import { ownOctets } from './octets.js';
import { childPath, leafName, parentPath } from './path.js';
import { type Permissions, permission } from './permissions.js';

/** A node without its children. */
export interface Content {
  /** The value as an octet string. */
  readonly value: string;
  readonly permissions: Permissions;
  readonly generation: number;
}

/** A node. The object is valid until the next change of the tree. */
export interface Node extends Content {
  readonly children: Children<Node>;
}

export const INTRODUCE_DOMAIN = '@introduceDomain';
export const RELEASE_DOMAIN = '@releaseDomain';

class Cell implements Node {
  children: Children<Cell>;
  constructor(
    public value: string,
    public permissions: Permissions,
    public generation: number,
    /** The tree's edition when this cell was made; see Tree.shared. */
    readonly edition: number,
    children: Children<Cell>,
  ) {
    this.children = children;
  }
}

const made = ({ value, permissions, generation }: Content, edition: number): Cell =>
  new Cell(value, permissions, generation, edition, noChildren());

export class Tree {
  /** How many changes have been made so far. */
  changes = 0;
  /** A cache of nodes by path, so that a repeated look-up does not walk down from the root. */
  private readonly index = new Map<string, Cell>();
  /** The value of `shared` for each snapshot that is in use. */
  private readonly snapshots = new Set<number>();
  /** The value of `shared` when this snapshot was taken. */
  private readonly taken: number;

  private constructor(
    private top: Cell,
    /** Nodes outside the tree, which hold the permissions of the special watches. */
    private introduceDomain: Cell,
    private releaseDomain: Cell,
    /** The edition that new cells get. */
    private edition: number,
    /**
     * Cells of this edition or an earlier one may be seen by others. If a cell is newer, so are the cells above it:
     * they were copied with it, and each later snapshot shares all of them or none.
     */
    private shared: number,
  ) {
    this.taken = shared;
  }

  /** A tree with a root and the special nodes, all owned by domain 0 with generation 0. */
  static bare(): Tree {
    const empty = (): Cell => made({ value: '', permissions: [permission(0, 0)], generation: 0 }, 0);
    return new Tree(empty(), empty(), empty(), 0, -1);
  }

  /** The tree of a newly started xenstored: `/`, `/tool/xenstored` and the special nodes, all owned by domain 0. */
  static initial(): Tree {
    const tree = Tree.bare();
    const bare = (generation: number): Content => ({
      value: '',
      permissions: [permission(0, 0)],
      generation,
    });
    tree.add('/tool', bare(2));
    tree.add('/tool/xenstored', bare(1));
    tree.set('/', bare(3));
    tree.set(INTRODUCE_DOMAIN, bare(4));
    tree.set(RELEASE_DOMAIN, bare(5));
    return tree;
  }
  static readonly INITIAL_GENERATION = 5;

  get root(): Node {
    return this.top;
  }

  /** The node at a path, or undefined. The path need not be valid. */
  find(path: string): Node | undefined {
    const known = this.index.get(path);
    if (known !== undefined) return known;
    const cell = this.walk(path);
    if (cell !== undefined) this.index.set(path, cell);
    return cell;
  }

  /** Replaces the content of the node at `path`, which must exist. Its children stay. */
  set(path: string, { value, permissions, generation }: Content): void {
    const cell = this.own(path);
    cell.value = value;
    cell.permissions = permissions;
    cell.generation = generation;
    this.changes++;
  }

  /** Adds a node at `path` as the last of its siblings. Its parent must exist and keeps its content. */
  add(path: string, content: Content): void {
    const parent = this.own(parentPath(path));
    const cell = made(content, this.edition);
    // The key lives long and is compared at every look-up, so it must not be a part of a larger string.
    const key = ownOctets(path);
    parent.children = parent.children.with(leafName(key), cell);
    this.index.set(key, cell);
    this.changes++;
  }

  /** Removes the node at `path` and all nodes below it. The node must exist and must not be the root. */
  remove(path: string): void {
    const parent = this.own(parentPath(path));
    this.forget(path, parent.children.get(leafName(path))!);
    parent.children = parent.children.without(leafName(path));
    this.changes++;
  }

  /**
   * Gives the node at `path` children with these names in this order. Existing children are kept; the others get the
   * content `empty`.
   */
  arrange(path: string, names: readonly string[], empty: Content): void {
    const cell = this.own(path);
    const old = cell.children;
    cell.children = noChildren();
    for (const name of names)
      cell.children = cell.children.with(name, old.get(name) ?? made(empty, this.edition));
    for (const name of old.names())
      if (cell.children.get(name) === undefined) this.forget(childPath(path, name), old.get(name)!);
    this.changes++;
  }

  /**
   * A copy of this tree as it is now. It can be changed independently, and is in use until it is passed to `release`.
   */
  snapshot(): Tree {
    this.shared = this.edition++;
    this.snapshots.add(this.shared);
    return new Tree(this.top, this.introduceDomain, this.releaseDomain, this.edition, this.shared);
  }

  /** To be called when a snapshot is no longer used. Nodes that only it shared are changed in place again. */
  release(snapshot: Tree): void {
    if (!this.snapshots.delete(snapshot.taken) || snapshot.taken !== this.shared) return;
    this.shared = -1;
    for (const other of this.snapshots) this.shared = Math.max(this.shared, other);
  }

  private walk(path: string): Cell | undefined {
    if (path.charCodeAt(0) !== 0x2f) {
      if (path === INTRODUCE_DOMAIN) return this.introduceDomain;
      return path === RELEASE_DOMAIN ? this.releaseDomain : undefined;
    }
    let here: Cell | undefined = this.top;
    if (path.length === 1) return here;
    for (let start = 1; ; ) {
      const end = path.indexOf('/', start);
      here = here.children.get(end < 0 ? path.slice(start) : path.slice(start, end));
      if (end < 0 || here === undefined) return here;
      start = end + 1;
    }
  }

  /** The cell of the node at `path`, which must exist, ready to be changed in place. */
  private own(path: string): Cell {
    const known = this.index.get(path);
    if (known !== undefined && known.edition > this.shared) return known;
    if (path === INTRODUCE_DOMAIN) {
      this.introduceDomain = this.unshared(path, this.introduceDomain);
      return this.introduceDomain;
    }
    if (path === RELEASE_DOMAIN) {
      this.releaseDomain = this.unshared(path, this.releaseDomain);
      return this.releaseDomain;
    }
    this.top = this.unshared('/', this.top);
    let here = this.top;
    for (let start = 1; start < path.length; ) {
      const end = path.indexOf('/', start);
      const stop = end < 0 ? path.length : end;
      const name = path.slice(start, stop);
      const below = here.children.get(name);
      const cell = this.unshared(stop === path.length ? path : path.slice(0, stop), below);
      if (cell !== below) here.children = here.children.with(name, cell);
      here = cell;
      start = stop + 1;
    }
    return here;
  }

  private unshared(path: string, cell: Cell | undefined): Cell {
    if (cell === undefined) throw new Error(`no node ${path}`);
    if (cell.edition > this.shared) return cell;
    const copy = new Cell(cell.value, cell.permissions, cell.generation, this.edition, cell.children);
    if (this.index.has(path)) this.index.set(path, copy);
    return copy;
  }

  private forget(path: string, cell: Cell): void {
    this.index.delete(path);
    for (const name of cell.children.names()) this.forget(childPath(path, name), cell.children.get(name)!);
  }
}
