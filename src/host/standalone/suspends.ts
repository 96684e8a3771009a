/**
 * How long the machine itself has been suspended. CLOCK_MONOTONIC, by which Node and we count, stands still meanwhile;
 * CLOCK_BOOTTIME goes on. /proc/uptime shows the latter, in steps of 10 ms (Linux, fs/proc/uptime.c).
 */
import { openSync, readSync } from 'node:fs';
import { monotonicNs } from '../../os/monotonic.js';

/** Less than this is no suspend, but two clocks that were not read at one instant. */
const LEAST_NS = 2e9;
/** Clocks that were read further apart are read again next time. */
const MOST_APART_NS = 1e9;
const LOOK_MS = 1000;

export class Suspends {
  /** All suspends so far, in nanoseconds. */
  totalNs = 0;
  private lead: number | undefined;

  /** `boottime`: CLOCK_BOOTTIME in nanoseconds; undefined where there is none. */
  constructor(
    private readonly boottime: () => number | undefined,
    private readonly monotonic: () => number,
  ) {
    this.look();
  }

  /** Compares the clocks: what CLOCK_BOOTTIME has gained since the last time was a suspend. */
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

/** Those of this machine since this process first asked; looked for once a second. */
export function machineSuspends(): Suspends {
  if (machine === undefined) {
    const suspends = new Suspends(procUptime(), monotonicNs);
    setInterval(() => suspends.look(), LOOK_MS).unref();
    machine = suspends;
  }
  return machine;
}
