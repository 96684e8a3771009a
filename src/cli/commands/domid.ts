/** `stillpoint domid`. */
import type { Command } from 'commander';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'domid <name>', 'print the domain id of a guest').action(
    (guest: string, options: VerbOptions) =>
      withDaemon(options, async (client) => {
        const row = await client.request('identity', { guest });
        if (options.json === true) printJson(row);
        else printLine(String(row.domid));
      }),
  );
}
