/**
 * How long the machine, or the domain, under this process has been suspended. CLOCK_MONOTONIC, which Node and we use,
 * stands still during a suspend; CLOCK_BOOTTIME goes on, and differs from it by nothing else (Linux,
 * kernel/time/timekeeping.c, tk_update_sleep_time).
 *
 * The two clocks cannot be read at one instant, so CLOCK_BOOTTIME is read between two readings of the other: its lead
 * then lies between two bounds. Invariant: a suspend is counted only if the new bounds lie wholly above the old ones,
 * so however long a reading takes, nothing is counted that was not a suspend.
 */
import { openSync, readSync } from 'node:fs';
import { monotonicNs } from './monotonic.js';

const CLOCK_BOOTTIME = 7;
/** Rounding of the readings, which are doubles of up to 2^53 ns, ns. */
const ROUNDING_NS = 1000;
/** /proc/uptime shows whole hundredths of a second (fs/proc/uptime.c), ns. */
const UPTIME_STEP_NS = 10e6;
/** How often the clocks are compared while nobody asks, ms. */
const LOOK_MS = 100;

/** A way to read CLOCK_BOOTTIME. */
export interface Boottime {
  /** Nanoseconds; undefined if it cannot be read. */
  read(): number | undefined;
  /** The true time is at most this much later than what `read` returned, ns. */
  readonly stepNs: number;
}

export class Suspends {
  /** The total of all suspends so far, in nanoseconds. */
  totalNs = 0;
  /** Bounds of the present lead of CLOCK_BOOTTIME. Each reading may narrow them. */
  private least = Number.NEGATIVE_INFINITY;
  private most = Number.POSITIVE_INFINITY;
  private readonly listeners = new Set<() => void>();

  constructor(
    private readonly boottime: Boottime,
    private readonly monotonic: () => number,
  ) {
    this.look();
  }

  /** `listener` is called after each suspend that was found. The function that it returns ends that. */
  onSuspend(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Compares the clocks. Returns the total of all suspends so far, in nanoseconds. */
  look(): number {
    const before = this.monotonic();
    const boottime = this.boottime.read();
    const after = this.monotonic();
    if (boottime === undefined) return this.totalNs;
    const least = boottime - after - ROUNDING_NS;
    const most = boottime + this.boottime.stepNs - before + ROUNDING_NS;
    if (least > this.most) {
      // Whole ns, as all time of a guest: its timers would else never come due, by half a ns.
      this.totalNs += Math.floor((least + most - this.least - this.most) / 2);
      this.least = least;
      this.most = most;
      for (const listener of this.listeners) listener();
    } else {
      if (least > this.least) this.least = least;
      if (most < this.most) this.most = most;
    }
    return this.totalNs;
  }
}

/** By clock_gettime, exactly; undefined without koffi. */
async function byClock(): Promise<Boottime | undefined> {
  try {
    // Types: koffi's declarations are of the module, not of its default export.
    const koffi = (await import('koffi')).default as unknown as typeof import('koffi');
    const gettime = koffi.load('libc.so.6').func('int clock_gettime(int clock, void *time)');
    // struct timespec: seconds and nanoseconds, 64 bits each, the lower half first.
    const time = new Uint32Array(4);
    const read = (): number | undefined =>
      gettime(CLOCK_BOOTTIME, time) === 0 ? (time[0] + time[1] * 2 ** 32) * 1e9 + time[2] : undefined;
    return read() === undefined ? undefined : { read, stepNs: 0 };
  } catch {
    return undefined;
  }
}

function byUptime(): Boottime {
  const text = Buffer.alloc(64);
  try {
    const fd = openSync('/proc/uptime', 'r');
    return {
      stepNs: UPTIME_STEP_NS,
      read() {
        try {
          const ns =
            Number.parseFloat(text.toString('latin1', 0, readSync(fd, text, 0, text.length, 0))) * 1e9;
          return Number.isFinite(ns) ? ns : undefined;
        } catch {
          return undefined;
        }
      },
    };
  } catch {
    return { stepNs: 0, read: () => undefined };
  }
}

// Loaded once, before a guest runs: each slice of a guest reads it.
const boottime = (await byClock()) ?? byUptime();
let machine: Suspends | undefined;

/**
 * The suspends of this machine since this process first called this function. The clocks are compared ten times a
 * second, so that a guest that sleeps is woken after a suspend.
 */
export function machineSuspends(): Suspends {
  if (machine === undefined) {
    const suspends = new Suspends(boottime, monotonicNs);
    setInterval(() => suspends.look(), LOOK_MS).unref();
    machine = suspends;
  }
  return machine;
}
