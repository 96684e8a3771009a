/**
 * The xenstore of a host without Xen. It has the nodes of every running domain under this host's domain ids,
 * as libxl would write them. No guest sees it: a guest has a xenstore of its own, which it keeps for life.
 */
import type { Socket } from 'node:net';
import { deviceTree, libxlDeviceTree } from '../../guest/device-tree.js';
import {
  type DomainTreeInput,
  domainTree,
  hostTree,
  libxlTree,
  type TreeNode,
} from '../../guest/domain-tree.js';
import type { LocalClient } from '../../xenstore/server/local.js';
import { XenstoreServer } from '../../xenstore/server/server.js';
import { SocketServer } from '../../xenstore/socket/socket-server.js';
import type { HostNode } from '../host.js';
import type { DomainRelay, StoreDevice, ToolstackStore } from '../platform.js';

/** The most that a front end has here: a disk with four queues, each with a ring of 16 pages. */
const NODES_PER_DEVICE = 112;

export class HostXenstore implements ToolstackStore {
  readonly server = new XenstoreServer();
  private readonly dom0 = this.server.local(0);
  private readonly relays = new Map<number, Relay>();

  constructor() {
    this.put(hostTree());
  }

  /** Lets the domain have so many nodes more than before. */
  private allow(domid: number, nodes: number): void {
    const { limits } = this.server.store.account(domid);
    limits.nodes = (limits.nodes ?? this.server.store.accounts.quotas.nodes) + nodes;
  }

  private put(nodes: readonly TreeNode[]): void {
    for (const { path, value, perms } of nodes) {
      this.dom0.write(path, value);
      this.dom0.setPermissions(path, perms);
    }
  }

  async serve(path: string, admit: (socket: Socket) => boolean): Promise<() => Promise<void>> {
    const sockets = await SocketServer.listen(this.server, path, { admit });
    return () => sockets.close();
  }

  addDomain(domain: DomainTreeInput): void {
    delete this.server.store.account(domain.domid).limits.nodes;
    this.put(domainTree(domain));
    this.put(libxlTree(domain.domid));
  }

  addDevice(domid: number, device: StoreDevice): void {
    const input = { ...device, domid };
    this.allow(domid, NODES_PER_DEVICE);
    this.put(deviceTree(input));
    this.put(libxlDeviceTree(input));
  }

  removeDevice(domid: number, kind: string, devid: number): void {
    if (this.dom0.exists(`/local/domain/${domid}/device/${kind}/${devid}`))
      this.allow(domid, -NODES_PER_DEVICE);
    for (const path of [
      `/local/domain/${domid}/device/${kind}/${devid}`,
      `/local/domain/0/backend/${kind}/${domid}/${devid}`,
      `/libxl/${domid}/device/${kind}/${devid}`,
    ]) {
      if (this.dom0.exists(path)) this.dom0.remove(path);
    }
  }

  /**
   * Connects a domain's process to the domain's home: the process writes there through the relay, and the
   * relay tells it what others write there.
   */
  relay(domid: number, changed: (node: HostNode) => void): Relay {
    this.relays.get(domid)?.stop();
    const relay = new Relay(this.server.local(domid), this.dom0, `/local/domain/${domid}`, changed);
    this.relays.set(domid, relay);
    return relay;
  }

  rename(domid: number, uuid: string, name: string): void {
    this.dom0.write(`/local/domain/${domid}/name`, name);
    this.dom0.write(`/vm/${uuid}/name`, name);
  }

  set(domid: number, path: string, value: string): void {
    this.dom0.write(`/local/domain/${domid}/${path}`, value);
  }

  removeDomain(domid: number, uuid: string): void {
    this.relays.get(domid)?.stop();
    this.relays.delete(domid);
    for (const path of [
      `/local/domain/${domid}`,
      `/libxl/${domid}`,
      `/local/domain/0/backend/console/${domid}`,
      `/local/domain/0/backend/vbd/${domid}`,
      `/local/domain/0/backend/vif/${domid}`,
    ]) {
      if (this.dom0.exists(path)) this.dom0.remove(path);
    }
    // A guest that moves within this host has two domains for a while.
    const vm = `/vm/${uuid}`;
    const others = this.dom0.exists('/local/domain') ? this.dom0.list('/local/domain') : [];
    if (others.some((other) => this.dom0.tryRead(`/local/domain/${other}/vm`) === vm)) return;
    if (this.dom0.exists(vm)) this.dom0.remove(vm);
  }
}

/**
 * Carries writes and changes between one domain's process and the domain's home in the host's xenstore. It
 * has the rights of the domain.
 */
export class Relay implements DomainRelay {
  /**
   * The node that the relay is writing for the domain. The watch reports that write too, and the domain need
   * not hear of it.
   */
  private own: HostNode | undefined;
  private readonly watch: { stop(): void };
  private first = true;

  constructor(
    private readonly domain: LocalClient,
    dom0: LocalClient,
    private readonly home: string,
    changed: (node: HostNode) => void,
  ) {
    this.watch = dom0.watch(home, (path) => {
      if (this.first || !path.startsWith(`${home}/`)) {
        this.first = false;
        return;
      }
      const relative = path.slice(home.length + 1);
      const value = dom0.tryRead(path) ?? null;
      if (this.own?.path === relative && this.own.value === value) return;
      changed({ path: relative, value });
    });
  }

  /**
   * Writes the nodes one by one. A node that the domain may not write is refused, as xenstored would refuse
   * it. Returns the refused paths.
   */
  write(nodes: readonly HostNode[]): string[] {
    const refused: string[] = [];
    for (const node of nodes) {
      const { path, value } = node;
      this.own = node;
      try {
        if (value === null) this.domain.remove(`${this.home}/${path}`);
        else this.domain.write(`${this.home}/${path}`, value);
      } catch {
        refused.push(path);
      }
    }
    this.own = undefined;
    return refused;
  }

  stop(): void {
    this.watch.stop();
    this.domain.close();
  }
}
