/** `stillpoint domid`. */
import type { Command } from 'commander';
import type { DomainIdentity } from '../../protocol/control.js';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'domid <name>', 'print the domain id of a guest').action(
    (guest: string, options: VerbOptions) =>
      withDaemon(options, async (ask) => {
        const row = await ask<DomainIdentity>('identity', { guest });
        if (options.json === true) printJson(row);
        else printLine(String(row.domid));
      }),
  );
}
