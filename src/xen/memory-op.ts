/** `__HYPERVISOR_memory_op` (`memory.h`), as far as it concerns a PV guest, and the entry of the BIOS memory map. */
import { struct } from './struct.js';

export const XENMEM_increase_reservation = 0;
export const XENMEM_decrease_reservation = 1;
export const XENMEM_maximum_ram_page = 2;
export const XENMEM_current_reservation = 3;
export const XENMEM_maximum_reservation = 4;
export const XENMEM_machphys_mfn_list = 5;
export const XENMEM_populate_physmap = 6;
export const XENMEM_add_to_physmap = 7;
export const XENMEM_memory_map = 9;
export const XENMEM_machine_memory_map = 10;
export const XENMEM_exchange = 11;
export const XENMEM_machphys_mapping = 12;
export const XENMEM_set_memory_map = 13;
export const XENMEM_maximum_gpfn = 14;
export const XENMEM_remove_from_physmap = 15;
export const XENMEM_set_pod_target = 16;
export const XENMEM_get_pod_target = 17;
export const XENMEM_add_to_physmap_batch = 23;
export const XENMEM_machphys_compat_mfn_list = 25;
export const XENMEM_get_vnumainfo = 26;
export const XENMEM_acquire_resource = 28;
/** The bits of the command that hold the sub-operation. The bits above them say how far a preempted call has come. */
export const MEMOP_EXTENT_SHIFT = 6;
export const MEMOP_CMD_MASK = 63;

export const XenMemoryReservation = struct('xen_memory_reservation', 32, {
  extent_start: [0, 'ptr'],
  nr_extents: [8, 'u64'],
  extent_order: [16, 'u32'],
  mem_flags: [20, 'u32'],
  domid: [24, 'u16'],
});

export const XenMemoryExchange = struct('xen_memory_exchange', 72, {
  in: [0, 'struct xen_memory_reservation'],
  out: [32, 'struct xen_memory_reservation'],
  nr_exchanged: [64, 'u64'],
});

export const XenMachphysMfnList = struct('xen_machphys_mfn_list', 24, {
  max_extents: [0, 'u32'],
  extent_start: [8, 'ptr'],
  nr_extents: [16, 'u32'],
});

export const XenMachphysMapping = struct('xen_machphys_mapping', 24, {
  v_start: [0, 'u64'],
  v_end: [8, 'u64'],
  max_mfn: [16, 'u64'],
});

export const XenAddToPhysmap = struct('xen_add_to_physmap', 24, {
  domid: [0, 'u16'],
  size: [2, 'u16'],
  space: [4, 'u32'],
  idx: [8, 'u64'],
  gpfn: [16, 'u64'],
});

export const XenAddToPhysmapBatch = struct('xen_add_to_physmap_batch', 32, {
  domid: [0, 'u16'],
  space: [2, 'u16'],
  size: [4, 'u16'],
  u_foreign_domid: [6, 'u16', 'u.foreign_domid'],
  idxs: [8, 'ptr'],
  gpfns: [16, 'ptr'],
  errs: [24, 'ptr'],
});

export const XenRemoveFromPhysmap = struct('xen_remove_from_physmap', 16, {
  domid: [0, 'u16'],
  gpfn: [8, 'u64'],
});

/** `space` of add_to_physmap. */
export const XENMAPSPACE_shared_info = 0;
export const XENMAPSPACE_grant_table = 1;
export const XENMAPSPACE_gmfn = 2;
export const XENMAPSPACE_gmfn_range = 3;
export const XENMAPSPACE_gmfn_foreign = 4;
export const XENMAPSPACE_dev_mmio = 5;

/** `nr_entries` is the buffer's capacity on input and the number of entries on output. */
export const XenMemoryMap = struct('xen_memory_map', 16, {
  nr_entries: [0, 'u32'],
  buffer: [8, 'ptr'],
});

export const XenForeignMemoryMap = struct('xen_foreign_memory_map', 24, {
  domid: [0, 'u16'],
  map: [8, 'struct xen_memory_map'],
});

export const XenVnumaTopologyInfo = struct('xen_vnuma_topology_info', 40, {
  domid: [0, 'u16'],
  nr_vnodes: [4, 'u32'],
  nr_vcpus: [8, 'u32'],
  nr_vmemranges: [12, 'u32'],
  vdistance_h: [16, 'ptr', 'vdistance.h'],
  vcpu_to_vnode_h: [24, 'ptr', 'vcpu_to_vnode.h'],
  vmemrange_h: [32, 'ptr', 'vmemrange.h'],
});

export const XenMemAcquireResource = struct('xen_mem_acquire_resource', 32, {
  domid: [0, 'u16'],
  type: [2, 'u16'],
  id: [4, 'u32'],
  nr_frames: [8, 'u32'],
  frame: [16, 'u64'],
  frame_list: [24, 'ptr'],
});

/** One entry of XENMEM_memory_map, as BIOS INT 0x15 AX=0xE820 returns it: 20 bytes without padding. */
export const E820Entry = struct('e820entry', 20, {
  addr: [0, 'u64'],
  size: [8, 'u64'],
  type: [16, 'u32'],
});
/** `e820entry.type`. */
export const E820_RAM = 1;
export const E820_RESERVED = 2;
export const E820_ACPI = 3;
export const E820_NVS = 4;
export const E820_UNUSABLE = 5;
