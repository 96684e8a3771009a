/**
 * The page that Xen and a guest share (`struct shared_info` in `xen.h`): event state and time of each vCPU, the
 * two-level event bitmaps, and the wall clock.
 *
 * `version` and `wc_version` are sequence counters. They are odd while the fields that they protect are being
 * changed.
 */
import { struct } from './struct.js';

export const VcpuTimeInfo = struct('vcpu_time_info', 32, {
  version: [0, 'u32'],
  tsc_timestamp: [8, 'u64'],
  system_time: [16, 'u64'],
  tsc_to_system_mul: [24, 'u32'],
  tsc_shift: [28, 's8'],
  flags: [29, 'u8'],
});

/** `vcpu_time_info.flags`. */
export const XEN_PVCLOCK_TSC_STABLE_BIT = 1 << 0;
export const XEN_PVCLOCK_GUEST_STOPPED = 1 << 1;

export const ArchVcpuInfo = struct('arch_vcpu_info', 16, {
  cr2: [0, 'u64'],
});

export const VcpuInfo = struct('vcpu_info', 64, {
  evtchn_upcall_pending: [0, 'u8'],
  evtchn_upcall_mask: [1, 'u8'],
  evtchn_pending_sel: [8, 'u64'],
  arch: [16, 'struct arch_vcpu_info'],
  time: [32, 'struct vcpu_time_info'],
});

export const ArchSharedInfo = struct('arch_shared_info', 48, {
  max_pfn: [0, 'u64'],
  pfn_to_mfn_frame_list_list: [8, 'u64'],
  nmi_reason: [16, 'u64'],
  p2m_cr3: [24, 'u64'],
  p2m_vaddr: [32, 'u64'],
  p2m_generation: [40, 'u64'],
});

export const SharedInfo = struct('shared_info', 3136, {
  vcpu_info: [0, 'struct vcpu_info[32]'],
  evtchn_pending: [2048, 'u64[64]'],
  evtchn_mask: [2560, 'u64[64]'],
  wc_version: [3072, 'u32'],
  wc_sec: [3076, 'u32'],
  wc_nsec: [3080, 'u32'],
  wc_sec_hi: [3084, 'u32'],
  arch: [3088, 'struct arch_shared_info'],
});

/** How many vCPUs have their vcpu_info in shared_info. Further vCPUs must register their own. */
export const XEN_LEGACY_MAX_VCPUS = 32;
/** The number of ports in the two-level event-channel ABI: 64 words of 64 bits. */
export const EVTCHN_2L_NR_CHANNELS = 4096;

/** Bits of `arch_shared_info.nmi_reason` (`nmi.h`). */
export const XEN_NMIREASON_io_error = 1 << 0;
export const XEN_NMIREASON_pci_serr = 1 << 1;
export const XEN_NMIREASON_unknown = 1 << 2;
