/**
 * `__HYPERVISOR_xen_version` (`version.h`) and the feature bits it reports (`features.h`).
 */
import { struct } from './struct.js';

export const XENVER_version = 0;
export const XENVER_extraversion = 1;
export const XENVER_compile_info = 2;
export const XENVER_capabilities = 3;
export const XENVER_changeset = 4;
export const XENVER_platform_parameters = 5;
export const XENVER_get_features = 6;
export const XENVER_pagesize = 7;
export const XENVER_guest_handle = 8;
export const XENVER_commandline = 9;
export const XENVER_build_id = 10;

/** Sizes of the strings that the calls return, including the terminating zero. */
export const XEN_EXTRAVERSION_LEN = 16;
export const XEN_CAPABILITIES_INFO_LEN = 1024;
export const XEN_CHANGESET_INFO_LEN = 64;

export const XenCompileInfo = struct('xen_compile_info', 144, {
  compiler: [0, 'char[64]'],
  compile_by: [64, 'char[16]'],
  compile_domain: [80, 'char[32]'],
  compile_date: [112, 'char[32]'],
});

export const XenPlatformParameters = struct('xen_platform_parameters', 8, {
  virt_start: [0, 'u64'],
});

export const XenFeatureInfo = struct('xen_feature_info', 8, {
  submap_idx: [0, 'u32'],
  submap: [4, 'u32'],
});

export const XenBuildId = struct('xen_build_id', 4, {
  len: [0, 'u32'],
  buf: [4, 'u8[1]'],
});

/** Bit numbers in submap 0 of XENVER_get_features. */
export const XENFEAT_writable_page_tables = 0;
export const XENFEAT_writable_descriptor_tables = 1;
export const XENFEAT_auto_translated_physmap = 2;
export const XENFEAT_supervisor_mode_kernel = 3;
export const XENFEAT_pae_pgdir_above_4gb = 4;
export const XENFEAT_mmu_pt_update_preserve_ad = 5;
export const XENFEAT_highmem_assist = 6;
export const XENFEAT_gnttab_map_avail_bits = 7;
export const XENFEAT_hvm_callback_vector = 8;
export const XENFEAT_hvm_safe_pvclock = 9;
export const XENFEAT_hvm_pirqs = 10;
export const XENFEAT_dom0 = 11;
export const XENFEAT_memory_op_vnode_supported = 13;
export const XENFEAT_ARM_SMCCC_supported = 14;
export const XENFEAT_linux_rsdp_unrestricted = 15;
export const XENFEAT_not_direct_mapped = 16;
export const XENFEAT_direct_mapped = 17;
/** Added after Xen 4.17. */
export const XENFEAT_runstate_phys_area = 18;
export const XENFEAT_vcpu_time_phys_area = 19;
export const XENFEAT_dm_msix_all_writes = 20;
export const XENFEAT_NR_SUBMAPS = 1;
