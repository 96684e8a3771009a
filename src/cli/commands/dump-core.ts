/** `stillpoint dump-core`: a guest's memory and registers in a file for `crash`, as `xl dump-core` writes it. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'dump-core <guest> <file>', "write a guest's core; it stands still meanwhile").action(
    (guest: string, file: string, options: VerbOptions) =>
      withDaemon(options, async (client) => {
        const path = resolve(file);
        const { bytes } = await client.request('dumpCore', { guest, path });
        if (options.json === true) printJson({ guest, path, bytes });
        else printLine(`${path}: ${(bytes / 1e6).toFixed(1)} MB`);
      }),
  );
}
