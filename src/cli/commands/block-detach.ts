/** `stillpoint block-detach`: takes a disk away from a running guest. */
import type { Command } from 'commander';
import { printJson, type VerbOptions, verb, withDaemon } from '../verb.js';

interface Options extends VerbOptions {
  readonly force?: boolean;
}

export function register(program: Command): void {
  verb(program, 'block-detach <guest> <vdev|devid>', 'unplug a disk')
    .option('--force', 'take it away without asking the guest')
    .action((guest: string, which: string, options: Options) =>
      withDaemon(options, async (client) => {
        const gone = await client.request('blockDetach', { guest, which, force: options.force === true });
        if (options.json === true) printJson(gone);
      }),
    );
}
