/** Checks a message of another host against the table that declares it. */
import type * as v from 'valibot';
import { check, ProtocolError } from './check.js';
import { Failure, type FailureCode } from './failure.js';

/**
 * Returns `value` if it has this shape, without the fields that the shape does not name. Throws a Failure that names
 * the field if not.
 */
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
