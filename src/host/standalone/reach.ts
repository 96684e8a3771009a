/** What a guest's process has to reach of a host without Xen: the files of its disks, and the sockets of its links. */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { parseLinkAddress } from '../../net/links/address.js';
import type { DiskSpec } from '../../protocol/guest-config.js';
import type { HostReach } from '../platform.js';

interface Disk extends DiskSpec {
  /** Path here; "" for one behind NBD, and for an empty drive. */
  readonly path: string;
}

/** `pathOf`: where the file of a disk's target is. */
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

/** Of what an image has beside the disk's contents: at most a part of them, and so much, in bytes. */
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
