/**
 * What guests' processes print, one file for each in a directory that only the daemon can reach; the process has an
 * open descriptor that appends, and nothing else of it.
 *
 *     logs/DOMID.log     the latest
 *     logs/DOMID.log.1   the end of what was before it
 *
 * Invariant: the daemon cuts a log that has grown beyond CUT_BYTES; a process that has not been taken over writes no
 * more into one of MOST_LOG_BYTES until then.
 */
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  lstatSync,
  opendirSync,
  openSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { readForeign } from '../../os/foreign-directory.js';
import { printable } from '../../protocol/printable.js';

const CUT_BYTES = 1 << 20;
/** Of what is cut, so much of its end is kept. */
const KEPT_BYTES = 256 << 10;
const LINE_BYTES = 16 << 10;
const MAX_LINE = 2000;

/** Cuts the log if it has grown. */
export function cutLog(path: string): void {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return;
  }
  try {
    if (fstatSync(fd).size < CUT_BYTES) return;
    writeFileSync(`${path}.1`, readForeign(path, KEPT_BYTES, 'end'), { mode: 0o600 });
    ftruncateSync(fd);
  } catch {
    // A full disk: the next time.
  } finally {
    closeSync(fd);
  }
}

/** The last line in it, escaped; "" if there is none. */
export function lastLine(path: string): string {
  const text = readForeign(path, LINE_BYTES, 'end').trimEnd();
  return printable(text.slice(text.lastIndexOf('\n') + 1), MAX_LINE);
}

/** What a directory and those in it take up, but for `except`. Not more than `most` names are looked at. */
export function sizeOfDirectory(
  path: string,
  most: number,
  except: ReadonlySet<string>,
): { bytes: number; names: number } {
  const size = { bytes: 0, names: 0 };
  const visit = (directory: string): void => {
    try {
      const open = opendirSync(directory);
      try {
        for (let entry = open.readSync(); entry !== null && size.names <= most; entry = open.readSync()) {
          size.names++;
          const one = join(directory, entry.name);
          const stats = lstatSync(one, { throwIfNoEntry: false });
          if (stats?.isDirectory() === true) visit(one);
          else if (stats !== undefined && !except.has(one)) size.bytes += stats.blocks * BLOCK;
        }
      } finally {
        open.closeSync();
      }
    } catch {
      // It went meanwhile.
    }
  };
  visit(path);
  return size;
}

/** Of st_blocks. */
const BLOCK = 512;
