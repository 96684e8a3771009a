/**
 * Timers of a domain, all in virtual time: single-shot and periodic timers of each vCPU, time-outs of polls, and
 * the watchdogs. An expired timer fires once, also after a move.
 *
 * After a stop a kernel catches up with what it does at intervals: Linux 7.2 compares two clocks every 0.5 s, and after an
 * hour 7200 times, once at each timer interrupt, until it has done it as often as it should have. In an interval of 4 ms
 * it allows for 2 us: one moment in which the vCPU is kept from running, between the reading of one clock and the
 * other, and the clock is unstable for good. So as many timer events as it may have missed come with the mark of a long stop, which
 * has each of these comparisons begin anew.
 *
 * Invariant: nextDeadline() is never later than the first deadline that runTimers() would act on.
 * Source: xen/common/sched/core.c (vcpu_singleshot_timer_fn, vcpu_periodic_timer_work, poll_timer_fn,
 * domain_watchdog).
 */
import { VIRQ_TIMER } from '../../xen/event-channel.js';
import { SHUTDOWN_watchdog } from '../../xen/sched.js';
import type { EventState } from '../events/event-channels.js';
import type { MemoryState } from '../mmu/mmu-state.js';
import type { ShutdownState } from '../shutdown.js';
import type { VcpusState } from '../vcpu/turn-state.js';
import { NEVER, Runstate, type VcpuContext } from '../vcpu/vcpu-context.js';
import { markStopped } from './time-info.js';
import type { LongStopState, WatchdogState } from './time-state.js';

/** What a timer event is sent with. */
export interface TimerEventState extends MemoryState, EventState, VcpusState {}

/** The shortest interval at which a kernel compares clocks, in ns. */
const COMPARED_NS = 0.5e9;
/** After a stop shorter than this, in ns, the interval that remains is long enough. */
const NOTHING_MISSED_NS = 0.4e9;
const MOST_MARKS = 0xffff_ffff;

/** To be called when `ns` pass at once: the kernel has to find the mark while it catches up afterwards. */
export function oweMarks(d: VcpusState, ns: number): void {
  if (ns < NOTHING_MISSED_NS) return;
  for (const v of d.vcpus)
    if (v.initialised) v.marksOwed = Math.min(v.marksOwed + Math.ceil(ns / COMPARED_NS) + 1, MOST_MARKS);
}

/** Sends a timer event to `v`. */
export function timerEvent(d: TimerEventState, v: VcpuContext): void {
  if (v.marksOwed > 0) {
    v.marksOwed--;
    markStopped(d, v);
  }
  d.events.virq(v, VIRQ_TIMER);
}

/** To be called when `v` has set a timer: what it does after the timer interrupt has to find the mark too. */
export function timerSet(d: MemoryState & VcpusState & LongStopState, v: VcpuContext): void {
  if (v.marksOwed > 0 && !d.telling) markStopped(d, v);
}

/** The earliest deadline, or NEVER if nothing is armed. Periodic timers only count for vCPUs that run. */
export function nextDeadline(d: VcpusState & WatchdogState): number {
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
export function armed(d: VcpusState & WatchdogState): number {
  let count = d.watchdog.reduce((sum, deadline) => sum + (Number.isNaN(deadline) ? 0 : 1), 0);
  for (const v of d.vcpus) {
    if (v.singleshot !== NEVER) count++;
    if (v.pollTimeout !== NEVER) count++;
    if (v.periodicPeriod !== 0) count++;
  }
  return count;
}

/** Fires all timers that are due. */
export function runTimers(d: TimerEventState & ShutdownState & WatchdogState, now: number): void {
  for (const v of d.vcpus) {
    if (v.singleshot <= now) {
      v.singleshot = NEVER;
      timerEvent(d, v);
    }
    if (v.pollTimeout <= now) {
      v.pollTimeout = NEVER;
      if (d.events.pollMask & (1 << v.id)) d.events.unblock(v);
    }
    if (v.periodicPeriod !== 0 && v.runstate === Runstate.running) periodicWork(d, v, now);
  }
  for (const deadline of d.watchdog) if (deadline <= now) d.stop(SHUTDOWN_watchdog);
}

/** Handles the periodic timer of a vCPU that runs or starts to run. */
export function periodicWork(d: TimerEventState, v: VcpuContext, now: number): void {
  if (v.periodicPeriod !== 0 && now >= v.periodicLast + v.periodicPeriod) {
    v.periodicLast = now;
    timerEvent(d, v);
  }
}
