/**
 * The clocks of a host without Xen: the kernel's monotonic clock and real-time clock. The host's configuration may
 * shift them, so that two hosts on one machine can differ as much as two machines do.
 */

import { monotonicNs } from '../../os/monotonic.js';
import { machineSuspends } from '../../os/suspends.js';
import type { Nanoseconds } from '../../xen/types.js';
import type { Host, HostClock } from '../host.js';

/** How a host's clocks differ from the kernel's. Zeros mean that they do not differ. */
interface ClockSkew {
  /** Added to the machine's uptime, in seconds. */
  readonly uptimeS: number;
  /** Added to the wall-clock time, in seconds. */
  readonly wallClockS: number;
  readonly tscKhz: number;
}

/**
 * `suspends` counts the time that the machine's monotonic clock has missed. For the guests of this host it is an
 * outage like any other.
 */
export function standaloneClock(
  skew: ClockSkew,
  suspends: { readonly totalNs: number; look(): number } = machineSuspends(),
): HostClock {
  return {
    tscKhz: skew.tscKhz,
    suspended: () => suspends.look() as Nanoseconds,
    awake: () => Math.floor(monotonicNs() + skew.uptimeS * 1e9) as Nanoseconds,
    uptime: () => Math.floor(monotonicNs() + suspends.totalNs + skew.uptimeS * 1e9) as Nanoseconds,
    wallClock: () => ((Date.now() + skew.wallClockS * 1000) * 1e6) as Nanoseconds,
  };
}

/** `onChanged` of a host that is never moved: its machine can be suspended. */
export function suspendListener(suspends = machineSuspends()): NonNullable<Host['onChanged']> {
  let stop: (() => void) | undefined;
  return (listener) => {
    stop?.();
    stop = listener && suspends.onSuspend(() => listener(false));
  };
}
