/** `stillpoint network-list`, in the columns of `xl network-list`, and what this host gave. */
import type { Command } from 'commander';
import { networkTable } from '../table.js';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'network-list <guest>', "list a guest's network interfaces").action(
    (guest: string, options: VerbOptions) =>
      withDaemon(options, async (client) => {
        const rows = await client.request('networkList', { guest });
        if (options.json === true) printJson(rows);
        else for (const line of networkTable(rows)) printLine(line);
      }),
  );
}
