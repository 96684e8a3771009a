/**
 * Runs sequences on the processor and on the machine and reports which differ. Invariant: a sequence is named by two
 * numbers (the seed of the run, and its index in it) and by nothing else.
 */
import { differences, normalise, same } from './compare.js';
import { makeSequence, makeWindow } from './generate.js';
import { END, type Guest, openGuest } from './guest.js';
import { BATCH, BLOCK, CODE, CODE_BYTES, RESULT_BYTES, WRITABLE_BYTES } from './layout.js';
import { type Native, openNative } from './native.js';
import { countedAs, type LaidOut, layOut, type Sequence, type Step } from './sequence.js';

/** The read-only page is the same in all runs. */
const READ_ONLY_SEED = 77;

export interface Rig {
  readonly native: Native;
  readonly guest: Guest;
}

export interface Trial {
  readonly steps: readonly Step[];
  readonly block: Uint8Array;
  readonly window: Uint8Array;
}

export async function openRig(): Promise<Rig> {
  const readOnly = makeWindow(READ_ONLY_SEED).subarray(WRITABLE_BYTES);
  return { native: openNative(readOnly), guest: await openGuest(readOnly) };
}

const mix = (a: number, b: number): number => {
  let h = Math.imul(a ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(b + 0x7f4a7c15, 0xc2b2ae35);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  return (h ^ (h >>> 13)) >>> 0;
};

export const windowOf = (seed: number, index: number): Uint8Array =>
  makeWindow(mix(seed, -1 - Math.floor(index / BATCH)));
export const sequenceOf = (seed: number, index: number): Sequence => makeSequence(mix(seed, index));

interface Placed {
  readonly trial: Trial;
  readonly laidOut: LaidOut;
  readonly end: number;
  /** The block of registers, with its rip set. */
  readonly block: Uint8Array;
}

/** Puts sequences one after another into both code regions. */
function place(rig: Rig, trials: readonly Trial[]): Placed[] {
  let at = CODE;
  const image = new Uint8Array(CODE_BYTES);
  const placed = trials.map((trial): Placed => {
    const laidOut = layOut(trial.steps, at);
    const end = at + laidOut.bytes.length;
    rig.native.code.set(laidOut.bytes, at - CODE);
    rig.native.code.set(rig.native.end(end), end - CODE);
    image.set(laidOut.bytes, at - CODE);
    image.set(END, end - CODE);
    const block = trial.block.slice();
    new DataView(block.buffer).setBigUint64(BLOCK.rip, BigInt(at), true);
    at = end + END.length;
    if (at > CODE + CODE_BYTES) throw new RangeError('the batch does not fit into the code region');
    return { trial, laidOut, end, block };
  });
  rig.guest.putCode(CODE, image.subarray(0, at - CODE));
  return placed;
}

/** Runs trials that share a window. Returns the differences of each, empty if there are none. */
export function runTrials(rig: Rig, trials: readonly Trial[]): string[][] {
  const placed = place(rig, trials);
  const blocks = new Uint8Array(placed.length * BLOCK.bytes);
  placed.forEach((p, i) => void blocks.set(p.block, i * BLOCK.bytes));
  const { window } = trials[0];
  const native = rig.native.run(blocks, window);
  return placed.map((p, i) => {
    const theirs = native.subarray(i * RESULT_BYTES, (i + 1) * RESULT_BYTES);
    const ours = rig.guest.run(p.block, window, p.end);
    normalise(theirs, p.trial.steps, p.laidOut);
    normalise(ours, p.trial.steps, p.laidOut);
    return same(theirs, ours, p.trial.steps, p.laidOut) ? [] : differences(theirs, ours);
  });
}

/** How often each form was in a sequence that ran. */
export type Counts = Map<string, number>;

/** Returns the indices of the sequences from `from` to `to` - 1 of a run that differ. */
export function runRange(rig: Rig, seed: number, from: number, to: number, counts: Counts): number[] {
  const failed: number[] = [];
  for (let start = from; start < to; ) {
    const end = Math.min(to, (Math.floor(start / BATCH) + 1) * BATCH);
    const window = windowOf(seed, start);
    const trials = Array.from({ length: end - start }, (_, i) => ({
      ...sequenceOf(seed, start + i),
      window,
    }));
    for (const { steps } of trials)
      for (const { parts } of steps)
        for (const part of parts) {
          const name = countedAs(part);
          if (name !== undefined) counts.set(name, (counts.get(name) ?? 0) + 1);
        }
    runTrials(rig, trials).forEach((d, i) => {
      if (d.length > 0) failed.push(start + i);
    });
    start = end;
  }
  return failed;
}
