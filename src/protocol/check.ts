/**
 * Checks a foreign message against the table that declares it. A message that passes has exactly the declared fields,
 * with the declared types and within the declared limits. Undeclared fields are removed from the result.
 */
import * as v from 'valibot';
import { printable } from './printable.js';

/** A message does not match its table. The error names the field; foreign text in it is escaped. */
export class ProtocolError extends Error {
  override name = 'ProtocolError';
}

/** Maximum length of such an error message, characters: it may quote what was received. */
const MAX_WORDS = 200;

/** Returns `value` with the type that the table declares. Throws ProtocolError, which names `what` and the field. */
export function check<S extends v.GenericSchema>(schema: S, value: unknown, what: string): v.InferOutput<S> {
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  const field = v.getDotPath(issue);
  throw new ProtocolError(
    printable(`${what}: ${field === null ? '' : `${field}: `}${issue.message}`, MAX_WORDS),
  );
}
