/**
 * Timers of a domain, all in virtual time: single-shot and periodic timers of each vCPU, time-outs of polls, and
 * the watchdogs. An expired timer fires once, also after a move.
 *
 * Invariant: nextDeadline() is never later than the first deadline that runTimers() would act on.
 * Source: xen/common/sched/core.c (vcpu_singleshot_timer_fn, vcpu_periodic_timer_work, poll_timer_fn,
 * domain_watchdog).
 */
import { VIRQ_TIMER } from '../../xen/event-channel.js';
import { SHUTDOWN_watchdog } from '../../xen/sched.js';
import type { DomainState } from '../state.js';
import { NEVER, Runstate, type VcpuContext } from '../vcpu/vcpu-context.js';

/** The earliest deadline; NEVER if nothing is armed. Periodic timers count for vCPUs that run. */
export function nextDeadline(d: DomainState): number {
  let next = NEVER;
  for (const v of d.vcpus) {
    if (v.singleshot < next) next = v.singleshot;
    if (v.pollTimeout < next) next = v.pollTimeout;
    if (v.periodicPeriod !== 0 && v.runstate === Runstate.running) {
      next = Math.min(next, v.periodicLast + v.periodicPeriod);
    }
  }
  for (const deadline of d.watchdog) if (deadline < next) next = deadline;
  return next;
}

/** How many timers of all kinds are armed. */
export function armed(d: DomainState): number {
  let count = d.watchdog.reduce((sum, deadline) => sum + (Number.isNaN(deadline) ? 0 : 1), 0);
  for (const v of d.vcpus) {
    if (v.singleshot !== NEVER) count++;
    if (v.pollTimeout !== NEVER) count++;
    if (v.periodicPeriod !== 0) count++;
  }
  return count;
}

/** Fires what is due. */
export function runTimers(d: DomainState, now: number): void {
  for (const v of d.vcpus) {
    if (v.singleshot <= now) {
      v.singleshot = NEVER;
      d.events.virq(v, VIRQ_TIMER);
    }
    if (v.pollTimeout <= now) {
      v.pollTimeout = NEVER;
      if (d.events.pollMask & (1 << v.id)) d.events.unblock(v);
    }
    if (v.periodicPeriod !== 0 && v.runstate === Runstate.running) periodicWork(d, v, now);
  }
  for (const deadline of d.watchdog) if (deadline <= now) d.stop(SHUTDOWN_watchdog);
}

/** The periodic timer of a vCPU that runs, or begins to. */
export function periodicWork(d: DomainState, v: VcpuContext, now: number): void {
  if (v.periodicPeriod !== 0 && now >= v.periodicLast + v.periodicPeriod) {
    v.periodicLast = now;
    d.events.virq(v, VIRQ_TIMER);
  }
}
