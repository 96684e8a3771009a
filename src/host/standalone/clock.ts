/**
 * The clocks of a host without Xen: the kernel's monotonic and real time clocks, shifted by the host's
 * configuration so that two hosts on one machine can be as unlike as two machines are.
 */
import type { Nanoseconds } from '../../xen/types.js';
import type { HostClock } from '../host.js';

/** How a host's clocks differ from the kernel's. All zero: they do not. */
export interface ClockSkew {
  /** Added to the machine's uptime, in seconds. */
  readonly uptimeS: number;
  /** Added to the true time, in seconds. */
  readonly wallClockS: number;
  readonly tscKhz: number;
}

// performance.now() costs 40 ns and allocates nothing; hrtime ties it to CLOCK_MONOTONIC, which all processes share.
const originNs = Number(process.hrtime.bigint()) - performance.now() * 1e6;

/** Time since the machine was started, the same in all processes, in nanoseconds. */
export const monotonicNs = (): number => originNs + performance.now() * 1e6;

export function standaloneClock(skew: ClockSkew): HostClock {
  return {
    tscKhz: skew.tscKhz,
    uptime: () => Math.floor(monotonicNs() + skew.uptimeS * 1e9) as Nanoseconds,
    wallClock: () => ((Date.now() + skew.wallClockS * 1000) * 1e6) as Nanoseconds,
  };
}
