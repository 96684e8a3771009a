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
  /** True if only executed instructions and advanceTo() move this clock. */
  readonly deterministic: boolean;
}

export const clockRecord = recordType('CLCK', 1, 'the virtual clock', {
  now: [int, 'virtual time when the guest was stopped, ns'],
  deterministic: [bool, 'counts instructions instead of time'],
});

/** Follows a monotonic host clock from any origin, in ns. */
export class HostClock implements VirtualClock {
  readonly deterministic = false;
  /** Virtual time minus host time while running; virtual time while stopped. */
  private offset: number;
  private running = false;
  private last: number;

  constructor(
    private readonly monotonic: () => number,
    from = 0,
  ) {
    this.offset = from;
    this.last = from;
  }

  now(): number {
    const time = this.running ? Math.floor(this.monotonic() + this.offset) : this.offset;
    // A host clock that steps back must not take the guest's with it.
    if (time > this.last) this.last = time;
    return this.last;
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
    if (ahead > 0) this.offset += ahead;
  }

  set(time: number): void {
    this.offset = this.running ? time - this.monotonic() : time;
    this.last = time;
  }
}

/** Counts instructions; `retired` is the sum over all vCPUs, exact at any moment. */
export class InstructionClock implements VirtualClock {
  readonly deterministic = true;
  /** Time at which the count was 0; grows when idle time is jumped over. */
  private base: number;

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
    return this.base + this.retired() * this.nsPerInstruction;
  }

  start(): void {}
  stop(): void {}

  advanceTo(time: number): void {
    const ahead = time - this.now();
    if (ahead > 0) this.base += ahead;
  }

  set(time: number): void {
    this.base = time - this.retired() * this.nsPerInstruction;
  }
}
