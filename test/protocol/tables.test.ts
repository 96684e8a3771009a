/**
 * Tests what is derived from the tables of src/protocol: checks, refusals that name the field, and types of handlers.
 */
import * as v from 'valibot';
import { describe, expect, it } from 'vitest';
import { DIRECTIONS } from '../../scripts/lib/protocol-doc.js';
import { shapeOf, told, unwrapped } from '../../scripts/lib/shapes.js';
import { CONTROL } from '../../src/protocol/control.js';
import { readConfigRecord, readDiskSpec } from '../../src/protocol/guest-config.js';
import { GUEST } from '../../src/protocol/guest-process.js';
import { count, fields, text } from '../../src/protocol/shapes.js';
import { dispatcher, listener, notice, openRequest, request } from '../../src/protocol/table.js';
import { Choices } from '../fuzz/choices.js';
import { valid } from '../fuzz/protocol.js';
import { Random } from '../twin/random.js';

const table = {
  add: request('Adds.', { params: { a: count, b: v.optional(count, 1) }, answer: count }),
  later: openRequest('Takes more than it knows.', { params: { a: count }, answer: count }),
};
const dispatch = dispatcher(table, { add: ({ a, b }) => a + b, later: ({ a }) => a });

describe('a table of requests', () => {
  it('gives a handler the declared fields, with their defaults', () => {
    expect(dispatch('add', { a: 1, b: 2 })).toBe(3);
    expect(dispatch('add', { a: 1 })).toBe(2);
    expect(dispatch('later', { a: 1, more: true })).toBe(1);
  });

  it.each([
    ['nothing', {}, 'unknown request nothing'],
    ['toString', {}, 'unknown request toString'],
    ['\u001b[2J', {}, 'unknown request \\x1b[2J'],
    ['add', { a: 1, c: 2 }, 'add: c: there is no such field'],
    ['add', {}, 'add: a: is missing'],
    ['add', { a: 'x' }, 'add: a: a number is expected'],
    ['add', { a: -1 }, 'add: a: at least 0 is expected'],
    ['add', null, 'add: an object is expected'],
    ['add', JSON.parse('{"a":1,"__proto__":{"b":2}}'), 'add: __proto__: there is no such field'],
  ])('refuses %j with %j by name', (method, params, words) => {
    expect(() => dispatch(method, params)).toThrow(
      expect.objectContaining({ code: 'usage', message: words }),
    );
  });

  it('does not compile without a handler, or with one that answers something else', () => {
    // @ts-expect-error: `later` is missing.
    dispatcher(table, { add: () => 1 });
    // @ts-expect-error: `add` answers text.
    dispatcher(table, { add: () => 'one', later: () => 1 });
    // @ts-expect-error: there is no field `c`.
    dispatcher(table, { add: ({ c }) => c, later: () => 1 });
  });
});

it('a table of notices also refuses by name', () => {
  const heard: number[] = [];
  const hear = listener(
    { step: notice('A step.', fields({ n: count })) },
    { step: ({ n }) => heard.push(n) },
  );
  hear('step', { n: 7, more: 1 });
  expect(heard).toEqual([7]);
  expect(() => hear('step', { n: null })).toThrow('notice step: n: a number is expected');
  expect(() => hear('other', {})).toThrow('unknown notice other');
});

describe('the tables', () => {
  const choices = new Random(3);
  const canBe = (schema: v.GenericSchema): boolean => {
    for (let i = 0; i < 3000; i++)
      if (v.is(schema, valid(new Choices([], choices, 10_000), shapeOf(schema)))) return true;
    return false;
  };
  const all = DIRECTIONS.flatMap(({ title, requests, notices }) => [
    ...Object.entries(requests).flatMap(([name, { params, answer }]) => [
      [`${title}: ${name}`, params] as const,
      [`${title}: the answer to ${name}`, answer] as const,
    ]),
    ...Object.entries(notices).map(([name, { params }]) => [`${title}: notice ${name}`, params] as const),
  ]);

  it.each(all)('%s: the fuzzer makes such values, and every field is documented', (_, schema) => {
    expect(canBe(schema)).toBe(true);
    const { inner } = unwrapped(shapeOf(schema));
    for (const [name, field] of Object.entries(inner.entries ?? {}))
      expect(told(field).about, name).not.toBe('');
  });

  it('have a verb of each kind', () => {
    expect(Object.keys(CONTROL)).toContain('events');
    expect(Object.keys(GUEST)).toContain('send');
  });
});

describe('JSON from others', () => {
  it('is refused with the name of the field', () => {
    expect(() => readConfigRecord('{"name":"3"}')).toThrow(/^the guest's configuration: name: .*digits only/);
    expect(() => readConfigRecord('nothing')).toThrow('an object is expected');
    expect(() => readDiskSpec('{"target":7}')).toThrow('the settings of a disk: target: text is expected');
    expect(() => readDiskSpec('null')).toThrow('an object is expected');
  });
  it('has its limits', () => {
    expect(v.is(text(3), 'abcd')).toBe(false);
  });
});
