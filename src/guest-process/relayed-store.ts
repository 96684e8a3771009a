/**
 * The domain's nodes in the host's xenstore, which its guest's process reaches through the daemon.
 *
 * Invariant: a daemon that sends a greeting receives all nodes again, so that none is lost with its predecessor.
 */
import type { HostNode, HostStore } from '../host/host.js';
import { MAX_NODES_AT_ONCE } from '../protocol/limits.js';

/** While this much is on its way to the daemon, nothing more is sent. */
const MOST_UNSENT_BYTES = 1 << 20;
const RETRY_MS = 20;

/** The connection to the daemon; undefined while there is none. */
export interface StoreRelay {
  /** Bytes that the daemon has not read. */
  readonly unsent: number;
  send(nodes: readonly HostNode[]): void;
}

/**
 * The domain's nodes that this host's daemon must know.
 *
 * Invariant: the memory used here is bounded by the nodes that exist and those that the daemon has, however often and
 * under whatever names the guest makes and removes them.
 */
export class RelayedStore implements HostStore {
  private readonly nodes = new Map<string, string>();
  /** Paths that were sent to the daemon. */
  private readonly told = new Set<string>();
  /**
   * Nodes that are not sent so far, with the latest value of each: a guest that writes without end causes one message
   * per turn.
   */
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

  /** Removes a node and all nodes below it. */
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
    // The next daemon requests all nodes.
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
  /** The daemon reports that somebody changed a node. */
  changed(node: HostNode): void {
    this.listener?.(node);
  }
  /** Sends all nodes to a daemon that knows none. */
  tellAll(): void {
    this.told.clear();
    this.unsent = new Map(this.nodes);
    this.flushSoon();
  }
}
