/**
 * Folders as guests' configurations name them, with their paths on this host. A configuration moves with its guest,
 * but its files may be in other places on each host. The folders also limit which files a host gives to foreign
 * guests: files that a peer, a saved file or a stream names must lie in them. What an operator types at his own
 * daemon is not restricted.
 *
 * Invariant: the check applies to the real path, with all symbolic links followed, at the moment of use.
 */
import { readlinkSync, realpathSync } from 'node:fs';
import { dirname } from 'node:path';
import { Failure } from '../protocol/failure.js';
import type { Files } from './files.js';

/** Maps a folder (or a single file) that configurations name to the path on this host. */
export type FolderMap = Readonly<Record<string, string>>;

/** The longest folder in `folders` that contains `target`, or undefined if none does. */
export function folderOf(target: string, folders: FolderMap): string | undefined {
  let best: string | undefined;
  for (const folder of Object.keys(folders)) {
    if (target.startsWith(`${folder}/`) && folder.length > (best?.length ?? -1)) best = folder;
  }
  return best;
}

/** The path of `target` on this host. It is `target` itself if its folder is not mapped. */
export function pathHere(target: string, folders: FolderMap): string {
  if (Object.hasOwn(folders, target)) return folders[target];
  const folder = folderOf(target, folders);
  return folder === undefined ? target : folders[folder] + target.slice(folder.length);
}

/** The real path of `path`, or of its nearest parent directory that exists. */
function realPath(path: string, files: Files): string {
  for (let at = path; ; at = dirname(at)) {
    try {
      return files.realPath(at);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || at === '/') throw error;
    }
  }
}

/**
 * Fails if `target` is in none of the folders, or leads out of its folder. `setting`: the configuration key that
 * lists the folders.
 */
export function mustBeMapped(target: string, folders: FolderMap, setting: string, files: Files): void {
  const refused = (why: string): Failure =>
    new Failure('not-trusted', `${target}, which the guest's configuration names, ${why}`);
  if (/(^|\/)\.\.?(\/|$)/.test(target)) throw refused('has "." or ".." in it');
  const folder = folderOf(target, folders);
  if (folder === undefined) {
    throw refused(
      `lies in no folder of "${setting}" in this host's configuration; what comes from another host, or from a file that was not saved here, must`,
    );
  }
  let real: string;
  let within: string;
  try {
    within = files.realPath(folders[folder]);
    real = realPath(pathHere(target, folders), files);
  } catch (error) {
    throw refused(`cannot be looked for: ${(error as Error).message}`);
  }
  if (real !== within && !real.startsWith(`${within}/`)) throw refused(`leads to ${real}, out of ${within}`);
}

/** Fails if the file that is open as `fd` lies in none of the folders (paths on this host). */
export function mustLieWithin(fd: number, folders: readonly string[], path: string): void {
  const real = readlinkSync(`/proc/self/fd/${fd}`);
  if (!folders.some((folder) => real.startsWith(`${realpathSync(folder)}/`)))
    throw new Failure('not-trusted', `${path} leads to ${real}, out of the folders of this host`);
}
