/**
 * Paths of nodes. Invariant: what `canonical` returns is absolute (or a special name that starts with @), contains
 * only permitted characters and no empty component, and is within the protocol's limits.
 * Source: docs/misc/xenstore.txt of Xen; XENSTORE_*_PATH_MAX in xs_wire.h.
 */

import { EINVAL } from '../../xen/errno.js';
import { XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX } from '../../xen/xs-wire.js';
import type { Errno } from './errno.js';

const PERMITTED = /^[A-Za-z0-9\-_@/]+$/;
const HOME_PREFIX = /^\/local\/domain\/\d{1,5}\//;

/** A domain's home in the tree. Relative paths start from it. */
export const homePath = (domid: number): string => `/local/domain/${domid}`;

/**
 * Returns the absolute form of a path that a client has sent, or EINVAL. `limit` is the longest path that this client
 * may use, in characters, without a leading /local/domain/N/. 0 means that only the protocol's limit applies.
 */
export function canonical(path: string, home: string, special: boolean, limit: number): string | Errno {
  if (!PERMITTED.test(path)) return EINVAL;
  const first = path.charCodeAt(0);
  if (first === 0x40) return special && path.length <= XENSTORE_ABS_PATH_MAX ? path : EINVAL;
  let absolute = path;
  if (first !== 0x2f) {
    if (path.length > XENSTORE_REL_PATH_MAX) return EINVAL;
    absolute = `${home}/${path}`;
  }
  if (absolute.length > XENSTORE_ABS_PATH_MAX) return EINVAL;
  if (absolute.includes('//') || (absolute.length > 1 && absolute.endsWith('/'))) return EINVAL;
  if (limit !== 0 && absolute.length > limit) {
    const prefix = HOME_PREFIX.exec(absolute);
    if (absolute.length - (prefix === null ? 0 : prefix[0].length) > limit) return EINVAL;
  }
  return absolute;
}

/** The path one level up. For the root and for special names it is the root. */
export function parentPath(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash <= 0 ? '/' : path.slice(0, slash);
}

/** The last component of a path. */
export const leafName = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

export const childPath = (parent: string, name: string): string =>
  parent === '/' ? `/${name}` : `${parent}/${name}`;

/** C's atoi: optional blanks and sign, then digits; 0 if there are no digits. The result is a signed 32-bit number. */
export function atoi(text: string): number {
  const match = /^[\t-\r ]*([+-]?\d+)/.exec(text);
  return match === null ? 0 : Number(match[1]) | 0;
}
