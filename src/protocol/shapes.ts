/**
 * The kinds of fields from which the tables of messages are built, with their limits. The description of a field for
 * people (its meaning, its unit) is attached as metadata; docs/protocol.md is generated from it (describe.ts).
 */
import * as v from 'valibot';

/** The description of a field. */
export interface Told {
  /** What it is: a clause without a full stop. */
  readonly about: string;
  /** ms, s, KiB, bytes... */
  readonly unit?: string;
}

/** `shape` with a description and, if it has one, a unit. */
export const is = <const S extends v.GenericSchema>(shape: S, about: string, unit?: string) =>
  v.pipe(shape, v.metadata({ about, unit } satisfies Told as Record<string, unknown>));

/** Text of at most `most` UTF-16 units. */
export const text = (most: number) =>
  v.pipe(v.string('text is expected'), v.maxLength(most, `it has more than ${most} characters`));
/** Text of 1 to `most` UTF-16 units. */
export const someText = (most: number) => v.pipe(text(most), v.minLength(1, 'is missing'));
/** Text that matches `pattern`; `what` describes it, for example "a uuid". */
export const like = (pattern: RegExp, what: string) =>
  v.pipe(v.string('text is expected'), v.regex(pattern, `${what} is expected`));
export const yes = v.boolean('true or false is expected');
/** One of these words. */
export const oneOf = <const W extends readonly string[]>(...words: W) =>
  v.picklist(words, `one of ${words.map((word) => JSON.stringify(word)).join(', ')} is expected`);
/** A whole number from `low` to `high`. */
export const whole = (low: number, high: number) =>
  v.pipe(
    v.number('a number is expected'),
    v.integer('a whole number is expected'),
    v.minValue(low, `at least ${low} is expected`),
    v.maxValue(high, `at most ${high} is expected`),
  );
/** Any number from `low` to `high`. */
export const between = (low: number, high: number) =>
  v.pipe(
    v.number(`must be a number from ${low} to ${high}`),
    v.minValue(low, `must be a number from ${low} to ${high}`),
    v.maxValue(high, `must be a number from ${low} to ${high}`),
  );
/** A whole number of 0 or more. */
export const count = v.pipe(
  v.number('a number is expected'),
  v.safeInteger('a whole number is expected'),
  v.minValue(0, 'at least 0 is expected'),
);
/** A finite number, for example of seconds, milliseconds or a rate. */
export const quantity = v.pipe(v.number('a number is expected'), v.finite('a number is expected'));
export const domid = whole(0, 0x7fef);
export const port = whole(0, 65_535);
export const uuid = like(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i, 'a uuid');
/** The id of a hand-over, which the source of a move generates. */
export const handover = like(/^[0-9a-f-]{36}$/, 'the id of a hand-over');
/** Bytes in base64. */
export const base64 = (mostBytes: number) =>
  v.pipe(
    v.string('text is expected'),
    v.maxLength(Math.ceil(mostBytes / 3) * 4, `more than ${mostBytes} bytes`),
    v.regex(/^[A-Za-z0-9+/]*={0,2}$/, 'base64 is expected'),
  );
/** A list. */
export type Many<S extends v.GenericSchema> = v.GenericSchema<
  readonly v.InferInput<S>[],
  readonly v.InferOutput<S>[]
>;
/** A list of at most `most` items. */
export const many = <const S extends v.GenericSchema>(item: S, most: number): Many<S> =>
  v.pipe(v.array(item, 'a list is expected'), v.maxLength(most, `more than ${most} of them`), v.readonly());
/** An object. Fields that this table does not name are removed. */
export const fields = <const E extends v.ObjectEntries>(entries: E) =>
  v.object(entries, (issue) => (issue.expected === 'Object' ? 'an object is expected' : 'is missing'));
/** An object. Fields that this table does not name are refused. */
export const exactly = <const E extends v.ObjectEntries>(entries: E) =>
  v.strictObject(entries, (issue) =>
    issue.expected === 'Object'
      ? 'an object is expected'
      : issue.expected === 'never'
        ? 'there is no such field'
        : 'is missing',
  );
/**
 * An object. Fields that this table does not name are kept: a later version may have written them into one of our own
 * files.
 */
export const atLeast = <const E extends v.ObjectEntries>(entries: E) =>
  v.looseObject(entries, (issue) => (issue.expected === 'Object' ? 'an object is expected' : 'is missing'));
/** An object with arbitrary names, all of whose values have the same shape. */
export const named = <const S extends v.GenericSchema>(value: S, mostCharacters = 4096) =>
  v.record(text(mostCharacters), value, 'an object is expected');
export const nothing = v.null('nothing is expected');

/** At most PATH_MAX. */
export const path = text(4096);
/** Text for people, such as a reason or an error. */
export const words = text(64 << 10);
