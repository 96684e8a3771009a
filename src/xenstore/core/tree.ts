/**
 * The tree of nodes, with snapshots that cost nothing to take: a snapshot shares all nodes with the tree it was
 * taken of, and whoever changes a shared node copies it, and those above it, first. A node that no snapshot
 * shares is changed in place, so that a write costs the same in a small tree and in a large one.
 * Invariants: what a snapshot shows never changes by changes elsewhere. A node's generation changes exactly when
 * its value, its permissions or the set of its children changes; a change further below leaves it alone.
 */
import { type Children, noChildren } from './children.js';
import { ownOctets } from './octets.js';
import { childPath, leafName, parentPath } from './path.js';
import { type Permissions, permission } from './permissions.js';

/** What a node is beside its place in the tree. */
export interface Content {
  /** Octet string. */
  readonly value: string;
  readonly permissions: Permissions;
  readonly generation: number;
}

/** Holds good until the tree is changed next. */
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
    /** When it was made; see Tree.shared. */
    readonly edition: number,
    children: Children<Cell>,
  ) {
    this.children = children;
  }
}

const made = ({ value, permissions, generation }: Content, edition: number): Cell =>
  new Cell(value, permissions, generation, edition, noChildren());

export class Tree {
  /** Number of changes made so far. */
  changes = 0;
  /** Nodes by path, filled by use: what is asked for again needs no walk down from the root. */
  private readonly index = new Map<string, Cell>();
  /** What `shared` was for each snapshot that is in use. */
  private readonly snapshots = new Set<number>();
  /** What `shared` was when this snapshot was taken. */
  private readonly taken: number;

  private constructor(
    private top: Cell,
    /** Nodes without place in the tree: they carry the permissions of the special watches. */
    private introduceDomain: Cell,
    private releaseDomain: Cell,
    /** Given to the nodes that are made from now on. */
    private edition: number,
    /**
     * Nodes of this edition or an earlier one may be seen by others. If a node is younger then those above it
     * are too: they were copied with it, and what has come since shares both or neither.
     */
    private shared: number,
  ) {
    this.taken = shared;
  }

  /** A root and the special nodes, all of domain 0, generation 0. */
  static bare(): Tree {
    const empty = (): Cell => made({ value: '', permissions: [permission(0, 0)], generation: 0 }, 0);
    return new Tree(empty(), empty(), empty(), 0, -1);
  }

  /** What a fresh xenstored holds: `/`, `/tool/xenstored` and the special nodes, all of domain 0. */
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

  /** The node at a path, which need not be a good one. */
  find(path: string): Node | undefined {
    const known = this.index.get(path);
    if (known !== undefined) return known;
    const cell = this.walk(path);
    if (cell !== undefined) this.index.set(path, cell);
    return cell;
  }

  /** Gives the node at `path`, which exists, this content. What is below it stays. */
  set(path: string, { value, permissions, generation }: Content): void {
    const cell = this.own(path);
    cell.value = value;
    cell.permissions = permissions;
    cell.generation = generation;
    this.changes++;
  }

  /** A new node at `path`, the last of its siblings. The node above exists and keeps its content. */
  add(path: string, content: Content): void {
    const parent = this.own(parentPath(path));
    const cell = made(content, this.edition);
    // It stays for long, and is compared with at every look-up: better not a part of some message.
    const key = ownOctets(path);
    parent.children = parent.children.with(leafName(key), cell);
    this.index.set(key, cell);
    this.changes++;
  }

  /** Takes away the node at `path`, which exists and is not the root, and everything below it. */
  remove(path: string): void {
    const parent = this.own(parentPath(path));
    this.forget(path, parent.children.get(leafName(path))!);
    parent.children = parent.children.without(leafName(path));
    this.changes++;
  }

  /** Gives the node at `path` these children in this order: those that are there, and `empty` for others. */
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

  /** This tree as it is now, to be changed by itself. In use until it is given to `release`. */
  snapshot(): Tree {
    this.shared = this.edition++;
    this.snapshots.add(this.shared);
    return new Tree(this.top, this.introduceDomain, this.releaseDomain, this.edition, this.shared);
  }

  /** A snapshot is no longer looked at: what only it shared is from now on changed in place again. */
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

  /** The node at `path`, which exists, to be changed in place. */
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
