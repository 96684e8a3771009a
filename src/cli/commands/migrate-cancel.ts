/** `stillpoint migrate-cancel`: the move is given up, and the guest goes on where it is. */
import type { Command } from 'commander';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'migrate-cancel <guest>', 'give up a move that is under way; the guest goes on here').action(
    (guest: string, options: VerbOptions) =>
      withDaemon(options, async (client) => {
        await client.request('cancelMove', { guest });
        if (options.json === true) printJson({ guest });
        else printLine(`${guest} goes on here`);
      }),
  );
}
