/**
 * What a daemon does in a directory that belongs to a guest's user, where a name may lead anywhere, and may lead
 * elsewhere a moment later. Invariant: nothing is made there by the daemon, and nothing is used but by a descriptor
 * of the very file that was looked at.
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

/** Of Linux, on all of its architectures but alpha, parisc and sparc; Node does not name it. */
const O_PATH = 0o10000000;
/** A tree that is deeper was made to exhaust our descriptors. */
const MAX_DEPTH = 32;

/** Names are bytes: they need not be text. */
const inside = (fd: number, name: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from(`/proc/self/fd/${fd}/`), name]);

/**
 * Connects to a guest process's socket. Undefined where there is none that takes a connection, or where what has its
 * name is a link, no socket, or not its directory's owner's.
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

/** Removes a directory and all in it, following no link. Nothing where there is none. Throws where it is not empty then. */
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
