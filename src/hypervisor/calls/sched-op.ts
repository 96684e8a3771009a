/**
 * HYPERVISOR_sched_op and HYPERVISOR_set_timer_op: yielding the processor, waiting for events, and shutting the
 * domain down.
 * Source: do_sched_op, do_poll, domain_watchdog, do_set_timer_op of xen/common/sched/core.c.
 */
import { EFAULT, EINVAL, ENOSPC, ENOSYS, EPERM, ESRCH } from '../../xen/errno.js';
import * as S from '../../xen/sched.js';
import { VcpuInfo } from '../../xen/shared-info.js';
import type { EventState } from '../events/event-channels.js';
import type { OwnIdState } from '../identity.js';
import { addressOk } from '../mmu/guest-memory.js';
import type { MemoryState } from '../mmu/mmu-state.js';
import type { ShutdownState } from '../shutdown.js';
import type { ClockState, LongStopState, WatchdogState } from '../time/time-state.js';
import { timerSet } from '../time/timers.js';
import type { TurnState, VcpusState } from '../vcpu/turn-state.js';
import { NEVER } from '../vcpu/vcpu-context.js';
import type { CallState } from './call-state.js';

/** What a vCPU is blocked with. */
interface BlockState extends CallState, MemoryState, EventState, TurnState {}

/** What a vCPU's timer is set with. */
interface SetTimerState extends CallState, MemoryState, VcpusState, TurnState, ClockState, LongStopState {}

/** The maximum number of ports in one poll. */
const MAX_POLL_PORTS = 128;
/** Deadlines further ahead than this (13 days) are assumed to be mistakes and fire after HUGE_TIMEOUT_NS. */
const FAR_AHEAD_NS = 2 ** 50;
const HUGE_TIMEOUT_NS = 100_000_000;

export function schedOp(d: BlockState & OwnIdState & ShutdownState & ClockState & WatchdogState): number {
  const cmd = d.args.int(0);
  const arg = d.args.long(1);
  const { guest } = d;
  const v = d.current;
  switch (cmd) {
    case S.SCHEDOP_yield:
      d.reschedule = true;
      return 0;
    case S.SCHEDOP_block:
      return block(d);
    case S.SCHEDOP_shutdown:
      if (!guest.copyIn(v.id, arg, 4)) return -EFAULT;
      d.stop(guest.buffer.getU32(0) & 0xff);
      return 0;
    case S.SCHEDOP_shutdown_code:
      if (!guest.copyIn(v.id, arg, 4)) return -EFAULT;
      if (d.shutdownCode < 0) d.shutdownCode = guest.buffer.getU32(0) & 0xff;
      return 0;
    case S.SCHEDOP_poll:
      return poll(d, arg);
    case S.SCHEDOP_remote_shutdown: {
      if (!guest.copyIn(v.id, arg, S.SchedRemoteShutdown.sizeof)) return -EFAULT;
      const domid = guest.buffer.getU16(S.SchedRemoteShutdown.domain_id);
      return domid === 0 || domid === d.domid ? -EPERM : -ESRCH;
    }
    case S.SCHEDOP_watchdog:
      if (!guest.copyIn(v.id, arg, S.SchedWatchdog.sizeof)) return -EFAULT;
      return watchdog(
        d,
        guest.buffer.getU32(S.SchedWatchdog.id),
        guest.buffer.getU32(S.SchedWatchdog.timeout),
      );
    case S.SCHEDOP_pin_override:
      return -EPERM;
    default:
      return -ENOSYS;
  }
}

/** SCHEDOP_yield and SCHEDOP_block in their first interface, and its shutdown. */
export function schedOpCompat(d: BlockState & ShutdownState): number {
  switch (d.args.int(0)) {
    case S.SCHEDOP_yield:
      d.reschedule = true;
      return 0;
    case S.SCHEDOP_block:
      return block(d);
    case S.SCHEDOP_shutdown:
      d.stop(d.args.lo[1] & 0xff);
      return 0;
    default:
      return -ENOSYS;
  }
}

function block(d: BlockState): number {
  const v = d.current;
  const mask = v.vcpuInfo + VcpuInfo.evtchn_upcall_mask;
  d.mem.u8[mask] = 0;
  d.engine.touch(mask);
  if (d.events.deliverable(v)) return 0;
  v.blocked = true;
  d.reschedule = true;
  return 0;
}

function poll(d: CallState & EventState & TurnState, arg: number): number {
  const s = S.SchedPoll;
  const { guest, events } = d;
  const v = d.current;
  if (!guest.copyIn(v.id, arg, s.sizeof)) return -EFAULT;
  const count = guest.buffer.getU32(s.nr_ports);
  const list = guest.buffer.getS64(s.ports);
  // Xen's timers treat it as a signed number. A negative one has already expired.
  const timeout = guest.buffer.getS64(s.timeout);
  if (count > MAX_POLL_PORTS) return -EINVAL;
  if (!addressOk(list)) return -EFAULT;
  if (events.deliverable(v)) return 0;
  let port = 0;
  for (let i = 0; i < count; i++) {
    if (!guest.copyIn(v.id, list + 4 * i, 4)) return -EFAULT;
    port = guest.buffer.getU32(0);
    if (!events.usable(port)) return -EINVAL;
    if (events.isPending(port)) return 0;
  }
  v.blocked = true;
  v.pollPort = count === 1 ? port : -1;
  v.pollTimeout = timeout === 0 ? NEVER : timeout;
  events.pollMask |= 1 << v.id;
  d.reschedule = true;
  return 0;
}

function watchdog(d: TurnState & ClockState & WatchdogState, id: number, timeout: number): number {
  const { watchdog: all } = d;
  if (id > all.length) return -EINVAL;
  const deadline = d.clock.now() + timeout * 1e9;
  if (id === 0) {
    const free = all.findIndex((t) => Number.isNaN(t));
    // Xen passes this error through an unsigned 32-bit number, so it is not negative.
    if (free < 0) return 2 ** 32 - ENOSPC;
    all[free] = deadline;
    d.reschedule = true;
    return free + 1;
  }
  if (Number.isNaN(all[id - 1])) return -EINVAL;
  all[id - 1] = timeout === 0 ? Number.NaN : deadline;
  d.reschedule = true;
  return 0;
}

/** HYPERVISOR_set_timer_op(absolute system time in ns; 0 stops the timer). */
export function setTimerOp(d: SetTimerState): number {
  const timeout = d.args.long(0);
  const v = d.current;
  const now = d.clock.now();
  const ahead = timeout - now;
  if (timeout === 0) v.singleshot = NEVER;
  else if (timeout < 0 || ahead >= FAR_AHEAD_NS) v.singleshot = now + HUGE_TIMEOUT_NS;
  else v.singleshot = timeout;
  timerSet(d, v);
  d.reschedule = true;
  return 0;
}
