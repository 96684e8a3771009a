/**
 * Parses the syntax of xl.cfg: settings `name = value` or `name += value`, ended by a line end or `;`. Values are
 * strings in single or double quotes with C's escapes, numbers, or lists, which may be nested and span lines. `#`
 * begins a comment. config.ts interprets the settings.
 *
 * Numbers are kept as text until they are needed as numbers, because xl also accepts memory = "128". What xl refuses
 * and editors write is accepted: a byte order mark, carriage returns, a last comment without a newline, hexadecimal
 * digits in upper case. xl loses characters that are written as \x41 or \101; here they are what the manual says.
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

/** What an undecodable byte becomes when a file is read as UTF-8. */
const UNDECODABLE = '\ufffd';
const NOT_UTF8 = 'the string has bytes that are not UTF-8: save the file as UTF-8';
const utf8 = new TextEncoder();

/** The contents of a quoted string, with its escapes replaced. An escape stands for a byte, as in xl. */
function unquote(words: string, fail: (message: string) => never): string {
  if (words.includes(UNDECODABLE)) fail(NOT_UTF8);
  let bytes = false;
  const byte = (code: number): string => {
    bytes ||= code > 0x7f;
    return String.fromCharCode(code);
  };
  const replaced = (text: string): string =>
    text.replace(/\\(x.{0,2}|[0-7]{1,3}|.)/gs, (_, code: string) => {
      if (/^[0-7]/.test(code)) return byte(Number.parseInt(code, 8) & 255);
      if (code.startsWith('x')) {
        if (!/^x[0-9a-fA-F]{2}$/.test(code)) fail('\\x in a string takes two hexadecimal digits');
        return byte(Number.parseInt(code.slice(1), 16));
      }
      return ESCAPES[code] ?? fail(`\\${code} is not an escape sequence of strings`);
    });
  const text = words.slice(1, -1);
  const result = replaced(text);
  if (!bytes) return result;
  // Each character of the text stands for one byte now.
  const raw = replaced(Array.from(utf8.encode(text), (code) => String.fromCharCode(code)).join(''));
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(
      Uint8Array.from(raw, (c) => c.charCodeAt(0)),
    );
  } catch {
    return fail(NOT_UTF8);
  }
}

/** Words with which a line of Python begins that is no setting, and values that only Python has. */
const PYTHON =
  /^\s*(def|import|from|if|elif|else|for|while|try|except|finally|class|print|return|with|pass|global|assert)\b(?!\s*\+?=)|\b(True|False|None)\b/;
/** What is nowhere in a configuration but in strings and comments. */
const PYTHON_SIGNS = /[-+.():%{}\\]/;
const MAX_SHOWN = 100;
/** More of a line is not looked at. */
const MAX_LOOKED_AT = 1000;

/** Whether a line in which something is wrong is Python, as configurations of xm were. */
function isPython(line: string): boolean {
  const bare = line.replace(/'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"/g, '""').replace(/#.*/, '');
  return PYTHON.test(bare) || PYTHON_SIGNS.test(bare.replace('+=', '='));
}

const PATTERN =
  /([ \t\r]+|#[^\n]*)|([a-z][._0-9a-z]*)|([0-9][0-9a-fA-FxX]*)|('(?:[^'\\\n]|\\[^\n])*'|"(?:[^"\\\n]|\\[^\n])*")|(\+=|[\n;=,[\]])/y;

class Scanner {
  private at = 0;
  private line = 1;
  private lineStart = 0;
  /** Of the line before: a line end is a token of the line that it ends. */
  private lastStart = 0;
  private readonly source: string;
  token!: Token;

  constructor(
    readonly file: string,
    source: string,
  ) {
    // A byte order mark is nothing that anybody has written.
    this.source = source.replace(/^\ufeff/, '');
    this.next();
  }

  fail(message: string, position: Position = this.token): never {
    throw new ConfigError(`${this.file}:${position.line}:${position.column}: ${message}`);
  }
  /** Fails for what is no syntax of a configuration. */
  syntax(message: string, position: Position = this.token): never {
    const start = position.line === this.line ? this.lineStart : this.lastStart;
    const line = this.source
      .slice(start, start + MAX_LOOKED_AT)
      .replace(/\n.*/s, '')
      .trim();
    if (!isPython(line)) this.fail(message, position);
    const shown = line.length > MAX_SHOWN ? `${line.slice(0, MAX_SHOWN)}...` : line;
    this.fail(
      `${message}. This looks like Python, which neither xl nor Stillpoint runs; write the values themselves: ${shown}`,
      position,
    );
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
        if (c === '"' || c === "'") this.syntax('the string does not end on its line', position);
        const hint = c === '/' ? ': a string stands in quotes' : '';
        this.syntax(`${JSON.stringify(c)} is not expected in a configuration${hint}`, position);
      }
      const [text, blank, name, number, words, sign] = match;
      this.at += text.length;
      if (blank !== undefined) continue;
      if (sign === '\n') {
        this.line++;
        this.lastStart = this.lineStart;
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
    return this.is('\n') ? 'the end of the line' : `"${this.token.text.slice(0, MAX_SHOWN)}"`;
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
  if (!s.is('[')) s.syntax(`a string, a number or a list is expected, found ${s.describe()}`);
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
    } else if (!s.is(']')) s.syntax(`"," or "]" is expected in a list, found ${s.describe()}`);
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
    if (kind !== 'name') s.syntax(`a setting is expected, found ${s.describe()}`);
    s.next();
    const added = s.is('+=');
    if (!added && !s.is('=')) s.syntax(`"=" is expected after ${name}, found ${s.describe()}`);
    s.next();
    let value = parseValue(s, 0);
    if (!s.is('\n') && !s.is(';') && (s.token as Token).kind !== 'end')
      s.syntax(`the line should end after the value of ${name}, found ${s.describe()}`);
    const before = settings.get(name);
    if (before !== undefined && added) value = join(s, before.value, value);
    else if (before !== undefined) replaced.push(before);
    settings.set(name, { name, value, added, line, column });
  }
  return { file, settings, replaced };
}
