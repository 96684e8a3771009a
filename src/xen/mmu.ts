/**
 * Page-table hypercalls (`xen.h`): mmu_update, update_va_mapping and mmuext_op.
 */
import { struct } from './struct.js';

export const MmuUpdate = struct('mmu_update', 16, {
  ptr: [0, 'u64'],
  val: [8, 'u64'],
});

/** The command in the low two bits of `mmu_update.ptr`. */
export const MMU_NORMAL_PT_UPDATE = 0;
export const MMU_MACHPHYS_UPDATE = 1;
export const MMU_PT_UPDATE_PRESERVE_AD = 2;
export const MMU_PT_UPDATE_NO_TRANSLATE = 3;
export const MMU_UPDATE_COMMAND_MASK = 3;

export const MmuextOp = struct('mmuext_op', 24, {
  cmd: [0, 'u32'],
  arg1_mfn: [8, 'u64', 'arg1.mfn'],
  arg1_linear_addr: [8, 'u64', 'arg1.linear_addr'],
  arg2_nr_ents: [16, 'u32', 'arg2.nr_ents'],
  arg2_vcpumask: [16, 'ptr', 'arg2.vcpumask'],
  arg2_src_mfn: [16, 'u64', 'arg2.src_mfn'],
});

export const MMUEXT_PIN_L1_TABLE = 0;
export const MMUEXT_PIN_L2_TABLE = 1;
export const MMUEXT_PIN_L3_TABLE = 2;
export const MMUEXT_PIN_L4_TABLE = 3;
export const MMUEXT_UNPIN_TABLE = 4;
export const MMUEXT_NEW_BASEPTR = 5;
export const MMUEXT_TLB_FLUSH_LOCAL = 6;
export const MMUEXT_INVLPG_LOCAL = 7;
export const MMUEXT_TLB_FLUSH_MULTI = 8;
export const MMUEXT_INVLPG_MULTI = 9;
export const MMUEXT_TLB_FLUSH_ALL = 10;
export const MMUEXT_INVLPG_ALL = 11;
export const MMUEXT_FLUSH_CACHE = 12;
export const MMUEXT_SET_LDT = 13;
export const MMUEXT_NEW_USER_BASEPTR = 15;
export const MMUEXT_CLEAR_PAGE = 16;
export const MMUEXT_COPY_PAGE = 17;
export const MMUEXT_FLUSH_CACHE_GLOBAL = 18;
export const MMUEXT_MARK_SUPER = 19;
export const MMUEXT_UNMARK_SUPER = 20;

/**
 * Flags of update_va_mapping: the low two bits say what to flush, the next one says on which vCPUs. With UVMF_MULTI
 * the other bits are the address of a vCPU bitmap.
 */
export const UVMF_NONE = 0;
export const UVMF_TLB_FLUSH = 1;
export const UVMF_INVLPG = 2;
export const UVMF_FLUSHTYPE_MASK = 3;
export const UVMF_MULTI = 0;
export const UVMF_LOCAL = 0;
export const UVMF_ALL = 4;
