/**
 * Time and randomness for the control plane, as an interface, so that a simulator can replace them (test/simulate/).
 * All code in src/control that waits uses a Clock.
 */
import { randomBytes, randomUUID } from 'node:crypto';

/** Something that is to happen at a later time. */
export interface Alarm {
  /** Cancels it; does nothing if it has already happened. */
  cancel(): void;
}

export interface Clock {
  /** CLOCK_MONOTONIC, ms: the same for all processes of a machine. */
  monotonicMs(): number;
  /** Wall-clock time since 1970, ms: it may jump in either direction. */
  wallMs(): number;
  after(ms: number, what: () => void): Alarm;
  /** Calls `what` repeatedly until it is cancelled. It does not keep the process alive. */
  every(ms: number, what: () => void): Alarm;
}

export interface Chance {
  uuid(): string;
  bytes(length: number): Buffer;
}

/** performance.now() counts from the start of this process. */
const STARTED_MS = Number(process.hrtime.bigint()) / 1e6 - performance.now();

export const systemClock: Clock = {
  monotonicMs: () => STARTED_MS + performance.now(),
  wallMs: () => Date.now(),
  after(ms, what) {
    const timer = setTimeout(what, ms);
    return { cancel: () => clearTimeout(timer) };
  },
  every(ms, what) {
    const timer = setInterval(what, ms);
    timer.unref();
    return { cancel: () => clearInterval(timer) };
  },
};

export const systemChance: Chance = { uuid: randomUUID, bytes: randomBytes };

export const sleep = (clock: Clock, ms: number): Promise<void> =>
  new Promise((done) => {
    clock.after(ms, done);
  });

/** What this host's local time is ahead of UTC now, s. */
export const localOffsetS = (): number => -60 * new Date().getTimezoneOffset();
