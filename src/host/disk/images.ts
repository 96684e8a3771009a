/** The disk images of a host: files and block devices, and servers that speak NBD. */
import type { Files } from '../../os/files.js';
import { systemFiles } from '../../os/files.js';
import { type FolderMap, mustBeMapped, mustLieWithin, pathHere } from '../../os/folder-map.js';
import type { DiskSpec } from '../../protocol/guest-config.js';
import type { AnnouncedDisk } from '../../protocol/peer.js';
import type {
  FilledImages,
  GivenAccess,
  HostImages,
  ImageUser,
  IncomingImage,
  LeftImage,
  ReceivedImage,
  TravellingImage,
} from '../images.js';
import {
  type DiskGiver,
  type DiskNamed,
  giveDisks,
  keepDisks,
  mustNameWithin,
  takeBack,
} from './disk-access.js';
import { lendFile, lentFile, takeBackFile } from './disk-lending.js';
import { isNbd, nbdPaths } from './nbd-address.js';
import { ReceivedDisks } from './received-disks.js';
import {
  discardImages,
  expectedImages,
  keepImages,
  makeImages,
  mustBeConfigured,
  nameImages,
  retireImages,
  travellingImages,
} from './travelling-images.js';

/** How files are opened and given to others, as a part that a simulator can replace (test/simulate/). */
export interface ImageAccess {
  give(giver: DiskGiver, disks: readonly DiskNamed[]): Promise<void>;
  keep(uid: number, given: readonly GivenAccess[]): Promise<GivenAccess[]>;
  takeBack(uid: number, given: readonly GivenAccess[]): Promise<void>;
  mustNameWithin: typeof mustNameWithin;
  lend(directory: string, devid: number, path: string): string | null;
  takeBackLent(directory: string, devid: number): void;
}

const systemAccess: ImageAccess = {
  give: giveDisks,
  keep: keepDisks,
  takeBack,
  mustNameWithin,
  lend: lendFile,
  takeBackLent: takeBackFile,
};

export class FileImages implements HostImages {
  /** As the host's configuration has them, and, in a guest's process, files that it finds under another name. */
  readonly folders: Record<string, string>;
  private readonly here: readonly string[];

  constructor(
    folders: FolderMap,
    private readonly backing: readonly string[],
    private readonly files: Files = systemFiles,
    private readonly access: ImageAccess = systemAccess,
  ) {
    this.folders = { ...folders };
    this.here = Object.values(folders);
  }

  named(disks: readonly DiskSpec[]): string[] {
    return disks.flatMap(({ target }) => (isNbd(target) ? nbdPaths(target) : target === '' ? [] : [target]));
  }

  check(disks: readonly DiskSpec[], foreign: readonly string[]): void {
    for (const disk of disks) {
      // What an address names is used as it is: the folders' other names do not count.
      const folders = isNbd(disk.target) ? Object.fromEntries(this.here.map((f) => [f, f])) : this.folders;
      for (const path of this.named([disk]))
        if (foreign.includes(path)) mustBeMapped(path, folders, 'images', this.files);
    }
  }

  async checkBeneath({ target, format }: DiskSpec, foreign: readonly string[]): Promise<void> {
    if (format === 'raw' || !foreign.includes(target)) return;
    await this.access.mustNameWithin(this.pathOf(target), format, [...this.here, ...this.backing]);
  }

  give(user: ImageUser, disks: readonly DiskSpec[]): Promise<void> {
    return this.giveFrom(this.folders, user, disks);
  }
  giveIncoming(user: ImageUser, images: readonly IncomingImage[]): Promise<void> {
    const disks = images.map(({ path, format }) => ({ target: path, format, readOnly: false }));
    return this.giveFrom({}, user, disks);
  }
  private giveFrom(folders: FolderMap, user: ImageUser, disks: readonly DiskNamed[]): Promise<void> {
    const { uid, foreign, given } = user;
    const opened = (fd: number, target: string): void => {
      if (foreign.includes(target)) mustLieWithin(fd, this.here, target);
    };
    const record = (all: readonly GivenAccess[]): void => user.record(all);
    return this.access.give({ uid, folders, backing: this.backing, given, opened, record }, disks);
  }
  keep(uid: number, given: readonly GivenAccess[]): Promise<GivenAccess[]> {
    return this.access.keep(uid, given);
  }
  takeBack(uid: number, given: readonly GivenAccess[]): Promise<void> {
    return this.access.takeBack(uid, given);
  }
  isOf({ path }: GivenAccess, { target }: DiskSpec): boolean {
    return path === this.pathOf(target);
  }

  lend(directory: string, { target, virtualDevice }: DiskSpec): string | null {
    return target.startsWith('/') ? this.access.lend(directory, virtualDevice, this.pathOf(target)) : null;
  }
  takeBackLent(directory: string, devid: number): void {
    this.access.takeBackLent(directory, devid);
  }
  lentFile(directory: string, devid: number): string {
    return lentFile(directory, devid);
  }

  travelling(disks: readonly DiskSpec[], bytes: (devid: number) => number): TravellingImage[] {
    return travellingImages(disks, this.folders, this.files, bytes);
  }
  expect(announced: readonly AnnouncedDisk[], handover: string): IncomingImage[] {
    return expectedImages(announced, handover, this.folders, this.files);
  }
  mustBeOf(images: readonly IncomingImage[], disks: readonly DiskSpec[]): void {
    mustBeConfigured(images, disks, this.folders);
  }
  make(images: readonly IncomingImage[]): Promise<void> {
    return makeImages(images, this.files);
  }
  name(images: readonly IncomingImage[]): void {
    nameImages(images, this.files);
  }
  settle(images: readonly IncomingImage[]): void {
    keepImages(images, this.files);
  }
  discard(images: readonly IncomingImage[]): void {
    discardImages(images, this.files);
  }
  retire(images: readonly LeftImage[]): void {
    retireImages(images, this.files);
  }

  foundAt(target: string, path: string): void {
    this.folders[target] = path;
  }
  fill(images: readonly ReceivedImage[], log: (line: string) => void): FilledImages {
    return new ReceivedDisks(images, log);
  }

  /** The path of a disk's file on this host. */
  pathOf(target: string): string {
    return pathHere(target, this.folders);
  }
}
