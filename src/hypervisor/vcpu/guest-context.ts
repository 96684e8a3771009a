/**
 * A vCPU's state as a vcpu_guest_context, as XEN_DOMCTL_getvcpucontext gives it: what VCPUOP_initialise takes, the other
 * way round. Source: arch_get_info_guest of xen/arch/x86/domctl.c.
 */
import { LinearMemory } from '../../xen/memory.js';
import {
  VcpuGuestContext as C,
  CpuUserRegs,
  TrapInfo,
  VGCF_failsafe_disables_events,
  VGCF_i387_valid,
  VGCF_in_kernel,
  VGCF_online,
  VGCF_syscall_disables_events,
} from '../../xen/vcpu.js';
import type { AssistState } from './entry-state.js';
import type { VcpuContext } from './vcpu-context.js';
import { GPRS } from './vcpu-initialise.js';

const PAGE = 4096;

/** 5168 bytes. The vCPU must be initialised, and must not run. */
export function guestContext(d: AssistState, v: VcpuContext): Uint8Array {
  const { cpu } = v;
  const bytes = new Uint8Array(C.sizeof);
  const at = new LinearMemory(bytes.buffer);
  const kernel = !cpu.userMode;
  bytes.set(cpu.saveFpu(), C.fpu_ctxt);
  at.setU64(
    C.flags,
    VGCF_i387_valid |
      (kernel ? VGCF_in_kernel : 0) |
      (v.failsafeDisablesEvents ? VGCF_failsafe_disables_events : 0) |
      (v.syscallDisablesEvents ? VGCF_syscall_disables_events : 0) |
      (v.down ? 0 : VGCF_online),
  );
  const regs = C.user_regs;
  GPRS.forEach((field, i) => {
    at.setBig(regs + field, BigInt.asUintN(64, cpu.regBig(i)));
  });
  at.setU64(regs + CpuUserRegs.rip, cpu.rip);
  at.setU64(regs + CpuUserRegs.rflags, cpu.rflags | v.iopl);
  at.setU16(regs + CpuUserRegs.cs, cpu.cs);
  at.setU16(regs + CpuUserRegs.ss, cpu.ss);
  at.setU16(regs + CpuUserRegs.ds, cpu.ds);
  at.setU16(regs + CpuUserRegs.es, cpu.es);
  at.setU16(regs + CpuUserRegs.fs, cpu.fs);
  at.setU16(regs + CpuUserRegs.gs, cpu.gs);
  for (let i = 0; i < 256; i++) {
    const trap = C.trap_ctxt + i * TrapInfo.sizeof;
    at.setU8(trap + TrapInfo.vector, i);
    at.setU8(trap + TrapInfo.flags, v.trapFlags[i]);
    at.setU16(trap + TrapInfo.cs, v.trapCs[i]);
    at.setU64(trap + TrapInfo.address, v.trapAddress[i]);
  }
  at.setU64(C.ldt_base, v.ldtBase);
  at.setU64(C.ldt_ents, v.ldtEnts);
  v.gdtFrames.forEach((mfn, i) => {
    at.setU64(C.gdt_frames + 8 * i, mfn);
  });
  at.setU64(C.gdt_ents, v.gdtEnts);
  at.setU64(C.kernel_ss, v.kernelSs);
  at.setU64(C.kernel_sp, v.kernelSp);
  at.setU64(C.ctrlreg, cpu.cr0);
  at.setU64(C.ctrlreg + 8, cpu.cr3User * PAGE);
  at.setU64(C.ctrlreg + 8 * 2, cpu.cr2);
  at.setU64(C.ctrlreg + 8 * 3, cpu.cr3Kernel * PAGE);
  at.setU64(C.ctrlreg + 8 * 4, v.cr4);
  for (const i of [0, 1, 2, 3, 6, 7]) at.setU64(C.debugreg + 8 * i, cpu.dr(i));
  at.setU64(C.debugreg + 8 * 7, cpu.dr(7) | v.dr7Emul);
  at.setU64(C.event_callback_eip, v.eventCallback);
  at.setU64(C.failsafe_callback_eip, v.failsafeCallback);
  at.setU64(C.syscall_callback_eip, v.syscallCallback);
  at.setU64(C.vm_assist, d.vmAssist);
  at.setU64(C.fs_base, cpu.fsBase);
  at.setU64(C.gs_base_kernel, kernel ? cpu.gsBase : cpu.gsBaseOther);
  at.setU64(C.gs_base_user, kernel ? cpu.gsBaseOther : cpu.gsBase);
  return bytes;
}
