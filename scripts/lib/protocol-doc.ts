// docs/protocol.md, made from the tables of src/protocol. scripts/docs.ts writes it, and test/docs.test.ts checks that
// it is up to date.
import type * as v from 'valibot';
import { CONTROL, CONTROL_NOTICES } from '../../src/protocol/control.js';
import { DAEMON_FILES } from '../../src/protocol/daemon-files.js';
import { EXIT_STATUS } from '../../src/protocol/failure.js';
import { diskSpec, guestConfig, vifSettings } from '../../src/protocol/guest-config.js';
import {
  ASKED_BY_GUEST,
  FROM_GUEST,
  GUEST,
  GUEST_FILES,
  TO_GUEST,
} from '../../src/protocol/guest-process.js';
import { PEER, TO_DESTINATION, TO_SOURCE } from '../../src/protocol/peer.js';
import { MAX_LINE_BYTES } from '../../src/protocol/rpc.js';
import { SESSION } from '../../src/protocol/session.js';
import type { Direction, Notices, Requests } from '../../src/protocol/table.js';
import { requirement, type Shape, shapeOf, told, unwrapped } from './shapes.js';

const NONE: Requests = {};
const SILENT: Notices = {};

/** Everything that crosses from one process to another, in the order of the page. */
export const DIRECTIONS: readonly Direction[] = [
  {
    title: 'Session',
    words: ['Both sides of a connection to a daemon, before and beside all else.'],
    from: 'who connects',
    to: 'the daemon',
    requests: SESSION,
    notices: SILENT,
  },
  {
    title: 'Control',
    words: [
      "What people and programs ask a daemon for, on the unix socket `control.sock` in the daemon's directory or over TLS.",
      'The package exports a client for it, `stillpoint/client`.',
    ],
    from: 'a client',
    to: 'the daemon',
    right: 'control',
    requests: CONTROL,
    notices: SILENT,
  },
  {
    title: 'Control: what is said unasked',
    words: ['Only to who has asked for it, by `console`, `migrate` or `events`.'],
    from: 'the daemon',
    to: 'a client',
    requests: NONE,
    notices: CONTROL_NOTICES,
  },
  {
    title: 'Peers: the source of a move',
    words: ['handover.md says in which order, and what each step means.'],
    from: "the source's daemon",
    to: "the destination's daemon",
    right: 'move',
    requests: PEER,
    notices: TO_DESTINATION,
  },
  {
    title: 'Peers: the destination of a move',
    words: ['What is wrong beside the step itself is taken as not said.'],
    from: "the destination's daemon",
    to: "the source's daemon",
    requests: NONE,
    notices: TO_SOURCE,
  },
  {
    title: 'Guest process: what its daemon says',
    words: [
      'The process listens on a unix socket, outlives its daemon, and is found again by the next one, which may be of a',
      'later version: fields that it does not know are left out.',
    ],
    from: 'the daemon',
    to: "a guest's process",
    requests: GUEST,
    notices: TO_GUEST,
  },
  {
    title: 'Guest process: what it says',
    words: [
      'The process may have been taken over by its guest: nothing of it is used that is not as it is declared here.',
    ],
    from: "a guest's process",
    to: 'the daemon',
    requests: ASKED_BY_GUEST,
    notices: FROM_GUEST,
  },
];

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');
const grouped = (value: unknown): string => String(value);

/** Describes the type of a field in a few words, with its limits. */
function typeOf(shape: Shape): string {
  const { inner, nullable } = unwrapped(shape);
  const text = plainType(inner);
  return nullable ? `${text}, or null` : text;
}

function plainType(shape: Shape): string {
  const of = (type: string): unknown => requirement(shape, type);
  switch (shape.type) {
    case 'string': {
      const most = of('max_length');
      const form = of('regex');
      const parts = ['text'];
      if (most !== undefined) parts.push(`at most ${grouped(most)} characters`);
      if (form instanceof RegExp && form.source.length < 60) parts.push(`of the form \`${form.source}\``);
      return parts.join(', ');
    }
    case 'number': {
      const [low, high] = [of('min_value'), of('max_value')];
      const kind =
        of('integer') !== undefined || of('safe_integer') !== undefined ? 'whole number' : 'number';
      if (low !== undefined && high !== undefined) return `${kind} from ${grouped(low)} to ${grouped(high)}`;
      return low === undefined ? kind : `${kind}, at least ${grouped(low)}`;
    }
    case 'boolean':
      return 'true or false';
    case 'picklist':
      return (shape.options ?? []).map((word) => `\`${JSON.stringify(word)}\``).join(', ');
    case 'array': {
      const most = of('max_length');
      return `list of ${shape.item === undefined ? 'values' : typeOf(shape.item)}${most === undefined ? '' : `, at most ${grouped(most)}`}`;
    }
    case 'record':
      return 'values by names';
    case 'union':
      return 'one of several';
    case 'null':
      return 'null';
    case 'object':
    case 'strict_object':
    case 'loose_object':
      return 'object';
    default:
      return 'any value';
  }
}

/** Returns the fields of an object, also if it is in a list or may be null; undefined if it is no object. */
function entriesOf(shape: Shape): Readonly<Record<string, Shape>> | undefined {
  const { inner } = unwrapped(shape);
  if (inner.entries !== undefined) return inner.entries;
  if (inner.item !== undefined) return entriesOf(inner.item);
  if (inner.options !== undefined) {
    const all: Record<string, Shape> = {};
    for (const option of inner.options) if (typeof option !== 'string') Object.assign(all, entriesOf(option));
    return Object.keys(all).length === 0 ? undefined : all;
  }
  return undefined;
}

function rows(entries: Readonly<Record<string, Shape>>, prefix: string, depth: number): string[] {
  return Object.entries(entries).flatMap(([name, shape]) => {
    const { optional, inner } = unwrapped(shape);
    const { about, unit } = told(shape);
    const held = shape.default ?? inner.default;
    const otherwise =
      optional && held !== undefined
        ? `; ${JSON.stringify(held)} if it is left out`
        : optional
          ? '; may be left out'
          : '';
    const below = entriesOf(shape);
    const list = inner.item === undefined ? '' : '[]';
    const isConfig = below !== undefined && 'cmdline' in below && 'onCrash' in below;
    const type = isConfig
      ? 'a configuration, as below'
      : below === undefined
        ? typeOf(shape)
        : typeOf(shape).replace('list of object', 'list');
    const line = `| ${prefix}${name} | ${cell(`${type}${otherwise}`)} | ${unit} | ${cell(about)} |`;
    if (below === undefined || isConfig || depth > 2) return [line];
    return [line, ...rows(below, `${prefix}${name}${list}.`, depth + 1)];
  });
}

const HEAD = ['| field | type | unit | what it is |', '|---|---|---|---|'];

function fieldsDoc(schema: v.GenericSchema): string[] {
  const shape = shapeOf(schema);
  const entries = entriesOf(shape);
  if (entries === undefined || Object.keys(entries).length === 0) return [];
  return [...HEAD, ...rows(entries, '', 0), ''];
}

function answerDoc(schema: v.GenericSchema): string[] {
  const shape = shapeOf(schema);
  const { inner, nullable } = unwrapped(shape);
  const entries = entriesOf(shape);
  if (inner.type === 'null') return ['Answer: null.', ''];
  if (entries !== undefined && 'cmdline' in entries)
    return [`Answer: a configuration, as below${nullable ? ', or null' : ''}.`, ''];
  const { about, unit } = told(shape);
  const words = [about, unit === '' ? '' : `in ${unit}`].filter((one) => one !== '').join(', ');
  if (entries === undefined) return [`Answer: ${typeOf(shape)}${words === '' ? '' : ` (${words})`}.`, ''];
  const most =
    inner.item === undefined ? '' : ` list, at most ${grouped(requirement(inner, 'max_length'))}, of`;
  return [`Answer:${most} an object.`, '', ...fieldsDoc(schema)];
}

function directionDoc({ title, words, from, to, right, requests, notices }: Direction): string[] {
  const lines = [`## ${title}`, '', `From ${from} to ${to}.`, ...words, ''];
  if (right !== undefined)
    lines.push(`Over TLS, only from a host that is trusted with \`--allow ${right}\`.`, '');
  for (const [name, { about, params, answer, errors }] of Object.entries(requests)) {
    lines.push(`### ${name}`, '', about, '', ...fieldsDoc(params), ...answerDoc(answer));
    if (errors.length > 0) lines.push(`Errors: ${errors.map((code) => `\`${code}\``).join(', ')}.`, '');
  }
  for (const [name, { about, params }] of Object.entries(notices))
    lines.push(`### ${name} (notice)`, '', about, '', ...fieldsDoc(params));
  return lines;
}

export function protocolDoc(): string {
  const lines = [
    '# The protocol',
    '',
    'Everything that crosses from one process to another, and what stands in their files. This page is made from the',
    'declarations in `src/protocol/` (`npm run docs`); the same declarations give the types of those who send and of those',
    'who take a message, the check of all that arrives, the client and the fuzzer. A test holds that the page is not stale.',
    '',
    '## Lines',
    '',
    'A connection is a stream of bytes, both ways. Each side sends lines: one JSON value each, in UTF-8, ended by a line',
    'feed. `src/protocol/rpc.ts` speaks it; it uses nothing of Node, so that a browser can speak it over a WebSocket.',
    '',
    '    {"id":1,"do":"list","with":{}}       a request',
    '    {"id":1,"ok":[...]}                  its answer, or {"id":1,"error":{"code":"...","message":"..."}}',
    '    {"do":"console","with":{...}}        a notice, which is not answered',
    '',
    '| limit | value |',
    '|---|---|',
    `| bytes of a line | ${MAX_LINE_BYTES} |`,
    '| requests of one side that are worked on at once | 256 |',
    '| bytes of answers that the other side does not take, before it is cut off | 16777216 |',
    '| lines and bytes that are taken of one side in 100 ms | 4000, 33554432 |',
    '',
    'What arrives is held against its declaration before any of it is used. A request with an unknown name, an unknown field',
    'or a wrong value fails with `usage`, and a message that names the request and the field. In answers and notices, fields',
    'that are not declared are left out: a later version may say more. An answer that is not as it is declared fails at',
    'the side that asked.',
    '',
    '## Codes of failure',
    '',
    'A code never changes its meaning. `usage`, `io` and `internal` may follow any request; the others stand with theirs.',
    '',
    '| code | exit status of the command line |',
    '|---|---|',
    ...Object.entries(EXIT_STATUS).map(([code, status]) => `| ${code} | ${status} |`),
    '',
  ];
  for (const direction of DIRECTIONS) lines.push(...directionDoc(direction));
  lines.push(
    '## Configurations',
    '',
    'A configuration of a guest in messages, in the files of a daemon, and as JSON in the records CONF and RUNR of a stream',
    '(stream.md). One of another host, or of a file, is held against all of this; one that this host has taken before only',
    'against types and sizes.',
    '',
    ...fieldsDoc(guestConfig),
    '### A disk (spec of a device vbd)',
    '',
    ...fieldsDoc(diskSpec),
    '### A network interface (spec of a device vif)',
    '',
    ...fieldsDoc(vifSettings),
    '## Files',
    '',
    "Small JSON files in a daemon's directory. One that is not as declared is set aside under a name with `.damaged`.",
    '',
  );
  for (const { name, about, shape } of Object.values(DAEMON_FILES))
    lines.push(`### ${name}`, '', about, '', ...fieldsDoc(shape));
  lines.push("In the directory of a guest's process, which may write there what it wants:", '');
  for (const { name, about, shape, most } of Object.values(GUEST_FILES))
    lines.push(`### ${name}`, '', `${about} At most ${most} bytes.`, '', ...fieldsDoc(shape));
  return lines.join('\n');
}
