/**
 * What stays of guests that crashed, or whose processes were lost: a directory for each crash.
 *
 *     crashes/ID/crash.json   what was known of it; a directory without this file was not finished, and is removed
 *     crashes/ID/console.log  what the guest printed last, and console.log.1 what it printed before
 *     crashes/ID/process.log  what its process printed
 *     crashes/ID/core         its core, if on_crash asks for one
 *
 * ID is the domain's generation, so that a daemon that starts again does not keep a crash twice.
 */
import { join } from 'node:path';
import { readOrSetAside, removeUnfinished, writeDurable } from '../../os/durable.js';
import type { GuestExit } from '../../protocol/guest-process.js';
import type { HostConfig } from '../host-config.js';
import type { World } from '../world.js';
import { dumpCore } from './core.js';
import type { HostedDomain } from './hosted-domain.js';
import { readCrash } from './state-files.js';

export interface Crash {
  readonly id: number;
  readonly domid: number;
  readonly name: string;
  readonly uuid: string;
  /** Since 1970, ms. */
  readonly atMs: number;
  readonly exit: GuestExit;
  /** Length of its core, bytes; 0: there is none. */
  readonly coreBytes: number;
}

/** How many crashes are kept, of one guest and of all. */
const MOST_OF_GUEST = 4;
const MOST_CRASHES = 64;
const MIB = 1 << 20;
/** What a core has beside the guest's memory at most, for each page, and besides, bytes. */
const CORE_OVERHEAD = { ofPage: 32, besides: MIB };

interface CrashesContext {
  readonly world: World;
  readonly dir: string;
  readonly config: HostConfig;
  readonly log: {
    info(facts: object, words: string): void;
    error(facts: object, words: string): void;
  };
}

export class Crashes {
  private readonly all = new Map<number, Crash>();
  private readonly dir: string;

  constructor(private readonly context: CrashesContext) {
    this.dir = join(context.dir, 'crashes');
    context.world.files.makeDirectory(this.dir, 0o700);
  }

  /** The latest last. */
  list(): readonly Crash[] {
    return [...this.all.values()].sort((a, b) => a.id - b.id);
  }

  /** The directory of a crash. */
  directory(id: number): string {
    return join(this.dir, String(id));
  }

  /** Reads what earlier daemons kept, and removes what they did not finish. */
  recover(): void {
    const { files } = this.context.world;
    for (const name of files.list(this.dir)) {
      const path = join(this.dir, name, 'crash.json');
      const damaged = (message: string): void => this.context.log.error({ path }, message);
      const found = files.exists(path) ? readOrSetAside(path, readCrash, damaged, files) : undefined;
      if (found !== undefined) {
        this.all.set(found.id, found);
        removeUnfinished(join(this.dir, name), files);
      } else if (!files.exists(`${path}.damaged`)) this.remove(join(this.dir, name));
    }
  }

  private remove(path: string): void {
    try {
      this.context.world.files.removeTree(path);
    } catch (error) {
      this.context.log.error({ path, error: (error as Error).message }, 'cannot be removed');
    }
  }

  /**
   * Keeps what is left of a domain whose guest has ended. It never rejects: where there is no room for it, the guest's
   * restart does not wait for that.
   */
  async keep(domain: HostedDomain, exit: GuestExit, core: boolean): Promise<void> {
    const { world, log } = this.context;
    const { domid, name, uuid, generation: id = 0 } = domain.state;
    if (this.all.has(id)) return;
    const directory = this.directory(id);
    try {
      world.files.removeTree(directory);
      world.files.makeDirectory(directory, 0o700);
      world.processes.keepLogs(domain.places, directory);
      const coreBytes = core ? await this.keepCore(domain, directory) : 0;
      const crash: Crash = { id, domid, name, uuid, atMs: world.clock.wallMs(), exit, coreBytes };
      writeDurable(join(directory, 'crash.json'), crash, world.files);
      this.all.set(id, crash);
      log.info({ domid, name, directory, coreBytes }, 'what a guest left is kept');
      this.makeRoom(uuid);
    } catch (error) {
      log.error({ domid, name, error: (error as Error).message }, 'what a guest left cannot be kept');
      this.remove(directory);
    }
  }

  /** Writes its core. Returns its length; 0 if none could be written. */
  private async keepCore(domain: HostedDomain, directory: string): Promise<number> {
    const { world, log } = this.context;
    const { ofPage, besides } = CORE_OVERHEAD;
    const most = domain.state.memoryKib * 1024 + (domain.state.memoryKib / 4) * ofPage + besides;
    try {
      return await dumpCore(world, domain, join(directory, 'core'), most);
    } catch (error) {
      log.error({ domid: domain.domid, error: (error as Error).message }, 'no core of a guest is written');
      return 0;
    }
  }

  private makeRoom(uuid: string): void {
    const crashes = this.list();
    const ofGuest = crashes.filter((one) => one.uuid === uuid);
    const gone = new Set([...ofGuest.slice(0, -MOST_OF_GUEST), ...crashes.slice(0, -MOST_CRASHES)]);
    // The newest core stays, whatever its length.
    let left = this.context.config.coresMib * MIB;
    for (const [i, one] of [...crashes].reverse().entries()) {
      left -= one.coreBytes;
      if (left < 0 && one.coreBytes > 0 && i > 0) gone.add(one);
    }
    for (const { id } of gone) {
      this.remove(this.directory(id));
      this.all.delete(id);
    }
  }
}
