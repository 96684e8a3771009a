/** Small files that must survive a crash of process or machine: whole and on disk when these return. */
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

const UNFINISHED = '.json.new';

export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** Replaces the file at once: readers see the old or the new contents, never a part. */
export function writeDurable(path: string, value: unknown): void {
  const temporary = `${path}.new`;
  const fd = openSync(temporary, 'w', 0o600);
  try {
    try {
      writeSync(fd, `${JSON.stringify(value)}\n`);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
  syncDirectory(dirname(path));
}

/** Removes what a writer that died in `writeDurable` left. For directories that nobody else writes to. */
export function removeUnfinished(directory: string): void {
  for (const name of readdirSync(directory)) {
    if (name.endsWith(UNFINISHED)) rmSync(join(directory, name), { force: true });
  }
}

export function removeDurable(path: string): void {
  rmSync(path, { force: true });
  syncDirectory(dirname(path));
}

/** The value in the file, or undefined where there is none. Throws on a damaged one. */
export function readJson<T>(path: string): T | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  return JSON.parse(text) as T;
}

const DAMAGED = '.damaged';

/**
 * The value in the file as `read` takes it, or undefined where there is none. One that cannot be read, or that `read`
 * throws at, is set aside under a name that says so, and `damaged` is told of it: a small file that a crash or a full
 * disk has spoilt keeps nobody from his work, and nobody throws away what may yet be looked at.
 */
export function readOrSetAside<T>(
  path: string,
  read: (value: unknown) => T,
  damaged: (message: string) => void,
): T | undefined {
  try {
    const value = readJson<unknown>(path);
    return value === undefined ? undefined : read(value);
  } catch (error) {
    // For want of descriptors: nothing is wrong with the file.
    if (/^E[MN]FILE$/.test((error as NodeJS.ErrnoException).code ?? '')) throw error;
    const aside = freeName(`${path}${DAMAGED}`);
    let what = `set aside as ${aside}`;
    try {
      renameSync(path, aside);
    } catch (failed) {
      what = `and cannot be set aside: ${(failed as Error).message}`;
    }
    damaged(`${path} cannot be read (${(error as Error).message}); ${what}`);
    return undefined;
  }
}

function freeName(wanted: string): string {
  for (let n = 1, name = wanted; ; name = `${wanted}.${++n}`) if (!existsSync(name)) return name;
}

/**
 * The text of a file that somebody else may have put there: of one that is longer than `most` bytes the last of them
 * (`end`), or nothing. "" where there is none, or what is there is no ordinary file of one name. Never waits, follows
 * no link.
 */
export function readForeign(path: string, most: number, from: 'beginning' | 'end' = 'beginning'): string {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return '';
  }
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile() || stats.nlink > 1) return '';
    if (from === 'beginning' && stats.size > most) return '';
    const bytes = Buffer.alloc(Math.min(most, stats.size));
    const length = readSync(fd, bytes, 0, bytes.length, from === 'end' ? stats.size - bytes.length : 0);
    return bytes.toString('utf8', 0, length);
  } catch {
    return '';
  } finally {
    closeSync(fd);
  }
}
