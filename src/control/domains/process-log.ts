/**
 * What guests' processes print: one file for each process, in a directory that only the daemon can reach. The process
 * has only an open descriptor in append mode.
 *
 *     logs/DOMID.log     the latest output
 *     logs/DOMID.log.1   the end of the output before it
 *
 * Invariant: the daemon cuts a log that has grown beyond CUT_BYTES. While a process is not connected to a daemon, it
 * stops writing when its log has reached MOST_LOG_BYTES.
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
import { CONSOLE_LOG } from '../../guest-process/guest-files.js';
import { readForeign, readForeignBytes } from '../../os/foreign-directory.js';
import { printable } from '../../protocol/printable.js';

const CUT_BYTES = 1 << 20;
/** How much of the end is kept when a log is cut. */
const KEPT_BYTES = 256 << 10;
const LINE_BYTES = 16 << 10;
const MAX_LINE = 2000;

/** Cuts the log if it is too long. */
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
    // The disk is full: the log is cut the next time.
  } finally {
    closeSync(fd);
  }
}

/** How much of each file is kept; the guest's process cuts its console at 4 MiB. */
const MOST_KEPT_BYTES = 8 << 20;

/** Copies what a process and its guest have printed into a directory that only the daemon can reach. */
export function keepLogs({ directory, log }: { directory: string; log: string }, into: string): void {
  const logs = [
    [join(directory, `${CONSOLE_LOG}.1`), `${CONSOLE_LOG}.1`],
    [join(directory, CONSOLE_LOG), CONSOLE_LOG],
    [`${log}.1`, 'process.log.1'],
    [log, 'process.log'],
  ];
  for (const [from, name] of logs) {
    const bytes = readForeignBytes(from, MOST_KEPT_BYTES, 'end');
    if (bytes.length > 0) writeFileSync(join(into, name), bytes, { mode: 0o600 });
  }
}

/** The last line of the log, escaped; "" if there is none. */
export function lastLine(path: string): string {
  const text = readForeign(path, LINE_BYTES, 'end').trimEnd();
  return printable(text.slice(text.lastIndexOf('\n') + 1), MAX_LINE);
}

/**
 * Bytes that a directory and its subdirectories use, without the names in `except`. At most `most` names are looked
 * at.
 */
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
      // The file was removed meanwhile.
    }
  };
  visit(path);
  return size;
}

/** The unit of st_blocks, bytes. */
const BLOCK = 512;
