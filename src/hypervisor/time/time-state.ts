/** What of a domain the code works on that has to do with time. */
import type { VirtualClock } from '../../engine/clock.js';

export interface ClockState {
  readonly clock: VirtualClock;
}

export interface WallClockState {
  /** The wall-clock time in ns since 1970, for the wall clock of shared_info. */
  readonly wallClock: () => number;
}

export interface WatchdogState {
  /** Watchdogs: their deadlines in virtual time, NaN for an unused one. */
  readonly watchdog: Float64Array;
}

export interface LongStopState {
  /** True while a long stop is presented to the guest. elapse.ts then sets the mark and checks whether it was taken. */
  telling: boolean;
}
