/** Runs one guest twice with the same inputs: one stays, the other is moved. Returns what differs at the end. */
import type { GuestSpec } from '../../src/helper/guest.js';
import { firstDifference } from './bisect.js';
import { difference } from './compare.js';
import { Landmarks } from './landmarks.js';
import { goTo, PLACES } from './points.js';
import { Random } from './random.js';
import { type Cue, TwinGuest } from './twin.js';

export interface TwinRun {
  readonly spec: GuestSpec;
  readonly cues: readonly Cue[];
  /** The guest ends by itself before this virtual time, ns, or is stopped then. */
  readonly endNs: number;
  readonly moves: number;
  readonly seed: number;
  /** Is called after each move; a test of this proof changes something here on purpose. */
  afterMove?(twin: TwinGuest, move: number): void;
  progress?(moves: number): void;
}

export interface TwinResult {
  readonly still: TwinGuest;
  readonly moved: TwinGuest;
  /**
   * The number of moves by kind of place. If a place was not reached, the guest was moved where it was, which counts as
   * anywhere.
   */
  readonly places: ReadonlyMap<string, number>;
  /** Where the first difference is. Undefined: there is none. */
  readonly difference: string | undefined;
}

/** One in so many moves goes through the whole stream, in pieces of random sizes. */
const STREAM_EVERY = 8;

interface Planned {
  readonly atNs: number;
  readonly place: (typeof PLACES)[number];
}

function plan(run: TwinRun, lengthNs: number, landmarks: Landmarks): readonly Planned[] {
  const random = new Random(run.seed);
  return Array.from({ length: run.moves }, (_, i): Planned => {
    const wanted = PLACES[i % PLACES.length];
    const known = wanted.from === undefined ? [] : landmarks.of(wanted.from);
    if (known.length > 0) return { atNs: Math.max(1, random.pick(known) - wanted.before), place: wanted };
    const place = wanted.from === undefined ? wanted : PLACES[0];
    return { atNs: 1 + random.below(lengthNs - 1), place };
  }).sort((a, b) => a.atNs - b.atNs);
}

async function movedTwin(
  run: TwinRun,
  planned: readonly Planned[],
  moves: number,
  endNs: number | undefined,
  places?: Map<string, number>,
): Promise<TwinGuest> {
  const twin = await TwinGuest.powerOn(run.spec, run.cues);
  for (const [i, { atNs, place }] of planned.slice(0, moves).entries()) {
    twin.runTo(atNs);
    const name = goTo(twin, place) ? place.name : PLACES[0].name;
    if (twin.done) break;
    places?.set(name, (places.get(name) ?? 0) + 1);
    await twin.move(new Random(run.seed + i), i % STREAM_EVERY === 0 ? 'stream' : 'copy');
    run.afterMove?.(twin, i + 1);
    run.progress?.(i + 1);
  }
  if (endNs !== undefined) twin.runTo(endNs);
  return twin;
}

/** Runs both to the end and compares everything. If there is a difference, looks for the first one. */
export async function prove(run: TwinRun): Promise<TwinResult> {
  const still = await TwinGuest.powerOn(run.spec, run.cues);
  const landmarks = new Landmarks(new Random(run.seed));
  landmarks.watch(still);
  still.runTo(run.endNs);
  const planned = plan(run, still.now, landmarks);
  const places = new Map<string, number>();
  const moved = await movedTwin(run, planned, planned.length, run.endNs, places);
  let found = difference(still, moved);
  if (found !== undefined) {
    const rerun = {
      moves: moved.moves,
      run: (moves: number, toEnd: boolean) => movedTwin(run, planned, moves, toEnd ? run.endNs : undefined),
      still: async (until: number | undefined) => {
        const twin = await TwinGuest.powerOn(run.spec, run.cues);
        twin.runTo(until ?? run.endNs);
        return twin;
      },
    };
    found = `${found}; ${await firstDifference(rerun, still)}`;
  }
  return { still, moved, places, difference: found };
}
