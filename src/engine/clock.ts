/**
 * The virtual clock: nanoseconds since the guest was powered on. TSC, system time, timers and runstate are
 * functions of it.
 *
 * Invariant: it never goes backwards, and after being restored elsewhere it continues from where it stopped.
 * Two sources: a host's monotonic clock, or the count of executed instructions (deterministic mode).
 */
import { bool, int } from '../records/fields.js';
import { recordType } from '../records/record.js';

export interface VirtualClock {
  /** Virtual time in nanoseconds, a whole number. */
  now(): number;
  /** Time goes on from here: called when the guest may run. */
  start(): void;
  /** Time stands still from here, until start(). */
  stop(): void;
  /** Jumps ahead to `time`; a time that is past changes nothing. */
  advanceTo(time: number): void;
  /** Sets the time of a clock that has not run yet: a restore. */
  set(time: number): void;
  /** When somebody looks at this clock again at the latest, virtual time: `longest` later, and time was kept. */
  due(time: number): void;
  /** Time that was kept back, ns: it passed while nobody looked, and the clock did not go on by it. */
  readonly kept: number;
  /** What was kept, for whoever gives it to the guest; nothing is kept any more. */
  takeKept(): number;
  /** True if only executed instructions and advanceTo() move this clock. */
  readonly deterministic: boolean;
}

export const clockRecord = recordType('CLCK', 1, 'the virtual clock', {
  now: [int, 'virtual time when the guest was stopped, ns'],
  deterministic: [bool, 'counts instructions instead of time'],
});

/** While a guest runs it is looked at all the time. */
export const ALL_THE_TIME = Number.NEGATIVE_INFINITY;

/**
 * Follows a monotonic host clock from any origin, in ns. A jump of it, from one look to the next or beyond the time at
 * which the next was due, is not followed but kept: nobody has seen it yet, and what it is to the guest is another's
 * decision.
 */
export class HostClock implements VirtualClock {
  readonly deterministic = false;
  /** Virtual time minus host time while running; virtual time while stopped. */
  private offset: number;
  private running = false;
  private last: number;
  private dueBy = Number.POSITIVE_INFINITY;
  kept = 0;

  constructor(
    private readonly monotonic: () => number,
    from = 0,
    /** As much is a jump, ns. */
    private readonly longest = Number.POSITIVE_INFINITY,
  ) {
    this.offset = from;
    this.last = from;
  }

  now(): number {
    const time = this.running ? Math.floor(this.monotonic() + this.offset) : this.offset;
    // A host clock that steps back must not take the guest's with it.
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

/** Counts instructions; `retired` is the sum over all vCPUs, exact at any moment. */
export class InstructionClock implements VirtualClock {
  readonly deterministic = true;
  /** Time at which the count was 0; grows when idle time is jumped over. */
  private base: number;
  /** The time while it is stopped. */
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
