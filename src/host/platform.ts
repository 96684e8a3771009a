/**
 * The platform: the part of a daemon, and of its guests' processes, that differs between kinds of machines.
 * `standalone/` works on any Linux, where there is no Xen and the outer values are invented; a platform on a real Xen
 * would get them from dom0. platforms.ts finds a platform by its name, and is the only file that names the folder of
 * one.
 *
 * The daemon has one platform for all of its domains. Each guest's process opens the same platform again for its one
 * guest, with what the daemon grants to it.
 */
import type { Socket } from 'node:net';
import type { DeviceTreeInput } from '../guest/device-tree.js';
import type { DomainTreeInput } from '../guest/domain-tree.js';
import type { DiskSpec } from '../protocol/guest-config.js';
import type { Host, HostClock, HostIdentity, HostNode, HostStore, OuterKind } from './host.js';
import type { HostImages } from './images.js';

/** What a host gives to a domain besides its id: each of these values is different on the next host. */
export interface OuterValues {
  /** Event-channel ports of the domain's xenstore and console. */
  readonly storePort: number;
  readonly consolePort: number;
  /** Machine frames of the rings of xenstore and console. */
  readonly storeFrame: number;
  readonly consoleFrame: number;
}

/** The platform's own part of the host's configuration file: plain JSON, because it is a part of each grant. */
export type PlatformSettings = Readonly<Record<string, unknown>>;

/** What a daemon sends to a guest's process so that the process can open the host. Plain JSON. */
export interface HostGrant extends OuterValues {
  /** The platform's name in platforms.ts. */
  readonly platform: string;
  readonly settings: PlatformSettings;
  /** The host's name. */
  readonly name: string;
  readonly domid: number;
}

/** What a guest's process provides to the host that it opens. */
export interface HostSurroundings {
  /** The domain's nodes in this host's xenstore. */
  readonly store: HostStore;
  /** Logs a line about the link of a disk or a network. */
  readonly log: (line: string) => void;
}

/** A domain's access to its home in the toolstack's xenstore, with the domain's rights. */
export interface DomainRelay {
  /** Writes nodes, in order; returns the paths that the domain may not write. */
  write(nodes: readonly HostNode[]): string[];
}

/** A device of a domain, as the toolstack writes it into xenstore. */
export type StoreDevice = Omit<DeviceTreeInput, 'domid'>;

/** This host's xenstore as its toolstack maintains it: the nodes of every domain under its id on this host. */
export interface ToolstackStore {
  addDomain(domain: DomainTreeInput): void;
  rename(domid: number, uuid: string, name: string): void;
  removeDomain(domid: number, uuid: string): void;
  addDevice(domid: number, device: StoreDevice): void;
  removeDevice(domid: number, kind: string, devid: number): void;
  /** Writes a node of the domain's home, `path` relative to it, as the toolstack does. */
  set(domid: number, path: string, value: string): void;
  /**
   * `changed` is called for nodes in the domain's home that others changed. It replaces an earlier relay of the
   * domain.
   */
  relay(domid: number, changed: (node: HostNode) => void): DomainRelay;
  /**
   * Listens at `path` for tools on this machine for which `admit` returns true; resolves with a function that stops
   * listening. A host with a xenstored of its own, to which the tools connect, has no such method.
   */
  serve?(path: string, admit: (socket: Socket) => boolean): Promise<() => Promise<void>>;
}

/** What a guest's process must be able to reach on this host, by paths of this host. */
export interface HostReach {
  /** Files and devices that it writes, and those that it reads. */
  readonly writable: readonly string[];
  readonly readable: readonly string[];
  /** Unix sockets to which it connects. */
  readonly sockets: readonly string[];
  /** Length of the longest file that it may have to write, in bytes; undefined if that is not known. */
  readonly longestFile: number | undefined;
}

export interface HostPlatform {
  /** The platform's name in platforms.ts. */
  readonly kind: string;
  readonly settings: PlatformSettings;
  readonly identity: HostIdentity;
  readonly clock: HostClock;
  /** The kinds of outer values that it invents. */
  readonly pretended: ReadonlySet<OuterKind>;
  /** The first domain id, and the greatest before numbering starts again from 1. */
  readonly domids: { readonly first: number; readonly last: number };
  /** The outer values of a new domain. */
  allocate(domid: number): OuterValues;
  /** Opened at the first access; a guest's process never accesses it. */
  readonly toolstackStore: ToolstackStore;
  readonly images: HostImages;
  /** What the process of a guest with these disks must be able to reach. */
  reach(disks: readonly DiskSpec[]): HostReach;
  /** In a guest's process: the host as the guest's helper sees it. */
  openHost(grant: HostGrant, around: HostSurroundings): Host;
}

/** What a platform's module exports as `platform`. */
export interface PlatformModule {
  /** The default settings. Their types are the types of the keys in the configuration file. */
  defaultSettings(): PlatformSettings;
  /** Throws with the key of `settings` and with what is wrong with it. */
  open(hostName: string, settings: PlatformSettings): HostPlatform | Promise<HostPlatform>;
  /** A host for one guest without a daemon. Nobody reads its xenstore. */
  openSingleHost(hostName: string, links: SingleHostLinks): Host | Promise<Host>;
}

export interface SingleHostLinks {
  /** The guest's memory at its beginning in KiB, for a host on which the domain has more than its guest. */
  readonly guestKib?: number;
  /** Where the platform finds what belongs to the machine, if that is elsewhere than usual. */
  readonly places?: Readonly<Record<string, string>>;
  /** A vif of the domain that is not the guest's, and the IPv4 address that it gets. */
  readonly own?: {
    readonly mac: string;
    readonly address: string;
    readonly prefix: number;
    readonly gateway?: string;
  };
  /** Links for vifs, by bridge (docs/networks.md). */
  readonly networks: Readonly<Record<string, string>>;
  readonly log: (line: string) => void;
}
