/**
 * How a guest's process that has our own user gets a disk while it runs. It may open what it was told at its start, and
 * nothing else (confinement.ts); a file that it is given later gets a second name, in the process's own directory.
 */
import { linkSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { DeviceConfig } from '../../helper/devices.js';
import { type ImageFolders, placeOf } from '../../host/standalone/disk/image-folders.js';
import { Failure } from '../../protocol/failure.js';
import { readDiskSpec } from '../../protocol/guest-config.js';
import type { Domain } from '../domains/domain.js';

/** The second name of a disk that a guest gets while it runs. */
export const lentName = (domain: Domain, devid: number): string =>
  join(domain.directory, 'disks', String(devid));

/** Where the process finds the file of this disk; null: where it is. Fails where it can be given none. */
export function lendDisk(
  domain: Domain,
  { kind, devid, spec }: DeviceConfig,
  folders: ImageFolders,
): string | null {
  if (kind !== 'vbd') return null;
  const { target } = readDiskSpec(spec);
  if (!target.startsWith('/')) return null;
  const path = placeOf(target, folders);
  // What is wrong with it is said when it is opened.
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return null;
  const lent = lentName(domain, devid);
  try {
    mkdirSync(join(domain.directory, 'disks'), { recursive: true, mode: 0o700 });
    rmSync(lent, { force: true });
    linkSync(path, lent);
    return lent;
  } catch (error) {
    throw new Failure(
      'bad-state',
      `${path} cannot be given to a guest that runs (${(error as Error).message}): a daemon without root gives it files of ` +
        `the file system that ${domain.directory} is on; a guest that has it in its configuration gets any`,
    );
  }
}

export function takeBackDisk(domain: Domain, { kind, devid }: DeviceConfig): void {
  if (kind === 'vbd') rmSync(lentName(domain, devid), { force: true });
}
