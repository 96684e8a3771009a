/**
 * Grant tables, version 1 (`grant_table.h`): entries, the structures of `__HYPERVISOR_grant_table_op`, and its
 * status codes.
 */
import { struct } from './struct.js';

export const GrantEntryV1 = struct('grant_entry_v1', 8, {
  flags: [0, 'u16'],
  domid: [2, 'u16'],
  frame: [4, 'u32'],
});

/** Entries that the domain builder reserves for the tools. */
export const GNTTAB_NR_RESERVED_ENTRIES = 8;
export const GNTTAB_RESERVED_CONSOLE = 0;
export const GNTTAB_RESERVED_XENSTORE = 1;

/**
 * `grant_entry_v1.flags`: the type of the grant in the low two bits, then what the granting domain allows (readonly)
 * and what the mapping domain does (reading, writing).
 */
export const GTF_invalid = 0;
export const GTF_permit_access = 1;
export const GTF_accept_transfer = 2;
export const GTF_transitive = 3;
export const GTF_type_mask = 3;
export const GTF_readonly = 1 << 2;
export const GTF_reading = 1 << 3;
export const GTF_writing = 1 << 4;
export const GTF_PWT = 1 << 5;
export const GTF_PCD = 1 << 6;
export const GTF_PAT = 1 << 7;
export const GTF_sub_page = 1 << 8;
export const GTF_transfer_committed = 1 << 2;
export const GTF_transfer_completed = 1 << 3;

/** `__HYPERVISOR_grant_table_op` sub-operations. */
export const GNTTABOP_map_grant_ref = 0;
export const GNTTABOP_unmap_grant_ref = 1;
export const GNTTABOP_setup_table = 2;
export const GNTTABOP_dump_table = 3;
export const GNTTABOP_transfer = 4;
export const GNTTABOP_copy = 5;
export const GNTTABOP_query_size = 6;
export const GNTTABOP_unmap_and_replace = 7;
export const GNTTABOP_set_version = 8;
export const GNTTABOP_get_status_frames = 9;
export const GNTTABOP_get_version = 10;
export const GNTTABOP_swap_grant_ref = 11;
export const GNTTABOP_cache_flush = 12;

export const GnttabMapGrantRef = struct('gnttab_map_grant_ref', 32, {
  host_addr: [0, 'u64'],
  flags: [8, 'u32'],
  ref: [12, 'u32'],
  dom: [16, 'u16'],
  status: [18, 's16'],
  handle: [20, 'u32'],
  dev_bus_addr: [24, 'u64'],
});

export const GnttabUnmapGrantRef = struct('gnttab_unmap_grant_ref', 24, {
  host_addr: [0, 'u64'],
  dev_bus_addr: [8, 'u64'],
  handle: [16, 'u32'],
  status: [20, 's16'],
});

export const GnttabUnmapAndReplace = struct('gnttab_unmap_and_replace', 24, {
  host_addr: [0, 'u64'],
  new_addr: [8, 'u64'],
  handle: [16, 'u32'],
  status: [20, 's16'],
});

/** `gnttab_map_grant_ref.flags`. */
export const GNTMAP_device_map = 1 << 0;
export const GNTMAP_host_map = 1 << 1;
export const GNTMAP_readonly = 1 << 2;
export const GNTMAP_application_map = 1 << 3;
export const GNTMAP_contains_pte = 1 << 4;

export const GnttabSetupTable = struct('gnttab_setup_table', 24, {
  dom: [0, 'u16'],
  nr_frames: [4, 'u32'],
  status: [8, 's16'],
  frame_list: [16, 'ptr'],
});

export const GnttabQuerySize = struct('gnttab_query_size', 16, {
  dom: [0, 'u16'],
  nr_frames: [4, 'u32'],
  max_nr_frames: [8, 'u32'],
  status: [12, 's16'],
});

export const GnttabSetVersion = struct('gnttab_set_version', 4, {
  version: [0, 'u32'],
});

export const GnttabGetVersion = struct('gnttab_get_version', 8, {
  dom: [0, 'u16'],
  version: [4, 'u32'],
});

export const GnttabGetStatusFrames = struct('gnttab_get_status_frames', 16, {
  nr_frames: [0, 'u32'],
  dom: [4, 'u16'],
  status: [6, 's16'],
  frame_list: [8, 'ptr'],
});

export const GnttabDumpTable = struct('gnttab_dump_table', 4, {
  dom: [0, 'u16'],
  status: [2, 's16'],
});

export const GnttabTransfer = struct('gnttab_transfer', 24, {
  mfn: [0, 'u64'],
  domid: [8, 'u16'],
  ref: [12, 'u32'],
  status: [16, 's16'],
});

/** `source.u` and `dest.u` are a grant reference or a frame number, depending on `flags`. */
export const GnttabCopy = struct('gnttab_copy', 40, {
  source: [0, 'struct gnttab_copy_ptr'],
  dest: [16, 'struct gnttab_copy_ptr'],
  len: [32, 'u16'],
  flags: [34, 'u16'],
  status: [36, 's16'],
});

/** `gnttab_copy.flags`. */
export const GNTCOPY_source_gref = 1 << 0;
export const GNTCOPY_dest_gref = 1 << 1;

export const GnttabSwapGrantRef = struct('gnttab_swap_grant_ref', 12, {
  ref_a: [0, 'u32'],
  ref_b: [4, 'u32'],
  status: [8, 's16'],
});

export const GnttabCacheFlush = struct('gnttab_cache_flush', 16, {
  a_dev_bus_addr: [0, 'u64', 'a.dev_bus_addr'],
  a_ref: [0, 'u32', 'a.ref'],
  offset: [8, 'u16'],
  length: [10, 'u16'],
  op: [12, 'u32'],
});

/** The `status` of every operation above. */
export const GNTST_okay = 0;
export const GNTST_general_error = -1;
export const GNTST_bad_domain = -2;
export const GNTST_bad_gntref = -3;
export const GNTST_bad_handle = -4;
export const GNTST_bad_virt_addr = -5;
export const GNTST_bad_dev_addr = -6;
export const GNTST_no_device_space = -7;
export const GNTST_permission_denied = -8;
export const GNTST_bad_page = -9;
export const GNTST_bad_copy_arg = -10;
export const GNTST_address_too_big = -11;
export const GNTST_eagain = -12;
export const GNTST_no_space = -13;
