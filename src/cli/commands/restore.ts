/** `stillpoint restore`: a guest from a file. A damaged file is refused with the byte offset, and starts nothing. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

interface Options extends VerbOptions {
  readonly paused?: boolean;
  readonly overcommit?: boolean;
}

export function register(program: Command): void {
  verb(program, 'restore <file>', 'restore a guest from a file')
    .option('-p, --paused', 'leave it paused')
    .option('--overcommit', 'make it also if the host has not the memory for it')
    .action((file: string, options: Options) =>
      withDaemon(options, async (client) => {
        const row = await client.request('restore', {
          path: resolve(file),
          paused: options.paused === true,
          overcommit: options.overcommit,
        });
        if (options.json === true) printJson(row);
        else printLine(`${row.name}: domain ${row.domid}`);
      }),
    );
}
