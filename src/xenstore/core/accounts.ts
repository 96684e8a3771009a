/**
 * The accounts of all domains, and the limits they are held to. A limit of 0 means none. Privileged domains
 * are counted and not limited.
 */
import { childPath } from './path.js';
import { type Actor, type Permission, type Permissions, permission } from './permissions.js';
import { type Account, defaultQuotas, newAccount, type QuotaName, type Quotas } from './quotas.js';
import { type Content, INTRODUCE_DOMAIN, type Node, RELEASE_DOMAIN, type Tree } from './tree.js';

/**
 * Bytes of a node beside its value, its permissions (8 each) and the names of its children. With it a node is
 * refused at just the size at which xenstored 4.17 refuses it.
 */
const NODE_HEADER_BYTES = 24;

export const contentBytes = (content: Content): number =>
  NODE_HEADER_BYTES + 8 * content.permissions.length + content.value.length;
export const nodeBytes = (n: Node): number => contentBytes(n) + n.children.bytes;

export class Accounts {
  readonly byDomid = new Map<number, Account>();
  readonly quotas: Quotas = defaultQuotas();
  /** Warning level of the memory quota; told, not enforced. */
  softMemory = 2 * 1024 * 1024;

  constructor(private readonly features: number) {
    this.byDomid.set(0, newAccount(0, 0, features));
  }

  /** The account of a domain, made if need be: older than any node of a generation after `generation`. */
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

  /** Whether a node of this size may not be written; unlike other limits, this one may not be reached. */
  tooLarge(actor: Actor, bytes: number): boolean {
    return this.exceeds(actor, 'node-size', bytes + 1);
  }

  /** An entry counts only if its domain is as old as the last change of the node it stands in. */
  readonly counts = (entry: Permission, generation: number): boolean => {
    const account = this.byDomid.get(entry.domid);
    return account !== undefined && account.generation <= generation;
  };

  /** Entries that count no longer are marked, before a newer generation would make them count again. */
  settled(content: Content): Permissions {
    const { permissions, generation } = content;
    if (permissions.length === 1) return permissions;
    const stale = (entry: Permission, i: number): boolean =>
      i > 0 && !entry.ignored && !this.counts(entry, generation);
    if (!permissions.some(stale)) return permissions;
    return permissions.map((e, i) => (stale(e, i) ? permission(e.domid, e.access, true) : e));
  }

  /** Counts all nodes again and corrects the accounts; a line for each that was wrong. */
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
