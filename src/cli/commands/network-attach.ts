/** `stillpoint network-attach`: a network interface for a running guest. */
import type { Command } from 'commander';
import { printNote } from '../print-note.js';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(
    program,
    'network-attach <guest> [settings...]',
    "plug in a network interface; settings in xl's syntax",
  ).action((guest: string, settings: string[], options: VerbOptions) =>
    withDaemon(options, async (client) => {
      const made = await client.request('networkAttach', {
        guest,
        spec: settings.join(','),
      });
      for (const warning of made.warnings ?? []) printNote(warning);
      if (options.json === true) printJson(made);
      else printLine(`vif ${made.devid}: ${made.mac}`);
    }),
  );
}
