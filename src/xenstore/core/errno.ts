/**
 * The errors xenstored answers with. Inside they are errno values (small positive numbers, so that a result
 * is told from an error by its type); on the wire they are names.
 * Source: xsd_errors in xen/include/public/io/xs_wire.h, values of Linux.
 */

export const EPERM = 1;
export const ENOENT = 2;
export const EIO = 5;
export const E2BIG = 7;
export const EAGAIN = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EBUSY = 16;
export const EEXIST = 17;
export const EISDIR = 21;
export const EINVAL = 22;
export const ENOSPC = 28;
export const EROFS = 30;
export const ENOSYS = 38;
export const ENOTEMPTY = 39;
export const EISCONN = 106;

export type Errno =
  | typeof EPERM
  | typeof ENOENT
  | typeof EIO
  | typeof E2BIG
  | typeof EAGAIN
  | typeof ENOMEM
  | typeof EACCES
  | typeof EBUSY
  | typeof EEXIST
  | typeof EISDIR
  | typeof EINVAL
  | typeof ENOSPC
  | typeof EROFS
  | typeof ENOSYS
  | typeof ENOTEMPTY
  | typeof EISCONN;

/** Names on the wire. */
const NAMES: Readonly<Record<Errno, string>> = {
  [EPERM]: 'EPERM',
  [ENOENT]: 'ENOENT',
  [EIO]: 'EIO',
  [E2BIG]: 'E2BIG',
  [EAGAIN]: 'EAGAIN',
  [ENOMEM]: 'ENOMEM',
  [EACCES]: 'EACCES',
  [EBUSY]: 'EBUSY',
  [EEXIST]: 'EEXIST',
  [EISDIR]: 'EISDIR',
  [EINVAL]: 'EINVAL',
  [ENOSPC]: 'ENOSPC',
  [EROFS]: 'EROFS',
  [ENOSYS]: 'ENOSYS',
  [ENOTEMPTY]: 'ENOTEMPTY',
  [EISCONN]: 'EISCONN',
};

export const errnoName = (error: Errno): string => NAMES[error];

/** What went wrong with a xenstore request, for callers in this process. `code` is the name on the wire. */
export class XenstoreError extends Error {
  override readonly name = 'XenstoreError';
  constructor(
    readonly code: string,
    request: string,
  ) {
    super(`xenstore: ${request}: ${code}`);
  }
}
