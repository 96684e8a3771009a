/**
 * The guests that this host knows also while they do not run: those that somebody has defined, and those that a crash
 * has ended. One file for each, definitions/UUID.json.
 *
 * Invariant: what was known of a guest is removed by nobody but `undefine`, by the end that the guest or somebody gave
 * to it in order, or because another host knows it now. While a guest runs, its domain's own record says more; that
 * record is removed only after the definition is on disk.
 */
import { join } from 'node:path';
import {
  readOrSetAside,
  removeDurable,
  removeUnfinished,
  syncDirectory,
  writeDurable,
} from '../../os/durable.js';
import { Failure } from '../../protocol/failure.js';
import type { AutostartPlan, GuestConfig } from '../../protocol/guest-config.js';
import type { World } from '../world.js';
import type { HostedDomainState } from './hosted-domain.js';
import { readDefinition } from './state-files.js';

export interface Definition {
  readonly uuid: string;
  readonly config: GuestConfig;
  /** Files in its configuration that no operator of this host named. */
  readonly foreign: readonly string[];
  /** When it was written, ms since 1970. */
  readonly sinceMs: number;
  /** Why it is kept: somebody has defined it, or it crashed, or its process was lost. */
  readonly kept: 'defined' | 'crashed';
  /** Null: it is not started with its host. */
  readonly autostart: AutostartPlan | null;
  /** The file that the whole guest is in: from its disks alone it must not start. */
  readonly saved?: string;
}

/** How many guests this host knows that do not run. Of those that crashed, the oldest make room. */
const MOST_DEFINITIONS = 4096;

interface DefinitionsContext {
  readonly world: World;
  readonly dir: string;
  readonly log: { error(facts: object, words: string): void };
}

export class Definitions {
  private readonly all = new Map<string, Definition>();
  private readonly dir: string;

  constructor(private readonly context: DefinitionsContext) {
    this.dir = join(context.dir, 'definitions');
    context.world.files.makeDirectory(this.dir, 0o700);
  }

  /** Reads what an earlier daemon left. A file that cannot be read is set aside. */
  recover(): void {
    const { files } = this.context.world;
    removeUnfinished(this.dir, files);
    // As for the records of domains: a definition whose removal had not come to the disk must not come back.
    syncDirectory(this.dir, files);
    for (const file of files.list(this.dir)) {
      const uuid = /^([0-9a-f-]{36})\.json$/.exec(file)?.[1];
      if (uuid === undefined) continue;
      const damaged = (message: string): void => this.context.log.error({ file }, message);
      const read = (value: unknown): Definition => readDefinition(value, uuid);
      const found = readOrSetAside(join(this.dir, file), read, damaged, files);
      if (found !== undefined) this.all.set(uuid, found);
    }
  }

  [Symbol.iterator](): IterableIterator<Definition> {
    return this.all.values();
  }

  get(uuid: string): Definition | undefined {
    return this.all.get(uuid.toLowerCase());
  }

  /** By name or uuid. */
  find(reference: string): Definition | undefined {
    return this.get(reference) ?? this.named(reference);
  }

  private named(name: string, kept?: Definition['kept']): Definition | undefined {
    for (const one of this.all.values())
      if (one.config.name === name && (kept === undefined || one.kept === kept)) return one;
    return undefined;
  }

  /** Fails if another guest than this one is defined under the name. One that only crashed gives its name up. */
  mustBeFree(name: string, uuid: string, host: string): void {
    const taken = this.named(name, 'defined');
    if (taken !== undefined && taken.uuid !== uuid.toLowerCase())
      throw new Failure('name-taken', `another guest is defined as ${name} on ${host} (uuid ${taken.uuid})`);
  }

  /** When this returns, it is on disk. */
  put(definition: Definition): void {
    const { uuid } = definition;
    if (!this.all.has(uuid)) this.makeRoom();
    writeDurable(this.file(uuid), definition, this.context.world.files);
    this.all.set(uuid, definition);
  }

  private makeRoom(): void {
    if (this.all.size < MOST_DEFINITIONS) return;
    let oldest: Definition | undefined;
    for (const one of this.all.values())
      if (one.kept === 'crashed' && (oldest === undefined || one.sinceMs < oldest.sinceMs)) oldest = one;
    if (oldest === undefined)
      throw new Failure('bad-state', `${MOST_DEFINITIONS} guests are defined here; no more are kept`);
    this.context.log.error(
      { name: oldest.config.name, uuid: oldest.uuid },
      'a guest that crashed long ago is known no longer: so many crashed since',
    );
    this.remove(oldest.uuid);
  }

  /** When this returns, it is gone from the disk. */
  remove(uuid: string): void {
    const known = this.get(uuid);
    if (known === undefined) return;
    removeDurable(this.file(known.uuid), this.context.world.files);
    this.all.delete(known.uuid);
  }

  private file(uuid: string): string {
    return join(this.dir, `${uuid}.json`);
  }

  /** Gives a guest another name, if it is known here. */
  rename(uuid: string, name: string): void {
    const definition = this.get(uuid);
    if (definition !== undefined) this.put({ ...definition, config: { ...definition.config, name } });
  }

  /** The definition of a domain's guest; made, if there is none so far, of what the domain's record says. */
  of(state: HostedDomainState, kept: Definition['kept']): Definition | undefined {
    const known = this.get(state.uuid);
    if (known !== undefined) return known;
    const { config, foreign = [], uuid } = state;
    if (config === null) return undefined;
    const sinceMs = this.context.world.clock.wallMs();
    return { uuid: uuid.toLowerCase(), config, foreign, sinceMs, kept, autostart: null };
  }

  /** The guest crashed, or its process was lost, and its domain is about to be removed: it stays known. */
  keepCrashed(state: HostedDomainState): void {
    const definition = this.of(state, 'crashed');
    if (definition !== undefined && this.get(state.uuid) === undefined) this.put(definition);
  }

  /** The guest is in a file, and its domain is about to be removed. */
  keepSaved(state: HostedDomainState, path: string): void {
    const known = this.get(state.uuid);
    if (known !== undefined && known.saved !== path) this.put({ ...known, saved: path });
  }

  /** A guest that was defined where it came from is defined here from now on. */
  keepMoved(state: HostedDomainState): void {
    if (state.defined === undefined) return;
    const definition = this.of(state, 'defined');
    if (definition === undefined) return;
    const { saved: _, ...rest } = definition;
    this.put({ ...rest, kept: 'defined', autostart: state.defined.autostart });
  }

  /** The guest lives on another host, which knows whether it is defined (`there`), or is of an earlier version. */
  movedAway(uuid: string, there: boolean): void {
    const known = this.get(uuid);
    if (known === undefined) return;
    if (there || known.kept === 'crashed') this.remove(uuid);
    // Two hosts must not both start it.
    else if (known.autostart !== null) this.put({ ...known, autostart: null });
  }

  /** What says something that is not so any more, as the guest of this domain lives. */
  private stale({ uuid, name }: HostedDomainState): Definition[] {
    return [...this.all.values()].filter((one) =>
      one.uuid === uuid.toLowerCase()
        ? one.kept === 'crashed' || one.saved !== undefined
        : one.kept === 'crashed' && one.config.name === name,
    );
  }

  /**
   * The guest of this domain lives, and its record is on disk: what was kept of its crash is not needed any more, nor
   * what was kept of another guest of that name, and it is no longer in a file.
   */
  lives(state: HostedDomainState): void {
    for (const one of this.stale(state)) {
      if (one.kept === 'crashed') this.remove(one.uuid);
      else {
        const { saved: _, ...rest } = one;
        this.put(rest);
      }
    }
  }
}
