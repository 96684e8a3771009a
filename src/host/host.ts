/**
 * What a host provides to one guest: the outer values. Each of them may be different on the next host. The helper
 * never shows one to the guest.
 */
import type { HostLinks } from '../devices/links.js';
import type { DomId, Nanoseconds, Port } from '../xen/types.js';

/** The clocks of a host. Nothing may assume that they agree with another host's clocks. */
export interface HostClock {
  /** Time since this host was started, which its Xen calls system_time. It never runs backwards. */
  uptime(): Nanoseconds;
  /**
   * The wall-clock time as far as this host knows it: since 1970, without leap seconds. An administrator may step it.
   */
  wallClock(): Nanoseconds;
  /** Frequency of the host's time stamp counter in kHz. */
  readonly tscKhz: number;
  /**
   * For how long this process's kernel was suspended so far: a machine that slept, a domain that was saved or moved.
   * It is called before each slice of a guest, so it must be cheap. A host without it is never suspended.
   */
  suspended?(): Nanoseconds;
  /** `uptime` without all suspends, known or not: it goes on evenly where they are. */
  awake?(): Nanoseconds;
}

/** What distinguishes a host's hypervisor and processor from another's. */
export interface HostIdentity {
  readonly name: string;
  /** The version as `xl info` prints it, for example "4.17.7". */
  readonly xenVersion: string;
  readonly cpuModel: string;
}

/** A node in this host's xenstore, with a path relative to the guest's home there. `null` means that it was removed. */
export interface HostNode {
  readonly path: string;
  readonly value: string | null;
}

/** This host's xenstore, with the rights of the guest's domain on this host. */
export interface HostStore {
  /** Writes or removes nodes below the domain's home, in order. A node that the domain may not write is refused. */
  write(nodes: readonly HostNode[]): void;
  /**
   * Shows a node of the helper's own to the host's tools: `path` is below a place for that in the domain's home, `value`
   * has at most 1800 bytes. A host without such a place leaves it out.
   */
  publish?(path: string, value: string | null): void;
  /** Resolves when what was written and published is with the host, or was refused. */
  settled?(): Promise<void>;
  /**
   * Sets who is told of nodes that others change below the domain's home, for example a tool that asks the guest to
   * shut down.
   */
  onChange(listener: ((node: HostNode) => void) | undefined): void;
}

/**
 * The kinds of outer values. On a host without Xen nobody gives most of them. Such a host invents them, and everything
 * that shows an invented value calls it pretended.
 */
export type OuterKind =
  | 'domid'
  | 'ports'
  | 'frames'
  | 'xenVersion'
  | 'cpuModel'
  | 'tscKhz'
  /** The value that stands for Xen's system time. */
  | 'uptime'
  | 'wallClock'
  /** The xenstore of the toolstack. */
  | 'xenstore';

/** A device of the helper's own on this host, as the host's xenstore has it. */
export interface OuterDevice {
  /** "vbd", "vif". */
  readonly kind: string;
  readonly devid: number;
  /** Nodes of its front end (ring-ref, event-channel and the like), and "backend-state" of its back end. */
  readonly nodes: Readonly<Record<string, string>>;
}

/**
 * A host as the helper of one guest sees it. On the host, the helper is an ordinary domain. Where the helper itself is
 * moved, its values change while it is open: each is read anew where it is used.
 */
export interface Host {
  readonly identity: HostIdentity;
  /** The kinds of values that this host invents: they come neither from a real Xen nor from the machine. */
  readonly pretended: ReadonlySet<OuterKind>;
  readonly clock: HostClock;
  /** The guest's domain id on this host. */
  readonly domid: DomId;
  /** The ports that this host gave to the domain for its xenstore and console. */
  readonly storePort: Port;
  readonly consolePort: Port;
  /** The machine frames that this host gave to the rings of xenstore and console. */
  readonly storeFrame: number;
  readonly consoleFrame: number;
  readonly store: HostStore;
  /** The links that this host provides for devices. */
  readonly links: HostLinks;
  /** What is known of the host for people, by name. */
  readonly facts?: Readonly<Record<string, string>>;
  /** The helper's own devices here, if the host gives it any. */
  readonly devices?: readonly OuterDevice[];
  /** Sets who is told that a device of the helper's came, went, or has another state. */
  onDevices?(listener: (() => void) | undefined): void;
  /**
   * Calls `take` with what a tool of the host writes into a node of the helper's own place; the node is emptied. A host
   * without such a place leaves it out.
   */
  onOrder?(name: string, take: (value: string) => void): void;
  /** Closes the connection to the host's xenstore. */
  close?(): Promise<void>;
  /**
   * Sets who is told that the helper continued after a suspend, here or on another machine, and that its values are
   * others now. `moved` is true once the new values are known; false: time was lost, more is not known yet.
   */
  onChanged?(listener: ((moved: boolean) => void) | undefined): void;
}
