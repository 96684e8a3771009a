/**
 * Limits per domain and what each domain uses of them. A limit of 0 means none. Privileged domains are
 * counted and not limited.
 * Source: hard_quotas and their defaults in xenstored; GET_QUOTA in docs/misc/xenstore.txt of Xen.
 */

/** Name, default, and description, in the order in which xenstored lists them. */
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

/** One domain as xenstored knows it, from the first permission that names it to its release. */
export interface Account {
  readonly domid: number;
  /** Permissions in nodes of an earlier generation were meant for an earlier domain of this id. */
  readonly generation: number;
  /** Server features that this domain is shown; bits of XENSTORE_SERVER_FEATURE_*. */
  features: number;
  /** Limits of its own; all others are the global ones. */
  readonly limits: Partial<Quotas>;
  nodes: number;
  /** Their part of `memory`. */
  nodeBytes: number;
  watches: number;
  transactions: number;
  /** Requests whose reply, or an event they caused, is not yet taken by its receiver. */
  outstanding: number;
  /** Bytes of nodes, watches, transactions and unsent messages. */
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
