/**
 * The accounts of all domains, and the limits that apply to them. A limit of 0 means no limit. Privileged domains are
 * counted but not limited.
 */
import { childPath } from './path.js';
import { type Actor, type Permission, type Permissions, permission } from './permissions.js';
import { type Account, defaultQuotas, newAccount, type QuotaName, type Quotas } from './quotas.js';
import { type Content, INTRODUCE_DOMAIN, type Node, RELEASE_DOMAIN, type Tree } from './tree.js';

/**
 * How many bytes are counted for a node in addition to its value, its permissions (8 bytes each) and the names of its
 * children. With this number, nodes are refused at exactly the size at which xenstored 4.17 refuses them.
 */
const NODE_HEADER_BYTES = 24;

export const contentBytes = (content: Content): number =>
  NODE_HEADER_BYTES + 8 * content.permissions.length + content.value.length;
export const nodeBytes = (n: Node): number => contentBytes(n) + n.children.bytes;

export class Accounts {
  readonly byDomid = new Map<number, Account>();
  readonly quotas: Quotas = defaultQuotas();
  /** Warning level of the memory quota. It is reported but not enforced. */
  softMemory = 2 * 1024 * 1024;

  constructor(private readonly features: number) {
    this.byDomid.set(0, newAccount(0, 0, features));
  }

  /**
   * The account of a domain. It is made if it does not exist; a new account is older than any node whose generation
   * is greater than `generation`.
   */
  of(domid: number, generation: number): Account {
    let account = this.byDomid.get(domid);
    if (account === undefined) {
      account = newAccount(domid, generation, this.features);
      this.byDomid.set(domid, account);
    }
    return account;
  }

  limit(domid: number, name: QuotaName): number {
    return this.byDomid.get(domid)?.limits[name] ?? this.quotas[name];
  }

  /** Whether `used` is more than this actor may have. */
  exceeds(actor: Actor, name: QuotaName, used: number): boolean {
    if (actor.privileged) return false;
    const limit = this.limit(actor.domid, name);
    return limit !== 0 && used > limit;
  }

  /** Whether a node of this size must not be written. Unlike other limits, this one must not even be reached. */
  tooLarge(actor: Actor, bytes: number): boolean {
    return this.exceeds(actor, 'node-size', bytes + 1);
  }

  /** A permission only counts if its domain already existed when the node was last changed. */
  readonly counts = (entry: Permission, generation: number): boolean => {
    const account = this.byDomid.get(entry.domid);
    return account !== undefined && account.generation <= generation;
  };

  /** Permissions that no longer count are marked, because the node's new generation would make them count again. */
  settled(content: Content): Permissions {
    const { permissions, generation } = content;
    if (permissions.length === 1) return permissions;
    const stale = (entry: Permission, i: number): boolean =>
      i > 0 && !entry.ignored && !this.counts(entry, generation);
    if (!permissions.some(stale)) return permissions;
    return permissions.map((e, i) => (stale(e, i) ? permission(e.domid, e.access, true) : e));
  }

  /** Counts all nodes again and corrects the accounts. Returns a line for each account that was wrong. */
  recount(tree: Tree): string[] {
    const nodes = new Map<number, number>();
    const bytes = new Map<number, number>();
    const walk = (path: string, n: Node): void => {
      const { domid } = n.permissions[0];
      nodes.set(domid, (nodes.get(domid) ?? 0) + 1);
      bytes.set(domid, (bytes.get(domid) ?? 0) + nodeBytes(n) + path.length);
      for (const name of n.children.names()) walk(childPath(path, name), n.children.get(name)!);
    };
    for (const top of ['/', INTRODUCE_DOMAIN, RELEASE_DOMAIN]) walk(top, tree.find(top)!);
    const lines: string[] = [];
    for (const account of this.byDomid.values()) {
      const counted = nodes.get(account.domid) ?? 0;
      const size = bytes.get(account.domid) ?? 0;
      account.memory += size - account.nodeBytes;
      account.nodeBytes = size;
      if (counted === account.nodes) continue;
      lines.push(`domain ${account.domid}: ${account.nodes} nodes on its account, ${counted} in the tree`);
      account.nodes = counted;
    }
    return lines;
  }
}
