/** `stillpoint network-detach`: takes a network interface away from a running guest. */
import type { Command } from 'commander';
import { printJson, type VerbOptions, verb, withDaemon } from '../verb.js';

interface Options extends VerbOptions {
  readonly force?: boolean;
}

export function register(program: Command): void {
  verb(program, 'network-detach <guest> <devid|mac>', 'unplug a network interface')
    .option('--force', 'take it away without asking the guest')
    .action((guest: string, which: string, options: Options) =>
      withDaemon(options, async (client) => {
        const gone = await client.request('networkDetach', { guest, which, force: options.force === true });
        if (options.json === true) printJson(gone);
      }),
    );
}
