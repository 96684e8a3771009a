/** `stillpoint save`: a guest into a file. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

interface Options extends VerbOptions {
  readonly leaveRunning?: boolean;
}

export function register(program: Command): void {
  verb(program, 'save <guest> <file>', 'save a guest to a file, and end it')
    .option('-c, --leave-running', 'let it go on')
    .action((guest: string, file: string, options: Options) =>
      withDaemon(options, async (client) => {
        const path = resolve(file);
        const stats = await client.request('save', { guest, path, keep: options.leaveRunning === true });
        if (options.json === true) printJson({ path, ...stats });
        else printLine(`${path}: ${stats.bytes} bytes in ${(stats.totalMs / 1000).toFixed(2)} s`);
      }),
    );
}
