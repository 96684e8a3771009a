/**
 * The migration point: one thing that a move would change, held still for the guest. `points/` has one small file for
 * each; ledger.ts lists them.
 *
 * Invariant: `inner` is what the guest sees, read from the guest and not remembered, and is the same from power-on to
 * power-off; `outer` is what the present host gave. Both are words for people; the translation itself is in the file
 * of the point, or there is none, because the inner value is a constant of the container.
 */
import type { Host, OuterKind } from '../host/host.js';

/** What is true of a point on every guest and every host; docs/migration-points.md is made of these. */
export interface PointDescription {
  readonly name: string;
  /** Rows of the table of all that a move would change (docs/migration-points.md), "D1-D4". */
  readonly rows: string;
  /** What the guest sees of it. */
  readonly seen: string;
  /** How it is held. */
  readonly held: string;
  /** Tests that prove it: "FILE: name of the test". */
  readonly proof: readonly string[];
}

export interface MigrationPoint {
  /** What it is called in the ledger; unique in one guest. */
  readonly name: string;
  readonly about: PointDescription;
  /** The kind of the value that `outer` shows, where it is one that a host may invent. */
  readonly gives?: OuterKind;
  inner(): string;
  outer(): string;
  /** Takes this host's value and translates from now on. A failure leaves nothing taken. */
  attach(host: Host): Promise<void>;
  /** Lets go of it. Nothing of the guest's may be lost. */
  detach(): Promise<void>;
  /** For a point with a state of its own: one record, only while the guest is paused; and back, before `attach`. */
  save?(): Uint8Array;
  restore?(record: Uint8Array): void;
}

/** What the ledger shows of a point that no host has given a value for. */
export const NOT_ATTACHED = '(not attached)';
export const NONE = '(none: the guest only ever sees its own)';

/** A point whose inner value is a constant of the container: the host's is only another number for the same thing. */
export function constantPoint(
  about: PointDescription,
  inner: () => string,
  outer: (host: Host) => string,
  gives?: OuterKind,
): MigrationPoint {
  let host: Host | undefined;
  return {
    name: about.name,
    about,
    gives,
    inner,
    outer: () => (host === undefined ? NOT_ATTACHED : outer(host)),
    async attach(given) {
      host = given;
    },
    async detach() {
      host = undefined;
    },
  };
}
