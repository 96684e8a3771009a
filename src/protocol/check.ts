/**
 * How a message of somebody else's is held against the table that declares it: what passes has exactly the declared
 * fields, of the declared types, within the declared limits. Fields that are not declared are left out of what is
 * handed on.
 */
import * as v from 'valibot';
import { printable } from './printable.js';

/** What was said does not fit the table. The message names the field; whatever of it is foreign text is escaped. */
export class ProtocolError extends Error {
  override name = 'ProtocolError';
}

/** Characters of such a message: what was received may stand in it. */
const MAX_WORDS = 200;

/** `value` as the table has it. Throws ProtocolError, which names `what` and the field. */
export function check<S extends v.GenericSchema>(schema: S, value: unknown, what: string): v.InferOutput<S> {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const field = v.getDotPath(issue);
  throw new ProtocolError(
    printable(`${what}: ${field === null ? '' : `${field}: `}${issue.message}`, MAX_WORDS),
  );
}
