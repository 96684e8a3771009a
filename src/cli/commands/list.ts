/** `stillpoint list`, in the columns of `xl list`; with --all also the guests that do not run. */
import type { Command } from 'commander';
import { definedTable, listTable } from '../table.js';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

interface Options extends VerbOptions {
  readonly all?: boolean;
}

export function register(program: Command): void {
  verb(program, 'list [guest]', 'list guests')
    .option('--all', 'those that do not run too, and which are started with their host')
    .action((guest: string | undefined, options: Options) =>
      withDaemon(options, async (client) => {
        const rows =
          guest === undefined
            ? await client.request('list', {})
            : [await client.request('domain', { guest })];
        if (options.all !== true) {
          if (options.json === true) printJson(rows);
          else for (const line of listTable(rows)) printLine(line);
          return;
        }
        const defined = (await client.request('defined', {})).filter(
          ({ uuid, name }) =>
            guest === undefined || guest === uuid || guest === name || rows.some((r) => r.uuid === uuid),
        );
        if (options.json === true) printJson({ domains: rows, defined });
        else for (const line of definedTable(rows, defined)) printLine(line);
      }),
    );
}
