/**
 * What Xen keeps for one virtual CPU of a PV guest in addition to the processor's own registers: trap table,
 * callbacks, segment tables, timers, runstate. It is pure data; each field belongs to the file of its hypercall
 * family.
 * Source: struct vcpu of xen/include/xen/sched.h, struct pv_vcpu of asm/domain.h.
 */
import type { EngineVcpu } from '../../engine/engine.js';

/** States of a runstate record (public/vcpu.h). */
export enum Runstate {
  running = 0,
  runnable = 1,
  blocked = 2,
  offline = 3,
}

export const NEVER = Number.POSITIVE_INFINITY;

export class VcpuContext {
  // The trap table. A handler of 0 means none.
  readonly trapAddress = new Float64Array(256);
  readonly trapCs = new Uint16Array(256);
  readonly trapFlags = new Uint8Array(256);

  eventCallback = 0;
  failsafeCallback = 0;
  syscallCallback = 0;
  syscall32Callback = 0;
  sysenterCallback = 0;
  failsafeDisablesEvents = false;
  syscallDisablesEvents = false;
  syscall32DisablesEvents = false;
  sysenterDisablesEvents = false;

  kernelSs = 0xe02b;
  kernelSp = 0;
  /** The I/O privilege level that the guest has set, at its position in rflags: 0x0000 to 0x3000. */
  iopl = 0;
  iobmp = 0;
  iobmpLimit = 0;
  /** I/O breakpoints, which Xen emulates: their enable bits in DR7. */
  dr7Emul = 0;
  /** CR4 as the guest sees it. */
  cr4 = 0;

  /** The frame numbers (MFN) of the GDT, and its number of entries. */
  readonly gdtFrames = new Float64Array(16);
  gdtEnts = 0;
  ldtBase = 0;
  ldtEnts = 0;

  /** Linear address of vcpu_info. */
  vcpuInfo = 0;
  /** Where vcpu_info was moved to: MFN and offset. The MFN is 0 while it is in shared_info. */
  vcpuInfoMfn = 0;
  vcpuInfoOffset = 0;
  /** Guest addresses to which Xen writes, 0 for none. */
  runstateArea = 0;
  timeArea = 0;

  initialised = false;
  down = true;
  blocked = false;
  /** The port that is polled; -1 for several or none; 0 if the vCPU does not poll. */
  pollPort = 0;
  nmiPending = false;
  /** Whether NMIs are masked until the next iret, and the mask to restore then. */
  asyncMask = 0;
  nmiOldMask = 0;
  /** Selectors have to be loaded from the guest's tables before the vCPU runs (VCPUOP_initialise). */
  loadSegments = false;

  /** Deadlines in virtual time; NEVER if not armed. */
  singleshot = NEVER;
  pollTimeout = NEVER;
  /** The period of the periodic timer, 0 for none. It ticks only while the vCPU runs. */
  periodicPeriod = 0;
  periodicLast = 0;
  /** How many of its next timer events come with the mark of a long stop. */
  marksOwed = 0;

  runstate: Runstate = Runstate.offline;
  runstateEntry = 0;
  readonly runstateTime = new Float64Array(4);

  /** The ports bound to virtual interrupts, by number of the interrupt; 0 for none. */
  readonly virqPort = new Uint16Array(24);

  constructor(
    readonly id: number,
    readonly cpu: EngineVcpu,
  ) {}
}
