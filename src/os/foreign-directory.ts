/**
 * What a daemon does in a directory that belongs to a guest's user, where a name may lead anywhere, and elsewhere a
 * moment later. Invariant: the daemon creates nothing there, and uses a file only through a descriptor of the very
 * file that it has checked.
 */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readSync,
  rmdirSync,
  unlinkSync,
} from 'node:fs';
import net from 'node:net';
import { dirname } from 'node:path';

/** The value on all Linux architectures except alpha, parisc and sparc; Node does not define it. */
const O_PATH = 0o10000000;
/** A deeper tree was made to exhaust the daemon's descriptors. */
const MAX_DEPTH = 32;

/** File names are bytes and need not be valid text. */
const inside = (fd: number, name: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from(`/proc/self/fd/${fd}/`), name]);

/**
 * Connects to a guest process's socket. Undefined if no socket accepts a connection, or if the name belongs to a
 * link, to something other than a socket, or to a socket that the owner of the directory does not own.
 */
export function connectOwnSocket(path: string): Promise<net.Socket | undefined> {
  let fd: number;
  try {
    fd = openSync(path, O_PATH | constants.O_NOFOLLOW);
  } catch {
    return Promise.resolve(undefined);
  }
  const found = fstatSync(fd);
  if (!found.isSocket() || found.uid !== lstatSync(dirname(path)).uid) {
    closeSync(fd);
    return Promise.resolve(undefined);
  }
  return new Promise((resolve) => {
    const socket = net.connect({ path: `/proc/self/fd/${fd}` });
    const settled = (result: net.Socket | undefined): void => {
      closeSync(fd);
      resolve(result);
    };
    const failed = (): void => settled(undefined);
    socket.once('connect', () => {
      socket.off('error', failed);
      settled(socket);
    });
    socket.once('error', failed);
  });
}

/**
 * Removes a directory and everything in it, without following links. Does nothing if there is none. Throws if
 * something could not be removed.
 */
export function removeTree(path: string): void {
  try {
    if (lstatSync(path).isDirectory()) {
      emptyDirectory(path, MAX_DEPTH);
      rmdirSync(path);
    } else unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

function emptyDirectory(path: string | Buffer, depth: number): void {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    for (const name of readdirSync(`/proc/self/fd/${fd}`, { encoding: 'buffer' })) {
      const entry = inside(fd, name);
      if (!lstatSync(entry).isDirectory()) unlinkSync(entry);
      else if (depth === 0) throw new Error('directories are nested too deep to be removed');
      else {
        emptyDirectory(entry, depth - 1);
        rmdirSync(entry);
      }
    }
  } finally {
    closeSync(fd);
  }
}

/**
 * The text of a file that somebody else may have put there. If it is longer than `most` bytes, the result is its last
 * `most` bytes (`end`) or nothing (`beginning`). "" if there is no file, or if it is not an ordinary file with one
 * name. Never blocks and follows no link.
 */
export const readForeign = (path: string, most: number, from: 'beginning' | 'end' = 'beginning'): string =>
  readForeignBytes(path, most, from).toString('utf8');

/** The same, as bytes. */
export function readForeignBytes(path: string, most: number, from: 'beginning' | 'end'): Buffer {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return Buffer.alloc(0);
  }
  try {
    const stats = fstatSync(fd);
    if (!stats.isFile() || stats.nlink > 1) return Buffer.alloc(0);
    if (from === 'beginning' && stats.size > most) return Buffer.alloc(0);
    const bytes = Buffer.alloc(Math.min(most, stats.size));
    const length = readSync(fd, bytes, 0, bytes.length, from === 'end' ? stats.size - bytes.length : 0);
    return bytes.subarray(0, length);
  } catch {
    return Buffer.alloc(0);
  } finally {
    closeSync(fd);
  }
}
