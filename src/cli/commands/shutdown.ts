/** `stillpoint shutdown`: asks the guest through control/shutdown in its xenstore, and says so when it does not answer. */
import type { Command } from 'commander';
import { decimal, MAX_TIMEOUT_S } from '../arguments.js';
import { printJson, type VerbOptions, verb, withDaemon } from '../verb.js';

interface Options extends VerbOptions {
  readonly wait?: boolean;
  readonly timeout: number;
}

export function register(program: Command): void {
  verb(program, 'shutdown <guest>', 'ask a guest to shut down')
    .option('-w, --wait', 'return when it has')
    .option('--timeout <seconds>', 'how long it may take to answer', decimal(0, MAX_TIMEOUT_S), 60)
    .action((guest: string, options: Options) =>
      withDaemon(options, async (client) => {
        await client.request('shutdown', { guest, timeoutS: options.timeout, wait: options.wait === true });
        if (options.json === true) printJson({ guest });
      }),
    );
}
