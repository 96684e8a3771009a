/**
 * The domain's own subtree in xenstore. The guest has its own store for its whole life. Each host shows in its own
 * store what the guest writes, under the host's domain id, for the host's tools.
 *
 * Invariant: only nodes that the guest owns are shown, so a host's store never contains inner numbers that the
 * toolstack wrote. If a value is a path below the guest's home, it is translated to the home on the host.
 */
import type { Host, HostNode } from '../../host/host.js';
import type { Guest } from '../guest.js';
import { type MigrationPoint, NOT_ATTACHED, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'xenstore: tree',
  rows: 'S4',
  seen: 'its home /local/domain/1 with name, vm, memory, console, store, control, devices',
  held: 'a whole store in the container; what it writes there is shown in the store of each host under its id there',
  proof: [
    'src/helper/seam.test.ts: shows on the host what the guest writes, under the id of that host',
    'test/e2e/moves.test.ts: sees no difference in anything that it can observe',
  ],
};

export class XenstoreTree implements MigrationPoint {
  readonly name = about.name;
  readonly about = about;
  readonly gives = 'domid';
  private host: Host | undefined;
  private watch: { stop(): void } | undefined;
  private readonly shown = new Set<string>();

  constructor(private readonly guest: Guest) {}

  private get home(): string {
    return `/local/domain/${this.guest.domain.config.domid}`;
  }
  inner(): string {
    return this.home;
  }
  outer(): string {
    return this.host === undefined ? NOT_ATTACHED : `/local/domain/${this.host.domid}`;
  }

  async attach(host: Host): Promise<void> {
    this.host = host;
    this.shown.clear();
    const nodes: HostNode[] = [];
    this.walk(this.home, nodes);
    if (nodes.length > 0) host.store.write(nodes);
    let first = true;
    this.watch = this.guest.store.dom0.watch(this.home, (path) => {
      if (!first) this.changed(path);
      first = false;
    });
  }

  async detach(): Promise<void> {
    this.watch?.stop();
    this.watch = undefined;
    this.host = undefined;
  }

  private changed(path: string): void {
    const nodes: HostNode[] = [];
    if (path.startsWith(`${this.home}/`)) this.look(path, nodes);
    if (nodes.length > 0) this.host?.store.write(nodes);
  }

  private walk(path: string, nodes: HostNode[]): void {
    for (const name of this.guest.store.dom0.list(path)) {
      this.look(`${path}/${name}`, nodes);
      this.walk(`${path}/${name}`, nodes);
    }
  }

  /** Adds what has to be changed on the host for one node. */
  private look(path: string, nodes: HostNode[]): void {
    const { dom0 } = this.guest.store;
    const relative = path.slice(this.home.length + 1);
    const value = dom0.tryRead(path);
    if (value === undefined) {
      const below = `${relative}/`;
      const known = this.shown.delete(relative);
      if (known) nodes.push({ path: relative, value: null });
      // The nodes below it are removed with it. No other event reports that.
      for (const one of [...this.shown].filter((path) => path.startsWith(below))) {
        this.shown.delete(one);
        if (!known) nodes.push({ path: one, value: null });
      }
      return;
    }
    const [owner] = dom0.getPermissions(path);
    if (owner.slice(1) !== String(this.guest.domain.config.domid)) return;
    this.shown.add(relative);
    nodes.push({ path: relative, value: this.translate(value) });
  }

  /**
   * Translates a value that is a path below the guest's home, or below one of its back ends, to the path on this
   * host.
   */
  private translate(value: string): string {
    const found = /^(\/local\/domain\/(?:0\/backend\/[^/]+\/)?)(\d+)(?=\/|$)/.exec(value);
    if (found === null || found[2] !== String(this.guest.domain.config.domid)) return value;
    return `${found[1]}${(this.host as Host).domid}${value.slice(found[0].length)}`;
  }
}
