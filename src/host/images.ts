/**
 * Disk images as a host has them: what opens, locks, checks, makes and gives them. A guest's configuration names its disks
 * the same on every host; where they are, and who may open them, is each host's affair.
 *
 * The daemon asks for all but the last part; that is for a guest's process.
 */
import type { DiskFormat, DiskSpec } from '../protocol/guest-config.js';
import type { AnnouncedDisk } from '../protocol/peer.js';

/** What was done to a file so that a guest's process may open it. It stands in the daemon's files until it is undone. */
export interface GivenAccess {
  readonly path: string;
  readonly dev: number;
  readonly ino: number;
  /**
   * entry: the user has one in the list. found: it had one before, or was the owner (another host may give the same number
   * to a guest of its own). owner: the file system has no lists, and the user was made the owner.
   */
  readonly how: 'entry' | 'found' | 'owner';
  /** ACL_* that the user needs. */
  readonly perm: number;
  /** Owner and group before. */
  readonly uid: number;
  readonly gid: number;
}

/** A guest's process with a user of its own, which is to be let have images. */
export interface ImageUser {
  readonly uid: number;
  /** Files that somebody else's configuration has named: they must lie where this host lets them be. */
  readonly foreign: readonly string[];
  /** What has been given to it. */
  readonly given: readonly GivenAccess[];
  /** Puts this on disk. Called before a file is changed. */
  record(given: readonly GivenAccess[]): void;
}

/** A disk of a guest that is a file on this host, and can travel with the guest. */
export interface TravellingImage {
  readonly devid: number;
  /** As the configuration has it. */
  readonly target: string;
  readonly path: string;
  readonly format: DiskFormat;
  readonly readOnly: boolean;
  /** Of the disk: whole sectors. */
  readonly bytes: number;
  /** Of a raw file, where it ends within its last sector. */
  readonly fileBytes?: number;
}

/** An image that is to be filled with a disk that comes with its guest. */
export interface ReceivedImage {
  readonly devid: number;
  readonly path: string;
  readonly format: DiskFormat;
  readonly bytes: number;
  /** Where the file ended within its last sector when it was announced. */
  readonly fileBytes?: number;
}

/** The same in the daemon: with the name that it gets when its guest is here. */
export interface IncomingImage extends ReceivedImage {
  readonly target: string;
  readonly readOnly: boolean;
}

/** In a guest's process: images that are being filled. src/migration/storage-copy.ts says what each call does. */
export interface FilledImages {
  begin(devid: number, bytes: number): Promise<void>;
  write(devid: number, at: number, bytes: number, data: Uint8Array | undefined): Promise<void>;
  flush(): Promise<void>;
  /** Lets go of the images. */
  close(): Promise<void>;
}

export interface HostImages {
  // Which images a guest may have.

  /** The files of this host that these disks name. */
  named(disks: readonly DiskSpec[]): string[];
  /** Fails where one of the files that somebody else has named is not where this host lets it be. */
  check(disks: readonly DiskSpec[], foreign: readonly string[]): void;
  /** The same of the files that such an image itself names as lying beneath it. It is read for that. */
  checkBeneath(disk: DiskSpec, foreign: readonly string[]): Promise<void>;

  // Letting a guest's process have them.

  /** Lets a process have these disks. When this fails nothing is changed. */
  give(user: ImageUser, disks: readonly DiskSpec[]): Promise<void>;
  /** The same for images that are to be filled. */
  giveIncoming(user: ImageUser, images: readonly IncomingImage[]): Promise<void>;
  /** The guest is this host's alone: what was given, as it is from here on. */
  keep(uid: number, given: readonly GivenAccess[]): Promise<GivenAccess[]>;
  takeBack(uid: number, given: readonly GivenAccess[]): Promise<void>;
  /** Whether it is the image of this disk itself, and not one beneath it. */
  isOf(given: GivenAccess, disk: DiskSpec): boolean;
  /**
   * To a process with the daemon's own user, while it runs: where it finds the file of this disk, `directory` being its
   * own; null where that is its usual place. Fails where it can be given none.
   */
  lend(directory: string, disk: DiskSpec): string | null;
  takeBackLent(directory: string, devid: number): void;
  /** The file of a disk that was lent, whether or not it was. */
  lentFile(directory: string, devid: number): string;

  // Disks that travel with their guest.

  /** Those of these disks that are files; `bytes` tells the size of a disk. Fails where one cannot travel. */
  travelling(disks: readonly DiskSpec[], bytes: (devid: number) => number): TravellingImage[];
  /** Which of the disks that a source announced have to come, and where to. Fails where one cannot. */
  expect(announced: readonly AnnouncedDisk[], handover: string): IncomingImage[];
  /** Fails where a disk that was announced is none of the guest's. */
  mustBeOf(images: readonly IncomingImage[], disks: readonly DiskSpec[]): void;
  /** Makes the empty images. */
  make(images: readonly IncomingImage[]): Promise<void>;
  /** Gives complete images their names. Fails where somebody else has made such a file meanwhile. */
  name(images: readonly IncomingImage[]): void;
  /** The guest is this host's: its images have their own names only. */
  settle(images: readonly IncomingImage[]): void;
  /** The guest is not this host's: nothing of what was made is left. */
  discard(images: readonly IncomingImage[]): void;
  /** The guest has left, and its disks with it: what is here has a name that says so. */
  retire(paths: readonly string[]): void;

  // In a guest's process.

  /** From here on the disk of this target is the file at `path`, which was lent. */
  foundAt(target: string, path: string): void;
  fill(images: readonly ReceivedImage[], log: (line: string) => void): FilledImages;
}
