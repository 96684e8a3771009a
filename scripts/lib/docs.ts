// Documentation that is made from the source: docs/migration-points.md and docs/stream.md. `npm run docs` writes the
// pages, and test/docs.test.ts checks that they are up to date.
import type { RecordType } from '../../src/records/record.js';

export interface PointWords {
  readonly name: string;
  readonly rows: string;
  readonly seen: string;
  readonly held: string;
  readonly proof: readonly string[];
}

/** What the documentation says about a record, whatever its values are. */
export interface RecordWords extends Pick<RecordType<unknown>, 'tag' | 'version' | 'doc' | 'table'> {
  readonly earlier: readonly { readonly version: number }[];
}

export interface StreamPart {
  readonly title: string;
  readonly words: readonly string[];
  readonly records: readonly RecordWords[];
}

const cell = (text: string): string => text.replaceAll('|', '\\|');

/** `descriptions`: POINT_DESCRIPTIONS. `rows`: ROWS. `rowsOf`: returns the rows that a description names. */
export function migrationPointsDoc(
  descriptions: readonly PointWords[],
  rows: Readonly<Record<string, string>>,
  rowsOf: (rows: string) => readonly string[],
): string {
  const lines = [
    '# Migration points',
    '',
    'What a move from one host to another would change, and how each thing is held still. One small file for each in',
    '`src/helper/points/`; this page is made from them (`npm run docs`). `stillpoint points GUEST` prints the',
    'same list for a running guest, with what it sees and what its present host gave. A host without Xen invents most of',
    'what it gives: that is called pretended ([hosts](hosts.md#platforms)).',
    '',
  ];
  for (const { name, rows: named, seen, held, proof } of descriptions) {
    lines.push(
      `## ${name}`,
      '',
      `Rows ${named}. The guest sees: ${seen}.`,
      '',
      `Held: ${held}.`,
      '',
      'Proof:',
      '',
    );
    for (const one of proof) {
      const [file, ...test] = one.split(': ');
      lines.push(`- \`${file}\`: ${test.join(': ')}`);
    }
    lines.push('');
  }
  lines.push('## All that a move would change', '', '| row | what it is | point |', '|---|---|---|');
  for (const [row, what] of Object.entries(rows)) {
    const points = descriptions.filter((d) => rowsOf(d.rows).includes(row)).map((d) => d.name);
    lines.push(`| ${row} | ${cell(what)} | ${points.join('; ')} |`);
  }
  lines.push(
    '',
    '## Adding one',
    '',
    '1. Find what the guest can observe and what would change it; add it to what the observers look at',
    '   (`src/demo/observer.ts`, `src/demo/small-kernel.ts`), and see it differ after a move.',
    '2. Hold it: a constant of the container if it can be one; otherwise state with `save` and `restore`, or a',
    '   translation.',
    '3. Add its file to `src/helper/points/` and its line to `all.ts`: both values are read, not remembered.',
    '4. Name the test that showed it; `npm run docs` writes this page anew.',
    '',
  );
  return lines.join('\n');
}

function recordDoc({ tag, version, doc, table, earlier }: RecordWords): string[] {
  const lines = [`### ${tag}, version ${version}`, '', `${doc[0].toUpperCase()}${doc.slice(1)}.`, ''];
  if (earlier.length > 0) lines.push(`Also read: version ${earlier.map((e) => e.version).join(', ')}.`, '');
  lines.push('| field | type | what it is |', '|---|---|---|');
  for (const [name, [type, what]] of Object.entries(table)) {
    lines.push(`| ${name} | ${cell(type.text)} | ${cell(what)} |`);
  }
  lines.push('');
  return lines;
}

/** `parts`: title, text and records of each part. `limits`: name and value of each limit of the reader. */
export function streamDoc(
  parts: readonly StreamPart[],
  limits: readonly (readonly [string, string])[],
): string {
  const lines = [
    '# The stream',
    '',
    'What travels when a guest moves, and what a saved guest is in a file: the same bytes. This page is made from the',
    'declarations in the source (`npm run docs`).',
    '',
    '## Records',
    '',
    'Everything is a sequence of records; all numbers are little-endian.',
    '',
    '| offset | size | what it is |',
    '|---|---|---|',
    '| 0 | 4 | tag, four ASCII characters |',
    "| 4 | 2 | version of this record's layout |",
    '| 6 | 2 | 0 |',
    '| 8 | 4 | length of the body in bytes |',
    '| 12 | 4 | CRC-32C of bytes 0 to 11 and the body |',
    '| 16 | length | body: the fields below, one after the other, without padding |',
    '| | | zero bytes up to a multiple of 8 |',
    '',
    'Types: `u8` to `u64` unsigned; `s64` signed; `f64` IEEE 754; `bool` one byte, 0 or 1; `bytes` a length (u32) and as',
    'many bytes; `text` the same in UTF-8; `list of T` a count (u32) and as many T; `optional T` a flag byte, and T if it',
    'is 1; `{ a: T, ... }` several, one after the other.',
    '',
    'A reader refuses what is wrong with the byte offset at which it is wrong, looks at nothing after it, and starts no',
    'guest. A record of an unknown tag or a later version is refused; earlier versions are read where it is said below.',
    '',
  ];
  for (const { title, words, records } of parts) {
    lines.push(`## ${title}`, '', ...words, '');
    for (const record of records) lines.push(...recordDoc(record));
  }
  lines.push('## Limits', '', '| what | at most |', '|---|---|');
  for (const [name, value] of limits) lines.push(`| ${name} | ${value} |`);
  lines.push('');
  return lines.join('\n');
}
