/**
 * What a host gives to one guest: the outer values. Every one of them may differ on the next host; the helper
 * never lets the guest see one.
 */
import type { HostLinks } from '../devices/links.js';
import type { DomId, Nanoseconds, Port } from '../xen/types.js';

/** Clocks of a host. None of them may be taken to agree with another host's. */
export interface HostClock {
  /** Time since this host was started: what its Xen calls system_time. Never runs backwards. */
  uptime(): Nanoseconds;
  /** True time as far as this host knows it: since 1970, without leap seconds. May be stepped by its owner. */
  wallClock(): Nanoseconds;
  /** Frequency of its time stamp counter in kHz. */
  readonly tscKhz: number;
}

/** What distinguishes a host's hypervisor and processor from another's. */
export interface HostIdentity {
  readonly name: string;
  /** As `xl info` has it: "4.17.7". */
  readonly xenVersion: string;
  readonly cpuModel: string;
}

/** A node in this host's xenstore, relative to the guest's home there; `null` where it is gone. */
export interface HostNode {
  readonly path: string;
  readonly value: string | null;
}

/** This host's xenstore, seen with the rights of the guest's domain there. */
export interface HostStore {
  /** Writes nodes below the domain's home, or removes them, in order. What the domain may not write is refused. */
  write(nodes: readonly HostNode[]): void;
  /** Who is told of nodes that others changed below the domain's home (a tool that asks the guest to shut down). */
  onChange(listener: ((node: HostNode) => void) | undefined): void;
}

/** A host as one guest's helper sees it: an ordinary domain on it. */
export interface Host {
  readonly identity: HostIdentity;
  readonly clock: HostClock;
  /** The guest's domain id here. */
  readonly domid: DomId;
  /** The ports that this host gave to the domain's store and console. */
  readonly storePort: Port;
  readonly consolePort: Port;
  /** Machine frames that this host gave to the rings of store and console. */
  readonly storeFrame: number;
  readonly consoleFrame: number;
  readonly store: HostStore;
  /** What it has for devices. */
  readonly links: HostLinks;
}
