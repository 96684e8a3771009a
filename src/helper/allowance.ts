/**
 * How many frames of grants and how much of its xenstore a guest is allowed: what Xen and xenstored allow by default, or
 * more if its devices need more, or what its configuration says (max_grant_frames, xenstore_quota). It is fixed at
 * power-on, and the same on every host.
 *
 * The figures are those of Linux's front ends, which take more than others: xen-netfront.c, xen-blkfront.c.
 */

import { MAX_GRANT_FRAMES } from '../guest/config.js';
import { GRANT_FRAMES } from '../hypervisor/grants/grant-table.js';
import { GrantEntryV1 } from '../xen/grant-table.js';
import { defaultQuotas, type Quotas } from '../xenstore/core/quotas.js';
import type { GuestSpec } from './guest.js';

const GRANTS_PER_FRAME = 4096 / GrantEntryV1.sizeof;
/** Grants and nodes of what is not a device. */
const OTHER_GRANTS = 1024;
const OTHER_NODES = 300;
const OTHER_WATCHES = 64;

/** What a device takes, and each of its queues: at most `queues`, and no more than the guest has vCPUs. */
interface Need {
  readonly queues: number;
  readonly nodes: number;
  readonly nodesPerQueue: number;
  readonly grantsPerQueue: number;
}
/** A vif: 256 grants in each direction, and two rings. */
const VIF: Need = { queues: 8, nodes: 32, nodesPerQueue: 6, grantsPerQueue: 514 };
/** A disk: 32 requests of 33 pages, which are kept, and a ring of up to 16 pages. */
const VBD: Need = { queues: 4, nodes: 32, nodesPerQueue: 20, grantsPerQueue: 1072 };
/** Watches that a front end's driver keeps. */
const WATCHES = 2;
/** Of a node, with its name and value. */
const BYTES_PER_NODE = 1024;

export interface Allowance {
  readonly grantFrames: number;
  /** Those that are not xenstored's defaults. */
  readonly quotas: Partial<Quotas>;
}

export function allowanceOf(
  spec: Pick<GuestSpec, 'vcpus' | 'devices' | 'grantFrames' | 'xenstoreQuotas'>,
): Allowance {
  const { vcpus, devices = [], grantFrames, xenstoreQuotas } = spec;
  let [grants, nodes] = [OTHER_GRANTS, OTHER_NODES];
  for (const { kind } of devices) {
    const need = kind === 'vif' ? VIF : VBD;
    const queues = Math.min(need.queues, vcpus);
    grants += queues * need.grantsPerQueue;
    nodes += need.nodes + queues * need.nodesPerQueue;
  }
  const needed: Partial<Quotas> = {
    nodes,
    watches: OTHER_WATCHES + WATCHES * devices.length,
    memory: nodes * BYTES_PER_NODE,
  };
  const defaults = defaultQuotas();
  const more = Object.entries(needed).filter(([name, value]) => value > defaults[name as keyof Quotas]);
  const frames = grantFrames ?? Math.max(GRANT_FRAMES, Math.ceil(grants / GRANTS_PER_FRAME));
  return {
    grantFrames: Math.min(frames, MAX_GRANT_FRAMES),
    quotas: { ...Object.fromEntries(more), ...xenstoreQuotas },
  };
}
