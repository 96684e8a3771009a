/** What of a domain a hypercall's handler works on, whatever the hypercall. */
import type { CopyState } from '../mmu/mmu-state.js';
import type { VcpuContext } from '../vcpu/vcpu-context.js';
import type { HypercallArgs } from './args.js';

/** The present hypercall: its arguments, the vCPU that makes it, and how its structures are copied. */
export interface CallState extends CopyState {
  readonly args: HypercallArgs;
  /** The vCPU whose turn it is. */
  readonly current: VcpuContext;
}

/** A hypercall that may take so many steps that it has to be interrupted. */
export interface LongCallState extends CallState {
  /** The hypercall is not done. It will continue with the arguments as they are now (hypercall_create_continuation). */
  preempted: boolean;
  /** Counts a step of a long hypercall. Returns true if the hypercall has to stop here and continue later. */
  stepPreempts(): boolean;
}

/** The guest's bits for physical interrupts, of which it has none. */
export interface PirqState {
  /** The frame with these bits, 0 for none. */
  pirqEoiMfn: number;
}

/** Where the text goes that a guest writes to Xen's own console. */
export interface LogState {
  /** Gets what the guest writes with CONSOLEIO_write. */
  readonly log: (line: string) => void;
}
