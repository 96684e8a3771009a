/**
 * Errors as values that scripts can rely on: a code that never changes, and a message for people. The exit status of
 * the command line follows from the code (docs/hosts.md lists them).
 */

export const EXIT_STATUS = {
  /** Wrong arguments or a bad configuration. */
  usage: 2,
  'bad-config': 2,
  'no-such-guest': 3,
  'name-taken': 4,
  'bad-state': 5,
  'timed-out': 6,
  'move-failed': 7,
  /** The destination may own the guest; the source keeps asking it. */
  'move-unsettled': 8,
  'bad-image': 9,
  'no-daemon': 10,
  'not-trusted': 11,
  io: 12,
  crashed: 13,
  /** The host has no room for the guest: its memory, or a limit of its configuration. */
  'no-room': 14,
  internal: 1,
} as const;

export type FailureCode = keyof typeof EXIT_STATUS;

export class Failure extends Error {
  override name = 'Failure';
  constructor(
    readonly code: FailureCode,
    message: string,
  ) {
    super(message);
  }
}

/** Code and message of any error. A system error keeps its own message ("ENOSPC: no space left on device"). */
export function describeError(error: unknown): { code: FailureCode; message: string } {
  if (error instanceof Failure) return { code: error.code, message: error.message };
  if (error instanceof Error) {
    if ('syscall' in error) return { code: 'io', message: error.message };
    if (error.name === 'RecordError') return { code: 'bad-image', message: error.message };
    if (error.name === 'MoveTimeout') return { code: 'timed-out', message: error.message };
    return { code: 'internal', message: error.message };
  }
  return { code: 'internal', message: String(error) };
}

export const isFailureCode = (code: unknown): code is FailureCode =>
  typeof code === 'string' && Object.hasOwn(EXIT_STATUS, code);
