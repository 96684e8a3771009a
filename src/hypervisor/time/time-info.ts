/**
 * What a guest reads to know the time: the record in each vcpu_info, a copy of it if the guest asked for one, and the
 * wall clock in shared_info.
 *
 * Invariant: the TSC counts nanoseconds, so every record that was ever published describes the same line: system time
 * = TSC. A version is odd exactly while the fields that it protects are being changed. A guest computes system_time +
 * ((tsc - tsc_timestamp) << tsc_shift) * tsc_to_system_mul >> 32.
 * Source: __update_vcpu_system_time of xen/arch/x86/time.c, update_domain_wallclock_time of common/time.c.
 */
import { Intent } from '../../engine/engine.js';
import {
  SharedInfo,
  VcpuInfo,
  VcpuTimeInfo,
  XEN_PVCLOCK_GUEST_STOPPED,
  XEN_PVCLOCK_TSC_STABLE_BIT,
} from '../../xen/shared-info.js';
import type { CopyState, MemoryState } from '../mmu/mmu-state.js';
import type { VcpusState } from '../vcpu/turn-state.js';
import type { VcpuContext } from '../vcpu/vcpu-context.js';
import type { ClockState, WallClockState } from './time-state.js';

const TSC_TO_SYSTEM_MUL = 0x8000_0000;
const TSC_SHIFT = 1;
const WRITE_KERNEL = Intent.write | Intent.asKernel;

function writeRecord(d: MemoryState, at: number, time: number): void {
  const { mem } = d;
  mem.setU64(at + VcpuTimeInfo.tsc_timestamp, time);
  mem.setU64(at + VcpuTimeInfo.system_time, time);
  mem.setU32(at + VcpuTimeInfo.tsc_to_system_mul, TSC_TO_SYSTEM_MUL);
  mem.setU8(at + VcpuTimeInfo.tsc_shift, TSC_SHIFT);
  mem.setU8(at + VcpuTimeInfo.flags, XEN_PVCLOCK_TSC_STABLE_BIT);
}

/** Publishes the present time to a vCPU. */
export function updateSystemTime(d: CopyState & MemoryState & ClockState, v: VcpuContext): void {
  const { mem } = d;
  const at = v.vcpuInfo + VcpuInfo.time;
  const time = d.clock.now();
  const version = (mem.getU32(at + VcpuTimeInfo.version) + 1) | 1;
  mem.setU32(at + VcpuTimeInfo.version, version);
  writeRecord(d, at, time);
  mem.setU32(at + VcpuTimeInfo.version, version + 1);
  d.engine.touch(at);
  if (v.timeArea !== 0) updateTimeArea(d, v, version + 1, time);
}

/**
 * The guest is told of time that passes at once if it is at least this long, in ns: kernels have watchdogs of 2 s and
 * more.
 */
export const LONG_STOP_NS = 2e9;

/**
 * Sets the mark in the record of each vCPU (or of `only`): the guest was stopped and did not hang. Linux then
 * suppresses its watchdogs, and clears the mark on the vCPU that reads it. Xen defines the mark but never sets it;
 * its guests learn of a long stop through a suspend.
 */
export function markStopped(d: MemoryState & VcpusState, only?: VcpuContext): void {
  for (const v of d.vcpus) {
    if (only !== undefined && v !== only) continue;
    const at = v.vcpuInfo + VcpuInfo.time + VcpuTimeInfo.flags;
    d.mem.setU8(at, XEN_PVCLOCK_TSC_STABLE_BIT | XEN_PVCLOCK_GUEST_STOPPED);
    d.engine.touch(at);
  }
}

/** Whether the mark is set and `v` has not cleared it yet. */
export const isMarked = (d: MemoryState, v: VcpuContext): boolean =>
  (d.mem.getU8(v.vcpuInfo + VcpuInfo.time + VcpuTimeInfo.flags) & XEN_PVCLOCK_GUEST_STOPPED) !== 0;

/** Updates the secondary record (VCPUOP_register_vcpu_time_memory_area) at its address in the guest's kernel. */
function updateTimeArea(d: CopyState & MemoryState, v: VcpuContext, version: number, time: number): void {
  if ((v.timeArea & 4095) > 4096 - VcpuTimeInfo.sizeof) {
    const { buffer } = d.guest;
    const keep = buffer.u8.slice(0, VcpuTimeInfo.sizeof);
    buffer.u8.fill(0, 0, VcpuTimeInfo.sizeof);
    buffer.setU32(VcpuTimeInfo.version, version);
    buffer.setU64(VcpuTimeInfo.tsc_timestamp, time);
    buffer.setU64(VcpuTimeInfo.system_time, time);
    buffer.setU32(VcpuTimeInfo.tsc_to_system_mul, TSC_TO_SYSTEM_MUL);
    buffer.setU8(VcpuTimeInfo.tsc_shift, TSC_SHIFT);
    buffer.setU8(VcpuTimeInfo.flags, XEN_PVCLOCK_TSC_STABLE_BIT);
    d.guest.copyOut(v.id, v.timeArea, VcpuTimeInfo.sizeof);
    buffer.u8.set(keep);
    return;
  }
  const at = d.engine.translate(v.id, v.timeArea, WRITE_KERNEL);
  if (at < 0) return;
  d.mem.setU32(at + VcpuTimeInfo.version, version - 1);
  writeRecord(d, at, time);
  d.mem.setU32(at + VcpuTimeInfo.version, version);
}

/** Publishes the wall clock, which is the wall-clock time at system time 0. Writes nothing if it has not changed. */
export function updateWallClock(d: MemoryState & ClockState & WallClockState): void {
  const { mem, sharedInfo: at } = d;
  const origin = d.wallClock() - d.clock.now();
  const seconds = Math.floor(origin / 1e9);
  const same =
    mem.getU32(at + SharedInfo.wc_sec) === seconds % 0x1_0000_0000 &&
    mem.getU32(at + SharedInfo.wc_sec_hi) === Math.floor(seconds / 0x1_0000_0000) &&
    mem.getU32(at + SharedInfo.wc_nsec) === Math.floor(origin - seconds * 1e9);
  if (same) return;
  const version = (mem.getU32(at + SharedInfo.wc_version) + 1) | 1;
  mem.setU32(at + SharedInfo.wc_version, version);
  mem.setU32(at + SharedInfo.wc_sec, seconds % 0x1_0000_0000);
  mem.setU32(at + SharedInfo.wc_sec_hi, Math.floor(seconds / 0x1_0000_0000));
  mem.setU32(at + SharedInfo.wc_nsec, Math.floor(origin - seconds * 1e9));
  mem.setU32(at + SharedInfo.wc_version, version + 1);
  d.engine.touch(at + SharedInfo.wc_version);
}
