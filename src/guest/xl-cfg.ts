/**
 * Parses the syntax of xl.cfg: settings `name = value` or `name += value`, ended by a line end or `;`. Values are
 * strings in single or double quotes with C's escapes, numbers, or lists, which may be nested and span lines. `#`
 * begins a comment. config.ts interprets the settings.
 *
 * Numbers are kept as text until they are needed as numbers, because xl also accepts memory = "128".
 * Source: Xen, tools/libs/util/libxlu_cfg_l.l, libxlu_cfg_y.y and libxlu_cfg.c.
 */

/** Mistakes in a configuration, one a line. Each line of the message begins with file, line and column. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

export interface Position {
  /** Counts from 1. */
  readonly line: number;
  readonly column: number;
}

export type ConfigValue =
  | (Position & { readonly kind: 'text'; readonly text: string })
  | (Position & { readonly kind: 'list'; readonly items: readonly ConfigValue[] });

export interface Setting extends Position {
  readonly name: string;
  readonly value: ConfigValue;
  /** Made with +=, so it cannot be used as a number. */
  readonly added: boolean;
}

export interface ConfigFile {
  /** The file's name, for messages. */
  readonly file: string;
  /** By name. If a setting is given several times the last one counts, as in xl. */
  readonly settings: ReadonlyMap<string, Setting>;
  /** Settings that later ones of the same name replaced. */
  readonly replaced: readonly Setting[];
}

const MAX_DEPTH = 16;
const ESCAPES: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  '"': '"',
  "'": "'",
  '\\': '\\',
};

/** Text as a string of a configuration: what `parseConfig` reads back from it is the same text. */
export const quoted = (text: string): string =>
  `"${text.replace(/["\\]/g, '\\$&').replace(/[\0-\x1f]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`)}"`;

type Token = Position &
  (
    | { readonly kind: 'name' | 'atom' | 'sign'; readonly text: string }
    | { readonly kind: 'end'; readonly text: '' }
  );

/** The contents of a quoted string, with its escapes replaced. */
function unquote(words: string, fail: (message: string) => never): string {
  return words.slice(1, -1).replace(/\\(x.{0,2}|[0-7]{1,3}|.)/gs, (_, code: string) => {
    if (/^[0-7]/.test(code)) return String.fromCharCode(Number.parseInt(code, 8) & 255);
    if (code.startsWith('x')) {
      if (!/^x[0-9a-fA-F]{2}$/.test(code)) fail('\\x in a string takes two hexadecimal digits');
      return String.fromCharCode(Number.parseInt(code.slice(1), 16));
    }
    return ESCAPES[code] ?? fail(`\\${code} is not an escape sequence of strings`);
  });
}

const PATTERN =
  /([ \t\r]+|#[^\n]*)|([a-z][_0-9a-z]*)|([0-9][0-9a-fA-FxX]*)|('(?:[^'\\\n]|\\[^\n])*'|"(?:[^"\\\n]|\\[^\n])*")|(\+=|[\n;=,[\]])/y;

class Scanner {
  private at = 0;
  private line = 1;
  private lineStart = 0;
  token!: Token;

  constructor(
    readonly file: string,
    private readonly source: string,
  ) {
    this.next();
  }

  fail(message: string, position: Position = this.token): never {
    throw new ConfigError(`${this.file}:${position.line}:${position.column}: ${message}`);
  }

  next(): void {
    for (;;) {
      const position = { line: this.line, column: this.at - this.lineStart + 1 };
      if (this.at >= this.source.length) {
        this.token = { kind: 'end', text: '', ...position };
        return;
      }
      PATTERN.lastIndex = this.at;
      const match = PATTERN.exec(this.source);
      if (match === null) {
        const c = this.source[this.at];
        if (c === '"' || c === "'") this.fail('the string does not end on its line', position);
        this.fail(
          `${JSON.stringify(c)} is not expected in a configuration (Python code is not read)`,
          position,
        );
      }
      const [text, blank, name, number, words, sign] = match;
      this.at += text.length;
      if (blank !== undefined) continue;
      if (sign === '\n') {
        this.line++;
        this.lineStart = this.at;
      }
      if (name !== undefined) this.token = { kind: 'name', text, ...position };
      else if (sign !== undefined) this.token = { kind: 'sign', text, ...position };
      else if (number !== undefined) this.token = { kind: 'atom', text, ...position };
      else this.token = { kind: 'atom', text: unquote(words, (m) => this.fail(m, position)), ...position };
      return;
    }
  }

  is(sign: string): boolean {
    return this.token.kind === 'sign' && this.token.text === sign;
  }

  describe(): string {
    if (this.token.kind === 'end') return 'the end of the file';
    return this.is('\n') ? 'the end of the line' : `"${this.token.text}"`;
  }
}

function lineEnds(s: Scanner): void {
  while (s.is('\n')) s.next();
}

function parseValue(s: Scanner, depth: number): ConfigValue {
  const { line, column, text } = s.token;
  if (s.token.kind === 'atom') {
    s.next();
    return { kind: 'text', text, line, column };
  }
  if (!s.is('[')) s.fail(`a string, a number or a list is expected, found ${s.describe()}`);
  if (depth >= MAX_DEPTH) s.fail(`lists are nested deeper than ${MAX_DEPTH}`);
  s.next();
  lineEnds(s);
  const items: ConfigValue[] = [];
  while (!s.is(']')) {
    items.push(parseValue(s, depth + 1));
    lineEnds(s);
    if (s.is(',')) {
      s.next();
      lineEnds(s);
    } else if (!s.is(']')) s.fail(`"," or "]" is expected in a list, found ${s.describe()}`);
  }
  s.next();
  return { kind: 'list', items, line, column };
}

/** `+=` appends text to text and items to items. */
function join(s: Scanner, before: ConfigValue, added: ConfigValue): ConfigValue {
  if (before.kind === 'text' && added.kind === 'text') return { ...added, text: before.text + added.text };
  if (before.kind === 'list' && added.kind === 'list')
    return { ...added, items: [...before.items, ...added.items] };
  return s.fail('a list cannot be added to a string, nor a string to a list', added);
}

/** Parses a whole file. Throws ConfigError at the first mistake. */
export function parseConfig(source: string, file: string): ConfigFile {
  const s = new Scanner(file, source);
  const settings = new Map<string, Setting>();
  const replaced: Setting[] = [];
  while (s.token.kind !== 'end') {
    if (s.is('\n') || s.is(';')) {
      s.next();
      continue;
    }
    const { kind, text: name, line, column } = s.token;
    if (kind !== 'name') s.fail(`a setting is expected, found ${s.describe()}`);
    s.next();
    const added = s.is('+=');
    if (!added && !s.is('=')) s.fail(`"=" is expected after ${name}, found ${s.describe()}`);
    s.next();
    let value = parseValue(s, 0);
    if (!s.is('\n') && !s.is(';') && (s.token as Token).kind !== 'end')
      s.fail(`the line should end after the value of ${name}, found ${s.describe()}`);
    const before = settings.get(name);
    if (before !== undefined && added) value = join(s, before.value, value);
    else if (before !== undefined) replaced.push(before);
    settings.set(name, { name, value, added, line, column });
  }
  return { file, settings, replaced };
}
