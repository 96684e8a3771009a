/** `stillpoint list`, in the columns of `xl list`. */
import type { Command } from 'commander';
import { listTable } from '../table.js';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'list [guest]', 'list guests').action((guest: string | undefined, options: VerbOptions) =>
    withDaemon(options, async (client) => {
      const rows =
        guest === undefined ? await client.request('list', {}) : [await client.request('domain', { guest })];
      if (options.json === true) printJson(rows);
      else for (const line of listTable(rows)) printLine(line);
    }),
  );
}
