/** `stillpoint dmesg`: what the guest's hypervisor has to say. */
import type { Command } from 'commander';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'dmesg <guest>', "print the messages of a guest's hypervisor").action(
    (guest: string, options: VerbOptions) =>
      withDaemon(options, async (client) => {
        const text = await client.request('dmesg', { guest });
        if (options.json === true) printJson(text.split('\n'));
        else if (text !== '') printLine(text.replace(/\n$/, ''));
      }),
  );
}
