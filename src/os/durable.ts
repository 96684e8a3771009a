/**
 * Small files that must survive a crash of the process or the machine: when these functions return, a file is
 * complete and on disk.
 */

import { dirname, join } from 'node:path';
import { parseJson } from '../protocol/json.js';
import { type Files, systemFiles } from './files.js';

const UNFINISHED = '.json.new';

export function syncDirectory(path: string, files = systemFiles): void {
  const fd = files.open(path, 'r');
  try {
    files.sync(fd);
  } finally {
    files.close(fd);
  }
}

/** When this returns the contents are on disk; the name may not be. */
export function writeSynced(path: string, text: string, files = systemFiles): void {
  const fd = files.open(path, 'w', 0o600);
  try {
    files.write(fd, text);
    files.sync(fd);
  } finally {
    files.close(fd);
  }
}

/** Replaces the file atomically: readers see the old or the new contents, never a part. */
export function writeDurable(path: string, value: unknown, files = systemFiles): void {
  const temporary = `${path}.new`;
  try {
    writeSynced(temporary, `${JSON.stringify(value)}\n`, files);
    files.rename(temporary, path);
  } catch (error) {
    files.remove(temporary);
    throw error;
  }
  syncDirectory(dirname(path), files);
}

/** Removes what a process that died in `writeDurable` has left. Only for directories that nobody else writes to. */
export function removeUnfinished(directory: string, files = systemFiles): void {
  for (const name of files.list(directory)) {
    if (name.endsWith(UNFINISHED)) files.remove(join(directory, name));
  }
}

export function removeDurable(path: string, files = systemFiles): void {
  files.remove(path);
  syncDirectory(dirname(path), files);
}

/** The value in the file, or undefined if there is none. Throws on a damaged file. */
export function readJson(path: string, files = systemFiles): unknown {
  let text: string;
  try {
    text = files.read(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  return parseJson(text);
}

const DAMAGED = '.damaged';

/**
 * The value in the file as `read` returns it, or undefined if there is no file. If the file cannot be read, or `read`
 * throws, the file is renamed so that its name says so, and `damaged` is called with a message: a small file that a
 * crash or a full disk has damaged must not stop the daemon, and it is kept because it may still be needed.
 */
export function readOrSetAside<T>(
  path: string,
  read: (value: unknown) => T,
  damaged: (message: string) => void,
  files = systemFiles,
): T | undefined {
  try {
    const value = readJson(path, files);
    return value === undefined ? undefined : read(value);
  } catch (error) {
    // No descriptor was left: nothing is wrong with the file.
    if (/^E[MN]FILE$/.test((error as NodeJS.ErrnoException).code ?? '')) throw error;
    const aside = freeName(`${path}${DAMAGED}`, files);
    let what = `set aside as ${aside}`;
    try {
      files.rename(path, aside);
    } catch (failed) {
      what = `and cannot be set aside: ${(failed as Error).message}`;
    }
    damaged(`${path} cannot be read (${(error as Error).message}); ${what}`);
    return undefined;
  }
}

function freeName(wanted: string, files: Files): string {
  for (let n = 1, name = wanted; ; name = `${wanted}.${++n}`) if (!files.exists(name)) return name;
}
