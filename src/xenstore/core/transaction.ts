/**
 * An open transaction: the tree as it was at the start, the tree as this transaction sees it, and every node
 * it has looked at. Invariant: it reads nothing that others did after its start; it commits only if no node
 * that it looked at (existing or missing) has changed since. Of nodes it may not access it learns nothing, not
 * even by a conflict.
 */
import type { Permissions } from './permissions.js';
import type { Tree } from './tree.js';

/** Generation of a node that did not exist. */
export const ABSENT = -1;

/** Which watches an event reaches: those at or above the path, or only those exactly at it. */
export type Match = 'subtree' | 'exact';

/** One node that the transaction looked at. */
export interface Access {
  readonly path: string;
  /** Its generation at the start of the transaction. */
  readonly generation: number;
  /** Its permissions at the start; undefined if it did not exist. */
  readonly permissions: Permissions | undefined;
  modified: boolean;
  /** When in the transaction it was created last; 0 if it was not. */
  created: number;
  /** The event to fire at the commit. */
  fire: Match | undefined;
}

export class Transaction {
  readonly accesses = new Map<string, Access>();
  /** What it asked for and may not have: path, and the access bits it wanted. */
  readonly denied = new Map<string, { readonly path: string; readonly wanted: number }>();
  /** Set by an error that cannot be undone inside: the commit will fail. */
  failed = false;
  /** Some node was created. */
  nodeCreated = false;
  creations = 0;
  /** What the commit adds to the nodes and memory of domains. */
  readonly nodesOf = new Map<number, number>();
  readonly memoryOf = new Map<number, number>();
  /** Bytes charged to the transaction's own domain while it is open. */
  charged = 0;

  /** `tree` is a snapshot of the store's; `startedAt` the number of changes that had been made to that. */
  constructor(
    readonly id: number,
    readonly tree: Tree,
    readonly startedAt: number,
  ) {}
}
