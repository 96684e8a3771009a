/**
 * One paravirtualised domain: its container, its Xen, and how it is switched on, run, stopped, saved and restored.
 *
 * The order of calls: `create`; then `powerOn` or `restore`; then `start`; `run` any number of times; `pause` and
 * `start` alternately; `save` only while paused. After a shutdown run() always returns that shutdown, unless a
 * suspend is cancelled.
 */
import { ALL_THE_TIME, HostDrivenClock, InstructionClock, type VirtualClock } from '../engine/clock.js';
import { type CpuEngine, type CreateEngine, FrameMap } from '../engine/engine.js';
import {
  SHUTDOWN_crash,
  SHUTDOWN_poweroff,
  SHUTDOWN_reboot,
  SHUTDOWN_suspend,
  SHUTDOWN_watchdog,
} from '../xen/sched.js';
import { VcpuInfo } from '../xen/shared-info.js';
import type { Port } from '../xen/types.js';
import { VMASST_TYPE_pae_extended_cr3 } from '../xen/vm-assist.js';
import { type FrameLayout, frameLayout } from './address-space.js';
import { BACKEND_DOMID, Backend } from './backend.js';
import { coreOf } from './core-dump.js';
import { type CrashReport, crashReport } from './crash-report.js';
import { EventChannels } from './events/event-channels.js';
import { GRANT_FRAMES, GrantTable } from './grants/grant-table.js';
import type { XenIdentity } from './identity.js';
import { FrameTable, Owner } from './mmu/frames.js';
import { M2p } from './mmu/m2p.js';
import type { MemoryRange } from './mmu/mmu-state.js';
import { newBaseptr, pinTable } from './mmu/mmuext-op.js';
import { PageTables } from './mmu/page-tables.js';
import { m2pEntry } from './mmu/reserved-slots.js';
import { restoreState, saveState } from './saved-state.js';
import { DomainState } from './state.js';
import { advance, longStop } from './time/elapse.js';
import { LONG_STOP_NS, markStopped, updateSystemTime, updateWallClock } from './time/time-info.js';
import { oweMarks } from './time/timers.js';
import { CR0_FIXED, fixupCr4, setCr4 } from './vcpu/control-registers.js';
import { DR6_DEFAULT, DR7_DEFAULT } from './vcpu/debug-registers.js';
import { RSI, RSP } from './vcpu/registers.js';
import { type RunResult, Scheduler } from './vcpu/scheduler.js';
import { VcpuContext } from './vcpu/vcpu-context.js';

/** The properties of a domain. They are the same on every host (domainRecord in saved-state.ts). */
export interface DomainConfig {
  readonly domid: number;
  readonly uuid: Uint8Array;
  readonly vcpus: number;
  /** Frames of memory at power-on, and the maximum (maxmem). */
  readonly memoryFrames: number;
  readonly maxFrames: number;
  readonly memoryMap: readonly MemoryRange[];
  readonly identity: XenIdentity;
  /** Makes time count instructions, with this many ns for each. Undefined: time follows the host's clock. */
  readonly nsPerInstruction: number | undefined;
  /**
   * The machine-to-physical table can be read from machine frame 0 on. Only guests of version 0.1 have it otherwise.
   */
  readonly wholeM2p?: boolean;
  /** How many frames the guest's table of grants may have; GRANT_FRAMES by default. */
  readonly grantFrames?: number;
}

/** What the host provides. */
export interface DomainHost {
  /** Monotonic time in ns, with an arbitrary origin. */
  monotonic(): number;
  /** Wall-clock time, in ns since 1970. */
  wallClock(): number;
  /**
   * Called when `ns` have passed at once while the guest was meant to run, because its process or its host was
   * suspended. The function decides how the guest sees that time; without the function, the guest's clock advances by
   * it. The guest is paused during the call.
   */
  keptFromRunning?(ns: number): void;
  /** Gets what the guest writes to Xen's own console. */
  log?(line: string): void;
  /**
   * With the instruction clock: whether back ends still have work for the guest, so that idle time must be waited
   * for.
   */
  busy?(): boolean;
  /** Makes the engine that executes the guest's instructions. */
  readonly engine: CreateEngine;
}

export type ShutdownReason = 'poweroff' | 'reboot' | 'suspend' | 'crash' | 'watchdog' | 'unknown';

export type DomainRun =
  | { readonly state: 'running' }
  /** Nothing to do until an event, or until the virtual time `wakeAt` (ns). */
  | { readonly state: 'idle'; readonly wakeAt: number | undefined }
  | {
      readonly state: 'shutdown';
      readonly reason: ShutdownReason;
      readonly code: number;
      readonly message?: string;
    };

const REASONS = new Map<number, ShutdownReason>([
  [SHUTDOWN_poweroff, 'poweroff'],
  [SHUTDOWN_reboot, 'reboot'],
  [SHUTDOWN_suspend, 'suspend'],
  [SHUTDOWN_crash, 'crash'],
  [SHUTDOWN_watchdog, 'watchdog'],
]);

/** How many instructions the guest may execute for a long stop before start() returns, and in each turn after that. */
const PASS_AT_ONCE = 20_000_000;
const PASS_IN_TURN = 200_000;
/**
 * At most this much of a long stop, in ns, passes at once while a vCPU computes. The kernel charges all of it to the
 * process that was running, and Linux since 6.6 multiplies the time by which that process is ahead by 2^20, in 63
 * bits: 4398 s cause a warning, 8796 s a crash.
 */
const PART_NS = 3600e9;
/**
 * How long the guest runs between two parts, in ns, so that its scheduler runs other processes and its peers can
 * answer.
 */
const BETWEEN_PARTS_NS = 200e6;

export class Domain {
  readonly engine: CpuEngine;
  readonly backend: Backend;
  readonly clock: VirtualClock;
  /** The ports that the toolstack makes for a new guest. */
  storePort = 0 as Port;
  consolePort = 0 as Port;
  /** With a clock that is only advanced from outside: the time at which the guest was to run again at the latest. */
  private expected = Number.POSITIVE_INFINITY;
  /** A long stop that is being presented to the guest. Nothing else of the guest runs meanwhile. */
  private passing: ReturnType<typeof longStop> | undefined;
  /** The virtual time at the end of that stop. */
  private passingTo: () => number = () => 0;
  /**
   * What remains of a long stop after the part that has passed, in ns, and the virtual time at which the next part
   * passes.
   */
  private owed = 0;
  private owedAt = 0;

  private constructor(
    readonly config: DomainConfig,
    readonly layout: FrameLayout,
    readonly state: DomainState,
    private readonly scheduler: Scheduler,
    private readonly host: DomainHost,
  ) {
    this.engine = state.engine;
    this.clock = state.clock;
    this.backend = new Backend(state);
  }

  static async create(config: DomainConfig, host: DomainHost): Promise<Domain> {
    const { wholeM2p = true, grantFrames = GRANT_FRAMES } = config;
    const layout = frameLayout(config.maxFrames, wholeM2p, grantFrames);
    let clock: VirtualClock | undefined;
    const engine = await host.engine({
      map: FrameMap.whole(layout.total),
      vcpus: config.vcpus,
      cpuid: config.identity.cpuid,
      now: () => clock?.now() ?? 0,
    });
    const { nsPerInstruction } = config;
    if (nsPerInstruction !== undefined && !engine.abilities.exactCounts) {
      engine.close();
      throw new Error(
        "the guest's time counts instructions, which this engine does not: it has no exactCounts",
      );
    }
    const retired = (): number => {
      let sum = 0;
      for (const cpu of engine.vcpus) sum += cpu.retired ?? 0;
      return sum;
    };
    clock =
      nsPerInstruction === undefined
        ? new HostDrivenClock(() => host.monotonic(), 0, LONG_STOP_NS)
        : new InstructionClock(retired, nsPerInstruction);
    const frames = new FrameTable(layout.total);
    frames.owner.fill(Owner.xen, layout.guest);
    const m2p = new M2p(engine, layout.m2p, layout.m2pTables, wholeM2p);
    const tables = new PageTables(engine, frames, m2pEntry(m2p.l3Mfn));
    const vcpus = engine.vcpus.map((cpu, id) => new VcpuContext(id, cpu));
    const sharedInfo = engine.ram.linearOf(layout.sharedInfo);
    vcpus.forEach((v) => {
      v.vcpuInfo = sharedInfo + v.id * VcpuInfo.sizeof;
    });
    let scheduler: Scheduler | undefined;
    const events = new EventChannels(engine, vcpus, sharedInfo, config.domid, (v) => scheduler?.woken(v));
    const state = new DomainState({
      engine,
      clock,
      identity: config.identity,
      frames,
      tables,
      m2p,
      events,
      grants: new GrantTable(engine, frames, layout.grants, grantFrames, (frame) => m2p.invalidate(frame)),
      vcpus,
      sharedInfo,
      domid: config.domid,
      uuid: config.uuid,
      maxPages: layout.guest,
      memoryMap: config.memoryMap,
      wallClock: () => host.wallClock(),
      log: (line) => host.log?.(line),
    });
    scheduler = new Scheduler(state, () => host.busy?.() !== true, nsPerInstruction ?? 1);
    frames.setOwner(layout.sharedInfo, Owner.shared);
    m2p.create();
    return new Domain(config, layout, state, scheduler, host);
  }

  /**
   * Prepares an empty container for the domain builder: RAM is owned, the M2P is filled, and the toolstack's grants
   * and ports exist.
   */
  prepare(): void {
    const { state, config, layout } = this;
    const { frames, m2p, events, grants } = state;
    for (let frame = 0; frame < config.memoryFrames; frame++) {
      frames.setOwner(frame, Owner.guest);
      m2p.set(frame, frame, 0);
    }
    m2p.invalidate(layout.sharedInfo);
    grants.grow(1);
    this.storePort = events.allocUnbound(BACKEND_DOMID) as Port;
    this.consolePort = events.allocUnbound(BACKEND_DOMID) as Port;
    for (const v of state.vcpus) {
      state.mem.setU8(state.sharedInfo + v.id * VcpuInfo.sizeof + VcpuInfo.evtchn_upcall_mask, 1);
    }
    for (let i = state.vcpus.length; i < 32; i++) {
      state.mem.setU8(state.sharedInfo + i * VcpuInfo.sizeof + VcpuInfo.evtchn_upcall_mask, 1);
    }
  }

  /** What the domain builder works on. */
  get buildTarget() {
    return {
      ram: this.engine.ram,
      ramFrames: this.config.memoryFrames,
      sharedInfoMfn: this.engine.ram.mfnOf(this.layout.sharedInfo),
      storePort: this.storePort,
      consolePort: this.consolePort,
    };
  }

  /**
   * Starts vCPU 0 as the builder prepared it: entry point, stack, address of start_info, and MFN of the top page
   * table. `vmAssist` are the VMASST_* bits that the kernel's notes ask for (pae_extended_cr3 by default).
   */
  powerOn(built: { rip: number; rsp: number; rsi: number; cr3: number; vmAssist?: number }): void {
    const { state } = this;
    const [v] = state.vcpus;
    const { cpu } = v;
    // The toolstack pins the first table and leaves it pinned. A kernel that changes to its own table unpins it.
    const rc = pinTable(state, built.cr3, 4) || newBaseptr(state, v, built.cr3);
    if (rc !== 0)
      throw new Error(`the builder's page tables at frame ${built.cr3} are not acceptable (${rc})`);
    for (const each of state.vcpus) {
      each.cpu.cr0 = CR0_FIXED;
      setCr4(each, fixupCr4(0));
    }
    cpu.rip = built.rip;
    cpu.setReg(RSP, built.rsp);
    cpu.setReg(RSI, built.rsi);
    cpu.rflags = 0x202;
    cpu.cs = 0xe033;
    cpu.ss = 0xe02b;
    cpu.userMode = false;
    cpu.setDr(6, DR6_DEFAULT);
    cpu.setDr(7, DR7_DEFAULT);
    v.kernelSp = built.rsp;
    state.vmAssist = built.vmAssist ?? 1 << VMASST_TYPE_pae_extended_cr3;
    v.initialised = true;
    v.down = false;
    // Once is enough, because what is published stays valid for ever (time-info.ts).
    for (const each of state.vcpus) updateSystemTime(state, each);
  }

  /** Time goes on, and the guest may run. */
  start(): void {
    this.clock.start();
    this.looked(this.clock.now());
    this.updateWallClock();
  }

  /**
   * Makes the guest see that it was kept from running for `ns`: the time is stolen from every vCPU that wanted to
   * run. The domain must be paused. The guest is told of 2 s and more (elapse.ts), and executes what it needs for
   * that; if that takes long, as it does only after months, run() continues it. If the stop is longer than an hour
   * and a vCPU computes, the rest follows in parts while the guest runs, and completely as soon as no vCPU computes.
   */
  elapse(ns: number): void {
    if (!(ns > 0)) return;
    const { state, scheduler, clock, host } = this;
    clock.stop();
    scheduler.interrupt();
    if (ns < LONG_STOP_NS) {
      oweMarks(state, ns);
      advance(state, clock.now() + Math.floor(ns));
      return;
    }
    const all = Math.floor(ns) + this.takeOwed();
    const asleep = state.vcpus.every((v) => !scheduler.runnable(v));
    const part = asleep ? all : Math.min(all, PART_NS);
    this.owed = all - part;
    oweMarks(state, part);
    const to = clock.now() + part;
    const began = host.monotonic();
    // While the guest is told of the stop, time goes on. With the instruction clock that time is part of the stop.
    const since = (): number => (clock.deterministic ? 0 : Math.max(0, Math.floor(host.monotonic() - began)));
    this.passingTo = () => to + since();
    // The guest runs before its devices do.
    state.events.hold();
    this.passing = longStop(state, this.passingTo, scheduler);
    clock.due(ALL_THE_TIME);
    clock.start();
    this.pass(PASS_AT_ONCE);
    clock.stop();
  }

  /** Returns what remains of a long stop, in ns, and forgets it. The caller has to account for it. */
  takeOwed(): number {
    const { owed } = this;
    this.owed = 0;
    return owed;
  }

  /** Lets the next part of a long stop pass. */
  private nextPart(): void {
    this.clock.stop();
    this.elapse(this.takeOwed());
    this.state.events.letGo();
    this.clock.start();
    this.updateWallClock();
  }

  /** How many instructions the guest has executed. If the engine does not count them: the time in ns instead. */
  private executed(): number {
    const { abilities, vcpus } = this.engine;
    if (!abilities.exactCounts) return this.host.monotonic();
    return vcpus.reduce((sum, cpu) => sum + (cpu.retired ?? 0), 0);
  }

  /** Continues to present a long stop, for about this many instructions of the guest. */
  private pass(instructions: number): void {
    const end = this.executed() + instructions;
    while (this.executed() < end) {
      if (this.passing?.next().done !== false) {
        this.passing = undefined;
        // The presentation has reached the real time.
        this.clock.takeKept();
        this.owedAt = this.clock.now() + BETWEEN_PARTS_NS;
        return;
      }
    }
  }

  /** Stops time. Nothing of the guest changes until start(). */
  pause(): void {
    this.clock.stop();
    this.giveKept();
    this.state.events.letGo();
    if (this.passing === undefined) return;
    // What the guest has not seen yet of a long stop passes at once.
    this.passing = undefined;
    this.state.telling = false;
    advance(this.state, this.passingTo());
    markStopped(this.state);
  }

  /** Accounts for the time that the clock has held back. The clock must be stopped. */
  private giveKept(): void {
    const kept = this.clock.takeKept();
    // A long stop that is being presented ends at the real time in any case.
    if (kept === 0 || this.passing !== undefined) return;
    if (this.host.keptFromRunning === undefined) this.elapse(kept);
    else this.host.keptFromRunning(kept);
  }

  /** To be called when the host's wall clock was stepped, or when the guest arrives on another host. */
  updateWallClock(): void {
    updateWallClock(this.state);
  }

  /** Runs guest code for at most `limitNs` of virtual time. */
  run(limitNs: number): DomainRun {
    const { clock, state } = this;
    state.events.letGo();
    if (clock.now() - this.expected >= LONG_STOP_NS) markStopped(state);
    clock.due(ALL_THE_TIME);
    this.catchUp();
    let result: RunResult = { state: 'running' };
    if (this.passing !== undefined) this.pass(PASS_IN_TURN);
    else if (this.owed === 0) result = this.scheduler.run(limitNs);
    else {
      result = this.scheduler.run(Math.min(limitNs, Math.max(0, this.owedAt - clock.now())));
      if (result.state === 'idle' || (result.state === 'running' && clock.now() >= this.owedAt)) {
        this.nextPart();
        result = { state: 'running' };
      }
    }
    this.catchUp();
    this.looked(result.state === 'idle' ? (result.wakeAt ?? Number.POSITIVE_INFINITY) : clock.now());
    if (result.state !== 'shutdown') return result;
    const { code, message } = state.shutdown as { code: number; message?: string };
    return { state: 'shutdown', reason: REASONS.get(code) ?? 'unknown', code, message };
  }

  /** Notes the time at which the guest has to run again at the latest. */
  private looked(time: number): void {
    this.clock.due(time);
    this.expected = this.clock.deterministic ? time : Number.POSITIVE_INFINITY;
  }

  /** The guest was kept from running until now: accounts for the time that its clock has held back. */
  private catchUp(): void {
    if (this.clock.kept === 0) return;
    this.clock.stop();
    this.giveKept();
    this.state.events.letGo();
    this.clock.start();
    this.updateWallClock();
  }

  /** Returns registers, stack and what is known of the reason, for people. */
  /** Its core, part by part; it must not run until the last part was taken. */
  core(): Iterable<Uint8Array> {
    return coreOf(this.state);
  }

  crashReport(): CrashReport {
    return crashReport(this.state);
  }

  /** Returns all records except RAM. The domain must be paused. */
  save(): Uint8Array {
    return saveState(this.state, this.scheduler.save());
  }

  /** Restores a saved domain. RAM must be complete. Throws RecordError; the domain cannot be used after that. */
  restore(records: Uint8Array): void {
    this.scheduler.restore(restoreState(this.state, records));
  }
}
