/**
 * All domains of this host: makes them, finds them by id, name or uuid, and applies on_poweroff, on_reboot and
 * on_crash. Domain ids only rise, and begin again from 1 after the greatest, as Xen's do.
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
import { readOrSetAside, removeUnfinished, writeDurable } from '../../os/durable.js';
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
import { Domain, type DomainHooks, type DomainState, type IncomingRef } from './domain.js';
import { DomainEvents } from './events.js';
import type { ProcessPlaces } from './spawn.js';
import { readDomids, readState } from './state-files.js';

/** Why the moves of a domain have a word in its end; see moves.ts. */
export interface MoveWatcher {
  /** True if the domain is being handed over: its end is no crash, and what remains is the hand-over's business. */
  ended(domain: Domain, exit: GuestExit): boolean;
  stopping(domain: Domain): Promise<void>;
  /** The domain's traces are about to go. */
  removing(domain: Domain): void;
}

export interface NewDomain {
  readonly name: string;
  readonly uuid: string;
  readonly vcpus: number;
  readonly memoryKib: number;
  readonly config: GuestConfig | null;
  readonly incoming: IncomingRef | null;
  /** A domain that ended, whose place this one takes. */
  readonly replaces?: number;
  /** Images for the disks that come with it. */
  readonly disks?: readonly IncomingImage[];
  /** As DomainState has it. */
  readonly foreign?: readonly string[];
  /** It comes from a file. */
  readonly saved?: boolean;
}

export interface DomainsOptions {
  readonly world: World;
  readonly dir: string;
  readonly config: HostConfig;
  readonly platform: HostPlatform;
  readonly log: Logger;
  /** Guests' processes start also where they cannot be confined. */
  readonly unconfined: boolean;
}

/** A guest that ends and restarts faster than this is broken, not rebooting. */
const LEAST_LIFE_MS = 1_000;
/** Between two attempts to switch a guest on again, which fail for lack of room, or of its kernel: the first, the last. */
const RESTART_RETRY_MS = [1_000, 60_000] as const;
/** How long a guest is given to let go of a device: it may have to write much back to a disk. */
const DETACH_TIMEOUT_S = 30;
/** How long a guest's process may take to tell which devices it has. */
const LOOK_MS = 10_000;
/** How long files may take to answer a daemon that takes them back from a guest. */
const TAKE_BACK_MS = 5_000;

/** Throws where this is no name for a guest, whoever gave it. */
export function checkName(name: unknown): void {
  const fault = nameFault(name);
  if (fault !== undefined) throw new Failure('usage', fault);
}

/** The files of a configuration that are no disks. */
const kernelsOf = ({ kernel, ramdisk }: GuestConfig): string[] =>
  [kernel, ramdisk].filter((path) => path !== '');
const isNewer = (one: DomainState, other: DomainState): boolean =>
  (one.generation ?? 0) > (other.generation ?? 0);

/** Between two attempts to speak to a process that does not answer, ms. */
const RETRY_MS = 2_000;
/** Between two looks at what guests' processes have on the disk, ms. */
const LOOK_AFTER_MS = 2_000;
/** What such a process may have in its own directory: its console's log is most of what it needs. */
const MOST_DIRECTORY_BYTES = 256 << 20;
const MOST_NAMES = 1_000;
/** Fails where a domain was ended while it was being made: nobody would know what is made of it from here on. */
function mustBeWanted({ leaving, state }: Domain): void {
  if (leaving) throw new Failure('no-such-guest', `domain ${state.name} was ended while it was being made`);
}

/** Fails where one part of what came says that it is another guest than that which was announced. */
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
  readonly all = new Map<number, Domain>();
  readonly events = new DomainEvents();
  moves: MoveWatcher | undefined;
  private readonly relays = new Map<Domain, DomainRelay>();
  private readonly refusals: Seldom;
  /** Numbers of domains whose records cannot be read: what they have is left as it is. */
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

  /** What one of our own files has; one that cannot be read is set aside. */
  read<T>(name: string, read: (value: unknown) => T): T | undefined {
    const damaged = (message: string): void => this.log.error({ file: name }, message);
    return readOrSetAside(join(this.dir, name), read, damaged, this.world.files);
  }

  /** This host's true time, ns since 1970. */
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

  private domain(state: DomainState): Domain {
    const domain = new Domain(
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

  /** Tells those who listen what became of a domain. */
  changed(domain: Domain, change: DomainChange, more: Partial<DomainEvent> = {}): void {
    const { domid, name, uuid } = domain.state;
    this.events.tell({ change, domid, name, uuid, ...more });
  }

  /** By domain id, name or uuid; `called`: how people call it. */
  find(reference: string, called = reference): Domain {
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

  /** Makes a domain with its process, in which there is no guest yet. `prepare`: what must be there before that. */
  async make(wanted: NewDomain, prepare?: (domain: Domain) => Promise<void>): Promise<Domain> {
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
      // On disk before anything is made for it, so that nothing of it is ever without a name.
      domain.save();
      await prepare?.(domain);
      mustBeWanted(domain);
      const { places } = domain;
      domain.state.process = await this.world.processes.start({
        places,
        runner: this.config.runner,
        // A guest that comes brings its kernel in its memory.
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
      await this.discard(domain, 'failed');
      throw error;
    }
  }

  /** What its process could not be kept from, as it said before anything else ran in it. */
  private tellConfinement(domain: Domain): void {
    for (const line of this.world.processes.confinement(domain.places))
      this.log.warn({ domid: domain.domid }, line);
  }

  /** The files that a configuration of somebody else's names: what has to be kept of it, for checkFiles. */
  namedFiles(config: GuestConfig): string[] {
    return [...kernelsOf(config), ...this.images.named(disksOf(config.devices))];
  }

  /** Fails where one of the files that somebody else has named is not where this host lets it be. */
  private checkFiles(config: GuestConfig, foreign: readonly string[]): void {
    const { kernels } = this.config;
    for (const path of kernelsOf(config))
      if (foreign.includes(path)) mustBeMapped(path, kernels, 'kernels', this.world.files);
    this.images.check(disksOf(config.devices), foreign);
  }

  /** Fails where files that an operator did not name, or what lies beneath such images, are not where they may be. */
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

  /** Creates a guest from its configuration and starts it. `more`: what is known of one that was here before. */
  async create(
    config: GuestConfig,
    paused: boolean,
    more: Pick<NewDomain, 'foreign' | 'replaces'> = {},
  ): Promise<Domain> {
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
  settleImages(domain: Domain): void {
    this.images.settle(domain.state.disks ?? []);
    domain.state.disks = [];
  }

  /** The domain's guest is here and ours: written down. */
  settle(domain: Domain): void {
    const begins = domain.state.phase === 'building' || domain.state.phase === 'incoming';
    if (domain.state.phase !== 'ended') domain.state.phase = 'live';
    if (begins) this.changed(domain, 'live');
    this.settleImages(domain);
    domain.save();
    this.log.info({ domid: domain.domid, name: domain.state.name }, 'domain lives');
  }

  /** User of a domain's process; undefined: our own. */
  uidOf(domid: number): number | undefined {
    return this.world.processes.haveOwnUsers ? this.config.guestUid + domid : undefined;
  }

  /** How the domain's process is let have images; undefined where its user is ours. */
  private imageUser(domain: Domain): ImageUser | undefined {
    const { foreign = [], grants: given = [] } = domain.state;
    const uid = this.uidOf(domain.domid);
    if (uid === undefined) return undefined;
    const record = (all: readonly GivenAccess[]): void => {
      domain.state.grants = all;
      domain.save();
    };
    return { uid, foreign, given, record };
  }

  /** Lets the domain's process have these disks. Fails with what is wrong with one, and has changed nothing then. */
  private async giveDisks(domain: Domain, devices: readonly DeviceConfig[]): Promise<void> {
    const { config, foreign = [] } = domain.state;
    // Whatever was looked at before: the folders may have changed since.
    if (config !== null) await this.admit({ ...config, devices: [...devices] }, foreign);
    const user = this.imageUser(domain);
    if (user !== undefined) await this.images.give(user, disksOf(devices));
  }

  /** The same for images that are being filled. */
  async giveImages(domain: Domain, images: readonly IncomingImage[]): Promise<void> {
    const user = this.imageUser(domain);
    if (user !== undefined) await this.images.giveIncoming(user, images);
  }

  /** What the domain was let have is its own: nobody else has to do with it any more. */
  async keepDisks(domain: Domain): Promise<void> {
    const { grants } = domain.state;
    const uid = this.uidOf(domain.domid);
    if (uid === undefined || grants === undefined || grants.length === 0) return;
    const kept = await this.images.keep(uid, grants);
    if (this.all.get(domain.domid) !== domain) return;
    domain.state.grants = kept;
    domain.save();
  }

  /** Takes back what of it the domain, which stays, was let have. */
  private async takeDisks(domain: Domain, which: (given: GivenAccess) => boolean): Promise<void> {
    if (await this.takeBack(domain, which)) domain.save();
  }

  /** The same; a domain that is about to go needs no record of that. True if there was something. */
  private async takeBack(domain: Domain, which: (given: GivenAccess) => boolean): Promise<boolean> {
    const { grants = [] } = domain.state;
    const uid = this.uidOf(domain.domid);
    const taken = grants.filter(which);
    if (uid === undefined || taken.length === 0) return false;
    // What serves a file may hang: its entry in there is of no use to anybody then.
    const given = this.images.takeBack(uid, taken);
    await this.within(given, TAKE_BACK_MS, 'the files of its disks do not answer').catch((error: Error) =>
      this.log.warn({ domid: domain.domid, error: error.message }, 'disks are not taken back'),
    );
    domain.state.grants = grants.filter((grant) => !taken.includes(grant));
    return true;
  }

  /** Plugs a device into a guest that runs; it stands in the host's xenstore from before that, as with libxl. */
  async plug(domain: Domain, device: DeviceConfig): Promise<void> {
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
      // What the guest has and nobody remembers could not be taken away again.
      const { kind, devid } = device;
      if (domain.rpc !== undefined)
        await domain.ask('unplug', { kind, devid, force: true, timeoutS: 1 }, LOOK_MS).catch(() => undefined);
      this.store.removeDevice(domain.domid, device.kind, device.devid);
      await this.takeDisks(domain, (given) => !before.includes(given));
      this.takeBackLent(domain, device);
      throw error;
    }
  }

  /** Asks the guest to let go of a device, or takes it away. */
  async unplug(domain: Domain, device: DeviceConfig, force: boolean): Promise<void> {
    const { kind, devid } = device;
    await domain.ask('unplug', { kind, devid, force, timeoutS: DETACH_TIMEOUT_S });
    this.unplugged(domain, kind, devid);
  }

  private takeBackLent(domain: Domain, { kind, devid }: DeviceConfig): void {
    if (kind === 'vbd') this.images.takeBackLent(domain.directory, devid);
  }

  /** A device is gone, in time or late: its place is free. */
  private unplugged(domain: Domain, kind: string, devid: number): void {
    const { config } = domain.state;
    const device = config?.devices.find((one) => one.kind === kind && one.devid === devid);
    if (config === null || device === undefined) return;
    this.store.removeDevice(domain.domid, device.kind, device.devid);
    this.takeBackLent(domain, device);
    domain.keepConfig({ ...config, devices: config.devices.filter((one) => one !== device) });
    this.changed(domain, 'devices');
    // What lies beneath it may lie beneath another of its disks too.
    for (const disk of disksOf([device]))
      this.takeDisks(domain, (given) => this.images.isOf(given, disk)).catch((error: Error) =>
        this.log.warn({ domid: domain.domid, error: error.message }, 'what was taken back is not on record'),
      );
  }

  /** Those of its devices that went while no daemon was there. */
  private async findUnplugged(domain: Domain): Promise<void> {
    if ((domain.state.config?.devices ?? []).length === 0) return;
    const has = await domain.ask('devices', {}, LOOK_MS);
    for (const { kind, devid } of domain.state.config?.devices ?? [])
      if (!has.some((one) => one.kind === kind && one.devid === devid)) this.unplugged(domain, kind, devid);
  }

  /**
   * Takes a configuration that came in a stream, where its daemon sent none: as a stranger's. Fails where it is of
   * another guest than the one that was announced, or names what this host does not let it have.
   */
  takeConfig(domain: Domain, given: unknown): void {
    const { state } = domain;
    const config = checkGuestConfig(given, 'bad-image');
    mustBeOf(config, state, "the stream's configuration");
    const foreign = this.namedFiles(config);
    this.checkFiles(config, foreign);
    state.config = config;
    state.vcpus = config.vcpus;
    state.foreign = foreign;
  }

  /** The disks that can travel with a guest, by our own record of it; its process tells only how large they are. */
  async travelling(domain: Domain): Promise<TravellingImage[]> {
    const sizes = await domain.ask('travellingDisks', {}, this.config.moveAnswerS * 1000);
    const { devices = [] } = domain.state.config ?? {};
    return this.images.travelling(disksOf(devices), (devid) => {
      const bytes = sizes.find((disk) => disk.devid === devid)?.bytes;
      if (bytes === undefined || !Number.isSafeInteger(bytes))
        throw new Failure('bad-state', `the guest's process has no disk ${devid}`);
      return bytes;
    });
  }

  /** A guest's process has a whole guest. */
  arrived(domain: Domain, guest: ReceivedInfo): void {
    mustBeOf(guest, domain.state, 'what was received');
    if (domain.state.config === null) this.takeConfig(domain, guest.config);
  }

  grant(domain: Domain): HostGrant {
    const { domid, storePort, consolePort, storeFrame, consoleFrame } = domain.state;
    const { kind, settings, identity } = this.platform;
    const outer = { storePort, consolePort, storeFrame, consoleFrame };
    return { platform: kind, settings, name: identity.name, domid, ...outer };
  }

  /** Writes the domain's nodes into the host's xenstore, as libxl does. */
  private show(domain: Domain, config: GuestConfig): void {
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

  /** Before its process is told to start: its disks, and its nodes in the host's xenstore. */
  async introduce(domain: Domain, config: GuestConfig): Promise<void> {
    await this.giveDisks(domain, config.devices);
    this.show(domain, config);
  }

  /** Ends a guest for good, also where it has been switched on again as another domain, or is about to be. */
  async destroy(domain: Domain): Promise<void> {
    domain.leaving = true;
    const { domid, state } = domain;
    for (const one of this.all.values())
      if (one === domain || (one.state.replaces === domid && one.state.uuid === state.uuid))
        await this.discard(one, 'destroyed');
  }

  /** Ends the process and removes all traces of a domain. */
  async discard(domain: Domain, reason: GuestExit['reason']): Promise<void> {
    domain.leaving = true;
    await domain.endProcess(reason);
    await this.takeBack(domain, () => true);
    this.forget(domain, reason);
  }

  /** Its nodes in the host's xenstore, and what it hears of them. */
  private unlist(domain: Domain): void {
    if (!this.relays.delete(domain)) return;
    this.store.removeDomain(domain.domid, domain.state.uuid);
  }

  /** Also a second time: of what was ended while it was being made, something may have been made since. */
  private forget(domain: Domain, reason: GuestExit['reason']): void {
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

  private ended(domain: Domain, exit: GuestExit): void {
    domain.state.exit = exit;
    domain.state.phase = 'ended';
    this.changed(domain, 'ended', exit);
    this.log.info({ domid: domain.domid, name: domain.state.name, ...exit }, 'guest ended');
    if (this.moves?.ended(domain, exit) === true) return;
    this.applyPolicy(domain, exit);
  }

  /** Begins what the configuration wants after such an end. Nobody waits for that: a guest may be switched on again. */
  applyPolicy(domain: Domain, exit: GuestExit): void {
    this.followEnd(domain, exit).catch((error: Error) =>
      this.log.error({ domid: domain.domid, error: error.message }, 'what follows the end of a guest failed'),
    );
  }

  private async followEnd(domain: Domain, exit: GuestExit): Promise<void> {
    // Somebody has ended it meanwhile: nothing is to follow.
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
    if (wanted === 'preserve') {
      domain.save();
      return;
    }
    if (wanted === 'restart' && config !== null) await this.restart(domain, config);
    else await this.discard(domain, 'destroyed');
  }

  /**
   * Switches the guest on again, as another domain. Invariant: a record from which the guest can be switched on is on
   * disk throughout: the old domain's is removed after the new one's says that it lives. What fails meanwhile is done
   * again; `destroy` of the old domain ends that.
   */
  private async restart(old: Domain, config: GuestConfig): Promise<void> {
    if (old.restarting) return;
    old.restarting = true;
    const { domid } = old;
    const wanted = (): boolean => this.all.get(domid) === old && !old.leaving;
    // Its process will have other last words.
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
    if (!wanted()) await this.discard(again, 'destroyed');
    else
      await this.untilDone(old, 'is on record still', wanted, async () => {
        await this.takeBack(old, () => true);
        if (wanted()) this.forget(old, 'destroyed');
      });
  }

  /** Does it again while it fails and is wanted; undefined when it is not wanted any more. */
  private async untilDone<T>(
    domain: Domain,
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
        this.log.error({ domid, name, error: (error as Error).message }, `a guest that rebooted ${words}`);
        await sleep(this.world.clock, ms);
      }
    }
    return undefined;
  }

  /**
   * Of a reboot that an earlier daemon did not finish: the newer domain if it lives, or else the older, from which it
   * begins anew. Returns those that remain.
   */
  private async finishReboots(found: readonly Domain[]): Promise<Domain[]> {
    const gone = new Set<Domain>();
    for (const domain of found) {
      const old = found.find((other) => other.domid === domain.state.replaces);
      const pair = old?.state.uuid === domain.state.uuid && isNewer(domain.state, old.state);
      if (old === undefined || !pair) continue;
      const loser = domain.state.phase === 'building' ? domain : old;
      gone.add(loser);
      await this.discard(loser, loser === old ? 'destroyed' : 'failed').catch((error: Error) =>
        this.log.error({ domid: loser.domid, error: error.message }, 'what a reboot left is on record still'),
      );
    }
    return found.filter((domain) => !gone.has(domain));
  }

  /** What an earlier daemon left on disk. No process is spoken to; what a reboot left over is ended. */
  async recover(): Promise<Domain[]> {
    const found: Domain[] = [];
    const { files } = this.world;
    removeUnfinished(this.dir, files);
    removeUnfinished(join(this.dir, 'state'), files);
    for (const file of files.list(join(this.dir, 'state'))) {
      if (!/^\d+\.json$/.test(file)) continue;
      const state = this.read(join('state', file), (value) => readState(value, Number.parseInt(file, 10)));
      if (state !== undefined) found.push(this.domain(state));
    }
    const damaged = new Set(files.list(join(this.dir, 'state')).map((file) => Number.parseInt(file, 10)));
    for (const number of damaged) if (!this.all.has(number)) this.unreadable.add(number);
    this.generation = Math.max(this.generation, ...found.map(({ state }) => state.generation ?? 0));
    // A directory without state was never told anything, or is what a removal left.
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
   * Takes up a domain whose guest is ours: connects, shows it in xenstore, or applies the policy of its end. Resolves
   * when that is done, for as long as its process does not answer; with what it said, if it lives.
   */
  async adopt(domain: Domain): Promise<GuestHello | undefined> {
    const { config } = domain.state;
    // Its process has its disks.
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

  /** Looks after what guests' processes leave on the disk, from time to time. */
  watchDisk(): () => void {
    const watch = this.world.clock.every(LOOK_AFTER_MS, () => {
      for (const domain of this.all.values()) this.lookAfter(domain);
    });
    return () => watch.cancel();
  }

  private lookAfter(domain: Domain): void {
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
