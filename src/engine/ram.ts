/**
 * The guest's memory: frames, which of them has which machine frame number, and where they lie.
 *
 * A frame has two names. Its *index* counts from 0 and is ours: tables with an entry a frame, saved pages and the dirty
 * log go by it. Its *machine frame number* (MFN) is what the guest sees, in page tables and in every hypercall. The map
 * between the two may have gaps; nobody but this file reckons with it. The frames lie one after the other, by index, in
 * one buffer, which need not begin with them nor end with them: a *linear address* is a place in that buffer.
 */
import type { LinearMemory } from '../xen/memory.js';

/** Bytes of a frame. */
export const PAGE = 4096;

/** The MFN of a guest's first frame: the same on every host, for ever. What lies below is Xen's own. */
const FIRST_MFN = 0x100000;

/** `count` frames whose MFNs follow each other from `mfn` on. */
export interface FrameRun {
  readonly mfn: number;
  readonly count: number;
}

/** Runs begin at a multiple of so many frames, and all but the last have a multiple of it: 2 MiB. */
const RUN_UNIT = 512;

/** Which machine frames there are, in the order of their indexes. */
export class FrameMap {
  /** All frames. */
  readonly frames: number;
  /** The first MFN, and the one after the last. */
  readonly firstMfn: number;
  readonly endMfn: number;

  /** Throws RangeError for runs that are empty, not aligned, or not in order. */
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

  /** The map that every guest has whose memory has no gaps. */
  static whole(frames: number): FrameMap {
    return new FrameMap([{ mfn: FIRST_MFN, count: frames }]);
  }

  /** Index of a machine frame, -1 if there is none. */
  frameOf(mfn: number): number {
    let index = 0;
    for (const run of this.runs) {
      if (mfn >= run.mfn && mfn < run.mfn + run.count) return index + mfn - run.mfn;
      index += run.count;
    }
    return -1;
  }

  /** The MFN of a frame by its index, which must exist. */
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
  /** The buffer that the frames lie in. */
  readonly mem: LinearMemory;
  readonly map: FrameMap;
  /** All frames, those of Xen included. */
  readonly frames: number;
  /** Index of a machine frame, -1 if there is none. */
  frameOf(mfn: number): number;
  /** The MFN of a frame by its index, which must exist. */
  mfnOf(frame: number): number;
  /** Linear address of a machine frame, -1 if there is none. */
  address(mfn: number): number;
  /** Linear address of a frame by its index. */
  linearOf(frame: number): number;
  /** Index of the frame that a linear address lies in. */
  frameAt(linear: number): number;
  /** `count` frames from an index on, in place. */
  bytes(frame: number, count: number): Uint8Array;
}

/** Memory whose first frame lies at `base` of a buffer. */
export class LinearRam implements GuestRam {
  readonly frames: number;
  /** The first run of the map: nearly all that is looked for is there. */
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
