/** `stillpoint domname`. */
import type { Command } from 'commander';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'domname <domid>', 'print the name of a domain').action(
    (guest: string, options: VerbOptions) =>
      withDaemon(options, async (client) => {
        const row = await client.request('identity', { guest });
        if (options.json === true) printJson(row);
        else printLine(String(row.name));
      }),
  );
}
