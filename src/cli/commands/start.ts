/** `stillpoint start`: starts a guest that this host knows and that does not run. */
import type { Command } from 'commander';
import type { DomainRow } from '../../protocol/control.js';
import { attachConsole } from '../console.js';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

interface Options extends VerbOptions {
  readonly paused?: boolean;
  readonly console?: boolean;
  readonly overcommit?: boolean;
}

export function register(program: Command): void {
  verb(program, 'start <guest>', 'start a guest that was defined, or that crashed')
    .option('-p, --paused', 'leave it paused')
    .option('-c, --console', 'attach to its console')
    .option('--overcommit', 'make it also if the host has not the memory for it')
    .action(async (guest: string, options: Options) => {
      let made: DomainRow | undefined;
      await withDaemon(options, async (client) => {
        made = await client.request('start', {
          guest,
          paused: options.paused === true,
          overcommit: options.overcommit,
        });
        if (options.json === true) printJson(made);
        else if (options.console !== true) printLine(`${made.name}: domain ${made.domid}`);
      });
      if (made !== undefined && options.console === true) await attachConsole(made.uuid, options);
    });
}
