/** `stillpoint pause`: stops a guest; it cannot tell. */
import type { Command } from 'commander';
import { printJson, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'pause <guest>', 'stop a guest between two instructions').action(
    (guest: string, options: VerbOptions) =>
      withDaemon(options, async (client) => {
        await client.request('pause', { guest });
        if (options.json === true) printJson({ guest });
      }),
  );
}
