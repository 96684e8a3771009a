/**
 * A vCPU as Xen's hypercalls see it: its context (`arch-x86/xen.h`), and the operations of
 * `__HYPERVISOR_vcpu_op` (`vcpu.h`).
 */
import { struct } from './struct.js';

export const CpuUserRegs = struct('cpu_user_regs', 200, {
  r15: [0, 'u64'],
  r14: [8, 'u64'],
  r13: [16, 'u64'],
  r12: [24, 'u64'],
  rbp: [32, 'u64'],
  rbx: [40, 'u64'],
  r11: [48, 'u64'],
  r10: [56, 'u64'],
  r9: [64, 'u64'],
  r8: [72, 'u64'],
  rax: [80, 'u64'],
  rcx: [88, 'u64'],
  rdx: [96, 'u64'],
  rsi: [104, 'u64'],
  rdi: [112, 'u64'],
  error_code: [120, 'u32'],
  entry_vector: [124, 'u32'],
  rip: [128, 'u64'],
  cs: [136, 'u16'],
  saved_upcall_mask: [140, 'u8'],
  rflags: [144, 'u64'],
  rsp: [152, 'u64'],
  ss: [160, 'u16'],
  es: [168, 'u16'],
  ds: [176, 'u16'],
  fs: [184, 'u16'],
  gs: [192, 'u16'],
});

/** One gate of `__HYPERVISOR_set_trap_table`. The table ends with an entry whose `address` is zero. */
export const TrapInfo = struct('trap_info', 16, {
  vector: [0, 'u8'],
  flags: [1, 'u8'],
  cs: [2, 'u16'],
  address: [8, 'u64'],
});

/** `trap_info.flags`: the privilege level from which it may be raised with `int n`, and whether it masks events. */
export const TI_DPL_MASK = 3;
export const TI_IF = 1 << 2;

export const VcpuGuestContext = struct('vcpu_guest_context', 5168, {
  fpu_ctxt: [0, 'char[512]'],
  flags: [512, 'u64'],
  user_regs: [520, 'struct cpu_user_regs'],
  trap_ctxt: [720, 'struct trap_info[256]'],
  ldt_base: [4816, 'u64'],
  ldt_ents: [4824, 'u64'],
  gdt_frames: [4832, 'u64[16]'],
  gdt_ents: [4960, 'u64'],
  kernel_ss: [4968, 'u64'],
  kernel_sp: [4976, 'u64'],
  ctrlreg: [4984, 'u64[8]'],
  debugreg: [5048, 'u64[8]'],
  event_callback_eip: [5112, 'u64'],
  failsafe_callback_eip: [5120, 'u64'],
  syscall_callback_eip: [5128, 'u64'],
  vm_assist: [5136, 'u64'],
  fs_base: [5144, 'u64'],
  gs_base_kernel: [5152, 'u64'],
  gs_base_user: [5160, 'u64'],
});

/** `vcpu_guest_context.flags`. */
export const VGCF_i387_valid = 1 << 0;
export const VGCF_in_kernel = 1 << 2;
export const VGCF_failsafe_disables_events = 1 << 3;
export const VGCF_syscall_disables_events = 1 << 4;
export const VGCF_online = 1 << 5;
/** `iret_context.flags`: return as SYSRET does, without loading rcx and r11. */
export const VGCF_in_syscall = 1 << 8;

/** What `__HYPERVISOR_iret` takes from the guest's stack. */
export const IretContext = struct('iret_context', 72, {
  rax: [0, 'u64'],
  r11: [8, 'u64'],
  rcx: [16, 'u64'],
  flags: [24, 'u64'],
  rip: [32, 'u64'],
  cs: [40, 'u64'],
  rflags: [48, 'u64'],
  rsp: [56, 'u64'],
  ss: [64, 'u64'],
});

/** `__HYPERVISOR_vcpu_op` sub-operations. */
export const VCPUOP_initialise = 0;
export const VCPUOP_up = 1;
export const VCPUOP_down = 2;
export const VCPUOP_is_up = 3;
export const VCPUOP_get_runstate_info = 4;
export const VCPUOP_register_runstate_memory_area = 5;
export const VCPUOP_set_periodic_timer = 6;
export const VCPUOP_stop_periodic_timer = 7;
export const VCPUOP_set_singleshot_timer = 8;
export const VCPUOP_stop_singleshot_timer = 9;
export const VCPUOP_register_vcpu_info = 10;
export const VCPUOP_send_nmi = 11;
export const VCPUOP_get_physid = 12;
export const VCPUOP_register_vcpu_time_memory_area = 13;
/** Since Xen 4.18: areas that are registered by guest-physical instead of virtual address. */
export const VCPUOP_register_runstate_phys_area = 14;
export const VCPUOP_register_vcpu_time_phys_area = 15;

export const VcpuRunstateInfo = struct('vcpu_runstate_info', 48, {
  state: [0, 's32'],
  state_entry_time: [8, 'u64'],
  time: [16, 'u64[4]'],
});

/** Values of `vcpu_runstate_info.state`, which are also indices into its `time[4]`. */
export const RUNSTATE_running = 0;
export const RUNSTATE_runnable = 1;
export const RUNSTATE_blocked = 2;
export const RUNSTATE_offline = 3;
/**
 * The bit of `state_entry_time` that is set while Xen updates the area, if VMASST_TYPE_runstate_update_flag is
 * enabled.
 */
export const XEN_RUNSTATE_UPDATE_BIT = 63;

/** `addr` is a virtual address (`v`) or, in the physical variants, a physical address (`p`). */
export const VcpuRegisterRunstateMemoryArea = struct('vcpu_register_runstate_memory_area', 8, {
  addr_v: [0, 'ptr', 'addr.v'],
  addr_p: [0, 'u64', 'addr.p'],
});

export const VcpuRegisterTimeMemoryArea = struct('vcpu_register_time_memory_area', 8, {
  addr_h: [0, 'ptr', 'addr.h'],
  addr_v: [0, 'ptr', 'addr.v'],
  addr_p: [0, 'u64', 'addr.p'],
});

export const VcpuSetPeriodicTimer = struct('vcpu_set_periodic_timer', 8, {
  period_ns: [0, 'u64'],
});

export const VcpuSetSingleshotTimer = struct('vcpu_set_singleshot_timer', 16, {
  timeout_abs_ns: [0, 'u64'],
  flags: [8, 'u32'],
});

/** `vcpu_set_singleshot_timer.flags`: return -ETIME if the time has already passed. */
export const VCPU_SSHOTTMR_future = 1 << 0;

export const VcpuRegisterVcpuInfo = struct('vcpu_register_vcpu_info', 16, {
  mfn: [0, 'u64'],
  offset: [8, 'u32'],
  rsvd: [12, 'u32'],
});

export const VcpuGetPhysid = struct('vcpu_get_physid', 8, {
  phys_id: [0, 'u64'],
});
