/**
 * Runs the vCPUs of a domain on one thread: time slices in turn, and at once what an event has woken.
 *
 * Invariant: timers that are due fire before any guest code runs after their deadline is noticed, and with the
 * instruction clock exactly at it; which vCPU runs next depends on nothing but the domain's own state. Where run()
 * is cut by its limit, also by a save and a restore, leaves no trace: the vCPU goes on in its turn, no event reaches
 * it that would not have reached it there.
 */
import { Exit } from '../../engine/engine.js';
import { loadSegments } from '../emulation/segments.js';
import { handleExit } from '../exits.js';
import type { DomainState } from '../state.js';
import { changeRunstate } from '../time/runstate.js';
import { nextDeadline, periodicWork, runTimers } from '../time/timers.js';
import { deliverPending } from './traps.js';
import { NEVER, Runstate, type VcpuContext } from './vcpu-context.js';

/** Turn of one vCPU while others wait. */
const SLICE_NS = 1_000_000;
/** With the host's clock, instructions between two looks at it: bounds, and the first guess of how many fit. */
const MIN_BUDGET = 1_000;
const MAX_BUDGET = 2_000_000;
const FIRST_RATE = 0.1;
/** Slices shorter than this say nothing about the rate. */
const MEASURED_NS = 50_000;

export type RunResult =
  | { readonly state: 'running' }
  | { readonly state: 'idle'; readonly wakeAt: number | undefined }
  | { readonly state: 'shutdown' };

const RUNNING: RunResult = { state: 'running' };
const SHUTDOWN: RunResult = { state: 'shutdown' };

/** What a domain's turns are at: part of its state. */
export interface Turns {
  /** vCPU whose turn it is in the round. */
  readonly turn: number;
  /** End of that turn, in virtual time. */
  readonly turnEnds: number;
  /** vCPU that run()'s limit stopped in the middle of its slice, -1 for none. */
  readonly cut: number;
  /** vCPU that an event has woken since, -1 for none. */
  readonly preferred: number;
}

export class Scheduler {
  private turn = 0;
  private turnEnds = 0;
  /** Instructions per ns, as measured lately. With the instruction clock it plays no part. */
  private rate = FIRST_RATE;
  /** Woken by an event in the middle of another's turn. */
  private preferred: VcpuContext | undefined;
  /** Stopped by run()'s limit in the middle of its slice, and nothing has happened since. */
  private cut: VcpuContext | undefined;
  /** Executing now. `d.current` is more: it stays what ran last, which a save does not keep, so nothing may hang on it. */
  private executing: VcpuContext | undefined;

  constructor(
    private readonly d: DomainState,
    /** With the instruction clock: idle time is jumped over instead of waited for. */
    private readonly jumpIdle: () => boolean,
    private readonly nsPerInstruction: number,
  ) {}

  save(): Turns {
    return {
      turn: this.turn,
      turnEnds: this.turnEnds,
      cut: this.cut?.id ?? -1,
      preferred: this.preferred?.id ?? -1,
    };
  }

  restore(saved: Turns): void {
    const { vcpus } = this.d;
    this.turn = saved.turn;
    this.turnEnds = saved.turnEnds;
    this.cut = vcpus[saved.cut];
    this.preferred = vcpus[saved.preferred];
    if (this.cut !== undefined) this.d.current = this.cut;
  }

  /** An event for `v`: it runs next if it can take it. */
  woken(v: VcpuContext): void {
    if (v === this.cut) this.interrupt();
    if (v.runstate === Runstate.blocked) changeRunstate(this.d, v, Runstate.runnable, this.d.clock.now());
    if (v === this.executing) return;
    this.preferred = v;
    this.d.reschedule = true;
  }

  /** The vCPU that run()'s limit stopped gives the processor away after all. */
  interrupt(): void {
    const { cut } = this;
    if (cut === undefined) return;
    this.cut = undefined;
    this.leave(cut, this.d.clock.now());
  }

  runnable(v: VcpuContext): boolean {
    return v.initialised && !v.down && !v.blocked;
  }

  /** The vCPU to run now, or undefined if all wait. Begins the next turn when the present one is over. */
  private pick(now: number): VcpuContext | undefined {
    const { vcpus } = this.d;
    const preferred = this.preferred;
    this.preferred = undefined;
    if (now < this.turnEnds) {
      if (preferred !== undefined && this.runnable(preferred)) return preferred;
      if (this.runnable(vcpus[this.turn])) return vcpus[this.turn];
    }
    for (let i = 1; i <= vcpus.length; i++) {
      const next = (this.turn + i) % vcpus.length;
      if (this.runnable(vcpus[next])) {
        this.turn = next;
        this.turnEnds = now + SLICE_NS;
        return vcpus[next];
      }
    }
    return undefined;
  }

  /** Runs the domain for at most `limit` ns of virtual time. */
  run(limit: number): RunResult {
    const { d } = this;
    const { clock } = d;
    const end = clock.now() + limit;
    for (;;) {
      const now = clock.now();
      if (this.cut !== undefined && (this.preferred !== undefined || this.over(now))) this.interrupt();
      runTimers(d, now);
      if (d.shutdown !== undefined) {
        for (const v of d.vcpus) this.leave(v, now);
        return SHUTDOWN;
      }
      if (now >= end) return RUNNING;
      const continued = this.cut;
      const v = continued ?? this.pick(now);
      this.cut = undefined;
      if (v === undefined) {
        const wakeAt = nextDeadline(d);
        if (wakeAt === NEVER) return { state: 'idle', wakeAt: undefined };
        if (!clock.deterministic || !this.jumpIdle()) return { state: 'idle', wakeAt };
        clock.advanceTo(Math.min(wakeAt, end));
        continue;
      }
      if (continued === undefined) this.enter(v, now);
      const before = v.cpu.retired;
      this.executing = v;
      this.slice(v, this.budget(now, end), continued === undefined);
      this.executing = undefined;
      const after = clock.now();
      if (after >= end && this.runnable(v) && !d.reschedule && !this.over(after)) this.cut = v;
      else this.leave(v, after);
      if (clock.kept !== 0) return RUNNING;
      if (after - now > MEASURED_NS) {
        const measured = (v.cpu.retired - before) / (after - now);
        this.rate += (measured - this.rate) / 8;
      }
    }
  }

  /**
   * Runs one vCPU out of turn, for at most so many instructions, until it gives the processor away, or until it is
   * enough after what it asked of the hypervisor.
   */
  alone(v: VcpuContext, instructions: number, enough: (v: VcpuContext) => boolean): void {
    const { clock } = this.d;
    this.enter(v, clock.now());
    this.executing = v;
    this.slice(v, instructions, true, enough);
    this.executing = undefined;
    this.leave(v, clock.now());
  }

  /** True when the present turn ends at `now`, or a timer is due. */
  private over(now: number): boolean {
    return now >= this.turnEnds || now >= nextDeadline(this.d);
  }

  private enter(v: VcpuContext, now: number): void {
    this.d.current = v;
    changeRunstate(this.d, v, Runstate.running, now);
    periodicWork(this.d, v, now);
    if (v.loadSegments) {
      v.loadSegments = false;
      loadSegments(this.d, v);
    }
  }

  private leave(v: VcpuContext, now: number): void {
    if (!v.initialised) return;
    const state = v.down ? Runstate.offline : v.blocked ? Runstate.blocked : Runstate.runnable;
    changeRunstate(this.d, v, state, now);
  }

  /** Instructions until something else has a claim on the processor. */
  private budget(now: number, end: number): number {
    const until = Math.min(end, nextDeadline(this.d), this.turnEnds) - now;
    if (this.d.clock.deterministic) return Math.max(1, Math.ceil(until / this.nsPerInstruction));
    return Math.min(MAX_BUDGET, Math.max(MIN_BUDGET, Math.floor(until * this.rate)));
  }

  /**
   * Runs one vCPU for at most `budget` instructions, or until it gives the processor away. `entering`: events that
   * wait for it are delivered first.
   */
  private slice(
    v: VcpuContext,
    budget: number,
    entering: boolean,
    enough?: (v: VcpuContext) => boolean,
  ): void {
    const { d } = this;
    const { machine } = d;
    const { cpu } = v;
    const last = cpu.retired + budget;
    d.reschedule = false;
    for (let deliver = entering; ; deliver = true) {
      const shadowed = cpu.stackShadow >= 0;
      if (deliver && !shadowed) deliverPending(d, v);
      if (d.shutdown !== undefined) return;
      // Behind a load of SS nothing comes between, an end of the slice neither.
      const left = Math.max(last - cpu.retired, shadowed ? 1 : 0);
      if (left <= 0) return;
      const exit = machine.run(v.id, left);
      if (exit === Exit.budget || exit === Exit.halted) return;
      handleExit(d, v, exit);
      if (d.shutdown !== undefined) return;
      if ((d.reschedule || enough?.(v) === true) && cpu.stackShadow < 0) return;
    }
  }
}
