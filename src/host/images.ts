/**
 * The disk images of a host: how they are opened, locked, checked and made, and how guests' processes get access to
 * them. A guest's configuration names its disks in the same way on every host; where the files are, and who may open
 * them, each host decides.
 *
 * The daemon calls everything except the last part, which is for a guest's process.
 */
import type { DiskFormat, DiskSpec } from '../protocol/guest-config.js';
import type { AnnouncedDisk } from '../protocol/peer.js';

/**
 * What was changed on a file so that a guest's process may open it. The daemon's files keep this until the change is
 * undone.
 */
export interface GivenAccess {
  readonly path: string;
  readonly dev: number;
  readonly ino: number;
  /**
   * entry: an entry for the user was added to the access list. found: there was an entry already, or the user is the
   * owner (another host may use the same number for a guest of its own). owner: the file system has no access lists,
   * so the user was made the owner.
   */
  readonly how: 'entry' | 'found' | 'owner';
  /** The permissions (ACL_*) that the user needs. */
  readonly perm: number;
  /** Owner and group before the change. */
  readonly uid: number;
  readonly gid: number;
}

/** A guest's process with a user of its own, which is to get access to images. */
export interface ImageUser {
  readonly uid: number;
  /** Files that a foreign configuration has named: they must lie in the folders that this host allows. */
  readonly foreign: readonly string[];
  /** The access that it already has. */
  readonly given: readonly GivenAccess[];
  /** Writes this list to disk. It is called before a file is changed. */
  record(given: readonly GivenAccess[]): void;
}

/** A disk of a guest that is a file on this host and can travel with the guest. */
export interface TravellingImage {
  readonly devid: number;
  /** As in the configuration. */
  readonly target: string;
  readonly path: string;
  /** The inode of the file. */
  readonly ino: number;
  readonly format: DiskFormat;
  readonly readOnly: boolean;
  /** Size of the disk in bytes: whole sectors. */
  readonly bytes: number;
  /** Length of a raw file that ends within its last sector, in bytes. */
  readonly fileBytes?: number;
}

/** A file that was a disk of a guest here. */
export interface LeftImage {
  readonly path: string;
  /** Its inode: the guest may have come back since, with a new file of the same name. Unknown to version 0.1. */
  readonly ino: number | undefined;
}

/** An image that is to be filled with a disk which travels with its guest. */
export interface ReceivedImage {
  readonly devid: number;
  readonly path: string;
  readonly format: DiskFormat;
  readonly bytes: number;
  /** Length of the announced file, if it ended within its last sector. */
  readonly fileBytes?: number;
}

/** The same in the daemon: also the name that the image gets when its guest has arrived. */
export interface IncomingImage extends ReceivedImage {
  readonly target: string;
  readonly readOnly: boolean;
}

/** In a guest's process: images that are being filled. src/migration/disk-sender.ts describes the calls. */
export interface FilledImages {
  begin(devid: number, bytes: number): Promise<void>;
  write(devid: number, at: number, bytes: number, data: Uint8Array | undefined): Promise<void>;
  flush(): Promise<void>;
  /** Closes the images. */
  close(): Promise<void>;
}

export interface HostImages {
  // Which images a guest may have.

  /** The files of this host that these disks name. */
  named(disks: readonly DiskSpec[]): string[];
  /** Fails if a file that somebody else has named lies outside the folders that this host allows. */
  check(disks: readonly DiskSpec[], foreign: readonly string[]): void;
  /** The same for the backing files that such an image itself names. The image is read for that. */
  checkBeneath(disk: DiskSpec, foreign: readonly string[]): Promise<void>;

  // Access of a guest's process.

  /** Gives a process access to these disks. If this fails, nothing has changed. */
  give(user: ImageUser, disks: readonly DiskSpec[]): Promise<void>;
  /** The same for images that are to be filled. */
  giveIncoming(user: ImageUser, images: readonly IncomingImage[]): Promise<void>;
  /**
   * The guest now belongs to this host alone: access that it shared with another guest becomes its own, and is
   * restored if it was taken away. Returns the updated list.
   */
  keep(uid: number, given: readonly GivenAccess[]): Promise<GivenAccess[]>;
  takeBack(uid: number, given: readonly GivenAccess[]): Promise<void>;
  /** True if this file is the image of the disk itself, and not one of its backing files. */
  isOf(given: GivenAccess, disk: DiskSpec): boolean;
  /**
   * For a running process with the daemon's own user: returns the path at which it finds the file of this disk
   * (`directory` is the process's own), or null if that is the usual path. Fails if the file cannot be passed to it.
   */
  lend(directory: string, disk: DiskSpec): string | null;
  takeBackLent(directory: string, devid: number): void;
  /** The path at which a file would be lent, whether or not it was. */
  lentFile(directory: string, devid: number): string;

  // Disks that travel with their guest.

  /** Those of these disks that are files; `bytes` returns the size of a disk. Fails if one of them cannot travel. */
  travelling(disks: readonly DiskSpec[], bytes: (devid: number) => number): TravellingImage[];
  /** Which of the announced disks must be sent, and the files to receive them. Fails if one cannot be received. */
  expect(announced: readonly AnnouncedDisk[], handover: string): IncomingImage[];
  /** Fails if an announced disk is not in the guest's configuration. */
  mustBeOf(images: readonly IncomingImage[], disks: readonly DiskSpec[]): void;
  /** Makes the empty images. */
  make(images: readonly IncomingImage[]): Promise<void>;
  /** Gives complete images their final names. Fails if somebody else has made such a file meanwhile. */
  name(images: readonly IncomingImage[]): void;
  /** The guest belongs to this host: removes the temporary names of its images. */
  settle(images: readonly IncomingImage[]): void;
  /** The guest does not belong to this host: removes everything that was made. */
  discard(images: readonly IncomingImage[]): void;
  /** The guest has left with its disks: renames the files here so that their names say so. */
  retire(images: readonly LeftImage[]): void;

  // In a guest's process.

  /** From now on, the disk with this target is the lent file at `path`. */
  foundAt(target: string, path: string): void;
  fill(images: readonly ReceivedImage[], log: (line: string) => void): FilledImages;
}
