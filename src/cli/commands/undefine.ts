/** `stillpoint undefine`: the host forgets a guest that does not run; one that runs goes on. */
import type { Command } from 'commander';
import { printJson, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(
    program,
    'undefine <guest>',
    'forget a guest that was defined, or that crashed; one that runs goes on',
  ).action((guest: string, options: VerbOptions) =>
    withDaemon(options, async (client) => {
      await client.request('undefine', { guest });
      if (options.json === true) printJson({ guest });
    }),
  );
}
