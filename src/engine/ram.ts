/**
 * The guest's memory: its frames, their machine frame numbers, and their addresses.
 *
 * A frame has two names. Its *index* counts from 0 and is internal: tables with an entry per frame, saved pages and
 * the dirty log use it. Its *machine frame number* (MFN) is what the guest sees, in page tables and in every
 * hypercall. The mapping between the two may have gaps; only this file knows it. The frames lie one after another, by
 * index, in one buffer, which may have other contents before and after them: a *linear address* is an offset in that
 * buffer.
 */
import type { LinearMemory } from '../xen/memory.js';

/** Size of a frame, bytes. */
export const PAGE = 4096;

/**
 * The MFN of a guest's first frame: the same on every host, and it must never change. The numbers below it are Xen's
 * own.
 */
const FIRST_MFN = 0x100000;

/** `count` frames with consecutive MFNs, starting at `mfn`. */
export interface FrameRun {
  readonly mfn: number;
  readonly count: number;
}

/**
 * A run begins at a multiple of this number of frames, and all runs but the last have a multiple of it as their
 * length: 2 MiB.
 */
const RUN_UNIT = 512;

/** The machine frames that exist, in the order of their indexes. */
export class FrameMap {
  /** Number of frames. */
  readonly frames: number;
  /** The first MFN, and the one after the last. */
  readonly firstMfn: number;
  readonly endMfn: number;

  /** Throws RangeError if a run is empty or not aligned, or if the runs are out of order. */
  constructor(readonly runs: readonly FrameRun[]) {
    let [frames, end] = [0, 0];
    for (const [i, { mfn, count }] of runs.entries()) {
      const whole = i === runs.length - 1 || count % RUN_UNIT === 0;
      if (!(count > 0) || !whole || mfn % RUN_UNIT !== 0 || mfn < end)
        throw new RangeError(
          `${count} frames from machine frame ${mfn} on cannot follow those before ${end}`,
        );
      frames += count;
      end = mfn + count;
    }
    if (frames === 0) throw new RangeError('a map of no frames');
    this.frames = frames;
    this.firstMfn = runs[0].mfn;
    this.endMfn = end;
  }

  /** The map of a guest whose memory has no gaps. */
  static whole(frames: number): FrameMap {
    return new FrameMap([{ mfn: FIRST_MFN, count: frames }]);
  }

  /** Index of a machine frame, -1 if it does not exist. */
  frameOf(mfn: number): number {
    let index = 0;
    for (const run of this.runs) {
      if (mfn >= run.mfn && mfn < run.mfn + run.count) return index + mfn - run.mfn;
      index += run.count;
    }
    return -1;
  }

  /** MFN of a frame by its index, which must exist. */
  mfnOf(frame: number): number {
    let index = 0;
    for (const run of this.runs) {
      if (frame < index + run.count) return run.mfn + frame - index;
      index += run.count;
    }
    throw new RangeError(`frame ${frame} of ${this.frames}`);
  }
}

export interface GuestRam {
  /** The buffer that contains the frames. */
  readonly mem: LinearMemory;
  readonly map: FrameMap;
  /** Number of frames, including Xen's. */
  readonly frames: number;
  /** Index of a machine frame, -1 if it does not exist. */
  frameOf(mfn: number): number;
  /** MFN of a frame by its index, which must exist. */
  mfnOf(frame: number): number;
  /** Linear address of a machine frame, -1 if it does not exist. */
  address(mfn: number): number;
  /** Linear address of a frame by its index. */
  linearOf(frame: number): number;
  /** Index of the frame that contains a linear address. */
  frameAt(linear: number): number;
  /** The bytes of `count` frames, starting with an index, in place. */
  bytes(frame: number, count: number): Uint8Array;
}

/** Memory whose first frame lies at `base` of a buffer. */
export class LinearRam implements GuestRam {
  readonly frames: number;
  /** The first run of the map, which nearly all lookups hit. */
  private readonly firstMfn: number;
  private readonly firstCount: number;

  constructor(
    readonly mem: LinearMemory,
    readonly map: FrameMap,
    readonly base: number,
  ) {
    this.frames = map.frames;
    this.firstMfn = map.firstMfn;
    this.firstCount = map.runs[0].count;
  }

  frameOf(mfn: number): number {
    const frame = mfn - this.firstMfn;
    return frame >= 0 && frame < this.firstCount ? frame : this.map.frameOf(mfn);
  }
  mfnOf(frame: number): number {
    return this.map.mfnOf(frame);
  }
  address(mfn: number): number {
    const frame = this.frameOf(mfn);
    return frame < 0 ? -1 : this.base + frame * PAGE;
  }
  linearOf(frame: number): number {
    return this.base + frame * PAGE;
  }
  frameAt(linear: number): number {
    return Math.floor((linear - this.base) / PAGE);
  }
  bytes(frame: number, count: number): Uint8Array {
    return this.mem.bytes(this.base + frame * PAGE, count * PAGE);
  }
}
