/**
 * HYPERVISOR_vcpu_op: bringing vCPUs up and down, their timers, and where Xen writes their records.
 * Source: do_vcpu_op of xen/arch/x86/domain.c; common_vcpu_op, map_vcpu_info of common/domain.c.
 */

import { END_OF_TIME_NS } from '../../records/fields.js';
import { EFAULT, EINVAL, ENOENT, ENOSYS, ENXIO } from '../../xen/errno.js';
import { SHUTDOWN_poweroff } from '../../xen/sched.js';
import { VcpuInfo } from '../../xen/shared-info.js';
import * as V from '../../xen/vcpu.js';
import type { CallState } from '../calls/call-state.js';
import type { EventState } from '../events/event-channels.js';
import { addressOk } from '../mmu/guest-memory.js';
import type { FrameState, MmuState } from '../mmu/mmu-state.js';
import { changeRunstate, fillRunstate } from '../time/runstate.js';
import { updateSystemTime } from '../time/time-info.js';
import type { ClockState, LongStopState } from '../time/time-state.js';
import { timerEvent, timerSet } from '../time/timers.js';
import type { EntryState } from './entry-state.js';
import type { TurnState, VcpusState } from './turn-state.js';
import { NEVER, Runstate, type VcpuContext } from './vcpu-context.js';
import { initialiseVcpu } from './vcpu-initialise.js';

/** What the operations on a vCPU work on. */
interface VcpuOpState
  extends CallState,
    EntryState,
    FrameState,
    EventState,
    VcpusState,
    TurnState,
    ClockState,
    LongStopState {}

const MIN_PERIOD_NS = 1_000_000;
/** STIME_DELTA_MAX + 1. */
const PERIOD_LIMIT_NS = 2 ** 62;

export function vcpuOp(d: VcpuOpState): number {
  const { args, guest } = d;
  const cmd = args.int(0);
  const v = d.vcpus[args.lo[1]];
  const arg = args.long(2);
  const self = d.current;
  if (v === undefined) return -ENOENT;
  switch (cmd) {
    case V.VCPUOP_initialise:
      return initialiseVcpu(d, v, arg);
    case V.VCPUOP_up:
      if (!v.initialised) return -EINVAL;
      if (v.down) {
        v.down = false;
        changeRunstate(d, v, Runstate.runnable, d.clock.now());
        d.reschedule = true;
      }
      return 0;
    case V.VCPUOP_down:
      if (d.vcpus.every((other) => other === v || other.down)) {
        d.stop(SHUTDOWN_poweroff);
        return 0;
      }
      v.down = true;
      d.reschedule = true;
      return 0;
    case V.VCPUOP_is_up:
      return v.down ? 0 : 1;
    case V.VCPUOP_get_runstate_info:
      fillRunstate(d, v, true);
      return guest.copyOut(self.id, arg, V.VcpuRunstateInfo.sizeof) ? 0 : -EFAULT;
    case V.VCPUOP_register_runstate_memory_area: {
      if (!guest.copyIn(self.id, arg, 8)) return -EFAULT;
      const area = guest.buffer.getS64(0);
      if (area !== 0 && !addressOk(area)) return -EFAULT;
      v.runstateArea = area;
      fillRunstate(d, v, v !== self);
      if (area !== 0) guest.copyOut(self.id, area, V.VcpuRunstateInfo.sizeof);
      return 0;
    }
    case V.VCPUOP_set_periodic_timer: {
      if (!guest.copyIn(self.id, arg, 8)) return -EFAULT;
      const period = guest.buffer.getU64(0);
      if (period < MIN_PERIOD_NS || period >= PERIOD_LIMIT_NS) return -EINVAL;
      v.periodicPeriod = period;
      d.reschedule = true;
      return 0;
    }
    case V.VCPUOP_stop_periodic_timer:
      v.periodicPeriod = 0;
      return 0;
    case V.VCPUOP_set_singleshot_timer: {
      if (v !== self) return -EINVAL;
      if (!guest.copyIn(self.id, arg, V.VcpuSetSingleshotTimer.sizeof)) return -EFAULT;
      // Signed, as in Xen's timers: a negative time has already passed.
      const timeout = guest.buffer.getS64(V.VcpuSetSingleshotTimer.timeout_abs_ns);
      if (timeout < d.clock.now()) {
        v.singleshot = NEVER;
        timerEvent(d, v);
        // A time that no record holds is more than a century away. It is treated as never.
      } else v.singleshot = timeout < END_OF_TIME_NS ? timeout : NEVER;
      timerSet(d, v);
      d.reschedule = true;
      return 0;
    }
    case V.VCPUOP_stop_singleshot_timer:
      if (v !== self) return -EINVAL;
      v.singleshot = NEVER;
      return 0;
    case V.VCPUOP_register_vcpu_info: {
      const s = V.VcpuRegisterVcpuInfo;
      if (!guest.copyIn(self.id, arg, s.sizeof)) return -EFAULT;
      return registerVcpuInfo(d, v, guest.buffer.getU64(s.mfn), guest.buffer.getU32(s.offset));
    }
    case V.VCPUOP_send_nmi:
      if (!args.isNull(2)) return -EINVAL;
      sendNmi(d, v);
      return 0;
    case V.VCPUOP_register_vcpu_time_memory_area: {
      if (!guest.copyIn(self.id, arg, 8)) return -EFAULT;
      const area = guest.buffer.getS64(0);
      if (area !== 0 && !addressOk(area)) return -EFAULT;
      v.timeArea = area;
      updateSystemTime(d, v);
      return 0;
    }
    case V.VCPUOP_get_physid:
      return -EINVAL;
    default:
      return -ENOSYS;
  }
}

/** Gives a vCPU a non-maskable interrupt: by VCPUOP_send_nmi, or by `xl trigger`. */
export function sendNmi(d: EventState, v: VcpuContext): void {
  if (v.nmiPending) return;
  v.nmiPending = true;
  d.events.unblock(v);
}

/** Moves a vcpu_info into one of the guest's pages, which is possible once in a vCPU's life. */
function registerVcpuInfo(
  d: CallState & MmuState & EventState & ClockState,
  v: VcpuContext,
  mfn: number,
  offset: number,
): number {
  if (offset > 4096 - VcpuInfo.sizeof || offset & 7) return -ENXIO;
  if (v.vcpuInfoMfn !== 0) return -EINVAL;
  if (v !== d.current && !v.down) return -EINVAL;
  const frame = d.tables.guestFrame(mfn);
  if (frame < 0 || d.frames.type[frame] !== 0) return -EINVAL;
  const at = d.ram.linearOf(frame) + offset;
  d.mem.u8.copyWithin(at, v.vcpuInfo, v.vcpuInfo + VcpuInfo.sizeof);
  v.vcpuInfo = at;
  v.vcpuInfoMfn = mfn;
  d.frames.writers[frame]++;
  v.vcpuInfoOffset = offset;
  // Everything counts as pending, so that no event is lost. The guest can handle a spurious event.
  d.mem.setU32(at + VcpuInfo.evtchn_pending_sel, 0xffff_ffff);
  d.mem.setU32(at + VcpuInfo.evtchn_pending_sel + 4, 0xffff_ffff);
  d.engine.touch(at);
  d.events.markPending(v);
  updateSystemTime(d, v);
  return 0;
}
