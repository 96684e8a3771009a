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
import type { EventState } from '../events/event-channels.js';
import type { MemoryState } from '../mmu/mmu-state.js';
import type { ShutdownState } from '../shutdown.js';
import type { VcpusState } from '../vcpu/turn-state.js';
import { NEVER, Runstate, type VcpuContext } from '../vcpu/vcpu-context.js';
import type { RunstateAreaState } from './runstate.js';
import { changeRunstate, updateArea } from './runstate.js';
import { isMarked, LONG_STOP_NS, markStopped } from './time-info.js';
import type { LongStopState, WatchdogState } from './time-state.js';
import type { TimerEventState } from './timers.js';
import { runTimers } from './timers.js';

/** What time passes in. */
interface PassingState extends RunstateAreaState, TimerEventState, ShutdownState, WatchdogState {}

/**
 * Linux before 6.13 multiplies the time since its last clock update by 2^23 in 64 bits, which overflows after 2199 s.
 */
const STEP_NS = 1_800e9;
/** The part of a step, in ns, that is left for the clock to advance while the guest is told of the last step. */
const LEARN_NS = 100e6;
/**
 * The number of instructions of one vCPU between two checks whether the mark must be set again. Before the clock
 * advances, it is smaller than what Linux executes between its soft lockup watchdog and the next reading of its
 * clock, in one timer interrupt.
 */
const LOOK_BEFORE = 100;
const LOOK_AFTER = 500;
/**
 * How many instructions one vCPU executes before it is the next one's turn, and after how many rounds of turns nobody
 * is waited for any more.
 */
const TURN = 4000;
const ROUNDS = 400;
/**
 * After this many rounds, vCPUs that have taken their timers run too, because the others may wait for a lock of
 * theirs. Linux executes up to 250 000 instructions when it counts the seconds of a step.
 */
const EXCLUSIVE_ROUNDS = 100;
/** How often all vCPUs are told again because others had to run. */
const WARNINGS = 8;
/**
 * For how many instructions a vCPU that has taken its timer is given time to take the mark: not every kernel knows
 * the mark.
 */
const PATIENCE = 20_000;
/** For how many instructions of each vCPU, after the last step, the mark is set again at every check. */
const SETTLE = 20_000;

/** What runs vCPUs (the scheduler). */
export interface Runner {
  runnable(v: VcpuContext): boolean;
  /**
   * Runs `v` for at most this many instructions, until it gives the processor away, or until `enough` is true after
   * an exit.
   */
  alone(v: VcpuContext, instructions: number, enough: (v: VcpuContext) => boolean): void;
}

/** Lets time pass at once, for stops that are too short for kernels to care about. */
export function advance(d: PassingState, to: number): void {
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
 * Presents a long stop, up to the virtual time in ns that `to` returns (which may advance meanwhile). Yields after
 * every few instructions of the guest. Nothing else of the guest may run until it has ended.
 */
export function* longStop(
  d: PassingState & LongStopState,
  to: () => number,
  runner: Runner,
): Generator<void, void> {
  d.telling = true;
  for (;;) {
    const now = d.clock.now();
    // What has passed while the guest was told of the stop does not count as a stop.
    if (to() - now < LONG_STOP_NS || d.shutdown !== undefined) break;
    const warned = yield* warn(d, runner);
    advance(d, Math.min(to() - LEARN_NS, now + STEP_NS));
    const took = yield* takeTimers(d, runner, LOOK_AFTER);
    // If a vCPU does not take its timers, nothing more can be achieved.
    if (warned === 'not all' || took === 'not all') break;
  }
  yield* settle(d, runner);
  d.telling = false;
  advance(d, to());
  markStopped(d);
}

/** Which vCPUs took timer events: all, and nobody else ran; all, but others had to run meanwhile; not all. */
type Taken = 'alone' | 'amid others' | 'not all';

/**
 * Gives every vCPU a timer event before time passes. In it the vCPU finds the mark, and it is the last thing that it
 * does.
 */
function* warn(d: TimerEventState & ShutdownState, runner: Runner): Generator<void, Taken> {
  for (let again = 0; ; again++) {
    const armed = d.vcpus.map((v) => v.singleshot);
    for (const v of d.vcpus) {
      if (!v.initialised || v.down) continue;
      v.singleshot = NEVER;
      d.events.virq(v, VIRQ_TIMER);
    }
    const taken = yield* takeTimers(d, runner, LOOK_BEFORE);
    // The event came early, so a vCPU that has not set another timer keeps its old one.
    for (const v of d.vcpus) if (v.singleshot === NEVER && !v.down) v.singleshot = armed[v.id];
    // The vCPUs that ran may have checked since, or may have ended the suppression of the watchdogs.
    if (taken !== 'amid others' || again === WARNINGS) return taken;
  }
}

/**
 * Runs each vCPU that has a pending timer event until it has taken the event and the mark, and runs nothing else as
 * long as possible. The mark is set whenever one of them reads its clock.
 */
function* takeTimers(
  d: TimerEventState & ShutdownState,
  runner: Runner,
  look: number,
): Generator<void, Taken> {
  /** A vCPU takes the mark when it reads its clock to set its next timer. */
  const heard = d.vcpus.map(() => false);
  const patience = d.vcpus.map(() => PATIENCE);
  const done = (v: VcpuContext): boolean => !timerPending(d, v) && (v.singleshot !== NEVER || atRest(d, v));
  const taken = (v: VcpuContext): boolean =>
    v.down || (done(v) && (heard[v.id] || !isMarked(d, v) || v.blocked || patience[v.id] <= 0));
  // vCPUs that mask events come first: one of them may have been stopped in the middle of comparing two clocks.
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
        // A mark that it took before it took the event does not mean that it was told.
        heard[v.id] = !pending && !isMarked(d, v);
        if (done(v)) patience[v.id] -= look;
        markStopped(d, v);
        runner.alone(v, look, taken);
        // The mark was taken during the delivery of the event, and it is not known which came first.
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

/** Each vCPU begins with its work outside of timer interrupts, and finds the mark whenever it reads its clock. */
function* settle(d: MemoryState & VcpusState & ShutdownState, runner: Runner): Generator<void, void> {
  for (const v of d.vcpus) {
    if (v.virqPort[VIRQ_TIMER] === 0) continue;
    for (let left = SETTLE; left > 0 && runner.runnable(v) && d.shutdown === undefined; left -= LOOK_BEFORE) {
      markStopped(d, v);
      runner.alone(v, LOOK_BEFORE, () => false);
      yield;
    }
  }
}

const timerPending = (d: EventState, v: VcpuContext): boolean => {
  const port = v.virqPort[VIRQ_TIMER];
  return port !== 0 && d.events.isPending(port);
};

/** The vCPU sleeps or would take the next event, so its work for the last one is done. */
const atRest = (d: MemoryState, v: VcpuContext): boolean =>
  v.blocked || d.mem.getU8(v.vcpuInfo + VcpuInfo.evtchn_upcall_mask) === 0;
