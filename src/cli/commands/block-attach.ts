/** `stillpoint block-attach`: a disk for a running guest. */
import type { Command } from 'commander';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'block-attach <guest> <disk...>', "plug in a disk; in xl's syntax").action(
    (guest: string, disk: string[], options: VerbOptions) =>
      withDaemon(options, async (client) => {
        const made = await client.request('blockAttach', {
          guest,
          spec: disk.join(','),
        });
        if (options.json === true) printJson(made);
        else printLine(`vbd ${made.devid}: ${made.vdev}`);
      }),
  );
}
