/**
 * The end of an instruction that Xen emulated: on to the next one, and the single-step trap if TF is set.
 * Source: pv_emul_instruction_done of xen/arch/x86/pv/emulate.c.
 */
import type { DomainState } from './state.js';
import { injectException, TRAP_debug } from './traps.js';
import type { VcpuContext } from './vcpu-context.js';

const DR_STEP = 0x4000;
const DR_STATUS_RESERVED_ONE = 0xffff_0ff0;

export function instructionDone(d: DomainState, v: VcpuContext, rip: number): void {
  const { cpu } = v;
  cpu.rip = rip;
  cpu.resuming = false;
  if (cpu.stepping) {
    cpu.setDr(6, (cpu.dr(6) | DR_STEP | DR_STATUS_RESERVED_ONE) >>> 0);
    injectException(d, v, TRAP_debug);
  }
}
