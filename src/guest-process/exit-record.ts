/** How a guest's process ended, on disk in its own directory, for a daemon that was not there to hear it. */
import { closeSync, fsyncSync, openSync, writeFileSync } from 'node:fs';
import { logLine } from '../os/log-output.js';
import { GUEST_FILES, type GuestExit } from '../protocol/guest-process.js';

/** Characters; what is longer is no longer what people read. */
export const MAX_DETAILS = 32 << 10;

/** On disk when this returns. Without room for it the process ends all the same: to who finds no word, it crashed. */
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
