/**
 * The source's part of a move, up to the point at which the whole guest has been sent: rounds of page copying while
 * the guest runs (pre-copy), then the stop and the rest. The daemons do the hand-over that follows.
 *
 * Invariant: if this throws, the guest is in the same state as before: running if it was running, paused if it was
 * paused. Written frames are recorded from before the first page is read until after the guest has stopped.
 */
import type { MoveOptions, MoveProgress, SentStats, StorageProgress } from '../protocol/moves.js';
import { concatBytes } from '../records/record.js';
import { bitmapBytes, fillBits } from './bitmap.js';
import { DiskSender, type TravellingDisk } from './disk-sender.js';
import type { MovableGuest } from './moving-guest.js';
import type { PageSender } from './page-sender.js';
import { MAX_CODE_STARTS, PAGE_BYTES, PLAIN_VERSION } from './stream-records.js';

interface MoveHooks {
  progress?(progress: MoveProgress): void;
  storageProgress?(progress: StorageProgress): void;
  /** The disks that move with the guest. */
  readonly disks?: readonly TravellingDisk[];
  /** Called just before the guest is stopped. The record `offered` must be on disk when this resolves. */
  stopping?(): Promise<void>;
  /** The guest was paused before the move began, and stays paused. */
  readonly alreadyPaused?: boolean;
  /** A record before the guest's own in DESC and in STAT; nothing if it is empty. */
  beside?(where: 'description' | 'state'): Uint8Array;
  /** The version of the stream, if the destination has said which versions it knows. */
  readonly version?: number;
  /** How long a disk that is copied may take to return data, in ms. */
  readonly answerMs?: number;
  /** The destination's wall clock minus ours in ns, if it was measured. */
  readonly clockDifference?: number;
}

/** The move was given up because rounds or time ran out. */
export class MoveTimeout extends Error {
  override name = 'MoveTimeout';
}

/** State, hand-over, writing the owner record and the first instruction take about this long in any case, in ms. */
const FIXED_DOWNTIME_MS = 10;

/**
 * Decides whether to stop now: yes if the last pages are expected to take at most a quarter of the downtime that the
 * fixed parts leave. If a round has hardly reduced the number of dirty pages, further rounds will not help, so the guest
 * is stopped as long as the rest fits into the downtime at all.
 */
function enough(now: MoveProgress, before: MoveProgress | undefined, maxDowntimeMs: number): boolean {
  const expected = now.expectedDowntimeMs;
  if (expected <= Math.max(maxDowntimeMs - FIXED_DOWNTIME_MS, 0) / 4) return true;
  const hope = before === undefined || now.dirty < before.dirty * 0.7;
  return expected <= maxDowntimeMs && !hope;
}

/** How many places of code a destination prepares per millisecond. */
const PREPARED_PER_MS = 100;

/** With fewer bytes than this, the measured rate of the first round means nothing. */
const LEAST_MEASURED_BYTES = 1 << 20;

/** Sends the whole guest and leaves it paused. Resolves when the last byte has been passed to the operating system. */
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
  const beside = (where: 'description' | 'state', own: Uint8Array): Uint8Array => {
    const record = hooks.beside?.(where);
    return record === undefined ? own : concatBytes([record, own]);
  };
  await sender.begin({ frames, uuid, name, version: hooks.version }, beside('description', guest.describe()));
  const diskSender = new DiskSender(hooks.disks ?? [], sender, hooks.storageProgress, hooks.answerMs);
  await diskSender.begin();
  // Copying a large disk may take hours, so the time limit only applies to what follows.
  const started = monotonicMs();
  guest.startDirtyLog();
  try {
    fillBits(dirty, guest.frames);
    let pages = guest.frames;
    let reason: SentStats['reason'] = 'paused';
    // The rate over all rounds. The assumption before the first measurement is conservative.
    let bytesPerMs = 100_000;
    for (let round = 1; hooks.alreadyPaused !== true; round++) {
      await diskSender.sweep();
      const began = monotonicMs();
      const sending = sender.round(round, dirty, pages);
      sending.catch(() => {});
      // This is practice: code that runs for the first time is many times slower, and the next time the guest will be
      // stopped meanwhile.
      if (round === 1) guest.saveState({});
      const done = await sending;
      // By now the destination has all of the guest's code.
      if (round === 1 && hooks.version !== undefined && hooks.version > PLAIN_VERSION)
        await sendCode(guest, sender);
      next.fill(0);
      const wroteMs = monotonicMs() - began;
      pages = guest.readDirty(next);
      [dirty, next] = [next, dirty];
      if (done.bytes >= LEAST_MEASURED_BYTES) bytesPerMs = done.bytes / Math.max(done.ms, 0.1);
      const expectedDowntimeMs = (pages * PAGE_BYTES + diskSender.pending) / bytesPerMs;
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
    await diskSender.sweep();
    // While the sending thread sends the last pages, this thread makes the state.
    const lastRound = sender.round(0, dirty, pages);
    lastRound.catch(() => {});
    const { clock } = options;
    const state = beside('state', guest.saveState({ clock, clockDifference: hooks.clockDifference }));
    const last = await lastRound;
    const lastDone = monotonicMs();
    const bytes = await sender.end(state);
    guest.stopDirtyLog();
    return {
      rounds,
      bytes,
      storageBytes: diskSender.copied,
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
 * Tells the destination which code the guest runs, and gives it time to prepare that code. The guest runs here
 * meanwhile; without this it would be stopped there for longer than the whole move stops it.
 */
async function sendCode(guest: MovableGuest, sender: PageSender): Promise<void> {
  const starts = guest.warmUp?.hotCode(MAX_CODE_STARTS);
  if (starts === undefined || starts.length === 0) return;
  await sender.code(starts);
  await new Promise((done) => setTimeout(done, starts.length / PREPARED_PER_MS));
}

/** A bitmap in shared memory, which the sending thread can read. */
const shared = (frames: number): Uint8Array => new Uint8Array(new SharedArrayBuffer(bitmapBytes(frames)));

const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;
