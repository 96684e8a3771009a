/**
 * `stillpoint xl`, or `stillpoint` started under the name xl: the tool that administrators of Xen and their scripts have,
 * for the guests of this host's daemon. Its words, columns and exit statuses are those of xl 4.17 (docs/xl.md).
 */
import { readOptions, UnknownOption, type XlOption } from './options.js';
import { FAILED, Session, USAGE, type XlAround, XlEnd } from './session.js';
import type { XlVerb } from './verb.js';
import { VERBS } from './verbs.js';

const HELP: XlOption = { short: 'h', long: 'help', about: 'Print this help.' };
/** Before the verb; only the dry run has an effect here. */
const GLOBAL = new Set(['v', 'f', 't', 'T', 'N']);

/** The verb with this name, or the only one that begins so. */
export function lookUp(word: string): XlVerb | undefined {
  const begun = VERBS.filter(({ name }) => name.startsWith(word));
  return begun.find(({ name }) => name === word) ?? (begun.length === 1 ? begun[0] : undefined);
}

export function helpText(word: string | undefined): string {
  if (word === undefined || word === 'help')
    return [
      'Usage xl [-vfNtT] <subcommand> [args]',
      '',
      'xl full list of subcommands:',
      '',
      ...VERBS.map(({ name, about }) =>
        name.length > 19 ? ` ${name}\n ${' '.repeat(19)} ${about}` : ` ${name.padEnd(19)} ${about}`,
      ),
      '',
    ].join('\n');
  const verb = lookUp(word);
  if (verb === undefined) return `command "${word}" not implemented\n`;
  const { name, modifies, dryRun, about, usage, options } = verb;
  const described = [...options, HELP].filter((option) => option.about !== undefined);
  return [
    `Usage: xl [-vtT${modifies ? 'f' : ''}${dryRun ? 'N' : ''}] ${name} ${usage}`,
    '',
    `${about}.`,
    '',
    'Options:',
    '',
    ...described.map(({ short, long, value, about: what }) => {
      const names = [/^[A-Za-z]$/.test(short) ? `-${short}` : '', long === undefined ? '' : `--${long}`];
      return `${`${names.filter(Boolean).join(', ')}${value === undefined ? '' : ` ${value}`}`.padEnd(23)} ${what}`;
    }),
    '',
    '',
  ].join('\n');
}

/** Resolves with the exit status. */
export async function runXl(args: readonly string[], around: XlAround): Promise<number> {
  let at = 0;
  let dryRun = false;
  for (; args[at]?.startsWith('-') === true && args[at] !== '-'; at++) {
    if (args[at] === '--') {
      at++;
      break;
    }
    for (const letter of args[at].slice(1)) {
      if (!GLOBAL.has(letter)) {
        around.err(`xl: invalid option -- '${letter}'\nunknown global option\n`);
        return FAILED;
      }
      if (letter === 'N') dryRun = true;
    }
  }
  const [word, ...rest] = args.slice(at);
  if (word === undefined) {
    around.out(helpText(undefined));
    return FAILED;
  }
  const verb = lookUp(word);
  if (verb !== undefined) return runVerb(verb, rest, dryRun, around);
  if (word === 'help') {
    around.out(helpText(rest[0]));
    return 0;
  }
  around.err('command not implemented\n');
  return FAILED;
}

async function runVerb(
  verb: XlVerb,
  args: readonly string[],
  dryRun: boolean,
  around: XlAround,
): Promise<number> {
  const { name, least } = verb;
  const help = (of: string): void => around.out(helpText(of));
  if (dryRun && !verb.dryRun) {
    around.err('command does not implement -N (dryrun) option\n');
    return FAILED;
  }
  const session = new Session(around);
  try {
    const { given, rest } = readOptions(args, [...verb.options, HELP]);
    if (given.has('h')) {
      help(name);
      return 0;
    }
    if (rest.length < least) {
      around.err(`'xl ${name}' requires at least ${least} argument${least > 1 ? 's' : ''}.\n\n`);
      help(name);
      return USAGE;
    }
    const has = (letter: string): boolean => given.has(letter);
    return await verb.run({
      session,
      rest,
      has,
      count: (letter) => given.get(letter)?.length ?? 0,
      value: (letter) => given.get(letter)?.at(-1),
      dryRun: dryRun || (verb.dryRun && has('n')),
      help,
    });
  } catch (error) {
    if (error instanceof UnknownOption) {
      around.err(`option \`${error.letter}' not supported.\n`);
      return USAGE;
    }
    if (!(error instanceof XlEnd)) throw error;
    if (error.words !== '') session.say(error.words);
    return error.status;
  } finally {
    session.close();
  }
}
