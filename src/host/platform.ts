/**
 * What makes hosts: the part of a daemon, and of its guests' processes, that is another one on another kind of machine.
 * `standalone/` is any Linux, where there is no Xen and the outer values are invented; a platform on a real Xen has them
 * from dom0. platforms.ts finds a platform by its name, and is the only file that names the folder of one.
 *
 * The daemon has a platform for all of its domains; each guest's process opens the same one anew, from what the daemon
 * grants it, for one guest.
 */
import type { Socket } from 'node:net';
import type { DeviceTreeInput } from '../guest/device-tree.js';
import type { DomainTreeInput } from '../guest/domain-tree.js';
import type { DiskSpec } from '../protocol/guest-config.js';
import type { Host, HostClock, HostIdentity, HostNode, HostStore, OuterKind } from './host.js';
import type { HostImages } from './images.js';

/** What a host gives to a domain beside its id: each of them is another on the next host. */
export interface OuterValues {
  /** Event-channel ports of the domain's store and console. */
  readonly storePort: number;
  readonly consolePort: number;
  /** Machine frames of the rings of store and console. */
  readonly storeFrame: number;
  readonly consoleFrame: number;
}

/** The platform's own part of the host's configuration file. Plain JSON: it goes with each grant. */
export type PlatformSettings = Readonly<Record<string, unknown>>;

/** What a daemon tells a guest's process, for it to open the host. Plain JSON. */
export interface HostGrant extends OuterValues {
  /** The platform's name, as platforms.ts has it. */
  readonly platform: string;
  readonly settings: PlatformSettings;
  /** The host's. */
  readonly name: string;
  readonly domid: number;
}

/** What a guest's process gives to the host that it opens. */
export interface HostSurroundings {
  /** The domain's nodes in this host's xenstore. */
  readonly store: HostStore;
  /** For a line about a link, of a disk or a network. */
  readonly log: (line: string) => void;
}

/** A domain's way to its home in the toolstack's xenstore, with the domain's rights. */
export interface DomainRelay {
  /** Writes what the domain may write, in order; returns the paths that were refused. */
  write(nodes: readonly HostNode[]): string[];
}

/** A device of a domain, as the toolstack writes it into xenstore. */
export type StoreDevice = Omit<DeviceTreeInput, 'domid'>;

/** This host's xenstore as its toolstack keeps it: the nodes of every domain under the ids that they have here. */
export interface ToolstackStore {
  addDomain(domain: DomainTreeInput): void;
  rename(domid: number, uuid: string, name: string): void;
  removeDomain(domid: number, uuid: string): void;
  addDevice(domid: number, device: StoreDevice): void;
  removeDevice(domid: number, kind: string, devid: number): void;
  /** `changed` is told of nodes in the domain's home that others changed. An earlier relay of the domain ends. */
  relay(domid: number, changed: (node: HostNode) => void): DomainRelay;
  /**
   * Listens at `path` for tools of this machine that `admit` lets in, and resolves with what ends that. A host whose
   * own xenstored they speak to has no such method.
   */
  serve?(path: string, admit: (socket: Socket) => boolean): Promise<() => Promise<void>>;
}

/** What a guest's process has to reach of this host, by paths of this host. */
export interface HostReach {
  /** Files and devices that it writes, and those that it reads. */
  readonly writable: readonly string[];
  readonly readable: readonly string[];
  /** Unix sockets that it connects to. */
  readonly sockets: readonly string[];
  /** Bytes of the longest file that it may have to write; undefined where that is not known. */
  readonly longestFile: number | undefined;
}

export interface HostPlatform {
  /** As platforms.ts has it. */
  readonly kind: string;
  readonly settings: PlatformSettings;
  readonly identity: HostIdentity;
  readonly clock: HostClock;
  /** The kinds of outer values that it invents. */
  readonly pretended: ReadonlySet<OuterKind>;
  /** The first domain id that it gives, and the greatest before it begins again from 1. */
  readonly domids: { readonly first: number; readonly last: number };
  /** The outer values of a new domain. */
  allocate(domid: number): OuterValues;
  /** Opened when it is first asked for: a guest's process has none. */
  readonly toolstackStore: ToolstackStore;
  readonly images: HostImages;
  /** What the process of a guest with these disks has to reach. */
  reach(disks: readonly DiskSpec[]): HostReach;
  /** In a guest's process: the host as the guest's helper sees it. */
  openHost(grant: HostGrant, around: HostSurroundings): Host;
}

/** What a platform's module exports as `platform`. */
export interface PlatformModule {
  /** What the settings are where the configuration file says nothing; their types are those of its keys. */
  defaultSettings(): PlatformSettings;
  /** Throws with the key of `settings` and with what is wrong with it. */
  open(hostName: string, settings: PlatformSettings): HostPlatform;
  /** A host for one guest without a daemon, and without anybody who reads its xenstore. */
  openSingleHost(hostName: string, links: SingleHostLinks): Host;
}

export interface SingleHostLinks {
  /** Links for vifs, by bridge (docs/networks.md). */
  readonly networks: Readonly<Record<string, string>>;
  readonly log: (line: string) => void;
}
