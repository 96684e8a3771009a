/**
 * The host as one guest process sees it: what its daemon granted, and the domain's nodes in the host's xenstore
 * through the daemon. Invariant: a daemon that says hello gets all nodes again, so that none is lost with it.
 */
import type { Host, HostNode, HostStore } from '../host/host.js';
import { standaloneClock } from '../host/standalone/clock.js';
import { standaloneLinks } from '../host/standalone/links.js';
import type { DomId, Port } from '../xen/types.js';
import type { HostGrant } from './guest-protocol.js';
import { logLine } from './log-output.js';

export class RelayedStore implements HostStore {
  private readonly nodes = new Map<string, string>();
  /** Not sent yet; the latest value of each, so that a guest that writes without end is told of once a turn. */
  private unsent = new Map<string, string | null>();
  private listener: ((node: HostNode) => void) | undefined;

  /** `send` gives nodes to the daemon, if there is one. */
  constructor(private readonly send: (nodes: readonly HostNode[]) => void) {}

  write(nodes: readonly HostNode[]): void {
    for (const { path, value } of nodes) {
      if (value === null) this.nodes.delete(path);
      else this.nodes.set(path, value);
      if (this.unsent.size === 0) setImmediate(this.flush);
      this.unsent.delete(path);
      this.unsent.set(path, value);
    }
  }
  private readonly flush = (): void => {
    const nodes = [...this.unsent].map(([path, value]) => ({ path, value }));
    this.unsent = new Map();
    this.send(nodes);
  };
  onChange(listener: ((node: HostNode) => void) | undefined): void {
    this.listener = listener;
  }
  /** The daemon says that somebody changed a node. */
  changed(node: HostNode): void {
    this.listener?.(node);
  }
  /** All that was written, for a daemon that knows nothing. */
  all(): HostNode[] {
    return [...this.nodes].map(([path, value]) => ({ path, value }));
  }
}

export function grantedHost(grant: HostGrant, store: HostStore): Host {
  return {
    identity: { name: grant.name, xenVersion: grant.xenVersion, cpuModel: grant.cpuModel },
    clock: standaloneClock(grant),
    domid: grant.domid as DomId,
    storePort: grant.storePort as Port,
    consolePort: grant.consolePort as Port,
    storeFrame: grant.storeFrame,
    consoleFrame: grant.consoleFrame,
    store,
    links: standaloneLinks({
      networks: grant.networks ?? {},
      images: grant.images,
      log: logLine,
    }),
  };
}
