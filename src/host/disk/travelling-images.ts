/**
 * Disks that travel with a guest (`migrate --copy-storage`). They are files at the source, and become new
 * files at the destination. Three names of files tell how far a disk has come; TARGET is the disk's path:
 *
 *     TARGET.HANDOVER.incoming   at the destination, while the file is being filled. The domain's state on disk names
 *                                this file before it is made.
 *     TARGET                     at the destination, a second name (hard link) of the same file. It is made before the
 *                                guest's process opens its disks there.
 *     TARGET.moved               at the source, once the guest has left: the disk as the guest left it.
 *
 * Invariant: a file of the name TARGET at the destination is removed only if it is the very file that this
 * move made, and only while the guest does not belong to this host. The source's file is not touched before
 * the destination owns the guest.
 */
import { dirname } from 'node:path';
import { removeDurable, syncDirectory } from '../../os/durable.js';
import type { Files } from '../../os/files.js';
import { type FolderMap, folderOf, pathHere } from '../../os/folder-map.js';
import { Failure } from '../../protocol/failure.js';
import type { DiskSpec } from '../../protocol/guest-config.js';
import type { AnnouncedDisk } from '../../protocol/peer.js';
import type { IncomingImage, LeftImage, TravellingImage } from '../images.js';
import { isNbd } from './nbd-address.js';
import { createQemuImage } from './qemu-nbd.js';

/**
 * The disks of a guest that are files here. Disks behind NBD do not travel: every host reaches them where
 * they are. `bytes` gives a disk's size.
 */
export function travellingImages(
  disks: readonly DiskSpec[],
  folders: FolderMap,
  files: Files,
  bytes: (devid: number) => number,
): TravellingImage[] {
  const all: TravellingImage[] = [];
  for (const { virtualDevice: devid, target, format, readOnly } of disks) {
    if (format === 'empty' || isNbd(target)) continue;
    const path = pathHere(target, folders);
    const stats = files.facts(path);
    if (stats === undefined) throw new Failure('bad-state', `disk ${path} is not there`);
    if (!stats.isFile)
      throw new Failure('bad-state', `disk ${path} is a device; only files travel with a guest`);
    const whole = bytes(devid);
    const ends = format === 'raw' && stats.size > whole - 512 && stats.size < whole;
    const fileBytes = ends ? { fileBytes: stats.size } : {};
    all.push({ devid, target, path, ino: stats.ino, format, readOnly, bytes: whole, ...fileBytes });
  }
  return all;
}

/**
 * Of the disks that a source has announced, those that must be copied to this host, with the paths that they
 * get here. Throws if a disk cannot be taken.
 */
export function expectedImages(
  announced: readonly AnnouncedDisk[],
  handover: string,
  folders: FolderMap,
  files: Files,
): IncomingImage[] {
  const expected: IncomingImage[] = [];
  for (const { devid, target, format, readOnly, bytes, fileBytes } of announced) {
    // A source may have files made only in folders that this host's own configuration has for images.
    if (folderOf(target, folders) === undefined)
      throw new Failure(
        'move-failed',
        `"images" of this host has no folder for ${target}; it takes no disk there`,
      );
    const path = pathHere(target, folders);
    const there = files.facts(path);
    // A read-only disk, such as an installation medium, may have been put on every host already.
    if (there !== undefined && readOnly) continue;
    if (there !== undefined) {
      throw new Failure('move-failed', `${path} is there already; a disk that comes does not replace it`);
    }
    const incoming = `${path}.${handover}.incoming`;
    const ends = fileBytes === undefined ? {} : { fileBytes };
    expected.push({ devid, target: path, path: incoming, format, readOnly, bytes, ...ends });
  }
  return expected;
}

/** Throws if an announced disk is not one of the guest's configuration. */
export function mustBeConfigured(
  images: readonly IncomingImage[],
  disks: readonly DiskSpec[],
  folders: FolderMap,
): void {
  for (const { devid, target, format, readOnly } of images) {
    const disk = disks.find((d) => d.virtualDevice === devid);
    if (
      disk === undefined ||
      pathHere(disk.target, folders) !== target ||
      disk.format !== format ||
      disk.readOnly !== readOnly
    )
      throw new Failure('usage', `disk ${devid} was announced otherwise than the configuration has it`);
  }
}

/** Makes the empty images. Only this user may open those that the guest can write. */
export async function makeImages(images: readonly IncomingImage[], files: Files): Promise<void> {
  for (const { path, format, readOnly, bytes } of images) {
    // Other guests may use a read-only disk too, so everybody may read it.
    await files.create(path, readOnly ? 0o644 : 0o600, format === 'raw' ? bytes : 0);
    if (format !== 'raw') await createQemuImage(path, format, bytes);
  }
}

/**
 * Gives the images, which are complete now, their final names. Throws if somebody else has made a file of
 * such a name in the meantime.
 */
export function nameImages(images: readonly IncomingImage[], files: Files): void {
  for (const { path, target } of images) {
    files.link(path, target);
    syncDirectory(dirname(target), files);
  }
}

/** The guest belongs to this host now: the images lose their `.incoming` names and keep their final ones. */
export function keepImages(images: readonly IncomingImage[], files: Files): void {
  for (const { path } of images) removeDurable(path, files);
}

/**
 * The file is not there: an earlier daemon may have removed or renamed it, and have died before that was on disk. What
 * follows relies on it, so a power failure must not bring the file back.
 */
function syncRemoval(path: string, files: Files): void {
  const directory = dirname(path);
  if (files.exists(directory)) syncDirectory(directory, files);
}

/** The guest does not belong to this host: everything that this move made for it is removed. */
export function discardImages(images: readonly IncomingImage[], files: Files): void {
  for (const { path, target } of images) {
    const made = files.facts(path);
    const named = files.facts(target);
    if (made === undefined) {
      syncRemoval(path, files);
      continue;
    }
    if (named?.ino === made.ino && named.dev === made.dev) files.remove(target);
    removeDurable(path, files);
  }
}

/**
 * The guest has left and has taken its disks along: the old files are renamed so that nobody takes them for
 * its disks. A daemon that starts again before the hand-over is closed does this again; by then the guest may have come
 * back, so a file of the same name that is not the same file is left alone.
 */
export function retireImages(images: readonly LeftImage[], files: Files): void {
  for (const { path, ino } of images) {
    const there = files.facts(path);
    if (there === undefined) syncRemoval(path, files);
    if (there === undefined || (ino !== undefined && there.ino !== ino)) continue;
    files.rename(path, `${path}.moved`);
    syncDirectory(dirname(path), files);
  }
}
