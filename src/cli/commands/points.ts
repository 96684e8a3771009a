/** `stillpoint points`: the ledger of migration points: what the guest sees, and what this host gave. */
import type { Command } from 'commander';
import { pointsTable, shownTable } from '../table.js';
import { guarded, printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

interface Options extends VerbOptions {
  readonly watch?: boolean;
  readonly xen?: boolean;
}

const WATCH_MS = 1000;

export function register(program: Command): void {
  verb(
    program,
    'points <guest>',
    'print what a move would change, as the guest sees it and as this host gave it',
  )
    .option('--watch', 'again each second')
    .option('--xen', "of a helper domain of this Xen host, by its name or id, from dom0's xenstore")
    .action((guest: string, options: Options) => {
      if (options.xen === true) return fromXenstore(guest, options);
      return withDaemon(options, async (client) => {
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
      });
    });
}

/** XENSTORED_PATH may name the socket, as for Xen's own tools. */
function fromXenstore(domain: string, { json, watch }: Options): Promise<void> {
  return guarded(json, async () => {
    // No other verb needs it.
    const { readShown } = await import('../../appliance/shown.js');
    do {
      const shown = await readShown(domain);
      if (json === true) printJson(shown);
      else {
        if (watch === true && process.stdout.isTTY) process.stdout.write('\x1b[H\x1b[J');
        for (const line of shownTable(shown)) printLine(line);
      }
      if (watch === true) await new Promise((done) => setTimeout(done, WATCH_MS));
    } while (watch === true);
  });
}
