/**
 * The limits of each domain and how much of them each domain uses. A limit of 0 means no limit. Privileged domains
 * are counted but not limited.
 * Source: hard_quotas and their defaults in xenstored; GET_QUOTA in docs/misc/xenstore.txt of Xen.
 */

/** Names, defaults and descriptions, in the order in which xenstored lists them. */
const TABLE = [
  ['nodes', 1000, 'Nodes per domain'],
  ['watches', 128, 'Watches per domain'],
  ['transactions', 10, 'Transactions per domain'],
  ['outstanding', 20, 'Outstanding requests per domain'],
  ['transaction-nodes', 1024, 'Max. number of accessed nodes per transaction'],
  ['memory', 2.5 * 1024 * 1024, 'Total Xenstore memory per domain (error level)'],
  ['node-size', 2048, 'Max. size of a node'],
  ['path-max', 2048, 'Max. length of a node path'],
  ['permissions', 5, 'Max. number of permissions per node'],
] as const;

export type QuotaName = (typeof TABLE)[number][0];
export type Quotas = Record<QuotaName, number>;

export const QUOTA_NAMES: readonly QuotaName[] = TABLE.map(([name]) => name);
export const QUOTA_DESCRIPTIONS = Object.fromEntries(TABLE.map(([name, , text]) => [name, text])) as Record<
  QuotaName,
  string
>;
export const defaultQuotas = (): Quotas =>
  Object.fromEntries(TABLE.map(([name, value]) => [name, value])) as Quotas;

export const isQuotaName = (name: string): name is QuotaName => QUOTA_NAMES.includes(name as QuotaName);

/** One domain as xenstored knows it, from the first permission that names it until it is released. */
export interface Account {
  readonly domid: number;
  /** Permissions in nodes of an earlier generation were granted to an earlier domain with this id. */
  readonly generation: number;
  /** The server features that this domain is shown, as bits of XENSTORE_SERVER_FEATURE_*. */
  features: number;
  /** Limits that are set for this domain only. For all others the global limits apply. */
  readonly limits: Partial<Quotas>;
  nodes: number;
  /** The part of `memory` that nodes use, in bytes. */
  nodeBytes: number;
  watches: number;
  transactions: number;
  /** Requests whose reply, or whose events, have not been taken by their receivers yet. */
  outstanding: number;
  /** Memory for nodes, watches, transactions and unsent messages, in bytes. */
  memory: number;
}

export const newAccount = (domid: number, generation: number, features: number): Account => ({
  domid,
  generation,
  features,
  limits: {},
  nodes: 0,
  nodeBytes: 0,
  watches: 0,
  transactions: 0,
  outstanding: 0,
  memory: 0,
});
