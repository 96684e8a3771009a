/**
 * What a move needs of a guest. The guest process implements both interfaces; the move knows nothing else of it.
 * Invariant: between `pause` and `resume` not one byte of RAM or state changes, so that what was sent is the guest.
 * All synchronous parts run on the guest's own thread.
 */
import type { WarmUp } from '../engine/engine.js';
import type { OutageBounds, OutageTerms } from '../helper/points/outage.js';

/** The guest that is to be moved or saved, on the side where it lives. */
export interface MovableGuest {
  readonly name: string;
  readonly uuid: string;
  /** Machine frames, those owned by Xen included; 4096 bytes each. */
  readonly frames: number;
  /** All frames in place, `frames * 4096` bytes over a SharedArrayBuffer: another thread reads it. */
  readonly ram: Uint8Array;
  /** Records from which an equal, empty container can be made (configuration, frames, vCPUs, identity). */
  describe(): Uint8Array;
  /** From here on each written frame is noted. */
  startDirtyLog(): void;
  /** ORs the frames written since the last call into `into` (one bit a frame) and forgets them; returns how many. */
  readDirty(into: Uint8Array): number;
  stopDirtyLog(): void;
  /** What its engine tells of the code that it runs often. */
  readonly warmUp?: Pick<WarmUp, 'hotCode'>;
  /**
   * Stops between two instructions and quiesces links. Rejects when a disk has not ended what it was asked to do within
   * the limit of its link: then the guest stands still, and may be resumed, but must not be sent.
   */
  pause(): Promise<void>;
  /** Of one that is paused already: quiesces links, with the same limit. */
  quiesce?(): Promise<void>;
  /** Goes on as if nothing had happened, also after a failed move. */
  resume(): void;
  /** All records except RAM. Only while paused. `terms`: what the move knows of the outage that it makes. */
  saveState(terms: OutageTerms): Uint8Array;
  /** Paused, and about to be offered to another host: locks are let go. `resume` takes them back. */
  release(): Promise<void>;
  /** Lets go of the host's resources for good: after a commit, or when the guest is destroyed. */
  detach(): Promise<void>;
}

/** A guest on its way in: a container that has never run. */
export interface IncomingGuest {
  readonly frames: number;
  /** All zero at first; `frames * 4096` bytes. */
  readonly ram: Uint8Array;
  /**
   * Validates everything before any of it takes effect; throws RecordError. RAM is complete by then. `bounds`: what
   * the arriving side knows of the outage; undefined for a guest from a file.
   */
  restoreState(records: Uint8Array, bounds: OutageBounds | undefined): void;
  /** Makes code ready before the guest is here. Whoever writes RAM after this says so by `written`. */
  readonly warmUp?: Pick<WarmUp, 'prepareCode'>;
  written?(frame: number): void;
  /** Takes this host's resources (links, locks, outer values). A failure leaves the guest with its source. */
  attach(): Promise<void>;
  /** The first instruction here. Cannot fail: what can fail belongs in `attach`. */
  start(): void;
  /** Throws the container away, whatever its state; it never ran. */
  discard(): Promise<void>;
}

/** The destination's side of a move, and of `restore`. */
export interface GuestFactory<Incoming extends IncomingGuest = IncomingGuest> {
  /** Makes an empty container from what `describe` gave. Throws RecordError on anything it does not accept. */
  construct(description: Uint8Array): Promise<Incoming>;
}
