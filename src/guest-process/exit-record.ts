/**
 * Records on disk how a guest's process ended, in the process's own directory, for a daemon that was not connected at
 * that time.
 */
import { closeSync, fsyncSync, openSync, writeFileSync } from 'node:fs';
import { logLine } from '../os/log-output.js';
import { GUEST_FILES, type GuestExit } from '../protocol/guest-process.js';

/** Maximum length of the details, characters; nobody reads more. */
export const MAX_DETAILS = 32 << 10;

/**
 * Writes the record; when this returns, it is on disk. If there is no room for it, the process ends nevertheless, and
 * a daemon that finds no record takes the end for a crash.
 */
export function recordExit(exit: GuestExit): void {
  try {
    const fd = openSync(GUEST_FILES.exit.name, 'w', 0o600);
    try {
      writeFileSync(fd, JSON.stringify({ ...exit, details: exit.details.slice(0, MAX_DETAILS) }));
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    logLine(`how this guest ended (${exit.reason}) cannot be written: ${(error as Error).message}`);
  }
}
