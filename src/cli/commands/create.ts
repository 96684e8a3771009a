/** `stillpoint create`: a guest from an xl.cfg, run by this host's daemon. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { CreatedRow } from '../../protocol/control.js';
import { attachConsole } from '../console.js';
import { printNote } from '../print-note.js';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

interface Options extends VerbOptions {
  readonly paused?: boolean;
  readonly console?: boolean;
  readonly overcommit?: boolean;
}

export function register(program: Command): void {
  verb(program, 'create <file> [assignments...]', 'create a guest from a configuration file')
    .option('-p, --paused', 'leave it paused')
    .option('-c, --console', 'attach to its console')
    .option('--overcommit', 'make it also if the host has not the memory for it')
    .action(async (file: string, assignments: string[], options: Options) => {
      let made: CreatedRow | undefined;
      await withDaemon(options, async (client) => {
        // As with xl, "key=value" arguments are lines after the file's.
        const config = `${[readFileSync(file, 'utf8'), ...assignments].join('\n')}\n`;
        made = await client.request('create', {
          config,
          file,
          directory: resolve('.'),
          paused: options.paused === true,
          overcommit: options.overcommit,
        });
        for (const warning of made.warnings ?? []) printNote(warning);
        if (options.json === true) printJson(made);
        else if (options.console !== true) printLine(`${made.name}: domain ${made.domid}`);
      });
      if (made !== undefined && options.console === true) await attachConsole(made.uuid, options);
    });
}
