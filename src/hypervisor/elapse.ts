/**
 * Time that passed while the domain stood still, given back to it: as if its vCPUs had waited for a processor.
 *
 * Invariant: the four runstate times of a vCPU still add up to the virtual time since it was created. A vCPU that was
 * ready counts it as stolen; one that slept counts it as stolen from the moment in which its timer came due. Watchdogs
 * are put off: they measure what the guest does with time in which it could have run.
 */
import { changeRunstate, updateArea } from './runstate.js';
import type { DomainState } from './state.js';
import { LONG_STOP_NS, markStopped } from './time.js';
import { runTimers } from './timers.js';
import { NEVER, Runstate } from './vcpu-context.js';

/** Only while the clock is stopped. */
export function elapse(d: DomainState, ns: number): void {
  if (!(ns > 0)) return;
  const to = d.clock.now() + Math.floor(ns);
  for (let i = 0; i < d.watchdog.length; i++) d.watchdog[i] += ns;
  const due = d.vcpus.map((v) =>
    v.runstate === Runstate.blocked
      ? Math.max(Math.min(v.singleshot, v.pollTimeout), v.runstateEntry)
      : NEVER,
  );
  d.clock.advanceTo(to);
  if (ns >= LONG_STOP_NS) markStopped(d);
  runTimers(d, to);
  d.vcpus.forEach((v, i) => {
    if (v.blocked || due[i] > to) return;
    changeRunstate(d, v, Runstate.runnable, to);
    const waited = to - due[i];
    v.runstateTime[Runstate.blocked] -= waited;
    v.runstateEntry -= waited;
    if (v.runstateArea !== 0) updateArea(d, v);
  });
}
