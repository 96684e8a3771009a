/**
 * `stillpoint settle`: the operator's word on a move whose destination does not answer. Wrong words make two
 * guests or none; the daemon cannot check them. Without need: it settles by itself when the destination is back.
 */
import type { Command } from 'commander';
import { Failure } from '../../protocol/failure.js';
import { guarded, printJson, type VerbOptions, verb, withDaemon } from '../verb.js';

interface Options extends VerbOptions {
  readonly keep?: boolean;
  readonly drop?: boolean;
}

export function register(program: Command): void {
  verb(program, 'settle <guest>', 'decide a move by hand whose destination is lost for good')
    .option('--keep', 'the destination never started it and never will: go on here')
    .option('--drop', 'it lives at the destination: remove it here')
    .action((guest: string, options: Options) => {
      if ((options.keep === true) === (options.drop === true)) {
        return guarded(options.json, () =>
          Promise.reject(new Failure('usage', 'one of --keep and --drop is needed')),
        );
      }
      return withDaemon(options, async (client) => {
        await client.request('settle', { guest, keep: options.keep === true });
        if (options.json === true) printJson({ guest });
      });
    });
}
