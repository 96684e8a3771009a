/** `stillpoint points`: the ledger of migration points: what the guest sees, and what this host gave. */
import type { Command } from 'commander';
import { pointsTable } from '../table.js';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

interface Options extends VerbOptions {
  readonly watch?: boolean;
}

const WATCH_MS = 1000;

export function register(program: Command): void {
  verb(
    program,
    'points <guest>',
    'print what a move would change, as the guest sees it and as this host gave it',
  )
    .option('--watch', 'again each second')
    .action((guest: string, options: Options) =>
      withDaemon(options, async (client) => {
        const { uuid } = await client.request('identity', { guest });
        do {
          const rows = await client.request('points', { guest, uuid });
          if (options.json === true) printJson(rows);
          else {
            if (options.watch === true && process.stdout.isTTY) process.stdout.write('\x1b[H\x1b[J');
            for (const line of pointsTable(rows)) printLine(line);
          }
          if (options.watch === true) await new Promise((done) => setTimeout(done, WATCH_MS));
        } while (options.watch === true);
      }),
    );
}
