/**
 * The parts of one domain, which all families of hypercalls work on. Behaviour is in those families; this file only
 * has what all of them need: the parts, the copy buffers, and how a domain ends.
 */
import type { VirtualClock } from '../engine/clock.js';
import type { CpuEngine, GuestRam } from '../engine/engine.js';
import { DOMID_SELF } from '../xen/hypercalls.js';
import type { LinearMemory } from '../xen/memory.js';
import { SHUTDOWN_crash } from '../xen/sched.js';
import { HypercallArgs } from './calls/args.js';
import type { EventChannels } from './events/event-channels.js';
import type { GrantTable } from './grants/grant-table.js';
import type { Identity } from './identity.js';
import type { FrameTable } from './mmu/frames.js';
import { GuestMemory } from './mmu/guest-memory.js';
import type { M2p } from './mmu/m2p.js';
import type { PageTables } from './mmu/page-tables.js';
import type { VcpuContext } from './vcpu/vcpu-context.js';

/** An entry of the memory map that XENMEM_memory_map returns (struct e820entry). */
export interface MemoryRange {
  /** 64 bits, as the guest may have given them. */
  readonly start: bigint;
  readonly bytes: bigint;
  /** 1 RAM, 2 reserved. */
  readonly type: number;
}

/** Why the domain stopped: SHUTDOWN_* of public/sched.h. */
export interface Shutdown {
  readonly code: number;
  /** For a crash that Xen caused: what the guest has done. */
  readonly message?: string;
  /** The vCPU that caused it. */
  readonly vcpu: number;
}

export interface DomainParts {
  readonly engine: CpuEngine;
  readonly clock: VirtualClock;
  readonly identity: Identity;
  readonly frames: FrameTable;
  readonly tables: PageTables;
  readonly m2p: M2p;
  readonly events: EventChannels;
  readonly grants: GrantTable;
  readonly vcpus: readonly VcpuContext[];
  /** Linear address of shared_info. */
  readonly sharedInfo: number;
  readonly domid: number;
  readonly uuid: Uint8Array;
  /** The maximum number of frames in the reservation (max_pages). */
  readonly maxPages: number;
  readonly memoryMap: readonly MemoryRange[];
  /** The wall-clock time in ns since 1970, for the wall clock of shared_info. */
  readonly wallClock: () => number;
  /** Gets what the guest writes with CONSOLEIO_write. */
  readonly log: (line: string) => void;
}

/** How many steps a hypercall may take at a time. After that, events and other vCPUs get their turn. */
const PREEMPT_AFTER_STEPS = 2048;

export class DomainState {
  readonly engine: DomainParts['engine'];
  readonly clock: DomainParts['clock'];
  readonly identity: DomainParts['identity'];
  readonly frames: DomainParts['frames'];
  readonly tables: DomainParts['tables'];
  readonly m2p: DomainParts['m2p'];
  readonly events: DomainParts['events'];
  readonly grants: DomainParts['grants'];
  readonly vcpus: DomainParts['vcpus'];
  readonly sharedInfo: DomainParts['sharedInfo'];
  readonly domid: DomainParts['domid'];
  readonly uuid: DomainParts['uuid'];
  readonly maxPages: DomainParts['maxPages'];
  /** The memory map. A guest may set its own. */
  memoryMap: DomainParts['memoryMap'];
  readonly wallClock: DomainParts['wallClock'];
  readonly log: DomainParts['log'];
  readonly ram: GuestRam;
  readonly mem: LinearMemory;
  readonly guest: GuestMemory;
  /** The arguments of the present hypercall. */
  args = new HypercallArgs();
  /** The vCPU whose turn it is. */
  current: VcpuContext;
  /** VMASST_* bits except m2p_strict, which the page tables have. */
  vmAssist = 0;
  /** Set once. The domain never runs again unless a suspend is cancelled. */
  shutdown: Shutdown | undefined;
  /** The code that was set in advance with SCHEDOP_shutdown_code, or -1. */
  shutdownCode = -1;
  /** Watchdogs: their deadlines in virtual time, NaN for an unused one. */
  readonly watchdog = new Float64Array(2).fill(Number.NaN);
  /** Something happened that may change which vCPU should run, or when. */
  reschedule = false;
  /** True while a long stop is presented to the guest. elapse.ts then sets the mark and checks whether it was taken. */
  telling = false;
  /** How many steps the present hypercall has taken so far in this run. */
  steps = 0;
  /** The hypercall is not done. It will continue with the arguments as they are now (hypercall_create_continuation). */
  preempted = false;
  /** Index of the CMOS register selected at port 0x70. */
  cmosIndex = 0;
  /** The frame with the guest's bits for physical interrupts, 0 for none. */
  pirqEoiMfn = 0;
  /** Address latch of PCI configuration space, port 0xcf8. */
  pciCf8 = 0;

  constructor(parts: DomainParts) {
    this.engine = parts.engine;
    this.clock = parts.clock;
    this.identity = parts.identity;
    this.frames = parts.frames;
    this.tables = parts.tables;
    this.m2p = parts.m2p;
    this.events = parts.events;
    this.grants = parts.grants;
    this.vcpus = parts.vcpus;
    this.sharedInfo = parts.sharedInfo;
    this.domid = parts.domid;
    this.uuid = parts.uuid;
    this.maxPages = parts.maxPages;
    this.memoryMap = parts.memoryMap;
    this.wallClock = parts.wallClock;
    this.log = parts.log;
    this.ram = parts.engine.ram;
    this.mem = parts.engine.ram.mem;
    this.guest = new GuestMemory(parts.engine);
    this.current = parts.vcpus[0];
  }

  /** Counts a step of a long hypercall. Returns true if the hypercall has to stop here and continue later. */
  stepPreempts(): boolean {
    return ++this.steps > PREEMPT_AFTER_STEPS;
  }

  /** Ends the domain as Xen does if it broke the rules. The first reason is kept. */
  crash(message: string): void {
    this.stop(SHUTDOWN_crash, message);
  }

  stop(code: number, message?: string): void {
    this.reschedule = true;
    this.shutdown ??= {
      code: this.shutdownCode >= 0 ? this.shutdownCode : code,
      message,
      vcpu: this.current.id,
    };
  }

  /** Whether the id names this domain: its own id, or DOMID_SELF. */
  isSelf(domid: number): boolean {
    return domid === this.domid || domid === DOMID_SELF;
  }
}
