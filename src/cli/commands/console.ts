/** `stillpoint console`: a guest's console on this terminal. Ctrl-] leaves. */
import type { Command } from 'commander';
import { attachConsole } from '../console.js';
import { type VerbOptions, verb } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'console <guest>', "attach to a guest's console; Ctrl-] leaves").action(
    (guest: string, options: VerbOptions) => attachConsole(guest, options),
  );
}
