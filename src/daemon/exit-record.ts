/** How a guest's process ended, on disk in its own directory, for a daemon that was not there to hear it. */
import { closeSync, fsyncSync, openSync, writeFileSync } from 'node:fs';
import { EXIT_FILE, type GuestExit } from './guest-protocol.js';
import { logLine } from './log-output.js';

/** On disk when this returns. Without room for it the process ends all the same: to who finds no word, it crashed. */
export function recordExit(exit: GuestExit): void {
  try {
    const fd = openSync(EXIT_FILE, 'w', 0o600);
    try {
      writeFileSync(fd, JSON.stringify(exit));
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    logLine(`how this guest ended (${exit.reason}) cannot be written: ${(error as Error).message}`);
  }
}
