/** `stillpoint domname`. */
import type { Command } from 'commander';
import type { DomainRow } from '../../daemon/api.js';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'domname <domid>', 'print the name of a domain').action(
    (guest: string, options: VerbOptions) =>
      withDaemon(options, async (ask) => {
        const row = await ask<DomainRow>('domain', { guest });
        if (options.json === true) printJson({ domid: row.domid, name: row.name, uuid: row.uuid });
        else printLine(String(row.name));
      }),
  );
}
