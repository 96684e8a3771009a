/** `stillpoint xl`: the verbs, columns and exit statuses of Xen's own tool (docs/xl.md). */
import { basename } from 'node:path';
import type { Command } from 'commander';
import { thisMachine } from '../../xl/machine.js';
import { attachConsole } from '../console.js';
import { connectDaemon, defaultDirectory } from '../daemon-client.js';
import { endWithReader } from '../verb.js';

const NAME = 'xl';

/** The words after `xl`, if this program was started under that name or with that verb. */
export function xlWords([, program, verb, ...rest]: readonly string[]): readonly string[] | undefined {
  if (program !== undefined && basename(program) === NAME) return verb === undefined ? [] : [verb, ...rest];
  return verb === NAME ? rest : undefined;
}

/** Sets the exit status. */
export async function runAsXl(words: readonly string[]): Promise<void> {
  const { runXl } = await import('../../xl/program.js');
  endWithReader();
  const dir = defaultDirectory();
  const status = await runXl(words, {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    connect: () => connectDaemon({ dir }),
    console: (uuid) => attachConsole(uuid, { dir }),
    get machine() {
      return thisMachine();
    },
  });
  // A console that could not be shown has set the status of stillpoint's own verbs.
  process.exitCode = status === 0 && Number(process.exitCode ?? 0) !== 0 ? 1 : status;
}

export function register(program: Command): void {
  program
    .command(`${NAME} [words...]`)
    .description("the verbs of Xen's xl, as scripts know them (STILLPOINT_DIR says where the daemon is)")
    .helpOption(false)
    .allowUnknownOption()
    .action(() => runAsXl(xlWords(['', '', ...given(program)]) ?? []));
}

/** The words of the command line as they were given, which commander keeps and its types do not name. */
const given = (program: Command): readonly string[] =>
  (program as Command & { readonly rawArgs: readonly string[] }).rawArgs.slice(2);
