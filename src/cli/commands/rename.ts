/** `stillpoint rename`: another name for the host's people; the guest goes on seeing its own. */
import type { Command } from 'commander';
import { printJson, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'rename <guest> <name>', 'give a guest another name').action(
    (guest: string, name: string, options: VerbOptions) =>
      withDaemon(options, async (client) => {
        await client.request('rename', { guest, name });
        if (options.json === true) printJson({ name });
      }),
  );
}
