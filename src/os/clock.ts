/**
 * Time and chance as the control plane has them: an interface, so that a simulator can give it others
 * (test/simulate/). Whatever waits in src/control waits by a Clock.
 */
import { randomBytes, randomUUID } from 'node:crypto';

/** Something that is to happen at a later time. */
export interface Alarm {
  /** It does not happen any more; nothing where it has happened already. */
  cancel(): void;
}

export interface Clock {
  /** CLOCK_MONOTONIC, ms: the same for all processes of a machine. */
  monotonicMs(): number;
  /** Since 1970, ms: it may jump, in either direction. */
  wallMs(): number;
  after(ms: number, what: () => void): Alarm;
  /** Again and again, until it is cancelled; keeps no process from ending. */
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
