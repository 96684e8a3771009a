/**
 * The virtual clock: nanoseconds since the guest was powered on. TSC, system time, timers and runstate are derived
 * from it.
 *
 * Invariant: it never goes backwards, and after it is restored on another host it continues from where it stopped.
 * There are two sources: a host's monotonic clock, or the count of executed instructions (deterministic mode).
 */
import { bool, ns } from '../records/fields.js';
import { recordType } from '../records/record.js';

export interface VirtualClock {
  /** Virtual time in nanoseconds, a whole number. */
  now(): number;
  /** Lets time advance from here on: called when the guest may run. */
  start(): void;
  /** Stops time until start(). */
  stop(): void;
  /** Jumps ahead to `time`; a time in the past changes nothing. */
  advanceTo(time: number): void;
  /** Sets the time of a clock that has not run, for a restore. */
  set(time: number): void;
  /**
   * Announces when this clock will be read next at the latest, in virtual time. If it is read more than `longest`
   * later than that, the time is withheld.
   */
  due(time: number): void;
  /** Withheld time, ns: it passed while nobody read the clock, and the clock did not advance by it. */
  readonly kept: number;
  /** Returns the withheld time, for the caller to give to the guest, and resets it. */
  takeKept(): number;
  /** True if only executed instructions and advanceTo() move this clock. */
  readonly deterministic: boolean;
}

export const clockRecord = recordType('CLCK', 1, 'the virtual clock', {
  now: [ns, 'virtual time when the guest was stopped, ns'],
  deterministic: [bool, 'counts instructions instead of time'],
});

/** The value for a running guest, whose clock is read continuously. */
export const ALL_THE_TIME = Number.NEGATIVE_INFINITY;

/**
 * Follows a monotonic host clock with any origin, in ns. If the host clock jumps between two reads, or beyond the
 * time at which the next read was due, the virtual clock does not follow; the time is withheld: the guest has not
 * seen it, and other code decides what it means to the guest.
 */
export class HostDrivenClock implements VirtualClock {
  readonly deterministic = false;
  /** While running: virtual time minus host time; while stopped: virtual time. */
  private offset: number;
  private running = false;
  private last: number;
  private dueBy = Number.POSITIVE_INFINITY;
  kept = 0;

  constructor(
    private readonly monotonic: () => number,
    from = 0,
    /** A step of at least this length counts as a jump, ns. */
    private readonly longest = Number.POSITIVE_INFINITY,
  ) {
    this.offset = from;
    this.last = from;
  }

  now(): number {
    const time = this.running ? Math.floor(this.monotonic() + this.offset) : this.offset;
    // If the host clock steps back, the guest's must not.
    if (time <= this.last) return this.last;
    const due = this.dueBy === ALL_THE_TIME ? this.last : this.dueBy;
    if (this.running && time - due >= this.longest) {
      const seen = Math.max(this.last, due);
      this.kept += time - seen;
      this.offset -= time - seen;
      this.last = seen;
      return seen;
    }
    this.last = time;
    return time;
  }

  start(): void {
    if (this.running) return;
    this.offset -= this.monotonic();
    this.running = true;
  }

  stop(): void {
    if (!this.running) return;
    this.offset = this.now();
    this.running = false;
  }

  advanceTo(time: number): void {
    const ahead = time - this.now();
    if (!(ahead > 0)) return;
    this.offset += ahead;
    this.last = time;
  }

  set(time: number): void {
    this.offset = this.running ? time - this.monotonic() : time;
    this.last = time;
  }

  due(time: number): void {
    this.dueBy = time;
  }

  takeKept(): number {
    const { kept } = this;
    this.kept = 0;
    return kept;
  }
}

/** Counts instructions; `retired` returns the sum over all vCPUs, exact at any moment. */
export class InstructionClock implements VirtualClock {
  readonly deterministic = true;
  /** The time at which the count was 0; it grows when idle time is skipped. */
  private base: number;
  /** The time while the clock is stopped. */
  private stopped: number | undefined;

  constructor(
    private readonly retired: () => number,
    readonly nsPerInstruction: number,
    from = 0,
  ) {
    if (!Number.isInteger(nsPerInstruction) || nsPerInstruction < 1) {
      throw new RangeError(
        `nanoseconds per instruction must be a whole number of at least 1: ${nsPerInstruction}`,
      );
    }
    this.base = from - retired() * nsPerInstruction;
  }

  now(): number {
    return this.stopped ?? this.counted();
  }

  private counted(): number {
    return this.base + this.retired() * this.nsPerInstruction;
  }

  start(): void {
    if (this.stopped === undefined) return;
    const at = this.stopped;
    this.stopped = undefined;
    this.set(at);
  }

  /** What is executed from here on takes no time, until start(). */
  stop(): void {
    this.stopped ??= this.counted();
  }

  advanceTo(time: number): void {
    if (time > this.now()) this.set(time);
  }

  set(time: number): void {
    if (this.stopped === undefined) this.base = time - this.retired() * this.nsPerInstruction;
    else this.stopped = time;
  }

  readonly kept = 0;
  due(): void {}
  takeKept(): number {
    return 0;
  }
}
