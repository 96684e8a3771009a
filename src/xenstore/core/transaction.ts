/**
 * An open transaction: the tree as it was at the start, the tree as this transaction sees it, and all nodes that it
 * has looked at.
 *
 * Invariants: it reads nothing that others did after its start. It commits only if no node that it has looked at
 * (existing or missing) has changed since. About nodes that it may not access it learns nothing, not even through a
 * conflict.
 */
import type { Permissions } from './permissions.js';
import type { Tree } from './tree.js';

/** The generation that stands for a node that did not exist. */
export const ABSENT = -1;

/** Which watches an event reaches: those at or above the path, or only those exactly at it. */
export type Match = 'subtree' | 'exact';

/** A node that the transaction has looked at. */
export interface Access {
  readonly path: string;
  /** The node's generation at the start of the transaction. */
  readonly generation: number;
  /** The node's permissions at the start, or undefined if it did not exist. */
  readonly permissions: Permissions | undefined;
  modified: boolean;
  /** The number of the creation (counted within the transaction) that made the node last; 0 if none did. */
  created: number;
  /** The event to fire when the transaction commits. */
  fire: Match | undefined;
}

export class Transaction {
  readonly accesses = new Map<string, Access>();
  /** The accesses that were denied: the path and the access bits that were wanted. */
  readonly denied = new Map<string, { readonly path: string; readonly wanted: number }>();
  /** Set by an error that cannot be undone within the transaction. The commit will fail. */
  failed = false;
  /** True if any node was created. */
  nodeCreated = false;
  creations = 0;
  /** By how much the commit changes the number of nodes and the memory of each domain. */
  readonly nodesOf = new Map<number, number>();
  readonly memoryOf = new Map<number, number>();
  /** Bytes that are charged to the transaction's own domain while it is open. */
  charged = 0;

  /**
   * `tree` is a snapshot of the store's tree. `startedAt` is the number of changes that the store's tree had seen by
   * then.
   */
  constructor(
    readonly id: number,
    readonly tree: Tree,
    readonly startedAt: number,
  ) {}
}
