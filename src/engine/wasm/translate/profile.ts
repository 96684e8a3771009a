/**
 * The counters of a profile, in linear memory: 16 u64 for exits by kind (R_OPERATION and so on), then for each slot
 * how often its region was entered and how many instructions it executed. A block that is left in the middle counts
 * in full.
 */
import type { Region } from './region.js';

export const PROFILE_SLOTS = 128;
export const PROFILE_ENTRY = 16;

interface HotRegion {
  /** Guest address of its first instruction. */
  readonly va: bigint;
  readonly blocks: number;
  readonly entries: number;
  readonly instructions: number;
}

export interface Profile {
  regions: number;
  modules: number;
  dropped: number;
  bytes: number;
  /** Time spent on translation in ms, if there was a clock. */
  milliseconds: number;
}

export interface FullProfile extends Profile {
  readonly exits: Readonly<Record<string, number>>;
  /** Instructions executed in translated code. */
  readonly instructions: number;
  readonly hot: readonly HotRegion[];
}

/** Indexed by the values of R_OPERATION and so on in core/layout.ts. */
const EXITS = [
  'operation left to the interpreter',
  'known block',
  'looked-up address',
  'exit',
  'budget',
  'first operation left',
];

export class ProfileCounters {
  /** Counters of regions that no longer exist. */
  private readonly past: HotRegion[] = [];
  private readonly present = new Map<number, Region>();

  constructor(
    private readonly view: DataView,
    readonly base: number,
  ) {}

  at(slot: number): number {
    return this.base + PROFILE_SLOTS + PROFILE_ENTRY * slot;
  }

  add(slot: number, region: Region): void {
    this.view.setBigUint64(this.at(slot), 0n, true);
    this.view.setBigUint64(this.at(slot) + 8, 0n, true);
    this.present.set(slot, region);
  }

  private read(slot: number, region: Region): HotRegion {
    return {
      va: region.va,
      blocks: region.nodes.length,
      entries: Number(this.view.getBigUint64(this.at(slot), true)),
      instructions: Number(this.view.getBigUint64(this.at(slot) + 8, true)),
    };
  }

  remove(slot: number): void {
    const region = this.present.get(slot);
    if (region === undefined) return;
    this.past.push(this.read(slot, region));
    this.present.delete(slot);
  }

  report(profile: Profile, most: number): FullProfile {
    const all = [...this.past, ...[...this.present].map(([slot, region]) => this.read(slot, region))];
    const exits: Record<string, number> = {};
    EXITS.forEach((name, i) => {
      exits[name] = Number(this.view.getBigUint64(this.base + 8 * i, true));
    });
    return {
      ...profile,
      exits,
      instructions: all.reduce((sum, r) => sum + r.instructions, 0),
      hot: all.sort((a, b) => b.instructions - a.instructions).slice(0, most),
    };
  }
}
