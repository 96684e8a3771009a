/**
 * Where this host has its image of GRUB, with which guests boot from their own disks. It is not part of Stillpoint:
 * `npm run grub` makes it of Debian's packages, with its licence beside it. Debian's own build (the package
 * grub-xen-host) serves where there is no other.
 */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Failure } from '../protocol/failure.js';

export const BOOT_LOADER_FILE = 'grub-x86_64-xen.bin';
/** The setting of the environment that names a file and comes before all places. */
export const BOOT_LOADER_VARIABLE = 'STILLPOINT_BOOT_LOADER';

const beside = (folder: string): string => fileURLToPath(new URL(`../../${folder}`, import.meta.url));

/** In this order. The first is part of an installed package, the second of a work tree. */
const places = (): string[] =>
  [
    beside('boot-loader'),
    beside('.cache/boot-loader/current'),
    '/usr/local/lib/stillpoint',
    '/usr/lib/stillpoint',
    '/usr/lib/grub-xen',
  ].map((folder) => `${folder}/${BOOT_LOADER_FILE}`);

/** The image's path. Throws a Failure that says what to install. */
export function findBootLoader(exists: (path: string) => boolean = existsSync): string {
  const given = process.env[BOOT_LOADER_VARIABLE];
  if (given) {
    if (exists(given)) return given;
    throw new Failure('bad-config', `${BOOT_LOADER_VARIABLE} names ${given}, which does not exist`);
  }
  const all = places();
  const found = all.find((path) => exists(path));
  if (found !== undefined) return found;
  throw new Failure(
    'bad-config',
    `a guest that boots from its own disk needs GRUB, and this host has none at ${all.join(', ')}. ` +
      '"npm run grub" makes it in a work tree of Stillpoint; of Debian and Ubuntu, the package grub-xen-host has one',
  );
}
