/**
 * How long the machine itself has been suspended. CLOCK_MONOTONIC, which Node and we use, stops during a suspend;
 * CLOCK_BOOTTIME goes on. /proc/uptime shows the latter in steps of 10 ms (Linux, fs/proc/uptime.c).
 */
import { openSync, readSync } from 'node:fs';
import { monotonicNs } from '../../os/monotonic.js';

/** A smaller difference, in ns, is not a suspend: the two clocks were just not read at the same instant. */
const LEAST_NS = 2e9;
/** If reading the clocks took longer than this, in ns, the readings are discarded. */
const MOST_APART_NS = 1e9;
const LOOK_MS = 1000;

export class Suspends {
  /** The total of all suspends so far, in nanoseconds. */
  totalNs = 0;
  private lead: number | undefined;

  /** `boottime` gives CLOCK_BOOTTIME in nanoseconds, or undefined if the system has none. */
  constructor(
    private readonly boottime: () => number | undefined,
    private readonly monotonic: () => number,
  ) {
    this.look();
  }

  /** Compares the clocks: what CLOCK_BOOTTIME has gained on the monotonic clock since the last call was a suspend. */
  look(): void {
    const before = this.monotonic();
    const boottime = this.boottime();
    const after = this.monotonic();
    if (boottime === undefined || after - before > MOST_APART_NS) return;
    const lead = boottime - after;
    this.lead ??= lead;
    if (lead - this.lead < LEAST_NS) return;
    this.totalNs += lead - this.lead;
    this.lead = lead;
  }
}

function procUptime(): () => number | undefined {
  const text = Buffer.alloc(64);
  try {
    const fd = openSync('/proc/uptime', 'r');
    return () => {
      try {
        return Number.parseFloat(text.toString('latin1', 0, readSync(fd, text, 0, text.length, 0))) * 1e9;
      } catch {
        return undefined;
      }
    };
  } catch {
    return () => undefined;
  }
}

let machine: Suspends | undefined;

/**
 * The suspends of this machine since this process first called this function. The clocks are compared once a second.
 */
export function machineSuspends(): Suspends {
  if (machine === undefined) {
    const suspends = new Suspends(procUptime(), monotonicNs);
    setInterval(() => suspends.look(), LOOK_MS).unref();
    machine = suspends;
  }
  return machine;
}
