/** `stillpoint crashes`: what is kept of guests that crashed. */
import type { Command } from 'commander';
import { crashTable } from '../table.js';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'crashes [guest]', 'list what is kept of guests that crashed: consoles and cores').action(
    (guest: string | undefined, options: VerbOptions) =>
      withDaemon(options, async (client) => {
        const all = await client.request('crashes', {});
        const rows = all.filter(({ name, uuid }) => guest === undefined || guest === name || guest === uuid);
        if (options.json === true) printJson(rows);
        else for (const line of crashTable(rows)) printLine(line);
      }),
  );
}
