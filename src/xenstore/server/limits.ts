/**
 * The requests about the features and quotas of domains.
 * Source: docs/misc/xenstore.txt (GET_FEATURE, SET_FEATURE, GET_QUOTA, SET_QUOTA) after Xen 4.20.
 */

import { EACCES, EBUSY, EINVAL } from '../../xen/errno.js';
import { DOMID_SELF } from '../../xen/hypercalls.js';
import type { Errno } from '../core/errno.js';
import { atoi } from '../core/path.js';
import { isQuotaName, QUOTA_NAMES } from '../core/quotas.js';
import type { Connection } from './connection.js';
import type { Hub } from './hub.js';

const SOFT_MEMORY = 'soft-memory';

const domidOf = (text: string): number => {
  const domid = atoi(text);
  return domid >= 0 && domid < DOMID_SELF && /^\d+$/.test(text) ? domid : -1;
};

/** A domain may ask for its own features, the toolstack for those of any domain. */
export function getFeature(hub: Hub, connection: Connection, args: readonly string[]): string | Errno {
  if (args.length === 0) return `${hub.store.account(connection.actor.domid).features}\0`;
  if (!connection.actor.privileged) return EACCES;
  const domid = domidOf(args[0]);
  if (args.length > 1 || domid < 0) return EINVAL;
  return `${hub.store.account(domid).features}\0`;
}

/** This is only possible before the domain is introduced. */
export function setFeature(hub: Hub, args: readonly string[]): string | Errno {
  if (args.length !== 2) return EINVAL;
  const domid = domidOf(args[0]);
  if (domid < 0) return EINVAL;
  const features = atoi(args[1]);
  if (hub.isIntroduced(domid)) return EBUSY;
  if ((features & ~hub.features) !== 0) return EINVAL;
  hub.store.account(domid).features = features;
  hub.onSettings();
  return 'OK\0';
}

/** Returns all names, a global value, or a domain's value. */
export function getQuota(hub: Hub, args: readonly string[]): string | Errno {
  const { store } = hub;
  if (args.length === 0) return `${QUOTA_NAMES.join(' ')} ${SOFT_MEMORY}\0`;
  if (args.length > 2) return EINVAL;
  const name = args[args.length - 1];
  const domid = args.length === 2 ? domidOf(args[0]) : 0;
  if (domid < 0) return EINVAL;
  if (name === SOFT_MEMORY) return `${store.accounts.softMemory}\0`;
  if (!isQuotaName(name)) return EINVAL;
  return `${args.length === 1 ? store.accounts.quotas[name] : store.accounts.limit(domid, name)}\0`;
}

/** Sets a global value, or a domain's. 0 means no limit. */
export function setQuota(hub: Hub, args: readonly string[]): string | Errno {
  const { store } = hub;
  if (args.length < 2 || args.length > 3) return EINVAL;
  const name = args[args.length - 2];
  const value = atoi(args[args.length - 1]);
  const domid = args.length === 3 ? domidOf(args[0]) : 0;
  if (value < 0 || domid < 0) return EINVAL;
  if (name === SOFT_MEMORY && args.length === 2) store.accounts.softMemory = value;
  else if (!isQuotaName(name)) return EINVAL;
  else if (args.length === 2) store.accounts.quotas[name] = value;
  else store.account(domid).limits[name] = value;
  hub.onSettings();
  return 'OK\0';
}
