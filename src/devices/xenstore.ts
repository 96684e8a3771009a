/**
 * The guest's own xenstore: a whole store that lives in the container and is saved with the guest, so that what
 * the guest reads, watches and has half asked never changes because of a host. The guest reaches it by its shared
 * ring; the helper reaches it as dom0 does.
 */
import type { TreeNode } from '../guest/domain-tree.js';
import type { LinearMemory } from '../xen/memory.js';
import type { DomId, Port } from '../xen/types.js';
import { RingTransport } from '../xenstore/ring/ring.js';
import type { Connection } from '../xenstore/server/connection.js';
import type { LocalClient } from '../xenstore/server/local.js';
import { XenstoreServer } from '../xenstore/server/server.js';

/** What the store needs of the guest's container. */
export interface StorePort {
  readonly mem: LinearMemory;
  /** Linear address of the store's page. */
  readonly page: number;
  readonly domid: DomId;
  readonly port: Port;
  /** Says that host code writes into the page. */
  touch(linear: number): void;
  /** Raises the guest's store event. */
  notify(): void;
}

/** Writes nodes with their permissions, as the toolstack does; parents are expected before children. */
export function plant(dom0: LocalClient, nodes: readonly TreeNode[]): void {
  dom0.transact((view) => {
    for (const node of nodes) {
      view.write(node.path, node.value);
      view.setPermissions(node.path, node.perms);
    }
  });
}

export class GuestStore {
  readonly dom0: LocalClient;
  private readonly ring: RingTransport;
  private readonly connection: Connection;

  private constructor(
    readonly server: XenstoreServer,
    port: StorePort,
    fresh: boolean,
  ) {
    this.dom0 = server.local(0);
    this.connection = server.domain(port.domid) ?? server.introduce(port.domid, port.port);
    this.ring = new RingTransport(server, this.connection, port.mem, port.page, port, fresh);
  }

  /** How many transactions and watches the guest has. */
  get openTransactions(): number {
    return this.connection.transactions.size;
  }
  get watches(): number {
    return this.connection.watches.length;
  }

  /** A store for a guest that is being switched on, with the nodes that the toolstack makes. */
  static create(port: StorePort, nodes: readonly TreeNode[]): GuestStore {
    const server = new XenstoreServer();
    plant(server.local(0), nodes);
    return new GuestStore(server, port, true);
  }

  /** The store of a guest that arrives: `server` as it was restored, the ring as it is in memory. */
  static arrive(port: StorePort, server: XenstoreServer): GuestStore {
    return new GuestStore(server, port, false);
  }

  /** The guest notified us, or may have. */
  service(): void {
    this.ring.pump();
  }
}
