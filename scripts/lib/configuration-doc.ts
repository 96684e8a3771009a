// docs/configuration.md, made from the table of keys. scripts/docs.ts writes it, and test/docs.test.ts checks that it is
// up to date.
import { KEY_SECTIONS, type KeyRow } from '../../src/guest/config-keys.js';
import { DISK_KEYS } from '../../src/guest/disk-spec.js';
import { VIF_KEYS } from '../../src/guest/vif-spec.js';

const cell = (text: string): string => text.replaceAll('|', '\\|');

/** One line for all keys that have the same row. */
function keyTable(keys: Readonly<Record<string, KeyRow>>): string[] {
  const names = new Map<string, string[]>();
  const rows = new Map<string, KeyRow>();
  for (const [name, row] of Object.entries(keys)) {
    const same = `${row.verdict} ${row.words}`;
    rows.set(same, row);
    names.set(same, [...(names.get(same) ?? []), `\`${name}\``]);
  }
  return [
    '| key | verdict | |',
    '|---|---|---|',
    ...[...rows].map(
      ([same, { verdict, words }]) => `| ${names.get(same)?.join(', ')} | ${verdict} | ${cell(words)} |`,
    ),
    '',
  ];
}

const HEAD = `# Configurations

A guest is described by a file as \`xl\` has it, xl.cfg(5). Bring the file that you have: \`stillpoint create FILE\`,
\`stillpoint run FILE\`, \`stillpoint wrap FILE\`. Arguments of \`create\` after the file count as further lines of it.

Each key has a verdict. This page is made from the table in the source, \`src/guest/config-keys.ts\` (\`npm run docs\`).

| verdict | what it means |
|---|---|
| done | the guest gets what xl would give it |
| warned | the key has no effect; the guest starts, and a warning says why, with file, line and column |
| refused | the guest does not start; the message says why and what to do instead, with file, line and column |

A key that is not on this page is warned about, because xl ignores it, and a likely mistake of typing is named. There is no
warning for a value that asks for nothing (\`0\`, \`"none"\`, \`"no"\`, \`"off"\`, \`""\`, \`[]\`), nor for one that asks for what
every guest has. Of several lines with one key the last counts, as with xl, and the others are warned about.

[\`stillpoint wrap\`](appliance.md#what-becomes-of-each-setting) has the same verdicts, except that it gives some of the keys
that are warned about here to the helper domain, in which they have their effect.

## Syntax

The syntax is that of xl: \`KEY = VALUE\` or \`KEY += VALUE\`, ended by the line or by \`;\`. A value is a string in single or
double quotes with C's escapes, a number in C's notation, or a list in brackets, which may span lines, end with a comma and
contain lists. \`#\` begins a comment.

| what people's files have | here | with xl |
|---|---|---|
| a byte order mark, carriage returns, a last comment without a line end, \`0xA0\` in upper case | accepted | refused |
| \`"\\x41"\`, \`"\\101"\` | the byte, as the manual says; all bytes together have to be UTF-8 | lost, or refused |
| bytes that are not UTF-8 | accepted in comments, refused in strings | accepted |
| a list where a single value should be, or the reverse | refused | the key is ignored, with a warning |
| \`memory = "128"\`, \`memory = " 0x80"\` | a number | a number |
| Python, as configurations of xm could be | refused; the message shows the line | refused |
`.split('\n');

const ENDS = `## Ends

\`on_poweroff\`, \`on_reboot\` and \`on_crash\` are \`destroy\`, \`restart\`, \`preserve\`, \`coredump-destroy\`
or \`coredump-restart\` ([cores](domains.md#consoles-and-cores)). What xl has beside them becomes the
nearest of these, with a warning:

| value | here |
|---|---|
| \`rename-restart\` | \`restart\`: the domain that has ended is not kept |
| \`soft-reset\` | refused: it is not for PV guests |

## The parameters of a vif

\`mac=00:16:3e:01:02:03,bridge=office\`: pairs separated by commas. A parameter that is not in this table is warned about,
because xl ignores it. \`network-attach\` has the same verdicts.
`.split('\n');

const DISK = `## The parameters of a disk

\`/srv/a.img,qcow2,xvda,w\` by position, \`vdev=xvda,target=/srv/a.img\` by name, and both in any mixture, as in
xl-disk-configuration(5). A parameter that is not in this table is refused, as by xl. So are \`iscsi:\`, \`nbd:\`, \`enbd:\` and
\`drbd:\` before a target, each of which is a script; \`file:\`, \`phy:\`, \`tap:aio:\` and the like are understood.
\`block-attach\` has the same verdicts.
`.split('\n');

export function configurationDoc(): string {
  const lines = [...HEAD];
  for (const { title, keys } of KEY_SECTIONS) lines.push(`## ${title}`, '', ...keyTable(keys));
  // What is told of some keys follows their tables.
  lines.push(...ENDS, ...keyTable(VIF_KEYS), ...DISK, ...keyTable(DISK_KEYS));
  return lines.join('\n');
}
