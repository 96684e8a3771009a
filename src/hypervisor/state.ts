/**
 * All of one domain: the parts that it is made of, and what changes while it runs. Each family of hypercalls works on
 * some of it and says on what, by the interfaces that its room declares; DomainState implements them all. Only the
 * files that make, run, save and restore a whole domain name it (`few-know-all-of-a-domain` in
 * .dependency-cruiser.cjs).
 */
import type { VirtualClock } from '../engine/clock.js';
import type { CpuEngine, GuestRam } from '../engine/engine.js';
import { DOMID_SELF } from '../xen/hypercalls.js';
import type { LinearMemory } from '../xen/memory.js';
import { SHUTDOWN_crash } from '../xen/sched.js';
import { HypercallArgs } from './calls/args.js';
import type { LogState, LongCallState, PirqState } from './calls/call-state.js';
import type { IoPortState } from './emulation/io-ports.js';
import type { EventChannels, EventState } from './events/event-channels.js';
import type { GrantState, GrantTable } from './grants/grant-table.js';
import type { IdentityState, OwnIdState, XenIdentity } from './identity.js';
import type { FrameTable } from './mmu/frames.js';
import { GuestMemory } from './mmu/guest-memory.js';
import type { M2p } from './mmu/m2p.js';
import type { M2pState, MemoryRange, MmuState, ReservationState } from './mmu/mmu-state.js';
import type { PageTables } from './mmu/page-tables.js';
import type { Shutdown } from './shutdown.js';
import type { ClockState, LongStopState, WallClockState, WatchdogState } from './time/time-state.js';
import type { EntryState } from './vcpu/entry-state.js';
import type { TurnState, VcpusState } from './vcpu/turn-state.js';
import type { VcpuContext } from './vcpu/vcpu-context.js';

/** What a domain is made of. */
export interface DomainParts {
  readonly engine: CpuEngine;
  readonly clock: VirtualClock;
  readonly identity: XenIdentity;
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

export class DomainState
  implements
    LongCallState,
    MmuState,
    M2pState,
    ReservationState,
    EventState,
    GrantState,
    IdentityState,
    OwnIdState,
    VcpusState,
    TurnState,
    EntryState,
    ClockState,
    WallClockState,
    WatchdogState,
    LongStopState,
    IoPortState,
    PirqState,
    LogState
{
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
  memoryMap: DomainParts['memoryMap'];
  readonly wallClock: DomainParts['wallClock'];
  readonly log: DomainParts['log'];
  readonly ram: GuestRam;
  readonly mem: LinearMemory;
  readonly guest: GuestMemory;
  args = new HypercallArgs();
  current: VcpuContext;
  vmAssist = 0;
  shutdown: Shutdown | undefined;
  shutdownCode = -1;
  readonly watchdog = new Float64Array(2).fill(Number.NaN);
  reschedule = false;
  telling = false;
  /** How many steps the present hypercall has taken so far in this run. */
  steps = 0;
  preempted = false;
  cmosIndex = 0;
  pirqEoiMfn = 0;
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

  stepPreempts(): boolean {
    return ++this.steps > PREEMPT_AFTER_STEPS;
  }

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

  isSelf(domid: number): boolean {
    return domid === this.domid || domid === DOMID_SELF;
  }
}
