/**
 * The end of an instruction that was executed here: rip moves to the next one, and debug traps follow.
 * Source: pv_emul_instruction_done of xen/arch/x86/pv/emulate.c.
 */
import type { EntryState } from '../vcpu/entry-state.js';
import { injectException, TRAP_debug } from '../vcpu/traps.js';
import type { VcpuContext } from '../vcpu/vcpu-context.js';
import { watched } from './operands.js';

const DR_STEP = 0x4000;
const DR_STATUS_RESERVED_ONE = 0xffff_0ff0;

/** In compatibility mode rip has 32 bits. */
const within = ({ cpu }: VcpuContext, rip: number): number => (cpu.codeBits === 64 ? rip : rip % 2 ** 32);

function debugTrap(d: EntryState, v: VcpuContext, status: number): void {
  const { cpu } = v;
  cpu.setDr(6, (cpu.dr(6) | status | DR_STATUS_RESERVED_ONE) >>> 0);
  injectException(d, v, TRAP_debug);
}

/**
 * For instructions that Xen executes. Xen does not check data breakpoints, so those that its own accesses hit are
 * ignored.
 */
export function instructionDone(d: EntryState, v: VcpuContext, rip: number): void {
  const { cpu } = v;
  cpu.rip = within(v, rip);
  cpu.resuming = false;
  if (cpu.stepping) debugTrap(d, v, DR_STEP);
}

/**
 * For instructions that, as far as a guest can tell, the processor executes. `stepping` is TF at the beginning of the
 * instruction.
 */
export function processorDone(d: EntryState, v: VcpuContext, rip: number, stepping = v.cpu.stepping): void {
  v.cpu.rip = within(v, rip);
  v.cpu.resuming = false;
  trapsAfter(d, v, stepping);
}

/**
 * After MOV or POP to SS: traps wait until the next instruction is done, unless they have already waited for this
 * one.
 */
export function stackSegmentDone(d: EntryState, v: VcpuContext, rip: number): void {
  if (watched.shadowed) {
    processorDone(d, v, rip);
    return;
  }
  v.cpu.rip = within(v, rip);
  v.cpu.resuming = false;
  v.cpu.stackShadow = watched.hits;
}

/**
 * Raises the debug trap if there is a reason: a single step, or data breakpoints that the instruction's accesses hit.
 */
export function trapsAfter(d: EntryState, v: VcpuContext, stepping: boolean): void {
  const status = watched.hits | (stepping ? DR_STEP : 0);
  if (status !== 0) debugTrap(d, v, status);
}
