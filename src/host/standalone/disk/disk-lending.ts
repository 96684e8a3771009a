/**
 * How a guest's process that has the daemon's own user gets a disk while it runs. It may open what it was told at its start,
 * and nothing else (src/control/domains/confinement.ts); a file that it is given later gets a second name, in the process's
 * own directory.
 */
import { linkSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../../../protocol/failure.js';

/** The second name of a disk that a guest gets while it runs; `directory`: the process's own. */
export const lentFile = (directory: string, devid: number): string => join(directory, 'disks', String(devid));

/** Where the process finds the file at `path`; null: there. Fails where it can be given none. */
export function lendFile(directory: string, devid: number, path: string): string | null {
  // What is wrong with it is said when it is opened.
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
