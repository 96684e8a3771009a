/**
 * Permissions of nodes. The first entry names the owner, who may do everything, and its letter gives the access of
 * all domains that no later entry names. Privileged domains (those of the toolstack) may do everything everywhere.
 * Source: docs/misc/xenstore.txt (GET_PERMS, SET_PERMS, SET_TARGET).
 */
import { EINVAL } from '../../xen/errno.js';
import type { Errno } from './errno.js';

export const READ = 1;
export const WRITE = 2;
/** The right to change the permissions. */
export const OWNER = 4;

export interface Permission {
  readonly domid: number;
  /** READ and WRITE bits. */
  readonly access: number;
  /** True if the entry is older than the domain that now has this id. It is shown, but grants nothing. */
  readonly ignored: boolean;
}

/** There is at least one entry. The first one is the owner's. */
export type Permissions = readonly Permission[];

/** Who makes a request. */
export interface Actor {
  readonly domid: number;
  /** The domain on whose behalf this one acts (SET_TARGET), or -1. */
  readonly target: number;
  readonly privileged: boolean;
}

export const permission = (domid: number, access: number, ignored = false): Permission => ({
  domid,
  access,
  ignored,
});

const LETTERS = ['n', 'r', 'w', 'b'];

export const formatPermission = (p: Permission): string => LETTERS[p.access & 3] + p.domid;

/**
 * Parses an entry as clients send it: a letter and a domain id, which may be decimal, octal or hexadecimal as in C.
 * An id above 65535 is invalid.
 */
export function parsePermission(text: string): Permission | Errno {
  const match = /^([nrwb])[\t-\r ]*\+?(0[0-7]*|0[xX][0-9a-fA-F]+|[1-9]\d*)$/.exec(text);
  if (match === null) return EINVAL;
  const digits = match[2];
  const domid = /^0\d/.test(digits) ? Number.parseInt(digits, 8) : Number(digits);
  return domid > 0xffff ? EINVAL : permission(domid, LETTERS.indexOf(match[1]));
}

/** Whether an entry still counts in a node of this generation. */
type Counts = (entry: Permission, generation: number) => boolean;

/** The access bits that `actor` has to a node. */
export function accessOf(actor: Actor, permissions: Permissions, generation: number, counts: Counts): number {
  const owner = permissions[0];
  if (actor.privileged || owner.domid === actor.domid || owner.domid === actor.target)
    return READ | WRITE | OWNER;
  for (let i = 1; i < permissions.length; i++) {
    const entry = permissions[i];
    if (
      (entry.domid === actor.domid || entry.domid === actor.target) &&
      !entry.ignored &&
      counts(entry, generation)
    )
      return entry.access;
  }
  return owner.access;
}
