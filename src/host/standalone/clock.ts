/**
 * The clocks of a host without Xen: the kernel's monotonic and real time clocks, shifted by the host's
 * configuration so that two hosts on one machine can be as unlike as two machines are.
 */

import { monotonicNs } from '../../os/monotonic.js';
import type { Nanoseconds } from '../../xen/types.js';
import type { HostClock } from '../host.js';
import { machineSuspends } from './suspends.js';

/** How a host's clocks differ from the kernel's. All zero: they do not. */
export interface ClockSkew {
  /** Added to the machine's uptime, in seconds. */
  readonly uptimeS: number;
  /** Added to the true time, in seconds. */
  readonly wallClockS: number;
  readonly tscKhz: number;
}

/** `suspends`: what the machine's monotonic clock has missed. It is an outage like any other for the guests of this host. */
export function standaloneClock(
  skew: ClockSkew,
  suspends: { readonly totalNs: number } = machineSuspends(),
): HostClock {
  return {
    tscKhz: skew.tscKhz,
    uptime: () => Math.floor(monotonicNs() + suspends.totalNs + skew.uptimeS * 1e9) as Nanoseconds,
    wallClock: () => ((Date.now() + skew.wallClockS * 1000) * 1e6) as Nanoseconds,
  };
}
