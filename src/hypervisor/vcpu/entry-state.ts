/** What of a domain the code works on that makes a vCPU continue at an entry point of the guest's kernel. */
import type { MemoryState } from '../mmu/mmu-state.js';
import type { ShutdownState } from '../shutdown.js';

/** The assists that the guest asked for (HYPERVISOR_vm_assist). */
export interface AssistState {
  /** VMASST_* bits except m2p_strict, which the page tables have. */
  vmAssist: number;
}

/** The frame is written to the guest's stack, and a guest without a usable stack crashes. */
export interface EntryState extends MemoryState, AssistState, ShutdownState {}
