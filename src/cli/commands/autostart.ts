/** `stillpoint autostart`: whether, and when, a guest is started with its host. */
import type { Command } from 'commander';
import { Failure } from '../../protocol/failure.js';
import { whole } from '../arguments.js';
import { autostartWords } from '../table.js';
import { guarded, printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

interface Options extends VerbOptions {
  readonly order: number;
  readonly delay: number;
}

const MAX_ORDER = 9999;
const MAX_DELAY_S = 3600;

export function register(program: Command): void {
  verb(program, 'autostart <guest> <on|off>', 'say whether a guest is started with its host')
    .option('--order <number>', 'guests with a lower one are started first', whole(0, MAX_ORDER), 1000)
    .option('--delay <seconds>', 'how long it waits when its turn has come', whole(0, MAX_DELAY_S), 0)
    .action((guest: string, word: string, options: Options) => {
      if (word !== 'on' && word !== 'off')
        return guarded(options.json, () =>
          Promise.reject(new Failure('usage', `on or off is expected, found ${word}`)),
        );
      return withDaemon(options, async (client) => {
        const plan = word === 'on' ? { order: options.order, delayS: options.delay } : null;
        const row = await client.request('autostart', { guest, plan });
        if (options.json === true) printJson(row);
        else printLine(`${row.name}: ${autostartWords(row)}`);
      });
    });
}
