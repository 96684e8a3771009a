/**
 * The guest's own xenstore. It is a complete store that lives in the guest's container and is saved with the guest,
 * so a change of host never changes what the guest reads, what it watches, or a transaction that it has open. The
 * guest reaches the store through its shared ring; the helper reaches it in the role of domain 0.
 */
import type { TreeNode } from '../guest/domain-tree.js';
import type { LinearMemory } from '../xen/memory.js';
import type { DomId, Port } from '../xen/types.js';
import type { Quotas } from '../xenstore/core/quotas.js';
import { RingTransport } from '../xenstore/ring/ring.js';
import type { Connection } from '../xenstore/server/connection.js';
import type { LocalClient } from '../xenstore/server/local.js';
import { XenstoreServer } from '../xenstore/server/server.js';

/** The part of the guest's container that the store uses. */
interface StorePort {
  readonly mem: LinearMemory;
  /** Linear address of the store's page. */
  readonly page: number;
  readonly domid: DomId;
  readonly port: Port;
  /** To be called after host code has written into the page. */
  touch(linear: number): void;
  /** Raises the guest's store event. */
  notify(): void;
}

/** Writes nodes with their permissions, as the toolstack does. Parents must come before their children. */
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

  /** How many transactions and watches the guest has open. */
  get openTransactions(): number {
    return this.connection.transactions.size;
  }
  get watches(): number {
    return this.connection.watches.length;
  }

  /**
   * Makes the store of a guest that is being switched on, with the nodes that the toolstack makes. `quotas` are those of
   * the guest that are not xenstored's defaults; they are saved with the store.
   */
  static create(port: StorePort, nodes: readonly TreeNode[], quotas: Partial<Quotas> = {}): GuestStore {
    const server = new XenstoreServer();
    plant(server.local(0), nodes);
    Object.assign(server.store.account(port.domid).limits, quotas);
    return new GuestStore(server, port, true);
  }

  /**
   * Makes the store of an arriving guest: `server` is the restored store, and the ring is as it is in the guest's
   * memory.
   */
  static arrive(port: StorePort, server: XenstoreServer): GuestStore {
    return new GuestStore(server, port, false);
  }

  /** To be called when the guest has notified us, or may have done so. */
  service(): void {
    this.ring.pump();
  }
}
