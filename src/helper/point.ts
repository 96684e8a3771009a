/**
 * A migration point: one thing that a move would change, and that is kept the same for the guest. `points/` has one
 * small file for each; ledger.ts collects them.
 *
 * Invariant: `inner` is what the guest sees. It is read from the guest, not remembered, and is the same from power-on
 * to power-off. `outer` is what the present host provides. Both are texts for people. If values have to be
 * translated, the point's file does it; otherwise the inner value is a constant of the container.
 */
import type { Host, OuterKind } from '../host/host.js';

/** What holds for a point on every guest and every host. docs/migration-points.md is generated from these texts. */
export interface PointDescription {
  readonly name: string;
  /**
   * The rows that it covers in the table of everything that a move would change (docs/migration-points.md), for
   * example "D1-D4".
   */
  readonly rows: string;
  /** What the guest sees of it. */
  readonly seen: string;
  /** How it is kept the same. */
  readonly held: string;
  /** The tests that prove it, as "FILE: name of the test". */
  readonly proof: readonly string[];
}

export interface MigrationPoint {
  /** Its name in the ledger, unique within a guest. */
  readonly name: string;
  readonly about: PointDescription;
  /** The kind of the value that `outer` shows, where it is one that a host may invent. */
  readonly gives?: OuterKind;
  inner(): string;
  outer(): string;
  /** Takes this host's value and translates from now on. If it fails, it keeps nothing. */
  attach(host: Host): Promise<void>;
  /** Releases the host's value. Nothing of the guest's state may be lost. */
  detach(): Promise<void>;
  /**
   * For a point with a state of its own. `save` returns one record and is only called while the guest is paused;
   * `restore` is called before `attach`.
   */
  save?(): Uint8Array;
  restore?(record: Uint8Array): void;
}

/** What the ledger shows for a point that is not attached to a host. */
export const NOT_ATTACHED = '(not attached)';
export const NONE = '(none: the guest only ever sees its own)';

/**
 * A point whose inner value is a constant of the container. The host's value is another number for the same thing and
 * needs no translation.
 */
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
