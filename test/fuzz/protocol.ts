/**
 * Targets that are made from the tables of src/protocol: for each message, values as declared and altered ones are
 * passed to the code that takes requests, notices or answers. The result must be a typed refusal or a call of the
 * handler, and never anything else.
 */
import type * as v from 'valibot';
import { DIRECTIONS } from '../../scripts/lib/protocol-doc.js';
import { requirement, type Shape, shapeOf, unwrapped } from '../../scripts/lib/shapes.js';
import { ProtocolError } from '../../src/protocol/check.js';
import { DAEMON_FILES } from '../../src/protocol/daemon-files.js';
import { Failure } from '../../src/protocol/failure.js';
import {
  guestConfig,
  readConfigRecord,
  readDiskSpec,
  readVifSettings,
} from '../../src/protocol/guest-config.js';
import { type ByteStream, Rpc } from '../../src/protocol/rpc.js';
import {
  ask,
  dispatcher,
  type Handlers,
  type Listeners,
  listener,
  type Notices,
  type Requests,
} from '../../src/protocol/table.js';
import type { Choices } from './choices.js';
import type { Target } from './fuzz.js';

/** Texts in the formats of the tables, and some that nearly are. */
const TEXTS = [
  'web',
  'guest one',
  '/srv/images/a.img',
  '/',
  'xvda',
  '00:16:3e:00:00:01',
  '0f8fad5b-d9cb-469f-a165-70867728950e',
  'ab'.repeat(32),
  'AAAA',
  '127.0.0.1:80',
  '',
];
const NASTY = [
  '\u0000',
  '\u001b[2J',
  '\ud800',
  '__proto__',
  '../../etc/passwd',
  '1',
  '\u202e',
  'x'.repeat(70_000),
];
const NUMBERS = [0, 1, 2, 8, 512, 1024, 51_712, 65_535];
const ODD_NUMBERS = [-1, -0, 0.5, 1e21, 2 ** 53, 2 ** 31, Number.MAX_VALUE];
const VALUES: readonly unknown[] = [null, true, [], {}, [[]], { toString: 1 }, { __proto__: null, a: 1 }];

/** A value as declared: right types, and mostly within its limits. */
export function valid(c: Choices, shape: Shape, depth = 0): unknown {
  const { inner, optional, nullable } = unwrapped(shape);
  if (nullable && c.once(4)) return null;
  if (optional && c.once(2)) return undefined;
  switch (inner.type) {
    case 'string': {
      const form = requirement(inner, 'regex');
      const fit = form instanceof RegExp ? TEXTS.filter((text) => form.test(text)) : TEXTS;
      return fit.length === 0 ? '' : c.pick(fit);
    }
    case 'number': {
      const low = requirement(inner, 'min_value');
      const high = requirement(inner, 'max_value');
      const fit = NUMBERS.filter(
        (n) => (typeof low !== 'number' || n >= low) && (typeof high !== 'number' || n <= high),
      );
      return fit.length === 0 ? low : c.pick(fit);
    }
    case 'boolean':
      return c.once(2);
    case 'picklist':
      return c.pick(inner.options ?? []);
    case 'null':
      return null;
    case 'array':
      return Array.from({ length: depth > 3 ? 0 : c.below(3) }, () => valid(c, inner.item!, depth + 1));
    case 'record':
      return Object.fromEntries(Array.from({ length: c.below(3) }, () => [c.pick(TEXTS), c.pick(TEXTS)]));
    case 'union': {
      const options = (inner.options ?? []).filter((option) => typeof option !== 'string');
      return valid(c, c.pick(options), depth + 1);
    }
    case 'intersect': {
      const options = (inner.options ?? []).filter((option) => typeof option !== 'string');
      return Object.assign({}, ...options.map((option) => valid(c, option, depth + 1)));
    }
    case 'object':
    case 'strict_object':
    case 'loose_object':
      return Object.fromEntries(
        Object.entries(inner.entries ?? {}).map(([name, one]) => [name, valid(c, one, depth + 1)]),
      );
    default:
      return c.pick(VALUES);
  }
}

/** Replaces something anywhere in a value. */
function bent(c: Choices, value: unknown): unknown {
  if (c.once(3) || typeof value !== 'object' || value === null) {
    const kind = c.below(4);
    return kind === 0
      ? c.pick(VALUES)
      : kind === 1
        ? c.pick(NASTY)
        : kind === 2
          ? c.pick(ODD_NUMBERS)
          : undefined;
  }
  if (Array.isArray(value)) {
    const at = c.below(value.length + 1);
    return [...value.slice(0, at), bent(c, value[at]), ...value.slice(at + 1)];
  }
  const fields = Object.entries(value);
  if (fields.length === 0 || c.once(8)) return { ...value, [c.pick([...NASTY, 'more'])]: c.pick(VALUES) };
  const [name, field] = c.pick(fields);
  return { ...value, [name]: bent(c, field) };
}

/** The value as it arrives over a connection. */
const carried = (value: unknown): unknown =>
  value === undefined ? undefined : JSON.parse(JSON.stringify(value));
const made = (c: Choices, schema: v.GenericSchema): unknown => {
  const value = valid(c, shapeOf(schema));
  return carried(c.once(3) ? value : bent(c, value));
};

const requests = DIRECTIONS.flatMap((d) =>
  Object.keys(d.requests).map((name) => ({ table: d.requests, name })),
);
const notices = DIRECTIONS.flatMap((d) => Object.keys(d.notices).map((name) => ({ table: d.notices, name })));
const handlersOf = (table: Requests): Handlers<Requests> =>
  Object.fromEntries(Object.keys(table).map((name) => [name, () => 'handled']));
const listenersOf = (table: Notices): Listeners<Notices> =>
  Object.fromEntries(Object.keys(table).map((name) => [name, () => undefined]));

/** Calls only what the tables declare. */
function refused(error: unknown, name: string): void {
  if (!(error instanceof Failure || error instanceof ProtocolError)) throw error;
  if (error instanceof Failure && error.code !== 'usage') throw error;
  if (!error.message.includes(name.slice(0, 32)) && !error.message.startsWith('unknown '))
    throw new Error(`a refusal that does not name ${name}: ${error.message}`);
  if (/[\p{Cc}\p{Cf}\p{Cs}]/u.test(error.message)) throw new Error(`a refusal that a terminal obeys`);
  if (error.message.length > 300) throw new Error(`a refusal of ${error.message.length} characters`);
}

export function messages(): Target {
  return {
    name: 'messages of the tables',
    files: /\/dist\/protocol\//,
    most: 200,
    async run(c) {
      const { table, name } = c.pick(requests);
      const method = c.once(12) ? c.pick([...NASTY, 'toString', 'nothing']) : name;
      try {
        const answer = dispatcher(table, handlersOf(table))(method, made(c, table[name].params));
        if (answer !== 'handled') throw new Error(`${method}: not handled and not refused`);
      } catch (error) {
        refused(error, method);
      }
      const heard = c.pick(notices);
      try {
        listener(heard.table, listenersOf(heard.table))(heard.name, made(c, heard.table[heard.name].params));
      } catch (error) {
        refused(error, heard.name);
      }
    },
  };
}

/** A stream whose other side the target plays. */
class Played implements ByteStream {
  readonly writableLength = 0;
  private data: (bytes: Uint8Array) => void = () => {};
  constructor(private readonly answer: (id: number) => unknown) {}
  on(event: string, given: (given: never) => void): void {
    if (event === 'data') this.data = given as (bytes: Uint8Array) => void;
  }
  write(bytes: Uint8Array): void {
    const { id } = JSON.parse(new TextDecoder().decode(bytes));
    const line = new TextEncoder().encode(`${JSON.stringify(this.answer(id))}\n`);
    queueMicrotask(() => this.data(line));
  }
  pause(): void {}
  resume(): void {}
  end(): void {}
  destroy(): void {}
}

export function answers(): Target {
  return {
    name: 'answers of the tables',
    files: /\/dist\/protocol\//,
    most: 200,
    async run(c) {
      const { table, name } = c.pick(requests);
      const fails = c.once(6);
      const answer = made(c, table[name].answer);
      const error = fails
        ? c.pick<unknown>([null, 7, {}, { code: 'bad-state', message: 'words' }, { code: 'toString' }])
        : undefined;
      const stream = new Played((id) => (fails ? { id, error } : { id, ok: answer }));
      const rpc = new Rpc(stream, {});
      try {
        await ask(rpc, table, name, {}, 1000);
        if (fails) throw new Error(`${name}: a failure was taken for an answer`);
      } catch (failure) {
        if (!(failure instanceof Failure)) throw failure;
        if (!fails && (failure.code !== 'io' || !failure.message.startsWith(`the answer to ${name}`)))
          throw failure;
      } finally {
        rpc.destroy();
      }
    },
  };
}

/** Configurations, disks, networks and the daemon's files, as strangers and crashes may leave them. */
export function configurations(): Target {
  const shapes = Object.values(DAEMON_FILES).map(({ shape }) => shape);
  return {
    name: 'configurations and small files',
    files: /\/dist\/protocol\//,
    most: 200,
    run(c) {
      const text = (value: unknown): string => {
        const json = JSON.stringify(value) ?? '';
        return c.once(8) ? json.slice(0, c.below(json.length + 1)) : json;
      };
      const read = c.pick([readConfigRecord, readDiskSpec, readVifSettings]);
      try {
        read(text(made(c, guestConfig)));
      } catch (error) {
        if (!(error instanceof Failure || error instanceof ProtocolError)) throw error;
      }
      const shape = c.pick(shapes);
      const table: Requests = { file: { about: '', params: shape, answer: shape, errors: [] } };
      try {
        dispatcher(table, handlersOf(table))('file', made(c, shape));
      } catch (error) {
        refused(error, 'file');
      }
    },
  };
}
