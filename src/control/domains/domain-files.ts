/**
 * The files of this host that a domain's process may use: its kernel and ramdisk, and the images of its disks. A file
 * that an operator of this host did not name must lie in a folder that this host allows.
 */
import type { Logger } from 'pino';
import { BOOT_LOADER } from '../../guest/boot-loader.js';
import type { DeviceConfig } from '../../helper/devices.js';
import type {
  GivenAccess,
  HostImages,
  ImageUser,
  IncomingImage,
  TravellingImage,
} from '../../host/images.js';
import { findBootLoader } from '../../os/boot-loader.js';
import { mustBeMapped, pathHere } from '../../os/folder-map.js';
import { within } from '../../os/within.js';
import { Failure } from '../../protocol/failure.js';
import { disksOf, type GuestConfig } from '../../protocol/guest-config.js';
import type { HostConfig } from '../host-config.js';
import type { World } from '../world.js';
import type { HostedDomain } from './hosted-domain.js';

/** How long the file system may take when the daemon takes back a guest's access to files. */
const TAKE_BACK_MS = 5_000;

/** The files in a configuration that are not disks, and not this host's own boot loader. */
const kernelsOf = ({ kernel, ramdisk }: GuestConfig): string[] =>
  [kernel, ramdisk].filter((path) => path !== '' && path !== BOOT_LOADER);

/**
 * Fails if a domain was ended while it was being created: what is created for it from here on would never be removed.
 */
export function mustBeWanted({ leaving, state }: HostedDomain): void {
  if (leaving) throw new Failure('no-such-guest', `domain ${state.name} was ended meanwhile`);
}

/** What DomainFiles uses of its host. */
export interface FilesContext {
  readonly world: World;
  readonly config: HostConfig;
  readonly images: HostImages;
  readonly log: Logger;
  /** The domain is still among those of this host. */
  isHere(domain: HostedDomain): boolean;
}

export class DomainFiles {
  private readonly world: World;
  private readonly config: HostConfig;
  private readonly images: HostImages;
  private readonly log: Logger;

  constructor(private readonly context: FilesContext) {
    this.world = context.world;
    this.config = context.config;
    this.images = context.images;
    this.log = context.log;
  }

  private within<T>(what: Promise<T>, ms: number, words: string): Promise<T> {
    return within(what, ms, words, this.world.clock);
  }

  /** The files in a foreign configuration that checkFiles has to check later. */
  namedFiles(config: GuestConfig): string[] {
    return [...kernelsOf(config), ...this.images.named(disksOf(config.devices))];
  }

  /** Fails if a file that was not named by an operator of this host is outside the folders that this host allows. */
  checkFiles(config: GuestConfig, foreign: readonly string[]): void {
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

  kernelPath(path = ''): string {
    if (path === BOOT_LOADER) return findBootLoader((file) => this.world.files.exists(file));
    return pathHere(path, this.config.kernels);
  }

  kernelFolders({
    config,
    foreign = [],
  }: {
    readonly config: GuestConfig | null;
    readonly foreign?: readonly string[];
  }): readonly string[] | undefined {
    const named = config !== null && kernelsOf(config).some((path) => foreign.includes(path));
    return named ? Object.values(this.config.kernels) : undefined;
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
  async giveDisks(domain: HostedDomain, devices: readonly DeviceConfig[]): Promise<void> {
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
    if (!this.context.isHere(domain)) return;
    domain.state.grants = kept;
    domain.save();
  }

  /** Takes back some of the access that was given to a domain which stays. */
  async takeDisks(domain: HostedDomain, which: (given: GivenAccess) => boolean): Promise<void> {
    if (await this.takeBack(domain, which)) domain.save();
  }

  /** Takes back access without recording it, as for a domain that is about to be removed. True if there was any. */
  async takeBack(domain: HostedDomain, which: (given: GivenAccess) => boolean): Promise<boolean> {
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

  /**
   * Makes the images that came with a guest its own. This is done before the record of its hand-over is removed: when
   * nothing else is left of a guest, that record alone says whether such images belong to a guest or are to be removed.
   */
  settleImages(domain: HostedDomain): void {
    this.images.settle(domain.state.disks ?? []);
    domain.state.disks = [];
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
}
