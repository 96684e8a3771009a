/**
 * What a host gives to a guest's devices. A device terminates the guest's rings and speaks to a link at request
 * level; the link is this host's, and another one on the next host.
 */

import type { LinkClient, NetLink } from '../net/link.js';
import type { DiskLink } from './vbd/disk-link.js';

/** The host's time, for what a vif does by itself: announcements, and the credit of one with a rate. */
export interface VifTimers {
  /** Milliseconds, never backwards. */
  now(): number;
  /** Runs `run` once, later; the result takes that back. */
  after(ms: number, run: () => void): () => void;
}

/** What a host gives to a vif. */
export interface VifHost {
  readonly link: NetLink;
  readonly timers: VifTimers;
}

/** By kind of device; a host that has nothing for a kind leaves it out. `src/host/standalone/links.ts` has them. */
export interface HostLinks {
  /** Opens what `spec` (the device's settings, JSON) names. Fails with a message for people when it is not to be had. */
  readonly vbd?: (devid: number, spec: string) => Promise<DiskLink>;
  /** A guest with disks is on its way: what takes time can be done before it stands still. */
  readonly expectDisks?: () => void;
  readonly vif?: (devid: number, spec: string, client: LinkClient) => Promise<VifHost>;
}

/** One migration point of a device, for the ledger: both values are read when asked for. */
export interface DevicePoint {
  /** Beside the device's own name: "event channel", "link". */
  readonly name: string;
  inner(): string;
  outer(): string;
}
