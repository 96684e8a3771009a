/**
 * The database: one tree, and the operations on its nodes, directly or inside a transaction. It does not know
 * connections, messages or watches; it reports changes to `onChange`.
 *
 * Invariant: an operation that returns an error has changed nothing that anybody else can see.
 * Source: docs/misc/xenstore.txt; behaviour of tools/xenstored (core.c, transaction.c, domain.c) of Xen.
 */

import { EINVAL, ENOENT, ENOMEM, ENOSPC, EPERM } from '../../xen/errno.js';
import { Accounts, contentBytes, nodeBytes } from './accounts.js';
import type { Errno } from './errno.js';
import { enter, fetch, get, treeOf, type View } from './gate.js';
import { childPath, leafName, parentPath } from './path.js';
import { type Actor, accessOf, OWNER, type Permissions, permission, READ, WRITE } from './permissions.js';
import type { Account } from './quotas.js';
import type { Match, Transaction } from './transaction.js';
import { type Content, type Node, Tree } from './tree.js';

/**
 * A node was changed or created, or is about to be removed. `before` are its permissions before the change, if they
 * matter.
 */
type OnChange = (
  path: string,
  content: Content | undefined,
  match: Match,
  before: Permissions | undefined,
) => void;

export class Store {
  tree = Tree.initial();
  /** The generation of the last change. */
  generation = Tree.INITIAL_GENERATION;
  readonly accounts: Accounts;
  onChange: OnChange = () => {};
  /**
   * Called for each change of `tree`, in an order in which the changes can be repeated: a path gets this content, or
   * without content the node and all nodes below it are removed. Journals use it.
   */
  onStored: ((path: string, content: Content | undefined) => void) | undefined;

  constructor(features: number) {
    this.accounts = new Accounts(features);
    this.accounts.recount(this.tree);
  }

  /** The account of a domain. It is made if it does not exist. */
  account(domid: number): Account {
    return this.accounts.of(domid, this.generation);
  }

  /** Replaces the tree. The caller has to set the accounts. */
  restore(tree: Tree, generation: number): void {
    this.tree = tree;
    this.generation = generation;
  }

  // --- reading ---

  read(view: View, path: string): string | Errno {
    const n = get(this, view, path, READ);
    return typeof n === 'number' ? n : n.value;
  }

  permissions(view: View, path: string): Permissions | Errno {
    const n = get(this, view, path, READ);
    return typeof n === 'number' ? n : n.permissions;
  }

  /** Returns the node with its children. */
  directory(view: View, path: string): Node | Errno {
    return get(this, view, path, READ);
  }

  /**
   * The access bits that an actor has to a node with these permissions (the present ones, or those before its last
   * change).
   */
  access(actor: Actor, permissions: Permissions, generation: number): number {
    return accessOf(actor, permissions, generation, this.accounts.counts);
  }

  // --- writing ---

  write(view: View, path: string, value: string): 0 | Errno {
    const n = get(this, view, path, WRITE);
    if (typeof n === 'number') return n === ENOENT ? this.create(view, path, value) : n;
    return this.put(view, path, n, value, this.accounts.settled(n), undefined);
  }

  mkdir(view: View, path: string): 0 | Errno {
    const n = get(this, view, path, WRITE);
    if (typeof n !== 'number') return 0;
    return n === ENOENT ? this.create(view, path, '') : n;
  }

  remove(view: View, path: string): 0 | Errno {
    const n = get(this, view, path, WRITE);
    if (typeof n !== 'number') return path === '/' ? EINVAL : this.removeSubtree(view, path);
    if (n !== ENOENT) return n;
    const parent = fetch(this, view, parentPath(path));
    if (typeof parent === 'number') return parent;
    return parent === undefined ? ENOENT : 0;
  }

  setPermissions(view: View, path: string, wanted: Permissions): 0 | Errno {
    const n = get(this, view, path, WRITE | OWNER);
    if (typeof n === 'number') return n;
    const before = n.permissions;
    if (!view.actor.privileged && wanted[0].domid !== before[0].domid) return EPERM;
    for (const entry of wanted) if (!entry.ignored) this.account(entry.domid);
    return this.put(view, path, n, n.value, wanted, before);
  }

  /** Removes all subtrees whose top node belongs to a domain that is gone, without a check of permissions. */
  removeNodesOf(domid: number): void {
    const view: View = { actor: { domid: 0, target: -1, privileged: true }, transaction: undefined };
    const walk = (path: string, n: Node): void => {
      if (n.permissions[0].domid === domid && path !== '/') {
        this.removeSubtree(view, path);
        return;
      }
      for (const name of n.children.names()) walk(childPath(path, name), n.children.get(name)!);
    };
    if ((this.accounts.byDomid.get(domid)?.nodes ?? 0) > 0) walk('/', this.tree.root);
  }

  // --- change ---

  /** Writes a node that exists. Its children stay. */
  private put(
    view: View,
    path: string,
    old: Node,
    value: string,
    permissions: Permissions,
    before: Permissions | undefined,
  ): 0 | Errno {
    const content = { value, permissions, generation: ++this.generation };
    const { actor, transaction: t } = view;
    const addedBytes = contentBytes(content) - contentBytes(old);
    if (!actor.privileged) {
      if (this.accounts.tooLarge(actor, contentBytes(content) + old.children.bytes)) return fail(t, ENOSPC);
      if (this.overMemory(actor, addedBytes)) return fail(t, ENOMEM);
    }
    const owner = old.permissions[0].domid;
    if (owner === permissions[0].domid) this.count(t, owner, 0, addedBytes);
    else {
      const bytes = nodeBytes(old) + path.length;
      this.count(t, owner, -1, -bytes);
      this.count(t, permissions[0].domid, 1, bytes + addedBytes);
    }
    this.set(t, path, content);
    if (t !== undefined) this.charge(actor, t, contentBytes(content));
    this.changed(t, path, content, 'subtree', before);
    return 0;
  }

  /** Creates the node at `path` and the missing nodes above it. */
  private create(view: View, path: string, value: string): 0 | Errno {
    const { actor, transaction: t } = view;
    // The first entry is the leaf; the nodes above it follow.
    const missing = [path];
    let above = parentPath(path);
    let parent = fetch(this, view, above);
    while (parent === undefined) {
      missing.push(above);
      above = parentPath(above);
      parent = fetch(this, view, above);
    }
    if (typeof parent === 'number') return parent;

    if (t !== undefined) t.nodeCreated = true;
    const error = this.mayCreate(actor, t, missing.length);
    if (error !== 0) return error;

    const inherited = this.accounts.settled(parent);
    const permissions =
      actor.privileged || inherited[0].domid === actor.domid
        ? inherited
        : [permission(actor.domid, inherited[0].access), ...inherited.slice(1)];
    const contents = missing.map((_, i): Content => {
      return { value: i === 0 ? value : '', permissions, generation: ++this.generation };
    });
    const grown = { value: parent.value, permissions: inherited, generation: ++this.generation };
    const nameBytes = missing.map((at) => leafName(at).length + 1);
    /** The size of each new node, including the name of its one child. */
    const sizes = contents.map((content, i) => contentBytes(content) + (i === 0 ? 0 : nameBytes[i - 1]));
    const addedToParent = nameBytes[nameBytes.length - 1];
    const grownBytes = contentBytes(grown) + parent.children.bytes + addedToParent;
    if ([...sizes, grownBytes].some((bytes) => this.accounts.tooLarge(actor, bytes))) return fail(t, ENOSPC);
    const bytes = sizes.reduce((sum, size, i) => sum + size + missing[i].length, addedToParent);
    if (!actor.privileged && this.overMemory(actor, bytes)) return fail(t, ENOMEM);

    this.count(t, inherited[0].domid, 0, addedToParent);
    this.set(t, above, grown);
    for (let i = missing.length - 1; i >= 0; i--) {
      this.count(t, permissions[0].domid, 1, sizes[i] + missing[i].length);
      treeOf(this, view).add(missing[i], contents[i]);
      if (t === undefined) this.onStored?.(missing[i], contents[i]);
      else {
        const access = t.accesses.get(missing[i])!;
        access.modified = true;
        access.created = ++t.creations;
      }
    }
    if (t !== undefined) this.charge(actor, t, bytes);
    this.changed(t, path, contents[0], 'subtree', undefined);
    return 0;
  }

  /** The limit on nodes counts the nodes that the asking domain owns. */
  private mayCreate(actor: Actor, t: Transaction | undefined, levels: number): 0 | Errno {
    if (actor.privileged) return 0;
    const limit = this.accounts.limit(actor.domid, 'nodes');
    const owned = this.account(actor.domid).nodes + (t?.nodesOf.get(actor.domid) ?? 0);
    if (limit === 0 || owned + levels <= limit) return 0;
    // xenstored notices this only after it has written some of the nodes, and it cannot undo that within a
    // transaction.
    return owned >= limit ? ENOSPC : fail(t, ENOSPC);
  }

  private removeSubtree(view: View, path: string): 0 | Errno {
    const { actor, transaction: t } = view;
    const above = parentPath(path);
    const parent = fetch(this, view, above);
    if (typeof parent === 'number') return parent;
    if (parent === undefined) return EINVAL;
    const tree = treeOf(this, view);
    // The nodes are removed from the leaves upwards. All are recorded before the first one is removed, because a
    // limit may stop the operation half-way.
    const going: [string, Node][] = [];
    const walk = (at: string, n: Node): 0 | Errno => {
      if (t !== undefined) {
        const access = enter(this, actor, t, at, n);
        if (typeof access === 'number') return access;
      }
      for (const name of n.children.names()) {
        const error = walk(childPath(at, name), n.children.get(name)!);
        if (error !== 0) return error;
      }
      going.push([at, n]);
      return 0;
    };
    const error = walk(path, tree.find(path)!);
    if (error !== 0) return error;
    for (const [at, n] of going) {
      this.count(t, n.permissions[0].domid, -1, -nodeBytes(n) - at.length);
      if (t !== undefined) {
        const access = t.accesses.get(at)!;
        access.modified = true;
        access.created = 0;
      }
      this.changed(t, at, n, at === path ? 'subtree' : 'exact', undefined);
    }
    const permissions = this.accounts.settled(parent);
    this.count(t, permissions[0].domid, 0, -leafName(path).length - 1);
    const { value } = parent;
    if (t === undefined) this.onStored?.(path, undefined);
    tree.remove(path);
    this.set(t, above, { value, permissions, generation: ++this.generation });
    return 0;
  }

  private set(t: Transaction | undefined, path: string, content: Content): void {
    if (t === undefined) {
      this.tree.set(path, content);
      this.onStored?.(path, content);
    } else {
      t.tree.set(path, content);
      t.accesses.get(path)!.modified = true;
    }
  }

  private changed(
    t: Transaction | undefined,
    path: string,
    content: Content,
    match: Match,
    before: Permissions | undefined,
  ): void {
    if (t === undefined) {
      this.onChange(path, content, match, before);
      return;
    }
    const access = t.accesses.get(path)!;
    if (access.fire !== 'subtree') access.fire = match;
  }

  // --- accounting ---

  private count(t: Transaction | undefined, domid: number, nodes: number, bytes: number): void {
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

  private overMemory(actor: Actor, addedBytes: number): boolean {
    return (
      addedBytes > 0 && this.accounts.exceeds(actor, 'memory', this.account(actor.domid).memory + addedBytes)
    );
  }

  /** Charges bytes of an open transaction to its own domain. */
  charge(actor: Actor, t: Transaction, bytes: number): void {
    t.charged += bytes;
    this.account(actor.domid).memory += bytes;
  }

  /** To be called once when a transaction is over, however it ended. */
  release(actor: Actor, t: Transaction): void {
    this.tree.release(t.tree);
    const account = this.account(actor.domid);
    account.memory -= t.charged;
    account.transactions--;
  }
}

/**
 * For errors after which xenstored could not undo what the transaction has done. The transaction can then only be
 * dropped.
 */
function fail(t: Transaction | undefined, error: Errno): Errno {
  if (t !== undefined) t.failed = true;
  return error;
}
