/**
 * The domain's nodes in the host's xenstore, as its guest's process reaches them: through the daemon.
 * Invariant: a daemon that says hello gets all nodes again, so that none is lost with it.
 */
import type { HostNode, HostStore } from '../host/host.js';
import { MAX_NODES_AT_ONCE } from '../protocol/limits.js';

/** While so much is on its way to the daemon, it is told nothing more. */
const MOST_UNSENT_BYTES = 1 << 20;
const RETRY_MS = 20;

/** What the daemon is told by; undefined while there is none. */
export interface StoreRelay {
  /** Bytes that it has not taken yet. */
  readonly unsent: number;
  send(nodes: readonly HostNode[]): void;
}

/**
 * The domain's nodes, as this host's daemon has to be told of them.
 * Invariant: what is kept here is bounded by the nodes that there are and those that the daemon was told of, however
 * often and under whatever names the guest makes and removes them.
 */
export class RelayedStore implements HostStore {
  private readonly nodes = new Map<string, string>();
  /** Paths that the daemon has from us. */
  private readonly told = new Set<string>();
  /** Not sent yet; the latest value of each, so that a guest that writes without end is told of once a turn. */
  private unsent = new Map<string, string | null>();
  private flushing = false;
  private listener: ((node: HostNode) => void) | undefined;

  constructor(private readonly relay: () => StoreRelay | undefined) {}

  write(nodes: readonly HostNode[]): void {
    for (const { path, value } of nodes) {
      this.unsent.delete(path);
      if (value === null) this.removed(path);
      else {
        this.nodes.set(path, value);
        this.unsent.set(path, value);
      }
    }
    this.flushSoon();
  }

  /** A node is gone, and all below it. */
  private removed(path: string): void {
    const below = `${path}/`;
    for (const all of [this.nodes, this.unsent, this.told])
      for (const one of [...all.keys()]) if (one.startsWith(below)) all.delete(one);
    this.nodes.delete(path);
    if (this.told.has(path)) this.unsent.set(path, null);
  }

  private flushSoon(): void {
    if (this.flushing || this.unsent.size === 0) return;
    this.flushing = true;
    setImmediate(this.flush);
  }
  private readonly flush = (): void => {
    this.flushing = false;
    const relay = this.relay();
    // The next daemon asks for all.
    if (relay === undefined) this.unsent.clear();
    while (relay !== undefined && this.unsent.size > 0) {
      if (relay.unsent > MOST_UNSENT_BYTES) {
        this.flushing = true;
        setTimeout(this.flush, RETRY_MS);
        return;
      }
      const nodes: HostNode[] = [];
      for (const [path, value] of this.unsent) {
        nodes.push({ path, value });
        this.unsent.delete(path);
        if (value === null) this.told.delete(path);
        else this.told.add(path);
        if (nodes.length === MAX_NODES_AT_ONCE) break;
      }
      relay.send(nodes);
    }
  };
  onChange(listener: ((node: HostNode) => void) | undefined): void {
    this.listener = listener;
  }
  /** The daemon says that somebody changed a node. */
  changed(node: HostNode): void {
    this.listener?.(node);
  }
  /** A daemon that knows nothing is told of all that is there. */
  tellAll(): void {
    this.told.clear();
    this.unsent = new Map(this.nodes);
    this.flushSoon();
  }
}
