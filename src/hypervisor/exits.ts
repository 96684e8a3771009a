/**
 * Handles the exits from guest code: system calls, exceptions, and instructions for Xen.
 * Source: handle_exception and switch_to_kernel of xen/arch/x86/x86_64/entry.S; do_page_fault, do_general_protection,
 * do_debug, do_device_not_available of arch/x86/traps.c.
 */
import { Exit } from '../engine/engine.js';
import { TI_DPL_MASK } from '../xen/vcpu.js';
import { systemCall } from './calls/fast-calls.js';
import { hypercall } from './calls/hypercalls.js';
import { emulateForced, emulatePrivileged } from './emulation/privileged.js';
import { emulateDescriptorInstruction } from './emulation/segments.js';
import { emulatePageTableWrite } from './mmu/ptwr.js';
import type { DomainState } from './state.js';
import { CR0_TS, setTaskSwitched } from './vcpu/control-registers.js';
import {
  injectException,
  injectInterrupt,
  injectPageFault,
  TRAP_gp_fault,
  TRAP_int3,
  TRAP_no_device,
  TRAP_page_fault,
} from './vcpu/traps.js';
import type { VcpuContext } from './vcpu/vcpu-context.js';

const TRAP_overflow = 4;
const LEGACY_SYSCALL_VECTOR = 0x80;
const ERROR_CODE_IDT = 2;

export function handleExit(d: DomainState, v: VcpuContext, exit: Exit) {
  switch (exit) {
    case Exit.syscall:
      if (v.cpu.userMode || v.cpu.codeBits !== 64) systemCall(d, v);
      else hypercall(d, v);
      return;
    case Exit.exception:
      return exception(d, v);
    case Exit.privileged:
      return emulatePrivileged(d, v);
    case Exit.descriptor:
      return emulateDescriptorInstruction(d, v);
    case Exit.forcedEmulation:
      return emulateForced(d, v);
  }
}

function exception(d: DomainState, v: VcpuContext) {
  const { cpu } = v;
  const vector = cpu.exitVector;
  if (cpu.exitSoftware) return softwareInterrupt(d, v, vector);
  switch (vector) {
    case TRAP_page_fault:
      if (!emulatePageTableWrite(d, v, cpu.exitCr2, cpu.exitErrorCode)) {
        injectPageFault(d, v, cpu.exitCr2, cpu.exitErrorCode);
      }
      return;
    case TRAP_no_device:
      if (!(cpu.cr0 & CR0_TS)) return;
      injectException(d, v, vector);
      setTaskSwitched(v, false);
      return;
    default:
      injectException(d, v, vector, cpu.exitErrorCode);
  }
}

/** `int n`, `int3`, `into`: rip is after the instruction. */
function softwareInterrupt(d: DomainState, v: VcpuContext, vector: number) {
  const { cpu } = v;
  if (vector === TRAP_int3 || vector === TRAP_overflow) return injectException(d, v, vector);
  if (vector === LEGACY_SYSCALL_VECTOR && v.trapAddress[vector] !== 0) return injectInterrupt(d, v, vector);
  const dpl = v.trapFlags[vector] & TI_DPL_MASK;
  if (dpl >= (cpu.userMode ? 3 : 1)) return injectInterrupt(d, v, vector);
  cpu.rip -= cpu.exitLength;
  injectException(d, v, TRAP_gp_fault, (vector << 3) | ERROR_CODE_IDT);
}
