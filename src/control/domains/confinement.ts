/**
 * What a guest's process may have on this host: the limits on it, and, on a daemon without root, whose guests all have
 * one user, the files and sockets that are its own. From what the daemon knows, never from what the process says.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import type { LauncherOptions } from '../../guest-process/guest-launcher.js';
import type { DeviceConfig } from '../../helper/devices.js';
import { placeOf } from '../../host/standalone/disk/image-folders.js';
import { parseLinkAddress } from '../../net/links/address.js';
import type { VisibleFiles } from '../../os/sandbox.js';
import { type DiskSpec, readDiskSpec } from '../../protocol/guest-config.js';
import type { HostConfig } from '../host-config.js';

export interface Confined {
  /** The daemon's directory. */
  readonly dir: string;
  readonly config: HostConfig;
  /** The process's user, undefined where it is ours. */
  readonly uid: number | undefined;
  /** The guest's; undefined where they are not known yet. */
  readonly devices: readonly DeviceConfig[] | undefined;
  /** Images that were made for disks that come with it. */
  readonly images: readonly string[];
  readonly unconfined: boolean;
}

interface Disk extends DiskSpec {
  /** Path here; "" for one behind NBD, and for an empty drive. */
  readonly path: string;
}

export function confinementOf(c: Confined): Omit<LauncherOptions, 'runner'> {
  const disks = c.devices
    ?.filter(({ kind }) => kind === 'vbd')
    .map(({ spec }) => readDiskSpec(spec))
    .map((disk): Disk => ({ ...disk, path: pathOf(disk, c.config) }));
  return {
    files: c.uid === undefined ? filesOf(c, disks) : null,
    limits: {
      // A limit on a user's processes is a limit on the guest's only where the user is the guest's own.
      processes: c.uid === undefined ? undefined : c.config.guestProcesses,
      fileBytes: disks === undefined ? undefined : mostFileBytes(disks, c.config.guestFileMib),
    },
    unconfined: c.unconfined,
  };
}

function pathOf({ target }: DiskSpec, { images }: HostConfig): string {
  return target.startsWith('/') ? placeOf(target, images) : '';
}

function filesOf({ dir, config, images }: Confined, disks: readonly Disk[] | undefined): VisibleFiles {
  const files = (disks ?? []).filter(({ path }) => path !== '');
  return {
    hidden: dir,
    writable: [
      ...files.filter(({ readOnly }) => !readOnly).map(({ path }) => path),
      ...images,
      ...config.guestFolders,
    ],
    readable: files.map(({ path }) => path),
    sockets: [...networkSockets(config), ...(disks ?? []).flatMap(nbdSocket)],
    anyDisk: disks === undefined,
  };
}

function networkSockets({ networks }: HostConfig): string[] {
  return Object.values(networks).flatMap((link) => {
    const address = parseLinkAddress(link);
    return 'to' in address && 'path' in address.to ? [address.to.path] : [];
  });
}

function nbdSocket({ target }: DiskSpec): string[] {
  const query = /^nbds?\+unix:[^?]*\?(.*)$/.exec(target)?.[1];
  const socket = query === undefined ? null : new URLSearchParams(query).get('socket');
  return socket === null ? [] : [socket];
}

const MIB = 1 << 20;
/** Of what an image has beside the disk's contents: at most a part of them, and so much. */
const IMAGE_MARGIN = 256 * MIB;

/** No file that the process writes is longer than its longest disk, or than `leastMib`. Undefined where that is not known. */
function mostFileBytes(disks: readonly Disk[], leastMib: number): number | undefined {
  let most = leastMib * MIB;
  for (const { path, format, readOnly } of disks) {
    if (readOnly || path === '' || format === 'empty') continue;
    const bytes = format === 'raw' ? fileBytes(path) : format === 'qcow2' ? qcow2Bytes(path) : undefined;
    if (bytes === undefined) return undefined;
    most = Math.max(most, format === 'raw' ? bytes : bytes + bytes / 8 + IMAGE_MARGIN);
  }
  return Math.ceil(most);
}

function fileBytes(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/** Where the header of a qcow2 image has the size of its disk: QEMU, docs/interop/qcow2.rst. */
const QCOW2_SIZE = 24;

function qcow2Bytes(path: string): number | undefined {
  try {
    const fd = openSync(path, 'r');
    try {
      const header = Buffer.alloc(QCOW2_SIZE + 8);
      readSync(fd, header, 0, header.length, 0);
      return Number(header.readBigUInt64BE(QCOW2_SIZE));
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
}
