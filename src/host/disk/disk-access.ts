/**
 * A guest process that runs as a user of its own may open its guest's disks: the daemon, which is root then, gives that user
 * an entry in the access control list of each, and takes it out when the guest is gone. Owner, group and the rights of all
 * others stay as they are, so that what one host does to an image harms nobody who has it elsewhere.
 *
 * Invariants: a file is opened and checked (what it is, its format, its lock) before anything about it is changed, and it is
 * the open file that is changed. What was changed is written down before, and is undone when the guest does not stay.
 * What an image itself names as lying beneath it is given only in folders that the host's configuration has for that.
 */
import { constants, fchownSync, readlinkSync, type Stats } from 'node:fs';
import { type FileHandle, open, realpath, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { flock } from '../../os/flock.js';
import { type FolderMap, pathHere } from '../../os/folder-map.js';
import { ACL_READ, ACL_WRITE, Acl, type AclCalls, aclCalls } from '../../os/posix-acl.js';
import { Failure } from '../../protocol/failure.js';
import type { DiskFormat, DiskSpec } from '../../protocol/guest-config.js';
import type { GivenAccess } from '../images.js';
import { beneath, isFormat, isProtocol, namedBeneath } from './image-chain.js';
import { isNbd } from './nbd-address.js';

/** What matters of a disk here. */
export type DiskNamed = Pick<DiskSpec, 'target' | 'format' | 'readOnly'>;

export interface DiskGiver {
  /** The guest process's user. */
  readonly uid: number;
  readonly folders: FolderMap;
  /** Folders whose files an image may name as lying beneath it. */
  readonly backing: readonly string[];
  /** What has been given to this guest. */
  readonly given: readonly GivenAccess[];
  /** Fails where what was opened for a disk's target is not where this host lets that be. */
  opened?(fd: number, target: string): void;
  /** Puts this on disk. Called before a file is changed. */
  record(given: readonly GivenAccess[]): void;
}

const MOST_BENEATH = 32;
const O_PATH = 0o10000000;

/** Gives these disks. When this fails, nothing is changed. */
export async function giveDisks(giver: DiskGiver, disks: readonly DiskNamed[]): Promise<void> {
  const before = giver.given;
  let given = before;
  const recording: DiskGiver = {
    ...giver,
    get given() {
      return given;
    },
    record(all) {
      giver.record(all);
      given = all;
    },
  };
  try {
    for (const { target, format, readOnly } of disks) {
      if (format === 'empty' || isNbd(target) || !target.startsWith('/')) continue;
      await giveImage(recording, pathHere(target, giver.folders), format, readOnly, (fd) =>
        giver.opened?.(fd, target),
      );
    }
  } catch (error) {
    await takeBack(
      giver.uid,
      given.filter((one) => !before.includes(one)),
    );
    giver.record(before);
    throw error;
  }
}

async function giveImage(
  giver: DiskGiver,
  path: string,
  format: DiskFormat,
  readOnly: boolean,
  opened: (fd: number) => void,
): Promise<void> {
  const name = format === 'raw' ? `disk ${path}` : `disk ${path} (${format})`;
  const file = await openFile(path, name, readOnly ? constants.O_RDONLY : constants.O_RDWR);
  try {
    opened(file.fd);
    if (file.stats.isFile() && file.stats.size === 0)
      throw new Failure('bad-config', `${name}: the file is empty`);
    if (format === 'raw') {
      // Whoever has it open is told by the guest's process too; but by then it would have been given.
      if ((await flock(file.fd, readOnly)) === 'taken')
        throw new Failure('bad-state', `${name}: another guest, here or on another host, has it open`);
    } else if (!isFormat(format, file.fd, file.stats.size))
      throw new Failure('bad-config', `${name}: the image is not in ${format} format`);
    await give(giver, file, path, readOnly ? ACL_READ : ACL_READ | ACL_WRITE);
    await giveBeneath(giver, file.fd, path, format, readOnly, { left: MOST_BENEATH });
  } finally {
    await file.handle.close();
  }
}

async function giveBeneath(
  giver: DiskGiver,
  fd: number,
  path: string,
  format: DiskFormat,
  readOnly: boolean,
  count: { left: number },
): Promise<void> {
  for (const { name, kind, format: under } of beneath(format, fd)) {
    const below = resolve(dirname(readlinkSync(`/proc/self/fd/${fd}`)), name);
    const what = `disk ${path}: its ${kind} file ${below}`;
    if (--count.left < 0)
      throw new Failure('bad-config', `disk ${path}: more than ${MOST_BENEATH} files lie beneath it`);
    const file = await openFile(below, what);
    try {
      const wanted = kind === 'backing' || readOnly ? ACL_READ : ACL_READ | ACL_WRITE;
      if (!(await may(giver.uid, file, wanted))) {
        const real = readlinkSync(`/proc/self/fd/${file.fd}`);
        if (!giver.backing.some((folder) => real.startsWith(`${folder}/`)))
          throw new Failure(
            'bad-config',
            `${what} is not open to the guest's user, and the image itself names it: ` +
              (wanted === ACL_READ ? `let others read it (chmod o+r ${below}), or ` : '') +
              'name its folder under "backing" in the configuration of this host',
          );
        await give(giver, file, below, wanted);
      }
      const known = ['qcow', 'qcow2', 'qed'].find((f) =>
        under === '' ? isFormat(f as DiskFormat, file.fd, file.stats.size) : under === f,
      );
      if (known !== undefined) await giveBeneath(giver, file.fd, below, known as DiskFormat, true, count);
    } finally {
      await file.handle.close();
    }
  }
}

/**
 * Fails where an image of somebody else's names a file beneath it that lies in none of the folders, whoever could open
 * that: it would be read for a guest of his. An image that is not there names nothing.
 */
export async function mustNameWithin(
  path: string,
  format: DiskFormat,
  folders: readonly string[],
): Promise<void> {
  const real = await Promise.all(folders.map((folder) => realpath(folder).catch(() => folder)));
  let left = MOST_BENEATH;
  const look = async (file: OpenFile, as: DiskFormat): Promise<void> => {
    for (const { name, kind, format: under } of namedBeneath(as, file.fd)) {
      const what = `disk ${path}: its ${kind} file ${name}`;
      if (isProtocol(name))
        throw new Failure('not-trusted', `${what} is behind a protocol, and the image itself names it`);
      if (--left < 0)
        throw new Failure('bad-config', `disk ${path}: more than ${MOST_BENEATH} files lie beneath it`);
      const below = await openFile(resolve(dirname(readlinkSync(`/proc/self/fd/${file.fd}`)), name), what);
      try {
        const place = readlinkSync(`/proc/self/fd/${below.fd}`);
        if (!real.some((folder) => place.startsWith(`${folder}/`)))
          throw new Failure(
            'not-trusted',
            `${what} leads to ${place}, which is in no folder of "images" or "backing" in this host's configuration; the image itself names it, and it is another host's`,
          );
        const known = (['qcow', 'qcow2', 'qed'] as const).find((f) =>
          under === '' ? isFormat(f, below.fd, below.stats.size) : under === f,
        );
        // What QEMU would guess, or other formats, may name more files than are looked at here.
        if (known === undefined && under !== 'raw')
          throw new Failure('not-trusted', `${what} must be said to be raw, qcow, qcow2 or qed`);
        if (known !== undefined) await look(below, known);
      } finally {
        await below.handle.close();
      }
    }
  };
  const there = await stat(path).catch(() => undefined);
  if (there === undefined) return;
  const file = await openFile(path, `disk ${path}`);
  try {
    await look(file, format);
  } finally {
    await file.handle.close();
  }
}

interface OpenFile {
  readonly handle: FileHandle;
  readonly fd: number;
  readonly stats: Stats;
}

/** Opens a file or a block device, and nothing else: others may do something when they are opened. */
async function openFile(path: string, name: string, mode: number = constants.O_RDONLY): Promise<OpenFile> {
  let at: FileHandle | undefined;
  try {
    at = await open(path, O_PATH);
    const stats = await at.stat();
    if (!stats.isFile() && !stats.isBlockDevice())
      throw new Failure('bad-config', `${name}: neither a file nor a block device`);
    const handle = await open(`/proc/self/fd/${at.fd}`, mode | constants.O_NONBLOCK);
    return { handle, fd: handle.fd, stats };
  } catch (error) {
    if (error instanceof Failure) throw error;
    const { message } = error as Error;
    throw new Failure(
      'bad-config',
      `${name}: ${at === undefined ? message : message.replaceAll(`/proc/self/fd/${at.fd}`, path)}`,
    );
  } finally {
    await at?.close();
  }
}

const listOf = (calls: AclCalls, { fd, stats }: OpenFile): Acl => calls.read(fd) ?? Acl.ofMode(stats.mode);

/** The list, or undefined where the file system has none. */
async function aclOf(file: OpenFile): Promise<{ calls: AclCalls; acl: Acl } | undefined> {
  const calls = await aclCalls();
  if (calls === undefined) return undefined;
  try {
    return { calls, acl: listOf(calls, file) };
  } catch {
    return undefined;
  }
}

/** Whether the user may open it so: as its owner, by an entry of its own, or as anybody. */
async function may(uid: number, file: OpenFile, wanted: number): Promise<boolean> {
  const { stats } = file;
  const has = (perm: number): boolean => (perm & wanted) === wanted;
  if (stats.uid === uid) return has((stats.mode >> 6) & 7);
  const own = (await aclOf(file))?.acl.permissionsOf(uid);
  return own === undefined ? has(stats.mode & 7) : has(own);
}

async function give(giver: DiskGiver, file: OpenFile, path: string, perm: number): Promise<void> {
  const { uid } = giver;
  const { dev, ino, uid: owner, gid } = file.stats;
  const known = giver.given.find((one) => one.dev === dev && one.ino === ino);
  // The same file by another name: an image that has come has got its own.
  if (known !== undefined && known.path !== path)
    giver.record(giver.given.map((one) => (one === known ? { ...one, path } : one)));
  const before = giver.given;
  const record = (how: GivenAccess['how']): void => {
    if (known === undefined) giver.record([...before, { path, dev, ino, how, perm, uid: owner, gid }]);
  };
  const own = (await aclOf(file))?.acl.permissionsOf(uid);
  if (await may(uid, file, perm)) {
    if (own !== undefined || owner === uid) record('found');
    return;
  }
  record(own === undefined ? 'entry' : 'found');
  if (await addEntry(uid, file, perm)) return;
  giver.record(before);
  record('owner');
  fchownSync(file.fd, uid, uid);
}

/** False where the file system has no lists. */
async function addEntry(uid: number, file: OpenFile, perm: number): Promise<boolean> {
  const list = await aclOf(file);
  if (list === undefined) return false;
  list.acl.allow(uid, perm | (list.acl.permissionsOf(uid) ?? 0));
  try {
    list.calls.write(file.fd, list.acl);
    return true;
  } catch {
    return false;
  }
}

/** Undoes what was given, as far as the files are still those. */
export async function takeBack(uid: number, given: readonly GivenAccess[]): Promise<void> {
  for (const one of given) {
    if (one.how === 'found') continue;
    await onFile(one, async (file) => {
      if (one.how === 'owner') {
        if (file.stats.uid === uid) fchownSync(file.fd, one.uid, one.gid);
        return;
      }
      const list = await aclOf(file);
      if (list?.acl.permissionsOf(uid) === undefined) return;
      list.acl.forget(uid);
      list.calls.write(file.fd, list.acl);
    });
  }
}

/**
 * The guest now belongs to this host alone: access that was found there becomes its own, and is given again if
 * somebody has taken it away meanwhile. Returns the updated list.
 */
export async function keepDisks(uid: number, given: readonly GivenAccess[]): Promise<GivenAccess[]> {
  const kept: GivenAccess[] = [];
  for (const one of given) {
    let { how } = one;
    await onFile(one, async (file) => {
      if (!(await may(uid, file, one.perm))) {
        how = 'owner';
        if (await addEntry(uid, file, one.perm)) how = 'entry';
        else fchownSync(file.fd, uid, uid);
      } else if (how === 'found') how = file.stats.uid === uid ? 'owner' : 'entry';
    });
    kept.push({ ...one, how });
  }
  return kept;
}

async function onFile(
  { path, dev, ino }: GivenAccess,
  act: (file: OpenFile) => Promise<void>,
): Promise<void> {
  let file: OpenFile;
  try {
    file = await openFile(path, path);
  } catch {
    // It is gone, and what was given with it.
    return;
  }
  try {
    if (file.stats.dev === dev && file.stats.ino === ino) await act(file);
  } catch {
    // A file system that is read-only by now, or gone.
  } finally {
    await file.handle.close();
  }
}
