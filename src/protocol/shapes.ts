/** The kinds of fields that the tables of messages are made of, with their limits. */
import * as v from 'valibot';

/** Text of at most so many UTF-16 units. */
export const text = (most: number) => v.pipe(v.string(), v.maxLength(most));
/** A whole number of 0 or more. */
export const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
/** Seconds, milliseconds, rates: any number that is one. */
export const quantity = v.pipe(v.number(), v.finite());
export const domid = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0x7fef));
export const port = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65_535));
export const uuid = v.pipe(v.string(), v.regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i, 'not a uuid'));
/** Bytes in base64. */
export const base64 = (mostBytes: number) =>
  v.pipe(
    v.string(),
    v.maxLength(Math.ceil(mostBytes / 3) * 4),
    v.regex(/^[A-Za-z0-9+/]*={0,2}$/, 'not base64'),
  );
/** At most so many of a kind. */
export const many = <S extends v.GenericSchema>(item: S, most: number) =>
  v.pipe(v.array(item), v.maxLength(most), v.readonly());
export const nothing = v.null();

/** PATH_MAX. */
export const path = text(4096);
/** Words for people: a reason, an error. */
export const words = text(64 << 10);
