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
const NO_LIMIT = Number.POSITIVE_INFINITY;
/** Of an engine that does not count instructions, one alone takes so long, and a few of them at least so long, ns. */
const INSTRUCTION_NS = 1;
const LEAST_ALONE_NS = 50_000;

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
   * Runs one vCPU out of turn, for at most so many instructions, until it gives the processor away, or until it is
   * enough after what it asked of the hypervisor.
   */
  alone(v: VcpuContext, instructions: number, enough: (v: VcpuContext) => boolean): void {
    const { clock, machine } = this.d;
    const now = clock.now();
    this.enter(v, now);
    this.executing = v;
    if (machine.abilities.exactCounts) machine.slice(v.id, instructions, now, NO_LIMIT);
    else machine.slice(v.id, NO_LIMIT, now, now + Math.max(LEAST_ALONE_NS, instructions * INSTRUCTION_NS));
    this.slice(v, true, enough);
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

  /** The slice goes until something else has a claim on the processor. */
  private limit(v: VcpuContext, now: number, end: number): void {
    const { clock, machine } = this.d;
    const until = Math.min(end, nextDeadline(this.d), this.turnEnds);
    if (clock.deterministic)
      machine.slice(v.id, Math.max(1, Math.ceil((until - now) / this.nsPerInstruction)), now, NO_LIMIT);
    else machine.slice(v.id, NO_LIMIT, now, until);
  }

  /** Runs one vCPU to the end of its slice, or until it gives the processor away. `entering`: events come first. */
  private slice(v: VcpuContext, entering: boolean, enough?: (v: VcpuContext) => boolean): void {
    const { d } = this;
    const { machine } = d;
    const { cpu } = v;
    d.reschedule = false;
    for (let deliver = entering; ; deliver = true) {
      // Behind a load of SS nothing comes between.
      if (deliver && cpu.stackShadow < 0) deliverPending(d, v);
      if (d.shutdown !== undefined) return;
      const exit = machine.run(v.id);
      if (exit === Exit.limit || exit === Exit.halted) return;
      handleExit(d, v, exit);
      if (d.shutdown !== undefined) return;
      if ((d.reschedule || enough?.(v) === true) && cpu.stackShadow < 0) return;
    }
  }
}
