/**
 * Time that passed while the domain stood still, given back to it: as if its vCPUs had waited for a processor.
 *
 * Invariant: the four runstate times of a vCPU still add up to the virtual time since it was created. A vCPU that was
 * ready counts it as stolen; one that slept counts it as stolen from the moment in which its timer came due. Watchdogs
 * are put off: they measure what the guest does with time in which it could have run.
 *
 * A long stop is told to the guest by the one mark that the ABI has (time-info.ts). A kernel believes it only where it
 * reads it before it judges, and after that sees the whole stop in all its clocks at once. So the guest gets what a
 * processor would give it, in this order: every vCPU takes a timer event and the mark away, with the clock where it was,
 * and does nothing after that; then the clock goes on, and every vCPU takes the timers that came due, the mark set again
 * after each few instructions, before any of them does anything else. Between the two no vCPU runs code that would count
 * with the old time on one processor and the new time on another. Where one waits for another, and that one had to run,
 * all of them are told again before the clock goes on. A stop that is longer than kernels can multiply goes by in steps,
 * each of them so; what kernels do outside of timer interrupts runs once, after the last step, and finds the mark at
 * first. While the guest learns of it, its clock goes on: a kernel that compares two clocks takes those that stand still
 * for broken ones. What a kernel catches up with later finds the mark, too (timers.ts). docs/hypervisor.md has what was
 * measured.
 */
import { VIRQ_TIMER } from '../../xen/event-channel.js';
import { VcpuInfo } from '../../xen/shared-info.js';
import type { DomainState } from '../state.js';
import { NEVER, Runstate, type VcpuContext } from '../vcpu/vcpu-context.js';
import { changeRunstate, updateArea } from './runstate.js';
import { isMarked, LONG_STOP_NS, markStopped } from './time-info.js';
import { runTimers } from './timers.js';

/** Linux before 6.13 multiplies what passed since its last look by 2^23, in 64 bits: more than 2199 s overflow. */
const STEP_NS = 1_800e9;
/** Of that, what is left for the clock to go on by while the guest learns of the last step. */
const LEARN_NS = 100e6;
/**
 * Instructions of one vCPU between two looks whether the mark has to be set again. Before the clock goes on they are
 * fewer than Linux executes between its soft lockup watchdog and the next look at its clock, in one timer interrupt.
 */
const LOOK_BEFORE = 100;
const LOOK_AFTER = 500;
/** Instructions of one vCPU before the next has its turn, and rounds of turns before nobody is waited for any more. */
const TURN = 4000;
const ROUNDS = 400;
/**
 * After so many rounds, those that have taken their timers run too: the others may wait for a lock of theirs. Linux
 * executes up to 250 000 instructions when it counts the seconds of a step.
 */
const EXCLUSIVE_ROUNDS = 100;
/** How often all are told again because others had to run. */
const WARNINGS = 8;
/** Instructions for which a vCPU that has taken its timer is waited for to take the mark: not every kernel knows it. */
const PATIENCE = 20_000;
/** Instructions of each vCPU, after the last step, for which the mark is set again at every look. */
const SETTLE = 20_000;

/** Who runs vCPUs. */
export interface Runner {
  runnable(v: VcpuContext): boolean;
  /** Runs `v` for at most so many instructions, until it gives the processor away, or until `enough` after an exit. */
  alone(v: VcpuContext, instructions: number, enough: (v: VcpuContext) => boolean): void;
}

/** Time that passes at once, shorter than kernels care for. */
export function advance(d: DomainState, to: number): void {
  const ns = to - d.clock.now();
  if (!(ns > 0)) return;
  for (let i = 0; i < d.watchdog.length; i++) d.watchdog[i] += ns;
  const due = d.vcpus.map((v) =>
    v.runstate === Runstate.blocked
      ? Math.max(Math.min(v.singleshot, v.pollTimeout), v.runstateEntry)
      : NEVER,
  );
  d.clock.advanceTo(to);
  runTimers(d, to);
  d.vcpus.forEach((v, i) => {
    if (v.blocked || due[i] > to) return;
    changeRunstate(d, v, Runstate.runnable, to);
    const waited = to - due[i];
    v.runstateTime[Runstate.blocked] -= waited;
    v.runstateEntry -= waited;
    if (v.runstateArea !== 0) updateArea(d, v);
  });
}

/**
 * A long stop, up to the time that `to` says (virtual, ns; it may go on while this runs). Yields after each few
 * instructions of the guest's; nothing else of the guest may run until it has ended.
 */
export function* longStop(d: DomainState, to: () => number, runner: Runner): Generator<void, void> {
  d.telling = true;
  for (;;) {
    const now = d.clock.now();
    // What has passed while the guest learnt of the stop is no stop.
    if (to() - now < LONG_STOP_NS || d.shutdown !== undefined) break;
    const warned = yield* warn(d, runner);
    advance(d, Math.min(to() - LEARN_NS, now + STEP_NS));
    const took = yield* takeTimers(d, runner, LOOK_AFTER);
    // Of one that does not take its timers nothing more is to be known.
    if (warned === 'not all' || took === 'not all') break;
  }
  yield* settle(d, runner);
  d.telling = false;
  advance(d, to());
  markStopped(d);
}

/** Who took timer events: all, and nobody else ran; all, but others had to run meanwhile; not all. */
type Taken = 'alone' | 'amid others' | 'not all';

/** A timer event for every vCPU, before time passes: the mark is what it is to find, and the last thing that it does. */
function* warn(d: DomainState, runner: Runner): Generator<void, Taken> {
  for (let again = 0; ; again++) {
    const armed = d.vcpus.map((v) => v.singleshot);
    for (const v of d.vcpus) {
      if (!v.initialised || v.down) continue;
      v.singleshot = NEVER;
      d.events.virq(v, VIRQ_TIMER);
    }
    const taken = yield* takeTimers(d, runner, LOOK_BEFORE);
    // It was early: a vCPU that has not set another one has it still.
    for (const v of d.vcpus) if (v.singleshot === NEVER && !v.down) v.singleshot = armed[v.id];
    // Those that ran have judged since, or ended what was put off.
    if (taken !== 'amid others' || again === WARNINGS) return taken;
  }
}

/**
 * Runs each vCPU for which a timer event is pending until it has taken it and the mark, and nothing else as long as that
 * can be. The mark is there whenever one of them looks at its clock.
 */
function* takeTimers(d: DomainState, runner: Runner, look: number): Generator<void, Taken> {
  /** It takes the mark where it looks at its clock to set its next timer. */
  const heard = d.vcpus.map(() => false);
  const patience = d.vcpus.map(() => PATIENCE);
  const done = (v: VcpuContext): boolean => !timerPending(d, v) && (v.singleshot !== NEVER || atRest(d, v));
  const taken = (v: VcpuContext): boolean =>
    v.down || (done(v) && (heard[v.id] || !isMarked(d, v) || v.blocked || patience[v.id] <= 0));
  // Those that mask events first: one of them may have been stopped amid a comparison of two clocks.
  let waiting = d.vcpus
    .filter((v) => v.initialised && !v.down && timerPending(d, v))
    .sort((a, b) => Number(atRest(d, a)) - Number(atRest(d, b)));
  let others = false;
  for (let round = 0; waiting.length > 0; round++) {
    if (round === ROUNDS) return 'not all';
    let ran = false;
    for (const v of waiting) {
      for (let left = TURN; left > 0 && runner.runnable(v) && !taken(v); left -= look) {
        const pending = timerPending(d, v);
        // What it took before it took the event is no sign that it has heard.
        heard[v.id] = !pending && !isMarked(d, v);
        if (done(v)) patience[v.id] -= look;
        markStopped(d, v);
        runner.alone(v, look, taken);
        // Taken amid the delivery of the event: which came first is not known.
        if (pending && !isMarked(d, v) && v.singleshot === NEVER) markStopped(d, v);
        ran = true;
        yield;
        if (d.shutdown !== undefined) return 'not all';
      }
    }
    waiting = waiting.filter((v) => !taken(v));
    if (ran && round < EXCLUSIVE_ROUNDS) continue;
    for (const v of d.vcpus) {
      if (waiting.includes(v) || !runner.runnable(v)) continue;
      runner.alone(v, TURN, () => false);
      others = true;
      yield;
      if (d.shutdown !== undefined) return 'not all';
    }
  }
  return others ? 'amid others' : 'alone';
}

/** Each vCPU begins with what it does outside of timer interrupts, and finds the mark whenever it looks at its clock. */
function* settle(d: DomainState, runner: Runner): Generator<void, void> {
  for (const v of d.vcpus) {
    if (v.virqPort[VIRQ_TIMER] === 0) continue;
    for (let left = SETTLE; left > 0 && runner.runnable(v) && d.shutdown === undefined; left -= LOOK_BEFORE) {
      markStopped(d, v);
      runner.alone(v, LOOK_BEFORE, () => false);
      yield;
    }
  }
}

const timerPending = (d: DomainState, v: VcpuContext): boolean => {
  const port = v.virqPort[VIRQ_TIMER];
  return port !== 0 && d.events.isPending(port);
};

/** It sleeps, or would take the next event: what it did for the last one is done. */
const atRest = (d: DomainState, v: VcpuContext): boolean =>
  v.blocked || d.mem.getU8(v.vcpuInfo + VcpuInfo.evtchn_upcall_mask) === 0;
