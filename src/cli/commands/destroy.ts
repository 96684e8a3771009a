/** `stillpoint destroy`: ends a guest without asking it. */
import type { Command } from 'commander';
import { printJson, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'destroy <guest>', 'end a guest at once').action((guest: string, options: VerbOptions) =>
    withDaemon(options, async (client) => {
      await client.request('destroy', { guest });
      if (options.json === true) printJson({ guest });
    }),
  );
}
