/**
 * The database: one tree, the accounts of the domains, and the operations on nodes, directly or inside a
 * transaction. It knows no connections and no messages; changes are told to `onChange`, watches are another
 * file's matter.
 * Invariant: an operation that answers an error has changed nothing that anybody else can see.
 * Source: docs/misc/xenstore.txt; behaviour of tools/xenstored (core.c, transaction.c, domain.c) of Xen.
 */
import { noChildren } from './children.js';
import { EACCES, EAGAIN, EINVAL, ENOENT, ENOMEM, ENOSPC, EPERM, type Errno } from './errno.js';
import { merged } from './merge.js';
import { childPath, leafName, parentPath } from './path.js';
import {
  type Actor,
  accessOf,
  OWNER,
  type Permission,
  type Permissions,
  permission,
  READ,
  WRITE,
} from './permissions.js';
import { type Account, defaultQuotas, newAccount, type QuotaName, type Quotas } from './quotas.js';
import { ABSENT, type Access, type Match, type Transaction } from './transaction.js';
import { INITIAL_GENERATION, initialTree, lookup, type Node, replace, type Tree } from './tree.js';

/** Bytes of a node beside its value, its permissions (8 each) and the names of its children. */
const NODE_HEADER_BYTES = 16;
const nodeBytes = (n: Node): number =>
  NODE_HEADER_BYTES + 8 * n.permissions.length + n.value.length + n.children.bytes;

/** Who asks, and inside which transaction. */
export interface View {
  readonly actor: Actor;
  readonly transaction: Transaction | undefined;
}

/** A node changed, was created or is going. `permissions` are those before the change, where they count. */
export type OnChange = (path: string, n: Node | undefined, match: Match, permissions?: Permissions) => void;

export class Store {
  tree: Tree = initialTree();
  generation = INITIAL_GENERATION;
  readonly quotas: Quotas = defaultQuotas();
  softMemory = 2 * 1024 * 1024;
  readonly accounts = new Map<number, Account>();
  onChange: OnChange = () => {};

  constructor(private readonly features: number) {
    this.accounts.set(0, newAccount(0, 0, features)).get(0)!.nodes = 5;
  }

  /** The account of a domain, made if need be. */
  account(domid: number): Account {
    let account = this.accounts.get(domid);
    if (account === undefined) {
      account = newAccount(domid, this.generation, this.features);
      this.accounts.set(domid, account);
    }
    return account;
  }

  /** The limit for a domain. */
  limit(domid: number, name: QuotaName): number {
    return this.accounts.get(domid)?.limits[name] ?? this.quotas[name];
  }

  /** Whether `used` is more than an unprivileged actor may have. */
  exceeds(actor: Actor, name: QuotaName, used: number): boolean {
    if (actor.privileged) return false;
    const limit = this.limit(actor.domid, name);
    return limit !== 0 && used > limit;
  }

  // --- reading ---

  read(view: View, path: string): string | Errno {
    const n = this.get(view, path, READ);
    return typeof n === 'number' ? n : n.value;
  }

  /** The node itself, for its children or permissions; needs the right to read. */
  inspect(view: View, path: string): Node | Errno {
    return this.get(view, path, READ);
  }

  // --- writing ---

  write(view: View, path: string, value: string): 0 | Errno {
    const n = this.get(view, path, WRITE);
    if (typeof n === 'number') return n === ENOENT ? this.create(view, path, value) : n;
    const error = this.put(view, path, n, { ...n, value });
    if (error !== 0) return error;
    this.changed(view, path, this.treeOf(view), 'subtree');
    return 0;
  }

  mkdir(view: View, path: string): 0 | Errno {
    const n = this.get(view, path, WRITE);
    if (typeof n !== 'number') return 0;
    return n === ENOENT ? this.create(view, path, '') : n;
  }

  remove(view: View, path: string): 0 | Errno {
    const n = this.get(view, path, WRITE);
    if (typeof n === 'number') {
      if (n !== ENOENT) return n;
      const parent = this.fetch(view, parentPath(path));
      if (typeof parent === 'number') return parent;
      return parent === undefined ? ENOENT : 0;
    }
    return path === '/' ? EINVAL : this.removeSubtree(view, path, n);
  }

  setPermissions(view: View, path: string, wanted: Permissions): 0 | Errno {
    const n = this.get(view, path, WRITE | OWNER);
    if (typeof n === 'number') return n;
    const { actor } = view;
    const before = n.permissions;
    if (!actor.privileged && wanted[0].domid !== before[0].domid) return EPERM;
    for (const entry of wanted) this.account(entry.domid);
    const error = this.put(view, path, n, { ...n, permissions: wanted });
    if (error !== 0) return error;
    this.changed(view, path, this.treeOf(view), 'subtree', before);
    return 0;
  }

  /** Removes, without asking for rights, the subtrees whose top node belongs to a domain that is gone. */
  removeNodesOf(domid: number): void {
    const view: View = { actor: { domid: 0, target: -1, privileged: true }, transaction: undefined };
    const walk = (path: string, n: Node): void => {
      if (n.permissions[0].domid === domid && path !== '/') {
        this.removeSubtree(view, path, n);
        return;
      }
      for (const name of n.children.names()) walk(childPath(path, name), n.children.get(name)!);
    };
    if ((this.accounts.get(domid)?.nodes ?? 0) > 0) walk('/', this.tree.root);
  }

  // --- access ---

  treeOf(view: View): Tree {
    return view.transaction === undefined ? this.tree : view.transaction.tree;
  }

  /** The access bits of an actor to a node. */
  access(actor: Actor, n: Node, permissions: Permissions = n.permissions): number {
    return accessOf(actor, permissions, (entry) => this.stillValid(entry, n.generation));
  }

  /** The access bits that permissions gave to a node that is gone. */
  accessBefore(actor: Actor, permissions: Permissions): number {
    return accessOf(actor, permissions, (entry) => this.stillValid(entry, this.generation));
  }

  /** An entry counts only if its domain is as old as the node's last change. */
  private stillValid(entry: Permission, generation: number): boolean {
    const account = this.accounts.get(entry.domid);
    return account !== undefined && account.generation <= generation;
  }

  /** A node as the view sees it; in a transaction it is from now on watched for conflicts. */
  private fetch(view: View, path: string): Node | undefined | Errno {
    const t = view.transaction;
    if (t === undefined) return lookup(this.tree, path);
    const n = lookup(t.tree, path);
    const access = this.enter(view.actor, t, path, n);
    return typeof access === 'number' ? access : n;
  }

  private enter(actor: Actor, t: Transaction, path: string, n: Node | undefined): Access | Errno {
    const known = t.accesses.get(path);
    if (known !== undefined) return known;
    if (this.exceeds(actor, 'transaction-nodes', t.accesses.size + 1)) {
      t.failed = true;
      return ENOSPC;
    }
    const access: Access = {
      path,
      generation: n?.generation ?? ABSENT,
      permissions: n?.permissions,
      modified: false,
      created: 0,
      fire: undefined,
    };
    t.accesses.set(path, access);
    this.chargeTransaction(actor, t, path.length + (n === undefined ? 0 : nodeBytes(n)));
    return access;
  }

  private get(view: View, path: string, wanted: number): Node | Errno {
    const n = this.fetch(view, path);
    if (typeof n === 'number') return n;
    if (n !== undefined) return (this.access(view.actor, n) & wanted) === wanted ? n : EACCES;
    // Whether a node is missing is told only to those who may access the nearest node above it.
    for (let above = path; ; ) {
      above = parentPath(above);
      const parent = this.fetch(view, above);
      if (typeof parent === 'number') return parent;
      if (parent !== undefined) return (this.access(view.actor, parent) & wanted) !== 0 ? ENOENT : EACCES;
    }
  }

  // --- change ---

  private setTree(view: View, tree: Tree): void {
    if (view.transaction === undefined) this.tree = tree;
    else view.transaction.tree = tree;
  }

  private changed(view: View, path: string, tree: Tree, match: Match, before?: Permissions): void {
    const t = view.transaction;
    if (t === undefined) {
      this.onChange(path, lookup(tree, path), match, before);
      return;
    }
    const access = t.accesses.get(path)!;
    if (access.fire !== 'subtree') access.fire = match;
  }

  /** Entries that count no longer are marked before a newer generation would make them count again. */
  private settled(n: Node): Permissions {
    const stale = (entry: Permission, i: number): boolean =>
      i > 0 && !entry.ignored && !this.stillValid(entry, n.generation);
    if (!n.permissions.some(stale)) return n.permissions;
    return n.permissions.map((e, i) => (stale(e, i) ? permission(e.domid, e.access, true) : e));
  }

  /** Writes a node that exists. */
  private put(view: View, path: string, before: Node, after: Node): 0 | Errno {
    const permissions = after.permissions === before.permissions ? this.settled(before) : after.permissions;
    const written = { ...after, permissions, generation: ++this.generation };
    const t = view.transaction;
    if (this.exceeds(view.actor, 'node-size', nodeBytes(written))) {
      if (t !== undefined) t.failed = true;
      return ENOSPC;
    }
    if (this.overMemory(view, nodeBytes(written) - nodeBytes(before))) return ENOMEM;
    this.count(view, before, path, -1);
    this.count(view, written, path, 1);
    if (t !== undefined) {
      t.accesses.get(path)!.modified = true;
      this.chargeTransaction(view.actor, t, nodeBytes(written));
    }
    this.setTree(view, replace(this.treeOf(view), path, written));
    return 0;
  }

  /** Makes the node at `path`, and those above it that are missing. */
  private create(view: View, path: string, value: string): 0 | Errno {
    const { actor, transaction: t } = view;
    const missing = [path];
    let parentOf = parentPath(path);
    let parent = this.fetch(view, parentOf);
    while (parent === undefined) {
      missing.push(parentOf);
      parentOf = parentPath(parentOf);
      parent = this.fetch(view, parentOf);
    }
    if (typeof parent === 'number') return parent;
    if (path.charCodeAt(0) === 0x40) return EINVAL;

    if (t !== undefined) t.nodeCreated = true;
    const error = this.mayCreate(actor, t, missing.length);
    if (error !== 0) return error;

    const inherited = this.settled(parent);
    const permissions =
      actor.privileged || inherited[0].domid === actor.domid
        ? inherited
        : [permission(actor.domid, inherited[0].access), ...inherited.slice(1)];
    // From the leaf up; each is the only child of the next.
    let made: Node = { value, permissions, generation: ++this.generation, children: noChildren() };
    const nodes = [made];
    for (let i = 1; i < missing.length; i++) {
      const children = noChildren<Node>().with(leafName(missing[i - 1]), made);
      made = { value: '', permissions, generation: ++this.generation, children };
      nodes.push(made);
    }
    const children = parent.children.with(leafName(missing[missing.length - 1]), made);
    const grown = {
      value: parent.value,
      permissions: inherited,
      generation: ++this.generation,
      children,
    };
    let bytes = nodeBytes(grown) - nodeBytes(parent);
    for (let i = 0; i < nodes.length; i++) {
      bytes += nodeBytes(nodes[i]) + missing[i].length;
      if (this.exceeds(actor, 'node-size', nodeBytes(nodes[i]))) return this.fail(t, ENOSPC);
    }
    if (this.exceeds(actor, 'node-size', nodeBytes(grown))) return this.fail(t, ENOSPC);
    if (this.overMemory(view, bytes)) return ENOMEM;

    for (let i = nodes.length - 1; i >= 0; i--) {
      this.count(view, nodes[i], missing[i], 1);
      if (t !== undefined) {
        const access = t.accesses.get(missing[i])!;
        access.modified = true;
        access.created = ++t.creations;
      }
    }
    this.count(view, parent, parentOf, -1);
    this.count(view, grown, parentOf, 1);
    if (t !== undefined) {
      t.accesses.get(parentOf)!.modified = true;
      this.chargeTransaction(actor, t, bytes);
    }
    const tree = replace(this.treeOf(view), parentOf, grown);
    this.setTree(view, tree);
    this.changed(view, path, tree, 'subtree');
    return 0;
  }

  /** The limit on nodes counts what the asking domain owns. */
  private mayCreate(actor: Actor, t: Transaction | undefined, levels: number): 0 | Errno {
    if (actor.privileged) return 0;
    const limit = this.limit(actor.domid, 'nodes');
    const owned = this.account(actor.domid).nodes + (t?.nodesOf.get(actor.domid) ?? 0);
    if (limit === 0 || owned + levels <= limit) return 0;
    // xenstored notices only after it has written a part of the nodes, and cannot undo that in a transaction.
    return owned >= limit ? ENOSPC : this.fail(t, ENOSPC);
  }

  private fail(t: Transaction | undefined, error: Errno): Errno {
    if (t !== undefined) t.failed = true;
    return error;
  }

  private removeSubtree(view: View, path: string, top: Node): 0 | Errno {
    const t = view.transaction;
    const parentOf = parentPath(path);
    const parent = this.fetch(view, parentOf);
    if (typeof parent === 'number') return parent;
    if (parent === undefined) return EINVAL;
    // From the leaves up: first all of it is entered, because a limit may stop a transaction half way.
    const going: [string, Node][] = [];
    const walk = (at: string, n: Node): 0 | Errno => {
      const entered = t === undefined ? 0 : this.enter(view.actor, t, at, n);
      if (typeof entered === 'number' && entered !== 0) return entered;
      for (const name of n.children.names()) {
        const error = walk(childPath(at, name), n.children.get(name)!);
        if (error !== 0) return error;
      }
      going.push([at, n]);
      return 0;
    };
    const error = walk(path, top);
    if (error !== 0) return error;
    const tree = this.treeOf(view);
    for (const [at, n] of going) {
      this.count(view, n, at, -1);
      if (t !== undefined) {
        const access = t.accesses.get(at)!;
        access.modified = true;
        access.created = 0;
      }
      if (t !== undefined) this.changed(view, at, tree, at === path ? 'subtree' : 'exact');
      else this.onChange(at, n, at === path ? 'subtree' : 'exact');
    }
    const shrunk = {
      value: parent.value,
      permissions: this.settled(parent),
      generation: ++this.generation,
      children: parent.children.without(leafName(path)),
    };
    this.count(view, parent, parentOf, -1);
    this.count(view, shrunk, parentOf, 1);
    if (t !== undefined) t.accesses.get(parentOf)!.modified = true;
    this.setTree(view, replace(tree, parentOf, shrunk));
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
        const limit = this.limit(domid, 'nodes');
        if (domid !== 0 && limit !== 0 && this.account(domid).nodes + more > limit) return ENOSPC;
      }
    }
    const untouched = this.tree === t.base;
    if (!untouched && this.conflicts(t)) return EAGAIN;
    this.tree = untouched ? t.tree : merged(this.tree, t);
    for (const [domid, more] of t.nodesOf) this.account(domid).nodes += more;
    for (const [domid, more] of t.memoryOf) this.account(domid).memory += more;
    for (const access of t.accesses.values()) {
      if (access.fire === undefined) continue;
      this.onChange(access.path, lookup(this.tree, access.path), access.fire, access.permissions);
    }
    return 0;
  }

  private conflicts(t: Transaction): boolean {
    for (const access of t.accesses.values()) {
      const now = lookup(this.tree, access.path);
      if ((now?.generation ?? ABSENT) !== access.generation) return true;
    }
    return false;
  }

  // --- accounting ---

  /** Adds (sign 1) or takes away (-1) one node and its bytes from its owner's account. */
  private count(view: View, n: Node, path: string, sign: 1 | -1): void {
    const domid = n.permissions[0].domid;
    const bytes = sign * (nodeBytes(n) + path.length);
    const t = view.transaction;
    if (t === undefined) {
      const account = this.account(domid);
      account.nodes += sign;
      account.memory += bytes;
    } else {
      t.nodesOf.set(domid, (t.nodesOf.get(domid) ?? 0) + sign);
      t.memoryOf.set(domid, (t.memoryOf.get(domid) ?? 0) + bytes);
    }
  }

  /** Counts all nodes again and corrects the accounts; a line for each that was wrong. */
  check(): string[] {
    const nodes = new Map<number, number>();
    const walk = (n: Node): void => {
      const domid = n.permissions[0].domid;
      nodes.set(domid, (nodes.get(domid) ?? 0) + 1);
      for (const name of n.children.names()) walk(n.children.get(name)!);
    };
    for (const top of [this.tree.root, this.tree.introduceDomain, this.tree.releaseDomain]) walk(top);
    const lines: string[] = [];
    for (const account of this.accounts.values()) {
      const counted = nodes.get(account.domid) ?? 0;
      if (counted === account.nodes) continue;
      lines.push(`domain ${account.domid}: ${account.nodes} nodes on its account, ${counted} in the tree`);
      account.nodes = counted;
    }
    return lines;
  }

  private overMemory(view: View, more: number): boolean {
    const { actor, transaction: t } = view;
    if (actor.privileged || more <= 0) return false;
    const over = this.exceeds(actor, 'memory', this.account(actor.domid).memory + more);
    if (over && t !== undefined) t.failed = true;
    return over;
  }

  private chargeTransaction(actor: Actor, t: Transaction, bytes: number): void {
    t.charged += bytes;
    this.account(actor.domid).memory += bytes;
  }

  /** To be called once when a transaction is over, whatever its end. */
  release(actor: Actor, t: Transaction): void {
    const account = this.account(actor.domid);
    account.memory -= t.charged;
    account.transactions--;
  }
}
