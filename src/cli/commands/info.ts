/** `stillpoint info`: this host, in the form of `xl info`. */
import type { Command } from 'commander';
import { outerWords } from '../table.js';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(program, 'info', 'print what this host is').action((options: VerbOptions) =>
    withDaemon(options, async (client) => {
      const info = await client.request('info', {});
      if (options.json === true) printJson(info);
      else {
        const { pretended, ...values } = info;
        for (const [name, value] of Object.entries(values)) {
          const outer = String(value);
          printLine(
            `${name.padEnd(22)} : ${outerWords({ outer, pretended: pretended.includes(name as never) })}`,
          );
        }
      }
    }),
  );
}
