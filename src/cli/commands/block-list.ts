/** `stillpoint block-list`, in the columns of `xl block-list`, and what this host gave. */
import type { Command } from 'commander';
import { diskTable } from '../table.js';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'block-list <guest>', "list a guest's disks").action((guest: string, options: VerbOptions) =>
    withDaemon(options, async (client) => {
      const rows = await client.request('blockList', { guest });
      if (options.json === true) printJson(rows);
      else for (const line of diskTable(rows)) printLine(line);
    }),
  );
}
