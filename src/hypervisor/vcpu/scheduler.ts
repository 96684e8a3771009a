/**
 * Runs the vCPUs of a domain on one thread: they take turns in time slices, and a vCPU that an event has woken runs
 * at once.
 *
 * Invariant: timers that are due fire before any guest code runs after their deadline was noticed, and with the
 * instruction clock exactly at the deadline. Which vCPU runs next depends only on the domain's own state. It makes no
 * difference where run() is interrupted by its limit, even with a save and a restore: the vCPU continues its turn,
 * and no event reaches it that would not have reached it without the interruption.
 */
import { Exit } from '../../engine/engine.js';
import { loadSegments } from '../emulation/segments.js';
import { handleExit } from '../exits.js';
import type { DomainState } from '../state.js';
import { changeRunstate } from '../time/runstate.js';
import { nextDeadline, periodicWork, runTimers } from '../time/timers.js';
import { deliverPending } from './traps.js';
import { NEVER, Runstate, type VcpuContext } from './vcpu-context.js';

/** How long a vCPU's turn is while others wait, in ns. */
const SLICE_NS = 1_000_000;
const NO_LIMIT = Number.POSITIVE_INFINITY;
/**
 * For an engine that does not count instructions: the assumed time of one instruction, and the minimum time of a few
 * instructions, in ns.
 */
const INSTRUCTION_NS = 1;
const LEAST_ALONE_NS = 50_000;

export type RunResult =
  | { readonly state: 'running' }
  | { readonly state: 'idle'; readonly wakeAt: number | undefined }
  | { readonly state: 'shutdown' };

const RUNNING: RunResult = { state: 'running' };
const SHUTDOWN: RunResult = { state: 'shutdown' };

/** The state of a domain's turns. It is part of the domain's state. */
export interface Turns {
  /** The vCPU whose turn it is. */
  readonly turn: number;
  /** The end of that turn in virtual time. */
  readonly turnEnds: number;
  /** The vCPU that was stopped in the middle of its slice by run()'s limit, -1 for none. */
  readonly cut: number;
  /** The vCPU that an event has woken since, -1 for none. */
  readonly preferred: number;
}

export class Scheduler {
  private turn = 0;
  private turnEnds = 0;
  /** The vCPU that an event has woken in the middle of another one's turn. */
  private preferred: VcpuContext | undefined;
  /** The vCPU that was stopped in the middle of its slice by run()'s limit, if nothing has happened since. */
  private cut: VcpuContext | undefined;
  /**
   * The vCPU that is executing now. `d.current` is not the same: it remains the vCPU that ran last. As it is not
   * saved, nothing may depend on it.
   */
  private executing: VcpuContext | undefined;

  constructor(
    private readonly d: DomainState,
    /** With the instruction clock: whether idle time is skipped instead of waited for. */
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

  /** To be called when an event arrives for `v`: it runs next if it can take the event. */
  woken(v: VcpuContext): void {
    if (v === this.cut) this.interrupt();
    if (v.runstate === Runstate.blocked) changeRunstate(this.d, v, Runstate.runnable, this.d.clock.now());
    if (v === this.executing) return;
    this.preferred = v;
    this.d.reschedule = true;
  }

  /** The vCPU that was stopped by run()'s limit gives the processor away after all. */
  interrupt(): void {
    const { cut } = this;
    if (cut === undefined) return;
    this.cut = undefined;
    this.leave(cut, this.d.clock.now());
  }

  runnable(v: VcpuContext): boolean {
    return v.initialised && !v.down && !v.blocked;
  }

  /** The vCPU to run now, or undefined if all wait. Starts the next turn if the present one is over. */
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
      this.executing = v;
      this.limit(v, now, end);
      this.slice(v, continued === undefined);
      this.executing = undefined;
      const after = clock.now();
      if (after >= end && this.runnable(v) && !d.reschedule && !this.over(after)) this.cut = v;
      else this.leave(v, after);
      if (clock.kept !== 0) return RUNNING;
    }
  }

  /**
   * Runs one vCPU out of turn, for at most this many instructions, until it gives the processor away, or until
   * `enough` is true after an exit.
   */
  alone(v: VcpuContext, instructions: number, enough: (v: VcpuContext) => boolean): void {
    const { clock, engine } = this.d;
    const now = clock.now();
    this.enter(v, now);
    this.executing = v;
    if (engine.abilities.exactCounts) engine.slice(v.id, instructions, now, NO_LIMIT);
    else engine.slice(v.id, NO_LIMIT, now, now + Math.max(LEAST_ALONE_NS, instructions * INSTRUCTION_NS));
    this.slice(v, true, enough);
    this.executing = undefined;
    this.leave(v, clock.now());
  }

  /** Whether the present turn ends at `now`, or a timer is due. */
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

  /** Limits the slice to the time at which something else needs the processor. */
  private limit(v: VcpuContext, now: number, end: number): void {
    const { clock, engine } = this.d;
    const until = Math.min(end, nextDeadline(this.d), this.turnEnds);
    if (clock.deterministic)
      engine.slice(v.id, Math.max(1, Math.ceil((until - now) / this.nsPerInstruction)), now, NO_LIMIT);
    else engine.slice(v.id, NO_LIMIT, now, until);
  }

  /**
   * Runs one vCPU to the end of its slice, or until it gives the processor away. With `entering`, events are
   * delivered first.
   */
  private slice(v: VcpuContext, entering: boolean, enough?: (v: VcpuContext) => boolean): void {
    const { d } = this;
    const { engine } = d;
    const { cpu } = v;
    d.reschedule = false;
    for (let deliver = entering; ; deliver = true) {
      // Nothing may come between a load of SS and the next instruction.
      if (deliver && cpu.stackShadow < 0) deliverPending(d, v);
      if (d.shutdown !== undefined) return;
      const exit = engine.run(v.id);
      if (exit === Exit.limit || exit === Exit.halted) return;
      handleExit(d, v, exit);
      if (d.shutdown !== undefined) return;
      if ((d.reschedule || enough?.(v) === true) && cpu.stackShadow < 0) return;
    }
  }
}
