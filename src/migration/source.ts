/**
 * The source's part of a move, up to the moment when the whole guest has been sent: rounds of page copying while
 * the guest runs, then the stop and the rest. The hand-over that follows is the daemons' business.
 *
 * Invariant: when this throws, the guest is where it was: running again if it ran, paused if it was paused.
 * Frames written are noted from before the first page is read until after the guest has stopped.
 */
import type { ClockPolicy } from '../helper/points/outage.js';
import { bitmapBytes, fillBits } from './bitmap.js';
import type { MovableGuest } from './moving-guest.js';
import type { PageSender } from './page-sender.js';
import { type StorageProgress, StorageSender, type TravellingDisk } from './storage-copy.js';
import { MAX_CODE_STARTS, PAGE_BYTES, PLAIN_VERSION } from './stream-records.js';

export interface MoveOptions {
  /** Stop the guest when the rest is expected to take no longer than this. */
  readonly maxDowntimeMs: number;
  /** Rounds after which the guest is stopped or the move given up, as `onTimeout` says. */
  readonly maxRounds: number;
  readonly timeoutS: number;
  /** When rounds or time run out: give up, or stop the guest and accept the downtime. */
  readonly onTimeout: 'cancel' | 'force';
  /** Megabytes (10^6 bytes) a second; 0: no limit. The last pages go without one. */
  readonly bandwidthMBs: number;
  /** What the outage is to the guest, in place of its own policy. */
  readonly clock?: ClockPolicy;
  /** The guest's disks travel with it. */
  readonly copyStorage?: boolean;
}

export const DEFAULT_MOVE: MoveOptions = {
  maxDowntimeMs: 30,
  maxRounds: 30,
  timeoutS: 300,
  onTimeout: 'force',
  bandwidthMBs: 0,
};

/** One line of progress: after each round. */
export interface MoveProgress {
  readonly round: number;
  /** Pages looked at in this round, and pages whose contents went out. */
  readonly pages: number;
  readonly sent: number;
  /** Frames written meanwhile: the work of the next round. */
  readonly dirty: number;
  readonly mbPerSecond: number;
  /** Pages dirtied a second, measured over this round. */
  readonly dirtyPagesPerSecond: number;
  readonly expectedDowntimeMs: number;
}

/** What the source measured; the daemons add the parts that follow. */
export interface SentStats {
  readonly rounds: readonly MoveProgress[];
  readonly bytes: number;
  /** Bytes of disks that were read and sent, counting each time. */
  readonly storageBytes: number;
  readonly precopyMs: number;
  readonly reason: 'downtime' | 'rounds' | 'timeout' | 'paused';
  readonly stopMs: number;
  readonly lastPagesMs: number;
  readonly lastPages: number;
  readonly stateMs: number;
  /** When the stop was asked for: CLOCK_MONOTONIC in ms, the same in all processes of a machine. */
  readonly stoppedAt: number;
}

interface MoveHooks {
  progress?(progress: MoveProgress): void;
  storageProgress?(progress: StorageProgress): void;
  /** Disks that travel with the guest. */
  readonly disks?: readonly TravellingDisk[];
  /** Just before the guest is stopped: the record `offered` must be on disk when this resolves. */
  stopping?(): Promise<void>;
  /** The guest was paused before the move began and stays so. */
  readonly alreadyPaused?: boolean;
  /** Of the stream, where the destination has said what it knows. */
  readonly version?: number;
  /** How long a disk that is copied may give nothing, ms. */
  readonly answerMs?: number;
  /** The destination's wall clock less ours, ns, where it was measured. */
  readonly clockDifference?: number;
}

/** The move was given up because rounds or time ran out. */
class MoveTimeout extends Error {
  override name = 'MoveTimeout';
}

/** State, hand-over, the owner record on disk, and the first instruction take about this long in any case. */
const FIXED_DOWNTIME_MS = 10;

/**
 * Whether to stop now. The last pages may take what the fixed parts leave of the downtime; a round that did not make
 * them fewer ends the hope for less, as long as they fit at all.
 */
function enough(now: MoveProgress, before: MoveProgress | undefined, maxDowntimeMs: number): boolean {
  const expected = now.expectedDowntimeMs;
  if (expected <= Math.max(maxDowntimeMs - FIXED_DOWNTIME_MS, 0) / 4) return true;
  const hope = before === undefined || now.dirty < before.dirty * 0.7;
  return expected <= maxDowntimeMs && !hope;
}

/** Places of code that a destination prepares in a millisecond. */
const PREPARED_PER_MS = 100;

/** The first round must not be judged by a rate that was measured over next to nothing. */
const LEAST_MEASURED_BYTES = 1 << 20;

/** Sends the whole guest; leaves it paused. Resolves when the last byte has been handed to the system. */
export async function sendGuest(
  guest: MovableGuest,
  sender: PageSender,
  options: MoveOptions,
  hooks: MoveHooks = {},
): Promise<SentStats> {
  const rounds: MoveProgress[] = [];
  let dirty = shared(guest.frames);
  let next = shared(guest.frames);
  let paused = false;
  sender.setBandwidth(options.bandwidthMBs * 1e6);
  const { frames, uuid, name } = guest;
  await sender.begin({ frames, uuid, name, version: hooks.version }, guest.describe());
  const storage = new StorageSender(hooks.disks ?? [], sender, hooks.storageProgress, hooks.answerMs);
  await storage.begin();
  // A large disk may take hours: the limit is for what comes after.
  const started = monotonicMs();
  guest.startDirtyLog();
  try {
    fillBits(dirty, guest.frames);
    let pages = guest.frames;
    let reason: SentStats['reason'] = 'paused';
    // Of all rounds; the assumption before anything was measured is modest.
    let bytesPerMs = 100_000;
    for (let round = 1; hooks.alreadyPaused !== true; round++) {
      await storage.sweep();
      const began = monotonicMs();
      const sending = sender.round(round, dirty, pages);
      sending.catch(() => {});
      // For practice: what runs for the first time takes many times as long, and would do so while the guest is stopped.
      if (round === 1) guest.saveState({});
      const done = await sending;
      // All of its code is there now.
      if (round === 1 && hooks.version !== undefined && hooks.version > PLAIN_VERSION)
        await sendCode(guest, sender);
      next.fill(0);
      const wroteMs = monotonicMs() - began;
      pages = guest.readDirty(next);
      [dirty, next] = [next, dirty];
      if (done.bytes >= LEAST_MEASURED_BYTES) bytesPerMs = done.bytes / Math.max(done.ms, 0.1);
      const expectedDowntimeMs = (pages * PAGE_BYTES + storage.pending) / bytesPerMs;
      const progress: MoveProgress = {
        round,
        pages: done.pages,
        sent: done.sent,
        dirty: pages,
        mbPerSecond: done.bytes / Math.max(done.ms, 0.1) / 1000,
        dirtyPagesPerSecond: (pages / Math.max(wroteMs, 0.1)) * 1000,
        expectedDowntimeMs,
      };
      rounds.push(progress);
      hooks.progress?.(progress);
      if (enough(progress, rounds.at(-2), options.maxDowntimeMs)) {
        reason = 'downtime';
        break;
      }
      const late = monotonicMs() - started > options.timeoutS * 1000;
      if (late || round >= options.maxRounds) {
        reason = late ? 'timeout' : 'rounds';
        if (options.onTimeout === 'cancel') {
          throw new MoveTimeout(
            late
              ? `not done within ${options.timeoutS} s: the guest writes ${Math.round(progress.dirtyPagesPerSecond)} pages/s`
              : `${round} rounds were not enough: ${pages} pages are left, expected downtime ${Math.round(expectedDowntimeMs)} ms`,
          );
        }
        break;
      }
    }
    await hooks.stopping?.();
    sender.setBandwidth(0);
    const stoppedAt = monotonicMs();
    if (hooks.alreadyPaused === true) await guest.quiesce?.();
    else {
      paused = true;
      await guest.pause();
    }
    guest.readDirty(dirty);
    const stopMs = monotonicMs() - stoppedAt;
    await storage.sweep();
    // While the sending thread is at the last pages, this one makes the state.
    const lastRound = sender.round(0, dirty, pages);
    lastRound.catch(() => {});
    const { clock } = options;
    const state = guest.saveState({ clock, clockDifference: hooks.clockDifference });
    const last = await lastRound;
    const lastDone = monotonicMs();
    const bytes = await sender.end(state);
    guest.stopDirtyLog();
    return {
      rounds,
      bytes,
      storageBytes: storage.copied,
      precopyMs: stoppedAt - started,
      reason,
      stopMs,
      lastPagesMs: lastDone - stoppedAt - stopMs,
      lastPages: last.pages,
      stateMs: monotonicMs() - lastDone,
      stoppedAt,
    };
  } catch (error) {
    guest.stopDirtyLog();
    if (paused) guest.resume();
    throw error;
  }
}

/**
 * Tells the other side what code the guest runs, and gives it time to prepare that: the guest runs here meanwhile, and
 * would otherwise stand still there for longer than the whole move stops it.
 */
async function sendCode(guest: MovableGuest, sender: PageSender): Promise<void> {
  const starts = guest.warmUp?.hotCode(MAX_CODE_STARTS);
  if (starts === undefined || starts.length === 0) return;
  await sender.code(starts);
  await new Promise((done) => setTimeout(done, starts.length / PREPARED_PER_MS));
}

/** A bitmap that the sending thread can read in place. */
const shared = (frames: number): Uint8Array => new Uint8Array(new SharedArrayBuffer(bitmapBytes(frames)));

const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;
