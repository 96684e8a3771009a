/**
 * The helper's home in the xenstore of dom0. What the guest writes into its own home is shown there as far as an
 * ordinary domain may do that and nothing of the helper's kernel is disturbed: its front ends, its answers to
 * control/shutdown and its feature-suspend are the helper's alone. What the helper publishes of itself is below
 * data/stillpoint.
 *
 * Invariants: what is shown is bounded in number and size, whatever the guest writes; a domain that was moved shows
 * all of it again in its new home.
 */
import type { XenstoreClient } from '../../xenstore/client.js';
import type { HostNode, HostStore } from '../host.js';

const SHOWN = /^(data|attr)\/|^control\/feature-(?!suspend$)[a-z0-9-]+$/;
/** Where the helper publishes what it says of itself. */
export const PUBLISHED = 'data/stillpoint';
/** Where, below PUBLISHED, dom0 writes a key for the guest's control/sysrq. */
export const SYSRQ = 'sysrq';
/** What xenstored lets a domain write at most into one node is 2048 bytes, with its permissions (quota entry-size). */
export const MAX_VALUE_BYTES = 1800;
/** Of the guest's nodes. Those of the helper's own are few. */
const MAX_NODES = 128;

export class XenStore implements HostStore {
  /** What is to stand below the home. */
  private readonly nodes = new Map<string, string>();
  /** Paths whose value in the store may be another. */
  private readonly due = new Set<string>();
  private writing: Promise<void> | undefined;
  private listener: ((node: HostNode) => void) | undefined;
  /** How many of the nodes are the guest's. */
  private guests = 0;
  private readonly complained = new Set<string>();

  constructor(
    private readonly xs: XenstoreClient,
    private readonly log: (line: string) => void,
  ) {}

  write(nodes: readonly HostNode[]): void {
    for (const { path, value } of nodes)
      if (SHOWN.test(path) && path !== PUBLISHED && !path.startsWith(`${PUBLISHED}/`)) this.set(path, value);
  }

  publish(path: string, value: string | null): void {
    this.set(`${PUBLISHED}/${path}`, value);
  }

  onChange(listener: ((node: HostNode) => void) | undefined): void {
    this.listener = listener;
  }

  /** Somebody else has changed a node. */
  changed(node: HostNode): void {
    this.listener?.(node);
  }

  /** The home is a new one: everything is written again. */
  again(): void {
    for (const path of this.nodes.keys()) this.due.add(path);
    this.writeSoon();
  }

  /** Resolves when everything so far was written or refused. */
  async settled(): Promise<void> {
    while (this.writing !== undefined) await this.writing;
  }

  private set(path: string, value: string | null): void {
    const guests = !path.startsWith(`${PUBLISHED}/`);
    if (value === null) {
      if (!this.nodes.delete(path)) return;
      if (guests) this.guests--;
    } else {
      if (this.nodes.get(path) === value) return;
      const another = guests && !this.nodes.has(path);
      const tooLong = Buffer.byteLength(value) > MAX_VALUE_BYTES;
      if (tooLong || (another && this.guests >= MAX_NODES)) {
        this.complain(path, tooLong ? `more than ${MAX_VALUE_BYTES} bytes` : `more than ${MAX_NODES} nodes`);
        return;
      }
      if (another) this.guests++;
      this.nodes.set(path, value);
    }
    this.due.add(path);
    this.writeSoon();
  }

  private writeSoon(): void {
    if (this.writing !== undefined || this.due.size === 0) return;
    this.writing = this.writeAll().finally(() => {
      this.writing = undefined;
    });
  }

  private async writeAll(): Promise<void> {
    // What is set in this turn is written together, each node once.
    await new Promise((resolve) => setImmediate(resolve));
    for (const path of this.due) {
      this.due.delete(path);
      const value = this.nodes.get(path);
      try {
        if (value === undefined) await this.xs.remove(path);
        else await this.xs.write(path, value);
      } catch (error) {
        const { code = '', message } = error as { code?: string; message: string };
        if (code !== 'ENOENT') this.complain(path, message);
      }
    }
  }

  /** Once for each kind of reason: a guest may cause any number. */
  private complain(path: string, why: string): void {
    const key = why.replace(path, '');
    if (this.complained.has(key) || this.complained.size > 16) return;
    this.complained.add(key);
    this.log(`xenstore: ${path} is not shown: ${why}`);
  }
}
