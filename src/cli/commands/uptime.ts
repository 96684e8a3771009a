/** `stillpoint uptime`, in the columns of `xl uptime`. */
import type { Command } from 'commander';
import type { DomainRow } from '../../protocol/control.js';
import { uptimeTable } from '../table.js';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'uptime [guest]', 'print for how long guests have been running').action(
    (guest: string | undefined, options: VerbOptions) =>
      withDaemon(options, async (ask) => {
        const rows =
          guest === undefined ? await ask<DomainRow[]>('list') : [await ask<DomainRow>('domain', { guest })];
        if (options.json === true) printJson(rows);
        else for (const line of uptimeTable(rows)) printLine(line);
      }),
  );
}
