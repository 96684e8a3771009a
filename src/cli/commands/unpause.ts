/** `stillpoint unpause`: lets a paused guest go on. */
import type { Command } from 'commander';
import { printJson, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'unpause <guest>', 'let a paused guest go on').action((guest: string, options: VerbOptions) =>
    withDaemon(options, async (client) => {
      await client.request('unpause', { guest });
      if (options.json === true) printJson({ guest });
    }),
  );
}
