/**
 * All domains of this host: creates them, finds them by id, name or uuid, and takes up those of an earlier daemon. As in Xen, domain ids only rise, and start again from 1 after the greatest.
 */
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { HostImages, IncomingImage } from '../../host/images.js';
import type { HostGrant, HostPlatform, ToolstackStore } from '../../host/platform.js';
import { sleep } from '../../os/clock.js';
import { readOrSetAside, removeUnfinished, syncDirectory, writeDurable } from '../../os/durable.js';
import type { DomainChange, DomainEvent } from '../../protocol/control.js';
import { Failure } from '../../protocol/failure.js';
import { checkGuestConfig, disksOf, type GuestConfig } from '../../protocol/guest-config.js';
import type { GuestHello, ReceivedInfo } from '../../protocol/guest-process.js';
import { isDomainId, nameFault, quotedName } from '../../protocol/name.js';
import { codeInPlace, type GuestCode } from '../code-store.js';
import type { HostConfig } from '../host-config.js';
import type { World } from '../world.js';
import { Autostart, LIVES } from './autostart.js';
import { Crashes } from './crashes.js';
import { type Definition, Definitions } from './definitions.js';
import { DomainDevices } from './domain-devices.js';
import { DomainEnds, type MoveWatcher, type Replaced } from './domain-ends.js';
import { DomainFiles, mustBeWanted } from './domain-files.js';
import { DomainEvents } from './events.js';
import { type DomainHooks, HostedDomain, type HostedDomainState, type IncomingRef } from './hosted-domain.js';
import { mustHaveRoom } from './room.js';
import type { ProcessPlaces } from './spawn.js';
import { readDomids, readState } from './state-files.js';

export interface NewDomain {
  readonly name: string;
  readonly uuid: string;
  readonly vcpus: number;
  readonly memoryKib: number;
  readonly config: GuestConfig | null;
  readonly incoming: IncomingRef | null;
  /** As in DomainState. */
  readonly defined?: HostedDomainState['defined'];
  /** The domain from which its guest moves, on this host: until the guest is here, both have its name. */
  readonly movesFrom?: number;
  /** An ended domain which this one replaces. */
  readonly replaces?: number;
  /** Images for the disks that arrive with the guest. */
  readonly disks?: readonly IncomingImage[];
  /** As in DomainState. */
  readonly foreign?: readonly string[];
  /** The guest is restored from a file. */
  readonly saved?: boolean;
  /** It is made also if the host has not the memory for it. */
  readonly overcommit?: boolean;
}

export interface DomainsOptions {
  readonly world: World;
  readonly dir: string;
  readonly config: HostConfig;
  readonly platform: HostPlatform;
  readonly log: Logger;
  /** Start guests' processes also if they cannot be confined. */
  readonly unconfined: boolean;
  /** Default: the installed package. */
  readonly code?: GuestCode;
}

/** Throws if this is not a valid name for a guest. */
export function checkName(name: unknown): void {
  const fault = nameFault(name);
  if (fault !== undefined) throw new Failure('usage', fault);
}

const isNewer = (one: HostedDomainState, other: HostedDomainState): boolean =>
  (one.generation ?? 0) > (other.generation ?? 0);

/** Time between two attempts to reach a process that does not answer, ms. */
const RETRY_MS = 2_000;
/** Time between two checks of how much disk space guests' processes use, ms. */
const LOOK_AFTER_MS = 2_000;
/** How much a process may keep in its own directory. Most of what it needs is the log of the console. */
const MOST_DIRECTORY_BYTES = 256 << 20;
const MOST_NAMES = 1_000;
/** Fails if one part of an incoming guest names another guest than the one that was announced. */
export function mustBeOf(
  found: { readonly name: string; readonly uuid: string },
  announced: { readonly name: string; readonly uuid: string },
  where: string,
): void {
  for (const field of ['name', 'uuid'] as const) {
    if (found[field] !== announced[field])
      throw new Failure(
        'bad-image',
        `${where} is of a guest with the ${field} ${quotedName(found[field])}; ${quotedName(announced[field])} was announced`,
      );
  }
}

export class Domains {
  readonly all = new Map<number, HostedDomain>();
  readonly events = new DomainEvents();
  moves: MoveWatcher | undefined;
  /** Numbers of domains whose state files cannot be read: their files are left as they are. */
  private readonly unreadable = new Set<number>();
  private nextDomid: number;
  private generation: number;
  private readonly hooks: DomainHooks = {
    ended: (domain, exit) => this.ends.ended(domain, exit),
    store: (domain, nodes) => this.devices.write(domain, nodes),
    unplugged: (domain, kind, devid) => this.devices.unplugged(domain, kind, devid),
    processEnded: ({ domid, state }, how, lastWords) =>
      this.log.info({ domid, name: state.name, pid: state.process?.pid, how, lastWords }, 'process ended'),
    odd: (domain, what) => this.log.warn({ domid: domain.domid, what }, "a guest's process says nonsense"),
    stopping: async (domain) => this.moves?.stopping(domain),
  };

  readonly world: World;
  readonly dir: string;
  readonly hostName: string;
  readonly config: HostConfig;
  readonly platform: HostPlatform;
  readonly store: ToolstackStore;
  readonly images: HostImages;
  readonly log: Logger;
  readonly files: DomainFiles;
  readonly devices: DomainDevices;
  readonly ends: DomainEnds;
  /** The code of guests' processes that this daemon starts. */
  readonly code: GuestCode;
  readonly crashes: Crashes;
  readonly definitions: Definitions;
  readonly autostart: Autostart;

  constructor(private readonly options: DomainsOptions) {
    const { world, dir, config, platform, log } = options;
    this.world = world;
    this.dir = dir;
    this.hostName = platform.identity.name;
    this.config = config;
    this.platform = platform;
    this.store = platform.toolstackStore;
    this.images = platform.images;
    this.log = log;
    this.files = new DomainFiles(this);
    this.devices = new DomainDevices(this, this.files);
    this.code = options.code ?? codeInPlace;
    this.crashes = new Crashes(this);
    this.definitions = new Definitions(this);
    this.autostart = new Autostart({
      world,
      dir,
      definitions: this.definitions,
      log,
      hindrance: (uuid) => this.hindrance(uuid),
      start: (definition) => this.start(definition, false),
    });
    this.ends = new DomainEnds(this, this.files, this.devices);
    world.files.makePassable(dir);
    world.files.makePassable(join(dir, 'guests'));
    world.files.makeDirectory(join(dir, 'state'), 0o700);
    const counters = this.read('domids.json', readDomids);
    this.nextDomid = counters?.next ?? platform.domids.first;
    this.generation = counters?.generation ?? 0;
  }

  /** The content of one of the daemon's own files; a file that cannot be read is set aside. */
  read<T>(name: string, read: (value: unknown) => T): T | undefined {
    const damaged = (message: string): void => this.log.error({ file: name }, message);
    return readOrSetAside(join(this.dir, name), read, damaged, this.world.files);
  }

  /** This host's true wall-clock time, ns since 1970. */
  wallClock(): number {
    return this.platform.clock.wallClock();
  }

  private domid(): number {
    const after = (domid: number): number => (domid >= this.platform.domids.last ? 1 : domid + 1);
    let domid = this.nextDomid;
    while (this.all.has(domid) || this.unreadable.has(domid)) domid = after(domid);
    this.nextDomid = after(domid);
    this.generation++;
    const counters = { next: this.nextDomid, generation: this.generation };
    writeDurable(join(this.dir, 'domids.json'), counters, this.world.files);
    return domid;
  }

  private places(domid: number): ProcessPlaces {
    return {
      directory: join(this.dir, 'guests', String(domid)),
      log: join(this.dir, 'logs', `${domid}.log`),
      socket: join(this.dir, 'sockets', String(domid)),
      uid: this.files.uidOf(domid),
    };
  }

  private domain(state: HostedDomainState): HostedDomain {
    const domain = new HostedDomain(
      state,
      this.places(state.domid),
      join(this.dir, 'state', `${state.domid}.json`),
      this.hooks,
      this.world,
    );
    this.all.set(state.domid, domain);
    this.generation = Math.max(this.generation, state.generation ?? 0);
    return domain;
  }

  /** Sends an event about a change of a domain to all who listen. */
  changed(domain: HostedDomain, change: DomainChange, details: Partial<DomainEvent> = {}): void {
    const { domid, name, uuid } = domain.state;
    this.events.tell({ change, domid, name, uuid, ...details });
  }

  /** Finds a domain by id, name or uuid. `called`: the name to use in an error message. */
  find(reference: string, called = reference): HostedDomain {
    if (isDomainId(reference)) {
      const domain = this.all.get(Number(reference));
      if (domain !== undefined) return domain;
    } else {
      // A guest that moves within this host has two domains for a while: it is where it lives.
      let found: HostedDomain | undefined;
      for (const domain of this.all.values()) {
        const { name, uuid } = domain.state;
        if (reference !== name && reference !== uuid) continue;
        if (found === undefined || this.lives(domain, found)) found = domain;
      }
      if (found !== undefined) return found;
    }
    throw this.missing(called);
  }

  /**
   * Of two domains of one guest, true if the guest has moved into this one from the other. (Of a guest that reboots, the
   * older one counts until the new one runs.)
   */
  private lives({ state }: HostedDomain, { state: other }: HostedDomain): boolean {
    const came = state.incoming !== null && (state.phase === 'live' || state.phase === 'ended');
    return came && isNewer(state, other);
  }

  missing(called: string): Failure {
    return new Failure('no-such-guest', `there is no domain ${called} on ${this.hostName}`);
  }

  isHere(domain: HostedDomain): boolean {
    return this.all.get(domain.domid) === domain;
  }

  /** Fails if another guest than this one has the name. */
  nameMustBeFree(name: string, uuid: string): void {
    for (const { state } of this.all.values())
      if (state.name === name && state.uuid !== uuid)
        throw new Failure('name-taken', `a domain has the name ${name}`);
    this.definitions.mustBeFree(name, uuid, this.hostName);
  }

  /** The domain of a guest, in whatever state. */
  ofGuest(uuid: string): HostedDomain | undefined {
    const key = uuid.toLowerCase();
    const all = [...this.all.values()].filter(({ state }) => state.uuid.toLowerCase() === key);
    return all.reduce<HostedDomain | undefined>(
      (found, one) => (found === undefined || this.lives(one, found) ? one : found),
      undefined,
    );
  }

  /** Why a guest that is known here cannot be started now; undefined if it can. */
  private hindrance(uuid: string): string | undefined {
    const domain = this.ofGuest(uuid);
    if (domain === undefined)
      return this.moves?.concerns(uuid) === true ? 'where it lives is not settled' : undefined;
    const { domid, phase } = domain.state;
    const lives = phase === 'live' && domain.recovering === undefined && !domain.leaving && domain.alive;
    return lives ? LIVES : `domain ${domid} of it is ${phase === 'live' ? 'ending' : phase}`;
  }

  /** Starts a guest that is known here and does not run. */
  start(definition: Definition, paused: boolean, overcommit = false): Promise<HostedDomain> {
    const { config, foreign, saved, uuid } = definition;
    const why = this.hindrance(uuid);
    if (why !== undefined) throw new Failure('bad-state', `${config.name} cannot be started: ${why}`);
    if (saved !== undefined)
      throw new Failure('bad-state', `${config.name} is in the file ${saved}; restore it`);
    return this.create(config, paused, { foreign, overcommit });
  }

  /** Fails with `no-room` if there is none for another configuration in the place of a domain. */
  mustHaveRoomInstead(domain: HostedDomain, { vcpus, maxMemoryKib }: GuestConfig): void {
    const others = [...this.all.values()].filter((one) => one !== domain).map(({ state }) => state);
    const { totalKib, availableKib } = this.world.memory();
    const memory = { totalKib, availableKib: availableKib + domain.state.memoryKib };
    mustHaveRoom({ vcpus, memoryKib: maxMemoryKib }, others, this.config, memory, false);
  }

  private mustHaveRoom(wanted: NewDomain): void {
    const others = [...this.all.values()]
      .filter(({ domid }) => domid !== wanted.movesFrom)
      .map(({ state }) => state);
    mustHaveRoom(wanted, others, this.config, this.world.memory(), wanted.overcommit === true);
  }

  /** Creates a domain and its process, without a guest so far. `prepare` runs before the process starts. */
  async make(wanted: NewDomain, prepare?: (domain: HostedDomain) => Promise<void>): Promise<HostedDomain> {
    const { name, uuid } = wanted;
    checkName(name);
    for (const domain of this.all.values()) {
      if (domain.domid === wanted.replaces || domain.domid === wanted.movesFrom) continue;
      if (domain.state.name === name || domain.state.uuid === uuid) {
        throw new Failure(
          'name-taken',
          `domain ${domain.domid} on ${this.hostName} has the ${domain.state.name === name ? `name ${name}` : `uuid ${uuid}`}`,
        );
      }
    }
    this.definitions.mustBeFree(name, uuid, this.hostName);
    // A guest that reboots has its room.
    if (wanted.replaces === undefined) this.mustHaveRoom(wanted);
    const domid = this.domid();
    const { saved, overcommit: _, movesFrom: __, ...kept } = wanted;
    const domain = this.domain({
      ...kept,
      domid,
      generation: this.generation,
      process: null,
      createdMs: this.world.clock.wallMs(),
      code: this.code.key === '' ? undefined : this.code.key,
      phase: wanted.incoming === null ? 'building' : 'incoming',
      exit: null,
      ...this.platform.allocate(domid),
    });
    this.changed(domain, wanted.incoming === null ? 'building' : 'incoming');
    const coming = wanted.incoming !== null || saved === true;
    try {
      this.world.files.removeTree(domain.directory);
      // The state file is written before anything is created for the domain, so that nothing exists without a record.
      domain.save();
      await prepare?.(domain);
      mustBeWanted(domain);
      const { places } = domain;
      domain.state.process = await this.world.processes.start({
        places,
        runner: this.config.runner,
        code: this.code,
        // An arriving guest has its kernel in its memory.
        kernel: coming ? '' : this.files.kernelPath(wanted.config?.kernel),
        ramdisk: coming ? '' : this.files.kernelPath(wanted.config?.ramdisk),
        kernelFolders: this.files.kernelFolders(wanted),
        memoryLimitKib: wanted.memoryKib + this.config.guestOverheadMib * 1024,
        confined: {
          dir: this.dir,
          config: this.config,
          uid: places.uid,
          platform: this.platform,
          disks: wanted.config === null ? undefined : disksOf(wanted.config.devices),
          images: (wanted.disks ?? []).map(({ path }) => path),
          unconfined: this.options.unconfined,
          code: this.code.root,
        },
        yielding: wanted.incoming !== null,
      });
      mustBeWanted(domain);
      domain.save();
      await domain.connect();
      this.tellConfinement(domain);
      return domain;
    } catch (error) {
      await this.ends.abandon(domain, 'failed');
      throw error;
    }
  }

  /**
   * Logs the protections that could not be applied to its process. The process reports them before it runs anything
   * else.
   */
  private tellConfinement(domain: HostedDomain): void {
    for (const line of this.world.processes.confinement(domain.places))
      this.log.warn({ domid: domain.domid }, line);
  }

  /** Creates a guest from its configuration and starts it. `replaced`: what is kept of a domain that it replaces. */
  async create(config: GuestConfig, paused: boolean, replaced: Replaced = {}): Promise<HostedDomain> {
    this.files.checkFiles(config, replaced.foreign ?? []);
    const { name, uuid, vcpus, maxMemoryKib } = config;
    const memoryKib = maxMemoryKib;
    const domain = await this.make({ name, uuid, vcpus, memoryKib, config, incoming: null, ...replaced });
    try {
      await this.introduce(domain, config);
      await domain.ask('create', { config, host: this.grant(domain), paused });
      this.settle(domain);
      await this.files.keepDisks(domain);
      return domain;
    } catch (error) {
      await this.ends.discard(domain, 'failed');
      throw error;
    }
  }

  /** Records that the domain's guest is here and ours. */
  settle(domain: HostedDomain): void {
    const begins = domain.state.phase === 'building' || domain.state.phase === 'incoming';
    if (domain.state.phase !== 'ended') domain.state.phase = 'live';
    if (begins) this.changed(domain, 'live');
    this.files.settleImages(domain);
    domain.save();
    this.ends.lives(domain);
    this.log.info({ domid: domain.domid, name: domain.state.name }, 'domain lives');
  }

  /**
   * Accepts a configuration that arrived in a stream, if the source's daemon sent none. It is treated as foreign.
   * Fails if it belongs to another guest than the one announced, or names files that this host does not allow.
   */
  takeConfig(domain: HostedDomain, given: unknown): void {
    const { state } = domain;
    const config = checkGuestConfig(given, 'bad-image');
    mustBeOf(config, state, "the stream's configuration");
    const foreign = this.files.namedFiles(config);
    this.files.checkFiles(config, foreign);
    state.config = config;
    state.vcpus = config.vcpus;
    state.foreign = foreign;
  }

  /** A guest's process has received a whole guest. */
  arrived(domain: HostedDomain, guest: ReceivedInfo): void {
    mustBeOf(guest, domain.state, 'what was received');
    if (domain.state.config === null) this.takeConfig(domain, guest.config);
  }

  grant(domain: HostedDomain): HostGrant {
    const { domid, storePort, consolePort, storeFrame, consoleFrame } = domain.state;
    const { kind, settings, identity } = this.platform;
    const outer = { storePort, consolePort, storeFrame, consoleFrame };
    return { platform: kind, settings, name: identity.name, domid, ...outer };
  }

  /** Gives the domain its disks and its nodes in the host's xenstore, before its process is told to start. */
  async introduce(domain: HostedDomain, config: GuestConfig): Promise<void> {
    await this.files.giveDisks(domain, config.devices);
    this.devices.show(domain, config);
  }

  /**
   * Completes reboots that an earlier daemon did not finish: keeps the newer domain if it runs, else the older one,
   * which is restarted. Returns the domains that remain.
   */
  private async finishReboots(found: readonly HostedDomain[]): Promise<HostedDomain[]> {
    const gone = new Set<HostedDomain>();
    for (const domain of found) {
      const old = found.find((other) => other.domid === domain.state.replaces);
      const pair = old?.state.uuid === domain.state.uuid && isNewer(domain.state, old.state);
      if (old === undefined || !pair) continue;
      const loser = domain.state.phase === 'building' ? domain : old;
      gone.add(loser);
      await this.ends.abandon(loser, loser === old ? 'destroyed' : 'failed');
    }
    return found.filter((domain) => !gone.has(domain));
  }

  /** Reads what an earlier daemon left on disk. No process is contacted; the loser of an unfinished reboot is ended. */
  async recover(): Promise<HostedDomain[]> {
    const found: HostedDomain[] = [];
    const { files } = this.world;
    removeUnfinished(this.dir, files);
    this.crashes.recover();
    this.definitions.recover();
    this.autostart.recover();
    removeUnfinished(join(this.dir, 'state'), files);
    // An earlier daemon may have died between the removal of a record and its way to the disk. This one acts on what it
    // finds, so a power failure must not bring that record back.
    syncDirectory(join(this.dir, 'state'), files);
    for (const file of files.list(join(this.dir, 'state'))) {
      if (!/^\d+\.json$/.test(file)) continue;
      const state = this.read(join('state', file), (value) => readState(value, Number.parseInt(file, 10)));
      if (state !== undefined) found.push(this.domain(state));
    }
    const damaged = new Set(files.list(join(this.dir, 'state')).map((file) => Number.parseInt(file, 10)));
    for (const number of damaged) if (!this.all.has(number)) this.unreadable.add(number);
    this.generation = Math.max(this.generation, ...found.map(({ state }) => state.generation ?? 0));
    // A directory without a state file belongs to a process that was never told anything, or was left by an
    // unfinished removal.
    for (const name of files.list(join(this.dir, 'guests'))) {
      if (this.all.has(Number(name)) || damaged.has(Number(name))) continue;
      const path = join(this.dir, 'guests', name);
      try {
        files.removeTree(path);
      } catch (error) {
        this.log.warn({ path, error: (error as Error).message }, 'cannot be removed');
      }
    }
    return this.finishReboots(found);
  }

  /**
   * Adopts a domain whose guest is ours: connects to its process and writes its xenstore nodes, or applies the policy
   * for its end. It keeps trying for as long as the process does not answer. Resolves with the process's greeting if
   * it is alive.
   */
  async adopt(domain: HostedDomain): Promise<GuestHello | undefined> {
    const { config } = domain.state;
    // Its process already has its disks.
    if (config !== null) this.devices.show(domain, config);
    let hello: GuestHello | undefined;
    for (let attempt = 0; hello === undefined; attempt++) {
      if (this.all.get(domain.domid) !== domain) return undefined;
      if (domain.state.exit !== null || !domain.alive) {
        this.ends.ended(domain, domain.state.exit ?? domain.exitOnDisk());
        return undefined;
      }
      try {
        hello = domain.rpc === undefined ? await domain.connect() : await domain.ask('hello', {});
      } catch (error) {
        if (attempt === 0)
          this.log.error(
            { domid: domain.domid, name: domain.state.name, error: (error as Error).message },
            'the process of a guest does not answer; it is asked again, and `destroy` ends it',
          );
        await sleep(this.world.clock, RETRY_MS);
      }
    }
    if (hello.phase === 'ended') {
      this.ends.ended(domain, domain.exitOnDisk());
      return hello;
    }
    if (domain.state.config === null && hello.config !== null) {
      this.takeConfig(domain, hello.config);
      this.devices.show(domain, domain.state.config!);
    }
    this.settle(domain);
    await this.devices
      .findUnplugged(domain)
      .catch((error: Error) =>
        this.log.warn({ domid: domain.domid, error: error.message }, 'which devices it has is not known'),
      );
    return hello;
  }

  /** The directories of code that domains of this host use; undefined if that is not known of all. */
  usedCode(): ReadonlySet<string> | undefined {
    if (this.unreadable.size > 0) return undefined;
    return new Set([this.code.key, ...[...this.all.values()].map(({ state }) => state.code ?? '')]);
  }

  /** Checks periodically what guests' processes leave on the disk. */
  watchDisk(): () => void {
    const watch = this.world.clock.every(LOOK_AFTER_MS, () => {
      for (const domain of this.all.values()) this.lookAfter(domain);
    });
    return () => watch.cancel();
  }

  private lookAfter(domain: HostedDomain): void {
    const lent = (domain.state.config?.devices ?? []).map(({ devid }) =>
      this.images.lentFile(domain.directory, devid),
    );
    const { bytes, names } = this.world.processes.lookAfter(domain.places, MOST_NAMES, new Set(lent));
    if (bytes <= MOST_DIRECTORY_BYTES && names <= MOST_NAMES) return;
    this.log.error(
      { domid: domain.domid, name: domain.state.name, bytes, names },
      "a guest's process fills its directory, and is ended",
    );
    void domain.kill();
  }
}
