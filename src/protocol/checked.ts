/** A message of another host's, held against the table that declares it. */
import type * as v from 'valibot';
import { check, ProtocolError } from './check.js';
import { Failure, type FailureCode } from './failure.js';

/** `value`, if it has this shape; what the shape does not name is left out. Else a Failure that names the field. */
export function checked<S extends v.GenericSchema>(
  shape: S,
  value: unknown,
  what: string,
  code: FailureCode = 'usage',
): v.InferOutput<S> {
  try {
    return check(shape, value, what);
  } catch (error) {
    throw error instanceof ProtocolError ? new Failure(code, error.message) : error;
  }
}
