/** `stillpoint unwrap`: gives back the configuration of which `wrap` made that of a helper domain. */
import type { Command } from 'commander';
import { guarded } from '../verb.js';
import { withConfigErrors } from './wrap.js';

export function register(program: Command): void {
  program
    .command('unwrap <file>')
    .description("give back a PV guest's own configuration, byte for byte, from that of its helper domain")
    .option('-o, --output <file>', 'where to (standard output)')
    .action((file: string, { output }: { readonly output?: string }) =>
      guarded(false, () =>
        withConfigErrors(async () => {
          const { unwrapFile } = await import('../../appliance/wrap-files.js');
          const source = unwrapFile(file, output);
          if (output === undefined) process.stdout.write(source);
        }),
      ),
    );
}
