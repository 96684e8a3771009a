/**
 * What a host provides for a guest's devices. A device terminates the guest's rings and passes requests on to a link.
 * The link belongs to the present host; on the next host the device gets another one.
 */

import type { LinkClient, NetLink } from '../net/link.js';
import type { DiskLink } from './vbd/disk-link.js';

/** The host's time, for what a vif does on its own: announcements, and the credit of a vif with a rate limit. */
export interface VifTimers {
  /** Milliseconds; the value never goes backwards. */
  now(): number;
  /** Calls `run` once after `ms` milliseconds. The function that it returns cancels the call. */
  after(ms: number, run: () => void): () => void;
}

/** What a host provides for a vif. */
export interface VifHost {
  readonly link: NetLink;
  readonly timers: VifTimers;
}

/**
 * One function for each kind of device. A host that cannot serve a kind leaves its function out.
 * `src/host/standalone/links.ts` has the functions of a host without Xen.
 */
export interface HostLinks {
  /**
   * Opens what `spec` (the device's settings as JSON) names. Rejects with a message for the user if that is not
   * possible.
   */
  readonly vbd?: (devid: number, spec: string) => Promise<DiskLink>;
  /** A guest with disks is arriving: slow preparations can be made now, before the guest is stopped. */
  readonly expectDisks?: () => void;
  readonly vif?: (devid: number, spec: string, client: LinkClient) => Promise<VifHost>;
}

/** One migration point of a device, for the ledger. Both values are computed each time they are asked for. */
export interface DevicePoint {
  /** What follows the device's own name in the ledger: "event channel", "link". */
  readonly name: string;
  inner(): string;
  outer(): string;
}
