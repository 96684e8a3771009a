/** `stillpoint define`: makes a guest known to this host, from an xl.cfg, without starting it. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { printNote } from '../print-note.js';
import { printJson, printLine, type VerbOptions, verb, withDaemon } from '../verb.js';

export function register(program: Command): void {
  verb(
    program,
    'define <file> [assignments...]',
    'make a guest known to this host without starting it',
  ).action((file: string, assignments: string[], options: VerbOptions) =>
    withDaemon(options, async (client) => {
      const config = `${[readFileSync(file, 'utf8'), ...assignments].join('\n')}\n`;
      const made = await client.request('define', { config, file, directory: resolve('.') });
      for (const warning of made.warnings ?? []) printNote(warning);
      if (options.json === true) printJson(made);
      else printLine(`${made.name} is defined (uuid ${made.uuid})`);
    }),
  );
}
