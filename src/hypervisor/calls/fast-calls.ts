/**
 * SYSCALL and SYSENTER of the guest's programs: the callbacks of its kernel, as far as a processor of the guest's vendor has
 * the instruction there. AMD's have SYSCALL in all modes and SYSENTER outside of long mode (of which compatibility mode is
 * a part) alone; Intel's have SYSENTER in all modes and SYSCALL in 64-bit code alone.
 * Source: lstar_enter, cstar_enter, sysenter_entry and switch_to_kernel of xen/arch/x86/x86_64/entry.S; AMD APM volume 3,
 * SYSCALL, SYSENTER; Intel SDM volume 2, the same.
 */
import { FLAT_KERNEL_CS64, FLAT_KERNEL_SS64, FLAT_USER_CS32, FLAT_USER_SS32 } from '../../xen/paging.js';
import { amdLike } from '../identity.js';
import type { DomainState } from '../state.js';
import { R11, RCX, RSP } from '../vcpu/registers.js';
import {
  EFLAGS_DF,
  EFLAGS_RF,
  enter,
  injectException,
  TRAP_gp_fault,
  TRAP_invalid_op,
} from '../vcpu/traps.js';
import type { VcpuContext } from '../vcpu/vcpu-context.js';

const SYSCALL_BYTES = 2;
/** What Xen makes of the selector that SYSENTER does not save. */
const NULL_CS = 3;

/**
 * `syscall` in user mode, or in 32-bit code of any: the guest kernel's callback, or #UD if it has none. The callback for
 * 32-bit code keeps events off if the one for 64-bit code does.
 */
export function systemCall(d: DomainState, v: VcpuContext) {
  const { cpu } = v;
  const isLong = cpu.codeBits === 64;
  const callback = isLong ? v.syscallCallback : v.syscall32Callback;
  if (!isLong && !amdLike(d.identity)) {
    cpu.rip -= SYSCALL_BYTES;
    return injectException(d, v, TRAP_invalid_op);
  }
  cpu.setReg(RCX, cpu.rip);
  cpu.setReg(R11, cpu.rflags);
  cpu.cs = isLong ? FLAT_KERNEL_CS64 : FLAT_USER_CS32;
  cpu.ss = isLong ? FLAT_KERNEL_SS64 : FLAT_USER_SS32;
  if (callback === 0) {
    cpu.rip -= SYSCALL_BYTES;
    injectException(d, v, TRAP_invalid_op);
    return;
  }
  enter(d, v, callback, v.syscallDisablesEvents);
  const flags = cpu.rflags;
  if (flags & EFLAGS_DF) {
    cpu.rflags = flags & ~EFLAGS_DF;
    cpu.setReg(R11, flags & ~EFLAGS_DF);
  }
}

/** `sysenter`: what it does not save is not in the frame. Without a callback it is #GP, by Xen's hand. */
export function sysenter(d: DomainState, v: VcpuContext) {
  const { cpu } = v;
  if (amdLike(d.identity)) return injectException(d, v, TRAP_invalid_op);
  cpu.cs = NULL_CS;
  cpu.ss = FLAT_USER_SS32;
  cpu.rip = 0;
  cpu.setReg(RSP, 0);
  cpu.rflags &= ~EFLAGS_RF;
  if (v.sysenterCallback === 0) return injectException(d, v, TRAP_gp_fault, 0);
  enter(d, v, v.sysenterCallback, v.sysenterDisablesEvents);
}
