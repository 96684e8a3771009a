/** Options of a verb as getopt_long of glibc reads them: in any place, several in one word, long ones abbreviated. */

export interface XlOption {
  readonly short: string;
  readonly long?: string;
  /** The name of its value, if it has one. */
  readonly value?: string;
  readonly about?: string;
}

export interface Words {
  /** What was given, by the option's letter. */
  readonly given: ReadonlyMap<string, readonly string[]>;
  readonly rest: readonly string[];
}

/** An option that the verb does not have, or one without its value; `letter` is "" for a long one. */
export class UnknownOption extends Error {
  constructor(readonly letter: string) {
    super(`option ${letter} is not known`);
  }
}

/** Throws UnknownOption. */
export function readOptions(args: readonly string[], options: readonly XlOption[]): Words {
  const given = new Map<string, string[]>();
  const rest: string[] = [];
  const note = (letter: string, value: string): void => {
    given.set(letter, [...(given.get(letter) ?? []), value]);
  };
  for (let i = 0; i < args.length; i++) {
    const word = args[i];
    if (word === '--') {
      rest.push(...args.slice(i + 1));
      break;
    }
    if (!word.startsWith('-') || word === '-') {
      rest.push(word);
      continue;
    }
    const next = (letter: string): string => {
      if (++i >= args.length) throw new UnknownOption(letter);
      return args[i];
    };
    if (word.startsWith('--')) {
      const [, name, , value] = /^--([^=]*)(=(.*))?$/s.exec(word) as RegExpExecArray;
      const option = longOption(name, options);
      if (option === undefined) throw new UnknownOption('');
      const { short } = option;
      if (option.value === undefined && value !== undefined) throw new UnknownOption(short);
      note(short, option.value === undefined ? '' : (value ?? next(short)));
      continue;
    }
    for (let at = 1; at < word.length; at++) {
      const letter = word[at];
      const option = options.find(({ short }) => short === letter);
      if (option === undefined) throw new UnknownOption(letter);
      if (option.value === undefined) {
        note(letter, '');
        continue;
      }
      note(letter, at + 1 < word.length ? word.slice(at + 1) : next(letter));
      break;
    }
  }
  return { given, rest };
}

/** The long option with this name, or the only one that begins so. */
function longOption(name: string, options: readonly XlOption[]): XlOption | undefined {
  const exact = options.find(({ long }) => long === name);
  const begun = options.filter(({ long }) => long?.startsWith(name) === true);
  return exact ?? (begun.length === 1 ? begun[0] : undefined);
}
