/**
 * SYSCALL and SYSENTER in the guest's programs. They lead to callbacks of the guest's kernel, if a processor of the
 * guest's vendor has the instruction in that mode. AMD processors have SYSCALL in all modes, and SYSENTER only
 * outside of long mode (which includes compatibility mode). Intel processors have SYSENTER in all modes, and SYSCALL
 * only in 64-bit code.
 * Source: lstar_enter, cstar_enter, sysenter_entry and switch_to_kernel of xen/arch/x86/x86_64/entry.S; AMD APM
 * volume 3, SYSCALL, SYSENTER; Intel SDM volume 2, the same.
 */
import { FLAT_KERNEL_CS64, FLAT_KERNEL_SS64, FLAT_USER_CS32, FLAT_USER_SS32 } from '../../xen/paging.js';
import type { IdentityState } from '../identity.js';
import { amdLike } from '../identity.js';
import type { EntryState } from '../vcpu/entry-state.js';
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
/** The selector that Xen puts into the frame for the one that SYSENTER does not save. */
const NULL_CS = 3;

/**
 * Handles `syscall` in user mode, and in 32-bit code of either mode: it enters the guest kernel's callback, or raises
 * #UD if there is none. The callback for 32-bit code masks events if the one for 64-bit code does.
 */
export function systemCall(d: EntryState & IdentityState, v: VcpuContext) {
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

/** Handles `sysenter`. Registers that it does not save are not in the frame. Without a callback, Xen raises #GP. */
export function sysenter(d: EntryState & IdentityState, v: VcpuContext) {
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
