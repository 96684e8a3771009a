/**
 * Where a host lets guests of others have their files. A configuration that a peer sent, or that a saved file or a
 * stream carried, may name only what lies in the folders that this host's own configuration lists: disks in `images`,
 * kernels and ramdisks in `kernels`. What an operator types at his own daemon is his right, and is not looked at here.
 *
 * Invariant: what is looked at is where a path ends, with all symbolic links followed, at the moment of use.
 */
import { readlinkSync, realpathSync } from 'node:fs';
import { dirname } from 'node:path';
import type { GuestConfig } from '../../guest-process/guest-runner.js';
import { folderOf, type ImageFolders, placeOf } from '../../host/standalone/disk/image-folders.js';
import { isNbd, nbdPaths } from '../../host/standalone/disk/nbd-address.js';
import type { Files } from '../../os/files.js';
import { Failure } from '../../protocol/failure.js';
import { readDiskSpec } from '../../protocol/guest-config.js';
import type { HostConfig } from '../host-config.js';

export type Places = Pick<HostConfig, 'images' | 'kernels'>;

/** The real path of `path`, or of the nearest directory above it that is there. */
function realPath(path: string, files: Files): string {
  for (let at = path; ; at = dirname(at)) {
    try {
      return files.realPath(at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || at === '/') throw error;
    }
  }
}

/** Fails where `target` is in none of the folders, or leads out of its own. Returns where it is here. */
export function placeWithin(
  target: string,
  folders: ImageFolders,
  setting: keyof Places,
  files: Files,
): string {
  const refuse = (why: string): never => {
    throw new Failure('not-trusted', `${target}, which the guest's configuration names, ${why}`);
  };
  if (/(^|\/)\.\.?(\/|$)/.test(target)) refuse('has "." or ".." in it');
  const folder = folderOf(target, folders);
  if (folder === undefined) {
    return refuse(
      `lies in no folder of "${setting}" in this host's configuration; what comes from another host, or from a file that was not saved here, must`,
    );
  }
  const here = placeOf(target, folders);
  let real: string;
  let within: string;
  try {
    within = files.realPath(folders[folder]);
    real = realPath(here, files);
  } catch (error) {
    return refuse(`cannot be looked for: ${(error as Error).message}`);
  }
  if (real !== within && !real.startsWith(`${within}/`)) refuse(`leads to ${real}, out of ${within}`);
  return here;
}

/** Fails where what was opened as `fd` lies in none of the folders that these are here. */
export function mustLieWithin(fd: number, folders: readonly string[], path: string): void {
  const real = readlinkSync(`/proc/self/fd/${fd}`);
  if (!folders.some((folder) => real.startsWith(`${realpathSync(folder)}/`)))
    throw new Failure('not-trusted', `${path} leads to ${real}, out of the folders of this host`);
}

interface Named {
  readonly path: string;
  readonly setting: keyof Places;
  /** Used as it is: the folders' other names do not count. */
  readonly asItIs?: boolean;
}

/** All files that a configuration names. */
function namedIn(config: GuestConfig): Named[] {
  const named: Named[] = [config.kernel, config.ramdisk]
    .filter((path) => path !== '')
    .map((path) => ({ path, setting: 'kernels' }));
  for (const { kind, spec } of config.devices) {
    if (kind !== 'vbd') continue;
    const { target } = readDiskSpec(spec);
    if (isNbd(target))
      named.push(...nbdPaths(target).map((path): Named => ({ path, setting: 'images', asItIs: true })));
    else if (target !== '') named.push({ path: target, setting: 'images' });
  }
  return named;
}

/** The files that a configuration of somebody else's names: what has to be kept of it, for checkPlaces. */
export const foreignPaths = (config: GuestConfig): string[] => namedIn(config).map(({ path }) => path);

/** Fails where one of the files that somebody else has named is not where this host lets it be. */
export function checkPlaces(
  config: GuestConfig,
  foreign: readonly string[],
  places: Places,
  files: Files,
): void {
  for (const { path, setting, asItIs = false } of namedIn(config)) {
    if (!foreign.includes(path)) continue;
    const here = Object.values(places[setting]);
    const folders = asItIs ? Object.fromEntries(here.map((f) => [f, f])) : places[setting];
    placeWithin(path, folders, setting, files);
  }
}
