/**
 * Runstate: how long each vCPU ran, waited for its turn (stolen time), slept, or was offline.
 *
 * Invariant: the four times of a vCPU add up to the virtual time since it was created, also across moves.
 * Source: vcpu_runstate_change, vcpu_runstate_get of xen/common/sched/core.c; update_runstate_area of
 * common/domain.c.
 */
import { Intent } from '../../engine/engine.js';
import { VcpuRunstateInfo } from '../../xen/vcpu.js';
import { VMASST_TYPE_runstate_update_flag } from '../../xen/vm-assist.js';
import type { CopyState, MemoryState } from '../mmu/mmu-state.js';
import type { AssistState } from '../vcpu/entry-state.js';
import type { Runstate, VcpuContext } from '../vcpu/vcpu-context.js';
import type { ClockState } from './time-state.js';

/** What a vCPU's runstate is written with to the area that the guest registered for it. */
export interface RunstateAreaState extends CopyState, MemoryState, AssistState, ClockState {}

const WRITE_KERNEL = Intent.write | Intent.asKernel;
/** Bit 63 of state_entry_time, in its high half: the record is being updated. */
const UPDATE_HI = 0x8000_0000;

export function changeRunstate(d: RunstateAreaState, v: VcpuContext, state: Runstate, now: number): void {
  if (v.runstate === state) return;
  const spent = now - v.runstateEntry;
  if (spent > 0) {
    v.runstateTime[v.runstate] += spent;
    v.runstateEntry = now;
  }
  v.runstate = state;
  if (v.runstateArea !== 0) updateArea(d, v);
}

/** Writes the record of vCPU `v` at the linear address `at`. */
function write(d: MemoryState, v: VcpuContext, at: number): void {
  const { mem } = d;
  mem.setU32(at + VcpuRunstateInfo.state, v.runstate);
  mem.setU32(at + VcpuRunstateInfo.state + 4, 0);
  mem.setU64(at + VcpuRunstateInfo.state_entry_time, v.runstateEntry);
  for (let i = 0; i < 4; i++) mem.setU64(at + VcpuRunstateInfo.time + 8 * i, v.runstateTime[i]);
}

/** Writes the record into the copy buffer, with the time in the present state counted up to now. */
export function fillRunstate(d: CopyState & ClockState, v: VcpuContext, upToNow: boolean): void {
  const { buffer } = d.guest;
  buffer.setU64(VcpuRunstateInfo.state, v.runstate);
  buffer.setU64(VcpuRunstateInfo.state_entry_time, v.runstateEntry);
  const since = upToNow ? Math.max(0, d.clock.now() - v.runstateEntry) : 0;
  for (let i = 0; i < 4; i++) {
    buffer.setU64(VcpuRunstateInfo.time + 8 * i, v.runstateTime[i] + (i === v.runstate ? since : 0));
  }
}

/** Writes the record to the area that the guest registered. If that is not mapped, nothing happens. */
export function updateArea(d: RunstateAreaState, v: VcpuContext): void {
  const offset = v.runstateArea & 4095;
  if (offset > 4096 - VcpuRunstateInfo.sizeof || v.runstateArea & 7) {
    const keep = d.guest.buffer.u8.slice(0, VcpuRunstateInfo.sizeof);
    fillRunstate(d, v, false);
    d.guest.copyOut(v.id, v.runstateArea, VcpuRunstateInfo.sizeof);
    d.guest.buffer.u8.set(keep);
    return;
  }
  const at = d.engine.translate(v.id, v.runstateArea, WRITE_KERNEL);
  if (at < 0) return;
  if (d.vmAssist & (1 << VMASST_TYPE_runstate_update_flag)) {
    const hi = at + VcpuRunstateInfo.state_entry_time + 4;
    d.mem.setU32(hi, d.mem.getU32(hi) | UPDATE_HI);
  }
  write(d, v, at);
}
