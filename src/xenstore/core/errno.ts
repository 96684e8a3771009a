/**
 * The errors that xenstored answers with. Inside the server they are errno values (small positive numbers, so that an
 * error can be told from a result by its type); in messages they are names.
 */
import {
  E2BIG,
  EACCES,
  EAGAIN,
  EBUSY,
  EEXIST,
  EINVAL,
  EIO,
  EISCONN,
  EISDIR,
  ENOENT,
  ENOMEM,
  ENOSPC,
  ENOSYS,
  ENOTEMPTY,
  EPERM,
  EROFS,
} from '../../xen/errno.js';
import type { XsdError } from '../../xen/xs-wire.js';

const VALUES = {
  EPERM,
  ENOENT,
  EIO,
  E2BIG,
  EAGAIN,
  ENOMEM,
  EACCES,
  EBUSY,
  EEXIST,
  EISDIR,
  EINVAL,
  ENOSPC,
  EROFS,
  ENOSYS,
  ENOTEMPTY,
  EISCONN,
} as const satisfies Record<XsdError, number>;

export type Errno = (typeof VALUES)[XsdError];

const NAMES = new Map(Object.entries(VALUES).map(([name, value]) => [value, name as XsdError]));

/** The name of an error in messages. */
export const errnoName = (error: Errno): XsdError => NAMES.get(error)!;

/** Why a xenstore request failed, for callers in this process. `code` is the name that is used in messages. */
export class XenstoreError extends Error {
  override readonly name = 'XenstoreError';
  constructor(
    readonly code: string,
    request: string,
  ) {
    super(`xenstore: ${request}: ${code}`);
  }
}
