/**
 * Starts the guests that are to be started with their host: after the host was booted, all that have a plan for it;
 * later, those of them whose processes are lost. boot.json says for which boot of the host that was done, and which
 * guests are still to be started, so that a daemon that is killed in between leaves nobody out and starts nobody whom
 * somebody has ended.
 *
 * Invariant: a guest that has a domain here, in whatever state, is not started.
 */
import { join } from 'node:path';
import { sleep } from '../../os/clock.js';
import { readOrSetAside, writeDurable } from '../../os/durable.js';
import type { World } from '../world.js';
import type { Definition, Definitions } from './definitions.js';
import { readBoot } from './state-files.js';

export interface AutostartContext {
  readonly world: World;
  readonly dir: string;
  readonly definitions: Definitions;
  readonly log: { info(facts: object, words: string): void; error(facts: object, words: string): void };
  /** Why the guest cannot be started now; undefined if it can, `lives` if it runs already. */
  hindrance(uuid: string): string | undefined;
  start(definition: Definition): Promise<unknown>;
}

/** Time between two attempts to start a guest: the first interval and the longest, ms. */
const RETRY_MS = [1_000, 60_000] as const;
export const LIVES = 'it runs';

export class Autostart {
  /** The guests that are to be started, by uuid. */
  private readonly pending = new Set<string>();
  private begun = false;
  private closed = false;
  private queue: Promise<void> = Promise.resolve();

  constructor(private readonly context: AutostartContext) {}

  /** Finds out which guests are to be started. Nothing is started before begin(). */
  recover(): void {
    const { world, dir, definitions, log } = this.context;
    const damaged = (message: string): void => log.error({ file: 'boot.json' }, message);
    const last = readOrSetAside(join(dir, 'boot.json'), readBoot, damaged, world.files);
    const same = last?.boot === world.boot;
    const wanted = same ? last.pending : [...definitions].map(({ uuid }) => uuid);
    for (const uuid of wanted) if (this.plan(uuid) !== null) this.pending.add(uuid);
    if (same) return;
    try {
      this.write();
    } catch (error) {
      // A daemon that starts after this one takes up the whole boot again.
      log.error({ error: (error as Error).message }, 'boot.json cannot be written');
    }
  }

  /** Starts them in their order, in the background. */
  begin(): void {
    this.begun = true;
    const uuids = [...this.pending];
    const order = (uuid: string): number => this.plan(uuid)?.order ?? 0;
    const name = (uuid: string): string => this.context.definitions.get(uuid)?.config.name ?? '';
    uuids.sort((a, b) => order(a) - order(b) || (name(a) < name(b) ? -1 : 1));
    for (const uuid of uuids) this.enqueue(uuid);
  }

  /** The daemon ends. */
  close(): void {
    this.closed = true;
  }

  private plan(uuid: string): Definition['autostart'] {
    const definition = this.context.definitions.get(uuid);
    return definition === undefined || definition.saved !== undefined ? null : definition.autostart;
  }

  private write(): void {
    const { world, dir } = this.context;
    const value = { boot: world.boot, pending: [...this.pending] };
    writeDurable(join(dir, 'boot.json'), value, world.files);
  }

  /**
   * The process of a guest is lost. True if the guest is to be started again; this is on disk then. Throws if it cannot
   * be written.
   */
  lost(uuid: string): boolean {
    const key = uuid.toLowerCase();
    if (this.plan(key) === null) return false;
    if (this.pending.has(key)) return true;
    this.pending.add(key);
    try {
      this.write();
    } catch (error) {
      this.pending.delete(key);
      throw error;
    }
    this.enqueue(key);
    return true;
  }

  /** Somebody does not want it to be started any more. Throws if that cannot be written: then nothing has changed. */
  withdraw(uuid: string): void {
    const key = uuid.toLowerCase();
    if (!this.pending.delete(key)) return;
    try {
      this.write();
    } catch (error) {
      this.pending.add(key);
      this.enqueue(key);
      throw error;
    }
  }

  /** There is nothing more to do for it. */
  private drop(uuid: string): void {
    if (!this.pending.delete(uuid)) return;
    try {
      this.write();
    } catch (error) {
      // Then the next daemon looks again whether it is to be started.
      this.context.log.error({ uuid, error: (error as Error).message }, 'boot.json cannot be written');
    }
  }

  isPending(uuid: string): boolean {
    return this.pending.has(uuid.toLowerCase());
  }

  private enqueue(uuid: string): void {
    // begin() does it for all.
    if (!this.begun) return;
    this.queue = this.queue.then(() => this.turn(uuid));
  }

  /** Waits, and tries it once; what fails is tried again without keeping the others waiting. */
  private async turn(uuid: string): Promise<void> {
    if (!this.wanted(uuid)) return;
    const { world } = this.context;
    const delayS = this.plan(uuid)?.delayS ?? 0;
    if (delayS > 0 && this.context.hindrance(uuid) !== LIVES) await sleep(world.clock, delayS * 1000);
    if (await this.attempt(uuid, true)) return;
    void this.again(uuid);
  }

  private async again(uuid: string): Promise<void> {
    const [first, last] = RETRY_MS;
    for (let ms: number = first; this.wanted(uuid); ms = Math.min(2 * ms, last)) {
      await sleep(this.context.world.clock, ms);
      if (await this.attempt(uuid, false)) return;
    }
  }

  private wanted(uuid: string): boolean {
    if (this.closed || !this.pending.has(uuid)) return false;
    if (this.plan(uuid) !== null) return true;
    this.drop(uuid);
    return false;
  }

  /** True if there is nothing more to do for it. */
  private async attempt(uuid: string, aloud: boolean): Promise<boolean> {
    if (!this.wanted(uuid)) return true;
    const { definitions, log, hindrance, start } = this.context;
    const definition = definitions.get(uuid)!;
    const { name } = definition.config;
    let why = hindrance(uuid);
    if (why === LIVES) {
      this.drop(uuid);
      return true;
    }
    if (why === undefined) {
      try {
        await start(definition);
        log.info({ name, uuid }, 'a guest is started with its host');
        this.drop(uuid);
        return true;
      } catch (error) {
        why = (error as Error).message;
      }
    }
    if (aloud)
      log.error({ name, uuid, why }, 'a guest cannot be started with its host yet; it is tried again');
    return false;
  }
}
