/**
 * All domains of this host: creates them, finds them by id, name or uuid, and applies on_poweroff, on_reboot and
 * on_crash. As in Xen, domain ids only rise, and start again from 1 after the greatest.
 */
import { join } from 'node:path';
import type { Logger } from 'pino';
import { DEVICE_KINDS } from '../../helper/device-kinds.js';
import type { DeviceConfig } from '../../helper/devices.js';
import type {
  GivenAccess,
  HostImages,
  ImageUser,
  IncomingImage,
  TravellingImage,
} from '../../host/images.js';
import type { DomainRelay, HostGrant, HostPlatform, ToolstackStore } from '../../host/platform.js';
import { sleep } from '../../os/clock.js';
import { readOrSetAside, removeUnfinished, syncDirectory, writeDurable } from '../../os/durable.js';
import { mustBeMapped, pathHere } from '../../os/folder-map.js';
import { within } from '../../os/within.js';
import type { DomainChange, DomainEvent } from '../../protocol/control.js';
import { Failure } from '../../protocol/failure.js';
import { checkGuestConfig, disksOf, type GuestConfig } from '../../protocol/guest-config.js';
import type { GuestExit, GuestHello, ReceivedInfo } from '../../protocol/guest-process.js';
import { isDomainId, nameFault, quotedName } from '../../protocol/name.js';
import type { HostConfig } from '../host-config.js';
import { Seldom } from '../seldom.js';
import type { World } from '../world.js';
import { DomainEvents } from './events.js';
import { type DomainHooks, HostedDomain, type HostedDomainState, type IncomingRef } from './hosted-domain.js';
import type { ProcessPlaces } from './spawn.js';
import { readDomids, readState } from './state-files.js';

/** How hand-overs take part when one of their domains ends; see moves.ts. */
export interface MoveWatcher {
  /**
   * True if the domain is being handed over: then its end is not a crash, and the hand-over deals with what remains.
   */
  ended(domain: HostedDomain, exit: GuestExit): boolean;
  stopping(domain: HostedDomain): Promise<void>;
  /** The domain's files are about to be removed. */
  removing(domain: HostedDomain): void;
}

export interface NewDomain {
  readonly name: string;
  readonly uuid: string;
  readonly vcpus: number;
  readonly memoryKib: number;
  readonly config: GuestConfig | null;
  readonly incoming: IncomingRef | null;
  /** An ended domain which this one replaces. */
  readonly replaces?: number;
  /** Images for the disks that arrive with the guest. */
  readonly disks?: readonly IncomingImage[];
  /** As in DomainState. */
  readonly foreign?: readonly string[];
  /** The guest is restored from a file. */
  readonly saved?: boolean;
}

export interface DomainsOptions {
  readonly world: World;
  readonly dir: string;
  readonly config: HostConfig;
  readonly platform: HostPlatform;
  readonly log: Logger;
  /** Start guests' processes also if they cannot be confined. */
  readonly unconfined: boolean;
}

/** A guest that ends and restarts faster than this counts as broken, not as rebooting. */
const LEAST_LIFE_MS = 1_000;
/**
 * Time between two attempts to restart a guest, for example while there is not enough memory or its kernel is
 * missing: the first interval and the longest.
 */
const RESTART_RETRY_MS = [1_000, 60_000] as const;
/** How long a guest may take to release a device; it may have to write much data back to a disk. */
const DETACH_TIMEOUT_S = 30;
/** How long a guest's process may take to list its devices. */
const LOOK_MS = 10_000;
/** How long the file system may take when the daemon takes back a guest's access to files. */
const TAKE_BACK_MS = 5_000;

/** Throws if this is not a valid name for a guest. */
export function checkName(name: unknown): void {
  const fault = nameFault(name);
  if (fault !== undefined) throw new Failure('usage', fault);
}

/** The files in a configuration that are not disks. */
const kernelsOf = ({ kernel, ramdisk }: GuestConfig): string[] =>
  [kernel, ramdisk].filter((path) => path !== '');
const isNewer = (one: HostedDomainState, other: HostedDomainState): boolean =>
  (one.generation ?? 0) > (other.generation ?? 0);

/** Time between two attempts to reach a process that does not answer, ms. */
const RETRY_MS = 2_000;
/** Time between two checks of how much disk space guests' processes use, ms. */
const LOOK_AFTER_MS = 2_000;
/** How much a process may keep in its own directory. Most of what it needs is the log of the console. */
const MOST_DIRECTORY_BYTES = 256 << 20;
const MOST_NAMES = 1_000;
/**
 * Fails if a domain was ended while it was being created: what is created for it from here on would never be removed.
 */
function mustBeWanted({ leaving, state }: HostedDomain): void {
  if (leaving) throw new Failure('no-such-guest', `domain ${state.name} was ended meanwhile`);
}

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
  private readonly relays = new Map<HostedDomain, DomainRelay>();
  private readonly refusals: Seldom;
  /** Numbers of domains whose state files cannot be read: their files are left as they are. */
  private readonly unreadable = new Set<number>();
  private nextDomid: number;
  private generation: number;
  private readonly hooks: DomainHooks = {
    ended: (domain, exit) => this.ended(domain, exit),
    store: (domain, nodes) => {
      const refused = this.relays.get(domain)?.write(nodes) ?? [];
      if (refused.length > 0 && this.refusals.allows())
        this.log.warn({ domid: domain.domid, refused: refused.slice(0, 8) }, 'nodes refused by the host');
    },
    unplugged: (domain, kind, devid) => this.unplugged(domain, kind, devid),
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

  constructor(private readonly options: DomainsOptions) {
    const { world, dir, config, platform, log } = options;
    this.world = world;
    this.refusals = new Seldom(world.clock);
    this.dir = dir;
    this.hostName = platform.identity.name;
    this.config = config;
    this.platform = platform;
    this.store = platform.toolstackStore;
    this.images = platform.images;
    this.log = log;
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

  private within<T>(what: Promise<T>, ms: number, words: string): Promise<T> {
    return within(what, ms, words, this.world.clock);
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
      uid: this.uidOf(domid),
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
  changed(domain: HostedDomain, change: DomainChange, more: Partial<DomainEvent> = {}): void {
    const { domid, name, uuid } = domain.state;
    this.events.tell({ change, domid, name, uuid, ...more });
  }

  /** Finds a domain by id, name or uuid. `called`: the name to use in an error message. */
  find(reference: string, called = reference): HostedDomain {
    if (isDomainId(reference)) {
      const domain = this.all.get(Number(reference));
      if (domain !== undefined) return domain;
    } else {
      for (const domain of this.all.values()) {
        const { name, uuid } = domain.state;
        if (reference === name || reference === uuid) return domain;
      }
    }
    throw this.missing(called);
  }

  missing(called: string): Failure {
    return new Failure('no-such-guest', `there is no domain ${called} on ${this.hostName}`);
  }

  nameIsFree(name: string): boolean {
    return ![...this.all.values()].some((domain) => domain.state.name === name);
  }

  /** Creates a domain and its process, without a guest so far. `prepare` runs before the process starts. */
  async make(wanted: NewDomain, prepare?: (domain: HostedDomain) => Promise<void>): Promise<HostedDomain> {
    const { name, uuid } = wanted;
    checkName(name);
    for (const domain of this.all.values()) {
      if (domain.domid === wanted.replaces) continue;
      if (domain.state.name === name || domain.state.uuid === uuid) {
        throw new Failure(
          'name-taken',
          `domain ${domain.domid} on ${this.hostName} has the ${domain.state.name === name ? `name ${name}` : `uuid ${uuid}`}`,
        );
      }
    }
    const domid = this.domid();
    const { saved, ...kept } = wanted;
    const domain = this.domain({
      ...kept,
      domid,
      generation: this.generation,
      process: null,
      createdMs: this.world.clock.wallMs(),
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
        // An arriving guest has its kernel in its memory.
        kernel: coming ? '' : this.kernelPath(wanted.config?.kernel),
        ramdisk: coming ? '' : this.kernelPath(wanted.config?.ramdisk),
        kernelFolders: this.kernelFolders(wanted),
        memoryLimitKib: wanted.memoryKib + this.config.guestOverheadMib * 1024,
        confined: {
          dir: this.dir,
          config: this.config,
          uid: places.uid,
          platform: this.platform,
          disks: wanted.config === null ? undefined : disksOf(wanted.config.devices),
          images: (wanted.disks ?? []).map(({ path }) => path),
          unconfined: this.options.unconfined,
        },
        yielding: wanted.incoming !== null,
      });
      mustBeWanted(domain);
      domain.save();
      await domain.connect();
      this.tellConfinement(domain);
      return domain;
    } catch (error) {
      await this.abandon(domain, 'failed');
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

  /** The files in a foreign configuration that checkFiles has to check later. */
  namedFiles(config: GuestConfig): string[] {
    return [...kernelsOf(config), ...this.images.named(disksOf(config.devices))];
  }

  /** Fails if a file that was not named by an operator of this host is outside the folders that this host allows. */
  private checkFiles(config: GuestConfig, foreign: readonly string[]): void {
    const { kernels } = this.config;
    for (const path of kernelsOf(config))
      if (foreign.includes(path)) mustBeMapped(path, kernels, 'kernels', this.world.files);
    this.images.check(disksOf(config.devices), foreign);
  }

  /** Fails if a file that no operator named, or a backing file of such an image, is outside the allowed folders. */
  async admit(config: GuestConfig, foreign: readonly string[]): Promise<void> {
    this.checkFiles(config, foreign);
    for (const disk of disksOf(config.devices)) {
      const looked = this.images.checkBeneath(disk, foreign);
      await this.within(looked, this.config.moveAnswerS * 1000, `disk ${disk.target} does not answer`);
    }
  }

  private kernelPath(path = ''): string {
    return pathHere(path, this.config.kernels);
  }

  private kernelFolders({ config, foreign = [] }: NewDomain): readonly string[] | undefined {
    const named = foreign.some((path) => path === config?.kernel || path === config?.ramdisk);
    return named ? Object.values(this.config.kernels) : undefined;
  }

  /** Creates a guest from its configuration and starts it. `more`: what is kept of a domain that it replaces. */
  async create(
    config: GuestConfig,
    paused: boolean,
    more: Pick<NewDomain, 'foreign' | 'replaces'> = {},
  ): Promise<HostedDomain> {
    this.checkFiles(config, more.foreign ?? []);
    const { name, uuid, vcpus, maxMemoryKib } = config;
    const memoryKib = maxMemoryKib;
    const domain = await this.make({ name, uuid, vcpus, memoryKib, config, incoming: null, ...more });
    try {
      await this.introduce(domain, config);
      await domain.ask('create', { config, host: this.grant(domain), paused });
      this.settle(domain);
      await this.keepDisks(domain);
      return domain;
    } catch (error) {
      await this.discard(domain, 'failed');
      throw error;
    }
  }

  /**
   * The images that came with it are its own. Done before its hand-over is forgotten: by that alone is known, when nothing
   * else of it is left, whether images that it came with are a guest's or are to be removed.
   */
  settleImages(domain: HostedDomain): void {
    this.images.settle(domain.state.disks ?? []);
    domain.state.disks = [];
  }

  /** Records that the domain's guest is here and ours. */
  settle(domain: HostedDomain): void {
    const begins = domain.state.phase === 'building' || domain.state.phase === 'incoming';
    if (domain.state.phase !== 'ended') domain.state.phase = 'live';
    if (begins) this.changed(domain, 'live');
    this.settleImages(domain);
    domain.save();
    this.log.info({ domid: domain.domid, name: domain.state.name }, 'domain lives');
  }

  /** User id of a domain's process; undefined if it is the daemon's own. */
  uidOf(domid: number): number | undefined {
    return this.world.processes.haveOwnUsers ? this.config.guestUid + domid : undefined;
  }

  /** How the domain's process gets access to images; undefined if it has the daemon's user. */
  private imageUser(domain: HostedDomain): ImageUser | undefined {
    const { foreign = [], grants: given = [] } = domain.state;
    const uid = this.uidOf(domain.domid);
    if (uid === undefined) return undefined;
    const record = (all: readonly GivenAccess[]): void => {
      domain.state.grants = all;
      domain.save();
    };
    return { uid, foreign, given, record };
  }

  /**
   * Gives the domain's process access to these disks. If it fails, the error says what is wrong with a disk, and
   * nothing has changed.
   */
  private async giveDisks(domain: HostedDomain, devices: readonly DeviceConfig[]): Promise<void> {
    const { config, foreign = [] } = domain.state;
    // The check is repeated although it was done before: the folders may have changed since.
    if (config !== null) await this.admit({ ...config, devices: [...devices] }, foreign);
    const user = this.imageUser(domain);
    if (user !== undefined) await this.images.give(user, disksOf(devices));
    // It may have been removed while a slow file system answered: then nothing of it may be left.
    if (domain.leaving) await this.takeBack(domain, () => true);
    mustBeWanted(domain);
  }

  /** The same for images that are being filled. */
  async giveImages(domain: HostedDomain, images: readonly IncomingImage[]): Promise<void> {
    const user = this.imageUser(domain);
    if (user !== undefined) await this.images.giveIncoming(user, images);
  }

  /** Makes the access that the domain has its own: no other domain that had the same user id shares it any more. */
  async keepDisks(domain: HostedDomain): Promise<void> {
    const { grants } = domain.state;
    const uid = this.uidOf(domain.domid);
    if (uid === undefined || grants === undefined || grants.length === 0) return;
    const kept = await this.images.keep(uid, grants);
    if (this.all.get(domain.domid) !== domain) return;
    domain.state.grants = kept;
    domain.save();
  }

  /** Takes back some of the access that was given to a domain which stays. */
  private async takeDisks(domain: HostedDomain, which: (given: GivenAccess) => boolean): Promise<void> {
    if (await this.takeBack(domain, which)) domain.save();
  }

  /** Takes back access without recording it, as for a domain that is about to be removed. True if there was any. */
  private async takeBack(domain: HostedDomain, which: (given: GivenAccess) => boolean): Promise<boolean> {
    const { grants = [] } = domain.state;
    const uid = this.uidOf(domain.domid);
    const taken = grants.filter(which);
    if (uid === undefined || taken.length === 0) return false;
    // The server of a file system may hang; then the entry in the access list that stays behind harms nobody.
    const given = this.images.takeBack(uid, taken);
    await this.within(given, TAKE_BACK_MS, 'the files of its disks do not answer').catch((error: Error) =>
      this.log.warn({ domid: domain.domid, error: error.message }, 'disks are not taken back'),
    );
    domain.state.grants = grants.filter((grant) => !taken.includes(grant));
    return true;
  }

  /** Attaches a device to a running guest. As with libxl, its xenstore nodes are written before the guest sees it. */
  async plug(domain: HostedDomain, device: DeviceConfig): Promise<void> {
    const before = domain.state.grants ?? [];
    await this.giveDisks(domain, [device]);
    const [disk] = disksOf([device]);
    const lends = disk !== undefined && domain.places.uid === undefined;
    const at = lends ? this.images.lend(domain.directory, disk) : null;
    this.showDevice(domain.domid, device);
    try {
      await domain.ask('plug', { device, at });
      const { config } = domain.state;
      if (config !== null) domain.keepConfig({ ...config, devices: [...config.devices, device] });
      this.changed(domain, 'devices');
    } catch (error) {
      // A device that the guest has and the daemon has not recorded could never be detached.
      const { kind, devid } = device;
      if (domain.rpc !== undefined)
        await domain.ask('unplug', { kind, devid, force: true, timeoutS: 1 }, LOOK_MS).catch(() => undefined);
      this.store.removeDevice(domain.domid, device.kind, device.devid);
      await this.takeDisks(domain, (given) => !before.includes(given));
      this.takeBackLent(domain, device);
      throw error;
    }
  }

  /** Asks the guest to release a device, or takes it away (`force`). */
  async unplug(domain: HostedDomain, device: DeviceConfig, force: boolean): Promise<void> {
    const { kind, devid } = device;
    await domain.ask('unplug', { kind, devid, force, timeoutS: DETACH_TIMEOUT_S });
    this.unplugged(domain, kind, devid);
  }

  private takeBackLent(domain: HostedDomain, { kind, devid }: DeviceConfig): void {
    if (kind === 'vbd') this.images.takeBackLent(domain.directory, devid);
  }

  /** A device is gone, in time or late: its number is free. */
  private unplugged(domain: HostedDomain, kind: string, devid: number): void {
    const { config } = domain.state;
    const device = config?.devices.find((one) => one.kind === kind && one.devid === devid);
    if (config === null || device === undefined) return;
    this.store.removeDevice(domain.domid, device.kind, device.devid);
    this.takeBackLent(domain, device);
    domain.keepConfig({ ...config, devices: config.devices.filter((one) => one !== device) });
    this.changed(domain, 'devices');
    // A file that lies beneath this disk may also lie beneath another disk of the guest.
    for (const disk of disksOf([device]))
      this.takeDisks(domain, (given) => this.images.isOf(given, disk)).catch((error: Error) =>
        this.log.warn({ domid: domain.domid, error: error.message }, 'what was taken back is not on record'),
      );
  }

  /** Finds the devices that were detached while no daemon was running. */
  private async findUnplugged(domain: HostedDomain): Promise<void> {
    if ((domain.state.config?.devices ?? []).length === 0) return;
    const has = await domain.ask('devices', {}, LOOK_MS);
    for (const { kind, devid } of domain.state.config?.devices ?? [])
      if (!has.some((one) => one.kind === kind && one.devid === devid)) this.unplugged(domain, kind, devid);
  }

  /**
   * Accepts a configuration that arrived in a stream, if the source's daemon sent none. It is treated as foreign.
   * Fails if it belongs to another guest than the one announced, or names files that this host does not allow.
   */
  takeConfig(domain: HostedDomain, given: unknown): void {
    const { state } = domain;
    const config = checkGuestConfig(given, 'bad-image');
    mustBeOf(config, state, "the stream's configuration");
    const foreign = this.namedFiles(config);
    this.checkFiles(config, foreign);
    state.config = config;
    state.vcpus = config.vcpus;
    state.foreign = foreign;
  }

  /**
   * The disks that can travel with a guest, from the daemon's own record; the process is asked only for their sizes.
   */
  async travelling(domain: HostedDomain): Promise<TravellingImage[]> {
    const sizes = await domain.ask('travellingDisks', {}, this.config.moveAnswerS * 1000);
    const { devices = [] } = domain.state.config ?? {};
    return this.images.travelling(disksOf(devices), (devid) => {
      const bytes = sizes.find((disk) => disk.devid === devid)?.bytes;
      if (bytes === undefined || !Number.isSafeInteger(bytes))
        throw new Failure('bad-state', `the guest's process has no disk ${devid}`);
      return bytes;
    });
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

  /** Writes the domain's nodes into the host's xenstore, as libxl does. */
  private show(domain: HostedDomain, config: GuestConfig): void {
    const { domid, uuid, storePort, consolePort, storeFrame, consoleFrame, createdMs } = domain.state;
    const tree = {
      domid,
      name: domain.state.name,
      uuid,
      vcpus: config.vcpus,
      onlineVcpus: config.onlineVcpus ?? config.vcpus,
      staticMaxKib: config.maxMemoryKib,
      targetKib: config.memoryKib,
      storePort,
      storeRingRef: storeFrame,
      consolePort,
      consoleRingRef: consoleFrame,
      consoleTty: '',
      kernel: config.kernel,
      ramdisk: config.ramdisk,
      cmdline: config.cmdline,
      startTime: (createdMs / 1000).toFixed(2),
    };
    this.store.addDomain(tree);
    for (const device of config.devices ?? []) this.showDevice(domid, device);
    this.relays.set(
      domain,
      this.store.relay(domid, (node) => domain.changed(node)),
    );
  }

  private showDevice(domid: number, { kind, devid, spec }: DeviceConfig): void {
    const known = DEVICE_KINDS[kind];
    if (known !== undefined) this.store.addDevice(domid, known.nodes(devid, spec));
  }

  /** Gives the domain its disks and its nodes in the host's xenstore, before its process is told to start. */
  async introduce(domain: HostedDomain, config: GuestConfig): Promise<void> {
    await this.giveDisks(domain, config.devices);
    this.show(domain, config);
  }

  /** Ends a guest for good, also where it has been switched on again as another domain, or is about to be. */
  async destroy(domain: HostedDomain): Promise<void> {
    domain.leaving = true;
    const { domid, state } = domain;
    for (const one of this.all.values())
      if (one === domain || (one.state.replaces === domid && one.state.uuid === state.uuid))
        await this.discard(one, 'destroyed').catch((error: Error) => {
          // The guest has ended, and a record of it would bring it back: this goes on, and the caller learns that it does.
          void this.discardUntilDone(one, 'destroyed');
          const { name } = one.state;
          throw new Failure(
            'io',
            `domain ${name} is ended, but is on record still (${error.message}); it is tried again`,
          );
        });
  }

  /**
   * Records that the guest is in a file from now on; then its domain can be discarded. A daemon that starts in between
   * would otherwise take the end of the process for a crash of the guest. Throws if it cannot be recorded: then the
   * guest is this domain's as before.
   */
  recordSaved(domain: HostedDomain): void {
    domain.state.exit = { reason: 'saved', details: '' };
    try {
      domain.save();
    } catch (error) {
      domain.state.exit = null;
      throw error;
    }
  }

  /** Ends the process and removes all files of a domain. */
  async discard(domain: HostedDomain, reason: GuestExit['reason']): Promise<void> {
    domain.leaving = true;
    await domain.endProcess(reason);
    await this.takeBack(domain, () => true);
    this.forget(domain, reason);
  }

  /**
   * Discards a domain that nothing is to remain of. It never rejects: if that fails at first, it goes on in the
   * background until it is done.
   */
  async abandon(domain: HostedDomain, reason: GuestExit['reason']): Promise<void> {
    try {
      await this.discard(domain, reason);
    } catch (error) {
      const { domid } = domain;
      this.log.error(
        { domid, error: (error as Error).message },
        `a domain that is ${reason} is on record still`,
      );
      void this.discardUntilDone(domain, reason);
    }
  }

  /** Removes its nodes from the host's xenstore, and its relay. */
  private unlist(domain: HostedDomain): void {
    if (!this.relays.delete(domain)) return;
    this.store.removeDomain(domain.domid, domain.state.uuid);
  }

  /**
   * Removes a domain from the tables. This can be called twice: if a domain is ended while it is being created,
   * something may have been created since the first call.
   */
  private forget(domain: HostedDomain, reason: GuestExit['reason']): void {
    const known = this.all.get(domain.domid);
    if (known !== undefined && known !== domain) return;
    if (known !== undefined) this.moves?.removing(domain);
    const { incoming, disks = [] } = domain.state;
    if (incoming !== null && domain.ownedBy(incoming.handover)) this.images.settle(disks);
    else this.images.discard(disks);
    this.unlist(domain);
    domain.remove();
    if (known === undefined) return;
    this.all.delete(domain.domid);
    this.changed(domain, 'gone', { reason });
    this.log.info({ domid: domain.domid, name: domain.state.name }, 'domain is gone');
  }

  private ended(domain: HostedDomain, exit: GuestExit): void {
    domain.state.exit = exit;
    domain.state.phase = 'ended';
    this.changed(domain, 'ended', exit);
    this.log.info({ domid: domain.domid, name: domain.state.name, ...exit }, 'guest ended');
    if (this.moves?.ended(domain, exit) === true) return;
    this.applyPolicy(domain, exit);
  }

  /** Starts what the configuration asks for after such an end. It is not awaited: a guest may have to be restarted. */
  applyPolicy(domain: HostedDomain, exit: GuestExit): void {
    this.followEnd(domain, exit).catch((error: Error) =>
      this.log.error({ domid: domain.domid, error: error.message }, 'what follows the end of a guest failed'),
    );
  }

  private async followEnd(domain: HostedDomain, exit: GuestExit): Promise<void> {
    // Somebody has ended the domain meanwhile: nothing is to follow.
    if (domain.leaving || this.all.get(domain.domid) !== domain) return;
    const { config } = domain.state;
    const wanted =
      exit.reason === 'crash'
        ? config?.onCrash
        : exit.reason === 'reboot'
          ? config?.onReboot
          : exit.reason === 'poweroff'
            ? config?.onPoweroff
            : 'destroy';
    const known = (): boolean => this.all.get(domain.domid) === domain;
    if (wanted === 'preserve')
      await this.untilDone(domain, 'is not on record yet', known, () => domain.save());
    else if (wanted === 'restart' && config !== null) await this.restart(domain, config);
    else await this.discardUntilDone(domain, exit.reason === 'saved' ? 'saved' : 'destroyed');
  }

  /**
   * Restarts the guest as another domain.
   *
   * Invariant: at every moment a record from which the guest can be restarted is on disk: the record of the old
   * domain is removed only after the record of the new one says that it runs. A step that fails is retried; `destroy`
   * of the old domain ends that.
   */
  private async restart(old: HostedDomain, config: GuestConfig): Promise<void> {
    if (old.restarting) return;
    old.restarting = true;
    const { domid } = old;
    const wanted = (): boolean => this.all.get(domid) === old && !old.leaving;
    // The next process will have a different last line.
    await this.untilDone(old, 'is not on record yet', wanted, () => old.save());
    if (!wanted()) return;
    await old.endProcess('destroyed');
    const life = this.world.clock.monotonicMs() - old.since;
    if (life < LEAST_LIFE_MS) await sleep(this.world.clock, LEAST_LIFE_MS - life);
    const again = await this.untilDone(old, 'cannot be switched on again yet', wanted, () => {
      this.unlist(old);
      return this.create(config, false, { foreign: old.state.foreign, replaces: domid });
    });
    if (again === undefined) return;
    if (!wanted()) await this.discardUntilDone(again, 'destroyed');
    else
      await this.untilDone(old, 'is on record still', wanted, async () => {
        await this.takeBack(old, () => true);
        if (wanted()) this.forget(old, 'destroyed');
      });
  }

  /** Ends a domain for good, however often that fails: a full disk, for example, may keep it from being done at once. */
  private async discardUntilDone(domain: HostedDomain, reason: GuestExit['reason']): Promise<void> {
    const known = (): boolean => this.all.get(domain.domid) === domain;
    await this.untilDone(domain, 'is on record still', known, () => this.discard(domain, reason));
  }

  /** Retries `what` until it succeeds or is no longer wanted; then it resolves with undefined. */
  private async untilDone<T>(
    domain: HostedDomain,
    words: string,
    wanted: () => boolean,
    what: () => Promise<T> | T,
  ): Promise<T | undefined> {
    const [first, last] = RESTART_RETRY_MS;
    for (let ms: number = first; wanted(); ms = Math.min(2 * ms, last)) {
      try {
        return await what();
      } catch (error) {
        const { domid } = domain;
        const { name } = domain.state;
        this.log.error({ domid, name, error: (error as Error).message }, `a guest that ended ${words}`);
        await sleep(this.world.clock, ms);
      }
    }
    return undefined;
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
      await this.abandon(loser, loser === old ? 'destroyed' : 'failed');
    }
    return found.filter((domain) => !gone.has(domain));
  }

  /** Reads what an earlier daemon left on disk. No process is contacted; the loser of an unfinished reboot is ended. */
  async recover(): Promise<HostedDomain[]> {
    const found: HostedDomain[] = [];
    const { files } = this.world;
    removeUnfinished(this.dir, files);
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
    if (config !== null) this.show(domain, config);
    let hello: GuestHello | undefined;
    for (let attempt = 0; hello === undefined; attempt++) {
      if (this.all.get(domain.domid) !== domain) return undefined;
      if (domain.state.exit !== null || !domain.alive) {
        this.ended(domain, domain.state.exit ?? domain.exitOnDisk());
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
      this.ended(domain, domain.exitOnDisk());
      return hello;
    }
    if (domain.state.config === null && hello.config !== null) {
      this.takeConfig(domain, hello.config);
      this.show(domain, domain.state.config!);
    }
    this.settle(domain);
    await this.findUnplugged(domain).catch((error: Error) =>
      this.log.warn({ domid: domain.domid, error: error.message }, 'which devices it has is not known'),
    );
    return hello;
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
