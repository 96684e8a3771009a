/**
 * The second tier: it takes the blocks that the interpreter found to be warm, translates the regions that start there
 * in batches, puts them into the table through which the core calls, and removes them when their code changes. Its
 * only visible effect is on time: when a block becomes warm depends only on executed instructions.
 */
import {
  B_FIRST,
  B_HEAT,
  B_LIVE,
  B_REGION,
  B_USES,
  BLOCK_HEADER,
  HEAT_AGAIN,
  HEAT_FIRST,
  HOT_BATCH,
  HOT_COUNT,
  HOT_LIST,
  HOT_WAITS,
} from '../core/layout.js';
import { Op } from '../core/ops.js';
import { Blocks, type Frames, LIVE } from './blocks.js';
import { FunctionWriter } from './function.js';
import { buildModule } from './module.js';
import { K } from './operation.js';
import { type FullProfile, PROFILE_ENTRY, PROFILE_SLOTS, type Profile, ProfileCounters } from './profile.js';
import { formRegion, type Region } from './region.js';

/**
 * `interpreter`: code is only interpreted. `translate`: it is translated at its first execution. `normal`: both, as
 * it pays off. `stress`: it is translated soon, and regions are dropped at random.
 */
export type Tier = 'interpreter' | 'translate' | 'normal' | 'stress';

/**
 * After how many executions a block is to be translated, after how many more it no longer waits for others, and how
 * many blocks make a batch. Code that is merely warm stays interpreted: translated code is about ten times as large,
 * and once a kernel's paths no longer fit into the processor's caches they run slower than in the interpreter (fork
 * in Linux: three times).
 */
const HEAT: Record<Tier, readonly [first: number, again: number, batch: number]> = {
  interpreter: [0, 0, 0],
  translate: [1, 1, 1],
  normal: [20_000, 10_000, 64],
  stress: [3, 2, 3],
};
const NEVER = 0x7fff_ffff;
/**
 * The maximum number of regions. If it is reached, all are dropped, because V8 fails with some ten thousand modules.
 */
const MOST_REGIONS = 16_384;
/** How much linear memory a profile needs, in bytes. */
export const PROFILE_BYTES = PROFILE_SLOTS + PROFILE_ENTRY * (MOST_REGIONS + 1);
const FIRST_SLOTS = 1024;
const STRESS_SEED = 0x2545_f491;

/**
 * The maximum number of modules that are compiled in the background. Further ones are compiled at once, so that they
 * cannot pile up.
 */
const MOST_ASIDE = 4;

/** A region in its slot. It is compiled or being compiled. */
interface Translated {
  readonly slot: number;
  readonly head: number;
  readonly blocks: readonly number[];
}

export class Translator {
  private readonly blocks: Blocks;
  private readonly view: DataView;
  private readonly writer: FunctionWriter;
  private readonly regions = new Map<number, Translated>();
  /** The slots of the regions that contain a block. */
  private readonly byBlock = new Map<number, Set<number>>();
  private free: number[] = [];
  private nextSlot = 1;
  readonly profile: Profile = { regions: 0, modules: 0, dropped: 0, bytes: 0, milliseconds: 0 };
  private readonly counters: ProfileCounters | undefined;
  private readonly now: () => number = () => 0;
  private imports: WebAssembly.ModuleImports = {};
  private aside = 0;
  private failure: { readonly error: unknown } | undefined;
  /** The state of the stress tier's random numbers. 0: no regions are dropped. */
  private seed: number;

  constructor(
    private readonly memory: WebAssembly.Memory,
    private readonly table: WebAssembly.Table,
    frames: Frames,
    tier: Tier,
    /**
     * Whether modules are compiled in the background while the interpreter continues. They are installed between two
     * runs.
     */
    private readonly compilesAside: boolean,
    /** For a profile: the address of its counters, and a clock in milliseconds. */
    profiling?: { readonly at: number; now(): number },
  ) {
    this.blocks = new Blocks(memory.buffer, frames);
    this.view = this.blocks.view;
    if (profiling !== undefined) {
      this.counters = new ProfileCounters(this.view, profiling.at);
      this.now = () => profiling.now();
    }
    this.writer = new FunctionWriter(this.view, this.counters);
    this.seed = tier === 'stress' ? STRESS_SEED : 0;
    const [first, again, batch] = HEAT[tier];
    this.view.setUint32(HEAT_FIRST, first, true);
    this.view.setUint32(HEAT_AGAIN, again, true);
    this.view.setUint32(HOT_BATCH, batch, true);
  }

  static table(): WebAssembly.Table {
    return new WebAssembly.Table({ element: 'anyfunc', initial: FIRST_SLOTS });
  }

  /** See Blocks.hot(). */
  hotCode(most: number): Uint32Array {
    return this.blocks.hot(most);
  }

  /** Passes in the core's functions that regions call. */
  connect(core: WebAssembly.Exports): void {
    const { readAt, writeAt, step, conditionOf, fpExec, readFlags } = core as WebAssembly.ModuleImports;
    this.imports = { memory: this.memory, readAt, writeAt, step, conditionOf, fpExec, readFlags };
  }

  /** Translates the blocks that wait. */
  translate(cpu: number): void {
    if (this.failure !== undefined) throw this.failure.error;
    const begun = this.now();
    this.translateHot(cpu);
    this.profile.milliseconds += this.now() - begun;
  }

  /** Returns the profile with the regions that executed most instructions, or undefined if nothing was counted. */
  fullProfile(most: number): FullProfile | undefined {
    return this.counters?.report(this.profile, most);
  }

  private translateHot(cpu: number): void {
    const { view } = this;
    const count = view.getUint32(HOT_COUNT, true);
    view.setUint32(HOT_COUNT, 0, true);
    const bodies: Uint8Array[] = [];
    const found: Translated[] = [];
    if (this.regions.size + count > MOST_REGIONS) this.dropAll();
    const covered = new Set<number>();
    for (let i = 0; i < count; i++) {
      const at = view.getUint32(HOT_LIST + 16 * i, true);
      const va = view.getBigUint64(HOT_LIST + 16 * i + 8, true);
      view.setUint32(at + B_USES, view.getUint32(at + B_USES, true) & ~HOT_WAITS, true);
      view.setInt32(at + B_HEAT, NEVER, true);
      if (view.getUint32(at + B_LIVE, true) !== LIVE || view.getUint32(at + B_REGION, true) !== 0) continue;
      if (covered.has(at)) {
        // The block may not be entered any more. If it is, it becomes hot again.
        view.setInt32(at + B_HEAT, view.getUint32(HEAT_FIRST, true), true);
        continue;
      }
      const region = formRegion(this.blocks, cpu, at, va);
      if (region === undefined || region.head.block.operations[0].kind === K.STOP) continue;
      const slot = this.free.pop() ?? this.nextSlot++;
      bodies.push(this.writer.write(region, slot).slice());
      found.push(this.enter(region, slot));
      for (const node of region.nodes) covered.add(node.block.at);
    }
    if (this.seed !== 0) this.dropAtRandom(found.length);
    if (found.length === 0) return;
    const bytes = buildModule(bodies);
    this.profile.modules++;
    this.profile.bytes += bytes.length;
    if (this.compilesAside && this.aside < MOST_ASIDE) this.compileAside(bytes, found);
    else this.install(new WebAssembly.Module(bytes), found);
  }

  /** Compiles a module in the background, without delaying the guest. */
  private compileAside(bytes: Uint8Array<ArrayBuffer>, found: readonly Translated[]): void {
    this.aside++;
    WebAssembly.compile(bytes)
      .then((module) => {
        const begun = this.now();
        this.install(module, found);
        this.profile.milliseconds += this.now() - begun;
      })
      .catch((error) => {
        this.failure = { error };
      })
      .finally(() => {
        this.aside--;
      });
  }

  /** Assigns the slot to a region, which can be found by its blocks from now on. */
  private enter(region: Region, slot: number): Translated {
    const { view } = this;
    this.counters?.add(slot, region);
    if (slot >= this.table.length) this.table.grow(this.table.length);
    const blocks = region.nodes.map((n) => n.block.at);
    for (const at of blocks) {
      let users = this.byBlock.get(at);
      if (users === undefined) this.byBlock.set(at, (users = new Set()));
      users.add(slot);
      view.setUint32(at + B_USES, view.getUint32(at + B_USES, true) + 1, true);
    }
    const translated = { slot, head: region.head.block.at, blocks };
    this.regions.set(slot, translated);
    this.profile.regions++;
    return translated;
  }

  /** Makes the regions of a module active, except for those that have lost a block while it was compiled. */
  private install(module: WebAssembly.Module, found: readonly Translated[]): void {
    const { view } = this;
    const instance = new WebAssembly.Instance(module, { e: this.imports });
    for (const [i, translated] of found.entries()) {
      const { slot, head } = translated;
      if (this.regions.get(slot) !== translated) continue;
      this.table.set(slot, instance.exports[`${i}`]);
      const first = head + BLOCK_HEADER;
      view.setUint32(head + B_FIRST, view.getUint16(first, true), true);
      view.setUint32(head + B_REGION, slot, true);
      view.setUint16(first, Op.TRANSLATED, true);
    }
  }

  /** A block has lost its bytes. 0: all blocks have, and their memory is reused. */
  dropped(block: number): void {
    if (block === 0) {
      for (const slot of this.regions.keys()) this.release(slot);
      this.regions.clear();
      this.byBlock.clear();
      return;
    }
    for (const slot of [...(this.byBlock.get(block) ?? [])]) this.drop(slot);
  }

  /**
   * Drops one region for every two that were translated. If as many were dropped as translated, the same code would
   * be translated again and again.
   */
  private dropAtRandom(translated: number): void {
    for (let i = 0; i < translated; i++) {
      this.seed ^= this.seed << 13;
      this.seed ^= this.seed >>> 17;
      this.seed ^= this.seed << 5;
      if (this.seed < 0) this.drop((this.seed >>> 8) % this.nextSlot);
    }
  }

  private dropAll(): void {
    for (const slot of [...this.regions.keys()]) this.drop(slot);
  }

  private drop(slot: number): void {
    const { view } = this;
    const region = this.regions.get(slot);
    if (region === undefined) return;
    const { head, blocks } = region;
    for (const at of blocks) {
      const users = this.byBlock.get(at);
      users?.delete(slot);
      if (users?.size === 0) this.byBlock.delete(at);
      view.setUint32(at + B_USES, view.getUint32(at + B_USES, true) - 1, true);
    }
    if (view.getUint32(head + B_LIVE, true) !== 0) {
      if (view.getUint32(head + B_REGION, true) === slot)
        view.setUint16(head + BLOCK_HEADER, view.getUint32(head + B_FIRST, true), true);
      view.setInt32(head + B_HEAT, view.getUint32(HEAT_FIRST, true), true);
    }
    view.setUint32(head + B_REGION, 0, true);
    this.release(slot);
    this.regions.delete(slot);
  }

  private release(slot: number): void {
    this.counters?.remove(slot);
    this.table.set(slot, null);
    this.free.push(slot);
    this.profile.dropped++;
  }
}
