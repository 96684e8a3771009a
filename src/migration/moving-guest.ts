/**
 * What a move needs of a guest. The guest process implements these interfaces, and the move knows nothing else about
 * it. Invariant: between `pause` and `resume` not one byte of RAM or state changes, so what was sent is the guest.
 * All synchronous parts run on the guest's own thread.
 */
import type { WarmUp } from '../engine/engine.js';
import type { OutageBounds, OutageTerms } from '../helper/points/outage.js';

/** The guest that is moved or saved, on the side where it lives. */
export interface MovableGuest {
  readonly name: string;
  readonly uuid: string;
  /** The number of machine frames, including those owned by Xen; 4096 bytes each. */
  readonly frames: number;
  /** All frames: `frames * 4096` bytes in a SharedArrayBuffer, because another thread reads them. */
  readonly ram: Uint8Array;
  /** Records from which an equal, empty container can be made (configuration, frames, vCPUs, identity). */
  describe(): Uint8Array;
  /** From now on each written frame is recorded. */
  startDirtyLog(): void;
  /**
   * ORs the frames written since the last call into `into` (one bit for each frame) and forgets them. Returns how
   * many there were.
   */
  readDirty(into: Uint8Array): number;
  stopDirtyLog(): void;
  /** How its engine reports the code that the guest runs often. */
  readonly warmUp?: Pick<WarmUp, 'hotCode'>;
  /**
   * Stops the guest between two instructions and quiesces its links. Rejects if a disk has not finished its requests
   * within the link's time limit. In that case the guest is stopped and may be resumed, but must not be sent.
   */
  pause(): Promise<void>;
  /** Quiesces the links of a guest that is already paused, with the same time limit. */
  quiesce?(): Promise<void>;
  /** The guest continues as if nothing had happened, also after a failed move. */
  resume(): void;
  /**
   * Returns all records except RAM. The guest must be paused. `terms` is what the move knows about the outage that it
   * causes.
   */
  saveState(terms: OutageTerms): Uint8Array;
  /** The guest is paused and about to be offered to another host: locks are released. `resume` takes them back. */
  release(): Promise<void>;
  /** Releases the host's resources for good, after a commit or when the guest is destroyed. */
  detach(): Promise<void>;
}

/** An arriving guest: a container that has never run. */
export interface IncomingGuest {
  readonly frames: number;
  /** `frames * 4096` bytes, all zero at first. */
  readonly ram: Uint8Array;
  /**
   * Validates all records before any of them takes effect. Throws RecordError. RAM is complete by then. `bounds` is
   * what this side knows about the outage; undefined for a guest from a file.
   */
  restoreState(records: Uint8Array, bounds: OutageBounds | undefined): void;
  /** Prepares code before the guest runs here. Writes to RAM after that must be reported with `written`. */
  readonly warmUp?: Pick<WarmUp, 'prepareCode'>;
  written?(frame: number): void;
  /** Takes this host's resources (links, locks, outer values). If this fails, the guest stays with its source. */
  attach(): Promise<void>;
  /** Runs the first instruction here. It cannot fail: what can fail belongs in `attach`. */
  start(): void;
  /** Removes the container, whatever its state. It has never run. */
  discard(): Promise<void>;
}

/** The destination's side of a move, and of `restore`. */
export interface GuestFactory<Incoming extends IncomingGuest = IncomingGuest> {
  /** Makes an empty container from what `describe` returned. Throws RecordError if it does not accept that. */
  construct(description: Uint8Array): Promise<Incoming>;
}
