/** What of a domain the code works on that looks at all vCPUs, or that changes which of them runs. */
import type { VcpuContext } from './vcpu-context.js';

export interface VcpusState {
  readonly vcpus: readonly VcpuContext[];
}

export interface TurnState {
  /** Something happened that may change which vCPU should run, or when. */
  reschedule: boolean;
}
