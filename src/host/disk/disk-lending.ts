/**
 * How a guest's process that has the daemon's own user gets a disk while it runs. Such a process may open only the
 * files that were known at its start (src/control/domains/confinement.ts); a file that it is given later gets a
 * second name in the process's own directory.
 */
import { linkSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../../protocol/failure.js';

/** The second name of a disk that a guest gets while it runs; `directory`: the process's own. */
export const lentFile = (directory: string, devid: number): string => join(directory, 'disks', String(devid));

/**
 * The path at which the process finds the file at `path`; null if it is `path` itself. Fails if the file cannot be
 * passed to it.
 */
export function lendFile(directory: string, devid: number, path: string): string | null {
  // If something is wrong with it, opening it reports that.
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return null;
  const lent = lentFile(directory, devid);
  try {
    mkdirSync(join(directory, 'disks'), { recursive: true, mode: 0o700 });
    rmSync(lent, { force: true });
    linkSync(path, lent);
    return lent;
  } catch (error) {
    throw new Failure(
      'bad-state',
      `${path} cannot be given to a guest that runs (${(error as Error).message}): a daemon without root gives it files of ` +
        `the file system that ${directory} is on; a guest that has it in its configuration gets any`,
    );
  }
}

export function takeBackFile(directory: string, devid: number): void {
  rmSync(lentFile(directory, devid), { force: true });
}
