/**
 * One paravirtualised domain: its container, its Xen, and how it is switched on, run, stopped, saved and restored.
 *
 * Who may call what: create, then either powerOn or restore; then start; then run as often as wanted; pause and
 * start in turns; save only while paused. After a shutdown run() says so for ever, unless a suspend is cancelled.
 */
import { ALL_THE_TIME, HostClock, InstructionClock, type VirtualClock } from '../engine/clock.js';
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
import { type CrashReport, crashReport } from './crash-report.js';
import { CR0_FIXED, fixupCr4, setCr4 } from './emulation/privileged.js';
import { EventChannels } from './events/event-channels.js';
import { GrantTable } from './grants/grant-table.js';
import type { Identity } from './identity.js';
import { FrameTable, Owner } from './mmu/frames.js';
import { M2p } from './mmu/m2p.js';
import { newBaseptr, pinTable } from './mmu/mmuext-op.js';
import { PageTables } from './mmu/page-tables.js';
import { m2pEntry } from './mmu/reserved-slots.js';
import { restoreState, saveState } from './saved-state.js';
import { DomainState, type MemoryRange } from './state.js';
import { advance, longStop } from './time/elapse.js';
import { LONG_STOP_NS, markStopped, updateSystemTime, updateWallClock } from './time/time-info.js';
import { oweMarks } from './time/timers.js';
import { DR6_DEFAULT, DR7_DEFAULT } from './vcpu/debug-registers.js';
import { RSI, RSP } from './vcpu/registers.js';
import { type RunResult, Scheduler } from './vcpu/scheduler.js';
import { VcpuContext } from './vcpu/vcpu-context.js';

/** What a domain is made of; the same on every host (domainRecord in saved-state.ts). */
export interface DomainConfig {
  readonly domid: number;
  readonly uuid: Uint8Array;
  readonly vcpus: number;
  /** Frames of memory at power-on, and the most it may have (maxmem). */
  readonly memoryFrames: number;
  readonly maxFrames: number;
  readonly memoryMap: readonly MemoryRange[];
  readonly identity: Identity;
  /** Time counts instructions: so many ns each. Undefined: time follows the host's clock. */
  readonly nsPerInstruction: number | undefined;
  /** The machine-to-physical table can be read from machine frame 0 on; only guests of old have it otherwise. */
  readonly wholeM2p?: boolean;
}

/** What the host gives. */
export interface DomainHost {
  /** Monotonic time from any origin, ns. */
  monotonic(): number;
  /** True time, ns since 1970. */
  wallClock(): number;
  /**
   * So much time has passed at once, ns, while the guest was meant to run: its process was stopped, or the host. Whoever
   * hears of it says what it is to the guest; without it the guest's time goes on by it. The guest is paused meanwhile.
   */
  keptFromRunning?(ns: number): void;
  /** What the guest writes to Xen's own console. */
  log?(line: string): void;
  /** With the instruction clock: whether back ends still work for the guest, so that idle time must be waited for. */
  busy?(): boolean;
  /** Makes what executes the guest's instructions. */
  readonly engine: CreateEngine;
}

export type ShutdownReason = 'poweroff' | 'reboot' | 'suspend' | 'crash' | 'watchdog' | 'unknown';

export type DomainRun =
  | { readonly state: 'running' }
  /** Nothing to do until an event, or until virtual time `wakeAt` (ns). */
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

/** Instructions of the guest's with which a long stop passes by before it runs, and in one turn of those after that. */
const PASS_AT_ONCE = 20_000_000;
const PASS_IN_TURN = 200_000;
/**
 * So much of a long stop passes at once while a vCPU computes, ns. The process that was running is charged all of it, and
 * Linux since 6.6 multiplies what it is ahead of the others by 2^20, in 63 bits: 4398 s are warned of, 8796 s crash it.
 */
const PART_NS = 3600e9;
/** So long the guest runs between two parts, ns: its scheduler lets others run, and its peers answer. */
const BETWEEN_PARTS_NS = 200e6;

export class Domain {
  readonly machine: CpuEngine;
  readonly backend: Backend;
  readonly clock: VirtualClock;
  /** Ports that the toolstack made for the guest, as a new guest has them. */
  storePort = 0 as Port;
  consolePort = 0 as Port;
  /** With a clock that only others move ahead: when, by it, the guest was to run again at the latest. */
  private expected = Number.POSITIVE_INFINITY;
  /** A long stop that passes by just now, and nothing else of the guest runs. */
  private passing: ReturnType<typeof longStop> | undefined;
  /** Where it leads, virtual time. */
  private passingTo: () => number = () => 0;
  /** What is left of a long stop after the part that has passed, ns, and when the next part does, virtual time. */
  private owed = 0;
  private owedAt = 0;

  private constructor(
    readonly config: DomainConfig,
    readonly layout: FrameLayout,
    readonly state: DomainState,
    private readonly scheduler: Scheduler,
    private readonly host: DomainHost,
  ) {
    this.machine = state.machine;
    this.clock = state.clock;
    this.backend = new Backend(state);
  }

  static async create(config: DomainConfig, host: DomainHost): Promise<Domain> {
    const { wholeM2p = true } = config;
    const layout = frameLayout(config.maxFrames, wholeM2p);
    let clock: VirtualClock | undefined;
    const machine = await host.engine({
      map: FrameMap.whole(layout.total),
      vcpus: config.vcpus,
      cpuid: config.identity.cpuid,
      now: () => clock?.now() ?? 0,
    });
    const { nsPerInstruction } = config;
    if (nsPerInstruction !== undefined && !machine.abilities.exactCounts) {
      machine.close();
      throw new Error(
        "the guest's time counts instructions, which this engine does not: it has no exactCounts",
      );
    }
    const retired = (): number => {
      let sum = 0;
      for (const cpu of machine.vcpus) sum += cpu.retired ?? 0;
      return sum;
    };
    clock =
      nsPerInstruction === undefined
        ? new HostClock(() => host.monotonic(), 0, LONG_STOP_NS)
        : new InstructionClock(retired, nsPerInstruction);
    const frames = new FrameTable(layout.total);
    frames.owner.fill(Owner.xen, layout.guest);
    const m2p = new M2p(machine, layout.m2p, layout.m2pTables, wholeM2p);
    const tables = new PageTables(machine, frames, m2pEntry(m2p.l3Mfn));
    const vcpus = machine.vcpus.map((cpu, id) => new VcpuContext(id, cpu));
    const sharedInfo = machine.ram.linearOf(layout.sharedInfo);
    vcpus.forEach((v) => {
      v.vcpuInfo = sharedInfo + v.id * VcpuInfo.sizeof;
    });
    let scheduler: Scheduler | undefined;
    const events = new EventChannels(machine, vcpus, sharedInfo, config.domid, (v) => scheduler?.woken(v));
    const state = new DomainState({
      machine,
      clock,
      identity: config.identity,
      frames,
      tables,
      m2p,
      events,
      grants: new GrantTable(machine, frames, layout.grants, (frame) => m2p.invalidate(frame)),
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

  /** Prepares an empty container for the domain builder: RAM owned, M2P filled, grants and ports of the toolstack. */
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
      ram: this.machine.ram,
      ramFrames: this.config.memoryFrames,
      sharedInfoMfn: this.machine.ram.mfnOf(this.layout.sharedInfo),
      storePort: this.storePort,
      consolePort: this.consolePort,
    };
  }

  /**
   * vCPU 0 as the builder left it: entry, stack, start_info's address, and the MFN of the first page table.
   * `vmAssist`: VMASST_* bits that the kernel's notes ask for (pae_extended_cr3 if nothing is said).
   */
  powerOn(built: { rip: number; rsp: number; rsi: number; cr3: number; vmAssist?: number }): void {
    const { state } = this;
    const [v] = state.vcpus;
    const { cpu } = v;
    // The toolstack pins the first table, and leaves it so: a kernel that moves to its own unpins it.
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
    // Once is enough: what is published stays true for ever (time.ts).
    for (const each of state.vcpus) updateSystemTime(state, each);
  }

  /** Time goes on and the guest may run. */
  start(): void {
    this.clock.start();
    this.looked(this.clock.now());
    this.updateWallClock();
  }

  /**
   * The guest was kept from running for `ns` and is to see it: the time is stolen from every vCPU that wanted to run.
   * Only while paused. Of 2 s and more the guest is told (elapse.ts), and runs what it needs to hear it; where that takes
   * long, which only months do, run() goes on with it. Of more than an hour, if a vCPU computes, the rest follows by
   * parts while the guest runs, all of it as soon as no vCPU does.
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
    // While the guest learns of it, time goes on. With the instruction clock that is part of the stop.
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

  /** What is left of a long stop, ns, for whoever will have it pass; here it does no more. */
  takeOwed(): number {
    const { owed } = this;
    this.owed = 0;
    return owed;
  }

  /** The next part of a long stop passes. */
  private nextPart(): void {
    this.clock.stop();
    this.elapse(this.takeOwed());
    this.state.events.letGo();
    this.clock.start();
    this.updateWallClock();
  }

  /** What the guest has executed, in instructions; where they are not counted, the time in ns instead. */
  private executed(): number {
    const { abilities, vcpus } = this.machine;
    if (!abilities.exactCounts) return this.host.monotonic();
    return vcpus.reduce((sum, cpu) => sum + (cpu.retired ?? 0), 0);
  }

  /** Goes on with a long stop, for about so many instructions of the guest's. */
  private pass(instructions: number): void {
    const end = this.executed() + instructions;
    while (this.executed() < end) {
      if (this.passing?.next().done !== false) {
        this.passing = undefined;
        // It has led to the true time.
        this.clock.takeKept();
        this.owedAt = this.clock.now() + BETWEEN_PARTS_NS;
        return;
      }
    }
  }

  /** Time stands still; nothing of the guest changes until start(). */
  pause(): void {
    this.clock.stop();
    this.giveKept();
    this.state.events.letGo();
    if (this.passing === undefined) return;
    // What it has not seen yet of a long stop passes at once.
    this.passing = undefined;
    this.state.telling = false;
    advance(this.state, this.passingTo());
    markStopped(this.state);
  }

  /** Time that the clock kept, while it is stopped. */
  private giveKept(): void {
    const kept = this.clock.takeKept();
    // A long stop that passes by leads to the true time in any case.
    if (kept === 0 || this.passing !== undefined) return;
    if (this.host.keptFromRunning === undefined) this.elapse(kept);
    else this.host.keptFromRunning(kept);
  }

  /** The host's true time was stepped, or the guest arrives on another host. */
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

  /** The guest is to run again by then. */
  private looked(time: number): void {
    this.clock.due(time);
    this.expected = this.clock.deterministic ? time : Number.POSITIVE_INFINITY;
  }

  /** The guest was kept from running until now: the time that its clock kept is given to it. */
  private catchUp(): void {
    if (this.clock.kept === 0) return;
    this.clock.stop();
    this.giveKept();
    this.state.events.letGo();
    this.clock.start();
    this.updateWallClock();
  }

  /** Takes a suspend back: the guest's hypercall returns 1, as after a suspend that was cancelled. */
  cancelSuspend(): void {
    const { state } = this;
    if (state.shutdown?.code !== SHUTDOWN_suspend) throw new Error('the guest is not suspended');
    state.vcpus[state.shutdown.vcpu].cpu.setReg(0, 1);
    state.shutdown = undefined;
    state.shutdownCode = -1;
  }

  /** Registers, stack and what is known of the reason, for people. */
  crashReport(): CrashReport {
    return crashReport(this.state);
  }

  /** All records except RAM. Only while paused. */
  save(): Uint8Array {
    return saveState(this.state, this.scheduler.save());
  }

  /** Continues a saved guest. RAM is complete by then. Throws RecordError; the domain is useless after that. */
  restore(records: Uint8Array): void {
    this.scheduler.restore(restoreState(this.state, records));
  }
}
