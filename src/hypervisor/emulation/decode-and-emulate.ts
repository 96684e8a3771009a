/**
 * The start of emulating an instruction: it is fetched and decoded, or the fetch faults.
 * Source: xen/arch/x86/pv/emul-priv-op.c.
 */
import type { Instruction } from '../../x86/iced.js';
import type { EntryState } from '../vcpu/entry-state.js';
import { injectPageFault } from '../vcpu/traps.js';
import type { VcpuContext } from '../vcpu/vcpu-context.js';
import { decodeAt } from './decode-at.js';

/** Passes the instruction at rip to `carryOut`, which must not keep it. */
export function decodeAndEmulate<D extends EntryState>(
  d: D,
  v: VcpuContext,
  carryOut: (d: D, v: VcpuContext, ins: Instruction) => void,
): void {
  const { cpu } = v;
  const ins = decodeAt(d.engine, v.id, cpu.rip);
  if (ins === null) {
    injectPageFault(d, v, cpu.faultAddress, cpu.faultCode);
    return;
  }
  try {
    carryOut(d, v, ins);
  } finally {
    ins.free();
  }
}
