/**
 * Disks that travel with a guest (`migrate --copy-storage`): files at the source, new files at the destination.
 *
 *     TARGET.HANDOVER.incoming   at the destination: being filled; the domain's state on disk names it before it is made
 *     TARGET                     a second name of it, made before the guest's process opens its disks there
 *     TARGET.moved               at the source: what the disk was when the guest left, once it is gone
 *
 * Invariant: a file of the guest's name at the destination is removed only while it is the very file that this move
 * made and the guest is not ours; the source's file is not touched before the destination owns the guest.
 */
import { dirname } from 'node:path';
import { removeDurable, syncDirectory } from '../../../os/durable.js';
import type { Files } from '../../../os/files.js';
import { type FolderMap, folderOf, pathHere } from '../../../os/folder-map.js';
import { Failure } from '../../../protocol/failure.js';
import type { DiskSpec } from '../../../protocol/guest-config.js';
import type { AnnouncedDisk } from '../../../protocol/peer.js';
import type { IncomingImage, TravellingImage } from '../../images.js';
import { isNbd } from './nbd-address.js';
import { createQemuImage } from './qemu-nbd.js';

/** The disks that are files; those behind NBD are where they are from every host. `bytes`: a disk's size. */
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
    all.push({ devid, target, path, format, readOnly, bytes: whole, ...fileBytes });
  }
  return all;
}

/** Which of the disks that a source announced have to come, and where to. Fails where one cannot. */
export function expectedImages(
  announced: readonly AnnouncedDisk[],
  handover: string,
  folders: FolderMap,
  files: Files,
): IncomingImage[] {
  const expected: IncomingImage[] = [];
  for (const { devid, target, format, readOnly, bytes, fileBytes } of announced) {
    // Files are made only where this host's own configuration expects images.
    if (folderOf(target, folders) === undefined)
      throw new Failure(
        'move-failed',
        `"images" of this host has no folder for ${target}; it takes no disk there`,
      );
    const path = pathHere(target, folders);
    const there = files.facts(path);
    // A medium that nobody writes may be everywhere already.
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

/** Fails where a disk that was announced is none of the guest's. */
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

/** Makes the empty images, ours alone. */
export async function makeImages(images: readonly IncomingImage[], files: Files): Promise<void> {
  for (const { path, format, readOnly, bytes } of images) {
    // A medium may be other guests' too.
    await files.create(path, readOnly ? 0o644 : 0o600, format === 'raw' ? bytes : 0);
    if (format !== 'raw') await createQemuImage(path, format, bytes);
  }
}

/** Gives the images, which are complete, their names. Fails where somebody else has made such a file meanwhile. */
export function nameImages(images: readonly IncomingImage[], files: Files): void {
  for (const { path, target } of images) {
    files.link(path, target);
    syncDirectory(dirname(target), files);
  }
}

/** The guest is ours: the images have their own names only. */
export function keepImages(images: readonly IncomingImage[], files: Files): void {
  for (const { path } of images) removeDurable(path, files);
}

/** The guest is not ours: nothing of what was made is left. */
export function discardImages(images: readonly IncomingImage[], files: Files): void {
  for (const { path, target } of images) {
    const made = files.facts(path);
    const named = files.facts(target);
    if (made === undefined) continue;
    if (named?.ino === made.ino && named.dev === made.dev) files.remove(target);
    removeDurable(path, files);
  }
}

/** The guest has left, and its disks with it: what is here has a name that says so. */
export function retireImages(paths: readonly string[], files: Files): void {
  for (const path of paths) {
    if (!files.exists(path)) continue;
    files.rename(path, `${path}.moved`);
    syncDirectory(dirname(path), files);
  }
}
