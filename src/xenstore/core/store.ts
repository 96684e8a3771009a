/**
 * The database: one tree, and the operations on nodes, directly or inside a transaction. It knows no
 * connections and no messages; changes are told to `onChange`, watches are another file's matter.
 * Invariant: an operation that answers an error has changed nothing that anybody else can see.
 * Source: docs/misc/xenstore.txt; behaviour of tools/xenstored (core.c, transaction.c, domain.c) of Xen.
 */
import { Accounts, contentBytes, nodeBytes } from './accounts.js';
import { noChildren } from './children.js';
import { EACCES, EAGAIN, EINVAL, ENOENT, ENOMEM, ENOSPC, EPERM, type Errno } from './errno.js';
import { applied, changesOf } from './merge.js';
import { childPath, leafName, parentPath } from './path.js';
import { type Actor, accessOf, OWNER, type Permissions, permission, READ, WRITE } from './permissions.js';
import type { Account } from './quotas.js';
import { ABSENT, type Access, type Match, type Transaction } from './transaction.js';
import {
  type Content,
  INITIAL_GENERATION,
  initialTree,
  lookup,
  type Node,
  replace,
  replaceContent,
  type Tree,
} from './tree.js';

/** Who asks, and inside which transaction. */
export interface View {
  readonly actor: Actor;
  readonly transaction: Transaction | undefined;
}

/** A node changed, was created or is going. `before` are its permissions before the change, where they count. */
export type OnChange = (
  path: string,
  content: Content | undefined,
  match: Match,
  before: Permissions | undefined,
) => void;

export class Store {
  tree: Tree = initialTree();
  /** Of the last change. */
  generation = INITIAL_GENERATION;
  readonly accounts: Accounts;
  onChange: OnChange = () => {};
  /**
   * Told of each change of `tree` by itself, in an order in which they can be made again: this content at this
   * path, or the node and all below it gone. For journals.
   */
  onStored: ((path: string, content: Content | undefined) => void) | undefined;
  /** Contents of nodes of `tree` by path, filled by use: what is read again needs no walk down the tree. */
  private readonly index = new Map<string, Content>();

  constructor(features: number) {
    this.accounts = new Accounts(features);
    this.accounts.recount(this.tree);
  }

  /** The account of a domain, made if need be. */
  account(domid: number): Account {
    return this.accounts.of(domid, this.generation);
  }

  /** Puts another tree in place of this one. The accounts are the caller's to set. */
  restore(tree: Tree, generation: number): void {
    this.tree = tree;
    this.generation = generation;
    this.index.clear();
  }

  // --- reading ---

  read(view: View, path: string): string | Errno {
    const content = this.get(view, path, READ);
    return typeof content === 'number' ? content : content.value;
  }

  permissions(view: View, path: string): Permissions | Errno {
    const content = this.get(view, path, READ);
    return typeof content === 'number' ? content : content.permissions;
  }

  /** The node with its children. */
  directory(view: View, path: string): Node | Errno {
    const content = this.get(view, path, READ);
    return typeof content === 'number' ? content : lookup(this.treeOf(view), path)!;
  }

  /** A node of the live tree, by a path that need not be a good one. */
  find(path: string): Content | undefined {
    const known = this.index.get(path);
    if (known !== undefined) return known;
    const content = lookup(this.tree, path)?.content;
    if (content !== undefined) this.index.set(path, content);
    return content;
  }

  /** The access bits of an actor to a node that has, or before its last change had, these permissions. */
  access(actor: Actor, permissions: Permissions, generation: number): number {
    return accessOf(actor, permissions, generation, this.accounts.counts);
  }

  // --- writing ---

  write(view: View, path: string, value: string): 0 | Errno {
    const content = this.get(view, path, WRITE);
    if (typeof content === 'number') return content === ENOENT ? this.create(view, path, value) : content;
    return this.put(view, path, content, value, this.accounts.settled(content), undefined);
  }

  mkdir(view: View, path: string): 0 | Errno {
    const content = this.get(view, path, WRITE);
    if (typeof content !== 'number') return 0;
    return content === ENOENT ? this.create(view, path, '') : content;
  }

  remove(view: View, path: string): 0 | Errno {
    const content = this.get(view, path, WRITE);
    if (typeof content !== 'number') return path === '/' ? EINVAL : this.removeSubtree(view, path);
    if (content !== ENOENT) return content;
    const parent = this.fetch(view, parentPath(path));
    if (typeof parent === 'number') return parent;
    return parent === undefined ? ENOENT : 0;
  }

  setPermissions(view: View, path: string, wanted: Permissions): 0 | Errno {
    const content = this.get(view, path, WRITE | OWNER);
    if (typeof content === 'number') return content;
    const before = content.permissions;
    if (!view.actor.privileged && wanted[0].domid !== before[0].domid) return EPERM;
    for (const entry of wanted) if (!entry.ignored) this.account(entry.domid);
    return this.put(view, path, content, content.value, wanted, before);
  }

  /** Removes, without asking for rights, the subtrees whose top node belongs to a domain that is gone. */
  removeNodesOf(domid: number): void {
    const view: View = { actor: { domid: 0, target: -1, privileged: true }, transaction: undefined };
    const walk = (path: string, n: Node): void => {
      if (n.content.permissions[0].domid === domid && path !== '/') {
        this.removeSubtree(view, path);
        return;
      }
      for (const name of n.children.names()) walk(childPath(path, name), n.children.get(name)!);
    };
    if ((this.accounts.byDomid.get(domid)?.nodes ?? 0) > 0) walk('/', this.tree.root);
  }

  // --- access ---

  treeOf(view: View): Tree {
    return view.transaction === undefined ? this.tree : view.transaction.tree;
  }

  /** A node as the view sees it; in a transaction it is from now on watched for conflicts. */
  private fetch(view: View, path: string): Content | undefined | Errno {
    const t = view.transaction;
    if (t === undefined) return this.find(path);
    const n = lookup(t.tree, path);
    const access = this.enter(view.actor, t, path, n);
    return typeof access === 'number' ? access : n?.content;
  }

  private enter(actor: Actor, t: Transaction, path: string, n: Node | undefined): Access | Errno {
    const known = t.accesses.get(path);
    if (known !== undefined) return known;
    if (this.accounts.exceeds(actor, 'transaction-nodes', t.accesses.size + t.denied.size + 1)) {
      t.failed = true;
      return ENOSPC;
    }
    const access: Access = {
      path,
      generation: n?.content.generation ?? ABSENT,
      permissions: n?.content.permissions,
      modified: false,
      created: 0,
      fire: undefined,
    };
    t.accesses.set(path, access);
    this.charge(actor, t, path.length + (n === undefined ? 0 : nodeBytes(n)));
    return access;
  }

  private get(view: View, path: string, wanted: number): Content | Errno {
    const t = view.transaction;
    if (t !== undefined && !view.actor.privileged) {
      const denied = this.isDenied(view.actor, path, wanted, (p) => lookup(t.tree, p)?.content);
      // What is denied is not watched for conflicts, or their absence would tell of it; see `conflicts`.
      if (denied) return this.enterDenied(view.actor, t, path, wanted);
    }
    const content = this.fetch(view, path);
    if (typeof content === 'number') return content;
    if (content !== undefined) {
      const granted = this.access(view.actor, content.permissions, content.generation);
      return (granted & wanted) === wanted ? content : EACCES;
    }
    // Whether a node is missing is told only to those who may access the nearest node above it.
    for (let above = path; ; ) {
      above = parentPath(above);
      const parent = this.fetch(view, above);
      if (typeof parent === 'number') return parent;
      if (parent === undefined) continue;
      const granted = this.access(view.actor, parent.permissions, parent.generation);
      return (granted & wanted) !== 0 ? ENOENT : EACCES;
    }
  }

  /** Whether the answer is EACCES. */
  private isDenied(
    actor: Actor,
    path: string,
    wanted: number,
    find: (path: string) => Content | undefined,
  ): boolean {
    const there = find(path);
    if (there !== undefined)
      return (this.access(actor, there.permissions, there.generation) & wanted) !== wanted;
    for (let above = path; ; ) {
      above = parentPath(above);
      const parent = find(above);
      if (parent !== undefined)
        return (this.access(actor, parent.permissions, parent.generation) & wanted) === 0;
    }
  }

  private enterDenied(actor: Actor, t: Transaction, path: string, wanted: number): Errno {
    const key = `${wanted}${path}`;
    if (t.denied.has(key)) return EACCES;
    if (this.accounts.exceeds(actor, 'transaction-nodes', t.accesses.size + t.denied.size + 1)) {
      t.failed = true;
      return ENOSPC;
    }
    t.denied.set(key, { path, wanted });
    this.charge(actor, t, path.length);
    return EACCES;
  }

  // --- change ---

  private changed(
    view: View,
    path: string,
    content: Content,
    match: Match,
    before: Permissions | undefined,
  ): void {
    const t = view.transaction;
    if (t === undefined) {
      this.onChange(path, content, match, before);
      return;
    }
    const access = t.accesses.get(path)!;
    if (access.fire !== 'subtree') access.fire = match;
  }

  /** Writes a node that exists; its children stay. */
  private put(
    view: View,
    path: string,
    old: Content,
    value: string,
    permissions: Permissions,
    before: Permissions | undefined,
  ): 0 | Errno {
    const content = { value, permissions, generation: ++this.generation };
    const { actor, transaction: t } = view;
    const tree = this.treeOf(view);
    const more = contentBytes(content) - contentBytes(old);
    if (!actor.privileged) {
      const bytes = contentBytes(content) + lookup(tree, path)!.children.bytes;
      if (this.accounts.tooLarge(actor, bytes)) return this.fail(t, ENOSPC);
      if (this.overMemory(actor, more)) return this.fail(t, ENOMEM);
    }
    if (old.permissions[0].domid === permissions[0].domid) {
      this.count(view, permissions[0].domid, 0, more);
    } else {
      const bytes = nodeBytes(lookup(tree, path)!) + path.length;
      this.count(view, old.permissions[0].domid, -1, -bytes);
      this.count(view, permissions[0].domid, 1, bytes + more);
    }
    const next = replaceContent(tree, path, content);
    if (t === undefined) {
      this.tree = next;
      this.index.set(path, content);
      this.onStored?.(path, content);
    } else {
      t.tree = next;
      t.accesses.get(path)!.modified = true;
      this.charge(actor, t, contentBytes(content));
    }
    this.changed(view, path, content, 'subtree', before);
    return 0;
  }

  /** Makes the node at `path`, and those above it that are missing. */
  private create(view: View, path: string, value: string): 0 | Errno {
    const { actor, transaction: t } = view;
    // The leaf first, then upwards.
    const missing = [path];
    let above = parentPath(path);
    let found = this.fetch(view, above);
    while (found === undefined) {
      missing.push(above);
      above = parentPath(above);
      found = this.fetch(view, above);
    }
    if (typeof found === 'number') return found;

    if (t !== undefined) t.nodeCreated = true;
    const error = this.mayCreate(actor, t, missing.length);
    if (error !== 0) return error;

    const inherited = this.accounts.settled(found);
    const permissions =
      actor.privileged || inherited[0].domid === actor.domid
        ? inherited
        : [permission(actor.domid, inherited[0].access), ...inherited.slice(1)];
    const nodes: Node[] = [];
    let children = noChildren<Node>();
    for (let i = 0; i < missing.length; i++) {
      const content = { value: i === 0 ? value : '', permissions, generation: ++this.generation };
      const made: Node = { content, children };
      nodes.push(made);
      children = noChildren<Node>().with(leafName(missing[i]), made);
    }
    const tree = this.treeOf(view);
    const parent = lookup(tree, above)!;
    const top = missing.length - 1;
    const grown: Node = {
      content: { value: found.value, permissions: inherited, generation: ++this.generation },
      children: parent.children.with(leafName(missing[top]), nodes[top]),
    };
    let bytes = grown.children.bytes - parent.children.bytes;
    for (let i = 0; i < nodes.length; i++) bytes += nodeBytes(nodes[i]) + missing[i].length;
    if ([...nodes, grown].some((n) => this.accounts.tooLarge(actor, nodeBytes(n))))
      return this.fail(t, ENOSPC);
    if (!actor.privileged && this.overMemory(actor, bytes)) return this.fail(t, ENOMEM);

    for (let i = top; i >= 0; i--) {
      this.count(view, permissions[0].domid, 1, nodeBytes(nodes[i]) + missing[i].length);
      if (t === undefined) {
        this.index.set(missing[i], nodes[i].content);
        this.onStored?.(missing[i], nodes[i].content);
      } else {
        const access = t.accesses.get(missing[i])!;
        access.modified = true;
        access.created = ++t.creations;
      }
    }
    this.count(view, inherited[0].domid, 0, grown.children.bytes - parent.children.bytes);
    if (t !== undefined) this.charge(actor, t, bytes);
    this.setNode(view, above, grown);
    this.changed(view, path, nodes[0].content, 'subtree', undefined);
    return 0;
  }

  private setNode(view: View, path: string, n: Node): void {
    const next = replace(this.treeOf(view), path, n);
    const t = view.transaction;
    if (t === undefined) {
      this.tree = next;
      this.index.set(path, n.content);
      this.onStored?.(path, n.content);
    } else {
      t.tree = next;
      t.accesses.get(path)!.modified = true;
    }
  }

  /** The limit on nodes counts what the asking domain owns. */
  private mayCreate(actor: Actor, t: Transaction | undefined, levels: number): 0 | Errno {
    if (actor.privileged) return 0;
    const limit = this.accounts.limit(actor.domid, 'nodes');
    const owned = this.account(actor.domid).nodes + (t?.nodesOf.get(actor.domid) ?? 0);
    if (limit === 0 || owned + levels <= limit) return 0;
    // xenstored notices only after it has written a part of the nodes, and cannot undo that in a transaction.
    return owned >= limit ? ENOSPC : this.fail(t, ENOSPC);
  }

  /** An error after which xenstored could not undo what the transaction has done: it can only be dropped. */
  private fail(t: Transaction | undefined, error: Errno): Errno {
    if (t !== undefined) t.failed = true;
    return error;
  }

  private removeSubtree(view: View, path: string): 0 | Errno {
    const { actor, transaction: t } = view;
    const above = parentPath(path);
    const parentContent = this.fetch(view, above);
    if (typeof parentContent === 'number') return parentContent;
    if (parentContent === undefined) return EINVAL;
    const tree = this.treeOf(view);
    // From the leaves up; all is entered before anything goes, because a limit may stop it half way.
    const going: [string, Node][] = [];
    const walk = (at: string, n: Node): 0 | Errno => {
      if (t !== undefined) {
        const access = this.enter(actor, t, at, n);
        if (typeof access === 'number') return access;
      }
      for (const name of n.children.names()) {
        const error = walk(childPath(at, name), n.children.get(name)!);
        if (error !== 0) return error;
      }
      going.push([at, n]);
      return 0;
    };
    const error = walk(path, lookup(tree, path)!);
    if (error !== 0) return error;
    for (const [at, n] of going) {
      this.count(view, n.content.permissions[0].domid, -1, -nodeBytes(n) - at.length);
      if (t === undefined) this.index.delete(at);
      else {
        const access = t.accesses.get(at)!;
        access.modified = true;
        access.created = 0;
      }
      this.changed(view, at, n.content, at === path ? 'subtree' : 'exact', undefined);
    }
    const parent = lookup(tree, above)!;
    const permissions = this.accounts.settled(parentContent);
    const shrunk: Node = {
      content: { value: parentContent.value, permissions, generation: ++this.generation },
      children: parent.children.without(leafName(path)),
    };
    this.count(view, permissions[0].domid, 0, shrunk.children.bytes - parent.children.bytes);
    if (t === undefined) this.onStored?.(path, undefined);
    this.setNode(view, above, shrunk);
    return 0;
  }

  // --- transactions ---

  /**
   * Makes a transaction's changes visible to all, and tells of them; or answers why not, having changed
   * nothing. The transaction is over either way.
   */
  commit(actor: Actor, t: Transaction): 0 | Errno {
    if (t.failed) return ENOMEM;
    if (t.nodeCreated && !actor.privileged) {
      for (const [domid, more] of t.nodesOf) {
        const limit = this.accounts.limit(domid, 'nodes');
        if (domid !== 0 && limit !== 0 && this.account(domid).nodes + more > limit) return ENOSPC;
      }
    }
    const untouched = this.tree === t.base;
    if (!untouched && this.conflicts(actor, t)) return EAGAIN;
    const changes = untouched && this.onStored === undefined ? [] : changesOf(t);
    this.tree = untouched ? t.tree : changes.reduce(applied, this.tree);
    for (const { path, content } of changes) this.onStored?.(path, content);
    for (const [domid, more] of t.nodesOf) this.account(domid).nodes += more;
    for (const [domid, more] of t.memoryOf) {
      this.account(domid).nodeBytes += more;
      this.account(domid).memory += more;
    }
    for (const access of t.accesses.values()) if (access.modified) this.index.delete(access.path);
    for (const access of t.accesses.values()) {
      if (access.fire !== undefined)
        this.onChange(access.path, this.find(access.path), access.fire, access.permissions);
    }
    return 0;
  }

  private conflicts(actor: Actor, t: Transaction): boolean {
    for (const access of t.accesses.values()) {
      const now = this.find(access.path);
      if ((now?.generation ?? ABSENT) !== access.generation) return true;
    }
    // What was denied must still be: that, and no more, is what the transaction knows of it.
    const find = (path: string): Content | undefined =>
      t.accesses.has(path) ? lookup(t.tree, path)?.content : this.find(path);
    for (const { path, wanted } of t.denied.values())
      if (!this.isDenied(actor, path, wanted, find)) return true;
    return false;
  }

  /** To be called once when a transaction is over, whatever its end. */
  release(actor: Actor, t: Transaction): void {
    const account = this.account(actor.domid);
    account.memory -= t.charged;
    account.transactions--;
  }

  // --- accounting ---

  private count(view: View, domid: number, nodes: number, bytes: number): void {
    const t = view.transaction;
    if (t === undefined) {
      const account = this.account(domid);
      account.nodes += nodes;
      account.nodeBytes += bytes;
      account.memory += bytes;
    } else {
      t.nodesOf.set(domid, (t.nodesOf.get(domid) ?? 0) + nodes);
      t.memoryOf.set(domid, (t.memoryOf.get(domid) ?? 0) + bytes);
    }
  }

  private overMemory(actor: Actor, more: number): boolean {
    return more > 0 && this.accounts.exceeds(actor, 'memory', this.account(actor.domid).memory + more);
  }

  private charge(actor: Actor, t: Transaction, bytes: number): void {
    t.charged += bytes;
    this.account(actor.domid).memory += bytes;
  }
}
