/** `stillpoint uptime`, in the columns of `xl uptime`. */
import type { Command } from 'commander';
import { uptimeTable } from '../table.js';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'uptime [guest]', 'print for how long guests have been running').action(
    (guest: string | undefined, options: VerbOptions) =>
      withDaemon(options, async (client) => {
        const rows =
          guest === undefined
            ? await client.request('list', {})
            : [await client.request('domain', { guest })];
        if (options.json === true) printJson(rows);
        else for (const line of uptimeTable(rows)) printLine(line);
      }),
  );
}
