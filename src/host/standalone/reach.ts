/**
 * What a guest's process must be able to reach on a host without Xen: the files of its disks, and the sockets
 * of its links.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { parseLinkAddress } from '../../net/links/address.js';
import type { DiskSpec } from '../../protocol/guest-config.js';
import type { HostReach } from '../platform.js';

interface Disk extends DiskSpec {
  /** The path of the disk's file on this host. It is "" for a disk behind NBD and for an empty drive. */
  readonly path: string;
}

/**
 * What the sandbox of a guest with these disks and networks lets through. `pathOf` maps a disk's target to
 * the path of its file on this host.
 */
export function standaloneReach(
  specs: readonly DiskSpec[],
  networks: Readonly<Record<string, string>>,
  pathOf: (target: string) => string,
): HostReach {
  const disks = specs.map((disk): Disk => {
    const path = disk.target.startsWith('/') ? pathOf(disk.target) : '';
    return { ...disk, path };
  });
  const files = disks.filter(({ path }) => path !== '');
  return {
    writable: files.filter(({ readOnly }) => !readOnly).map(({ path }) => path),
    readable: files.map(({ path }) => path),
    sockets: [...networkSockets(networks), ...disks.flatMap(nbdSocket)],
    longestFile: longestFile(files),
  };
}

function networkSockets(networks: Readonly<Record<string, string>>): string[] {
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

/**
 * The file of a qcow2 image also holds metadata. At most an eighth of the disk's size and this number of
 * bytes are allowed for it.
 */
const IMAGE_MARGIN = 256 << 20;

function longestFile(disks: readonly Disk[]): number | undefined {
  let most = 0;
  for (const { path, format, readOnly } of disks) {
    if (readOnly || format === 'empty') continue;
    const bytes = format === 'raw' ? fileBytes(path) : format === 'qcow2' ? qcow2Bytes(path) : undefined;
    if (bytes === undefined) return undefined;
    most = Math.max(most, format === 'raw' ? bytes : bytes + bytes / 8 + IMAGE_MARGIN);
  }
  return Math.ceil(most);
}

function fileBytes(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/** The offset of the disk's size in the header of a qcow2 image (QEMU, docs/interop/qcow2.rst). */
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
