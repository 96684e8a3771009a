/**
 * The suspend signal, which a cooperative move needs and this one never gives: control/shutdown = "suspend" in
 * xenstore, the suspend event channel, the return of SCHEDOP_shutdown, start_info rewritten.
 *
 * What a tool on the host writes to the domain's control/shutdown reaches the guest's own, as `xl shutdown` has it;
 * "suspend" does not. So do requests to take vCPUs into use and out of it, as `xl vcpu-set` writes them, and the memory
 * that it is to balloon to, as `xl mem-set` does. The guest's own values come along in a move: what an arrival writes in a
 * host's store is no request.
 */
import type { Host, HostNode } from '../../host/host.js';
import type { Guest } from '../guest.js';
import { type MigrationPoint, NOT_ATTACHED, type PointDescription } from '../point.js';

export const about: PointDescription = {
  name: 'suspend signal',
  rows: 'X, S6',
  seen: 'nothing: no request to suspend, no return from one',
  held: 'control/shutdown is never written for a move; "suspend" that a tool writes on the host is not passed on',
  proof: [
    'src/helper/seam.test.ts: hears a request to shut down that a tool writes on the host, and none to suspend',
    'test/e2e/moves.test.ts: it is never asked',
  ],
};

/** What a tool may ask for: control/shutdown of Xen's docs/misc/xenstore-paths.pandoc, without suspend. */
const REQUESTS = new Set(['poweroff', 'halt', 'reboot', 'crash']);
/** By whether vCPU N is meant to run; the guest's kernel follows. Only nodes that the guest has. */
const AVAILABILITY = /^cpu\/\d+\/availability$/;

/** KiB, as `memory/target` has it: decimal. */
const KIB = /^\d{1,15}$/;

export class SuspendSignal implements MigrationPoint {
  readonly name = about.name;
  readonly about = about;
  private host: Host | undefined;

  constructor(
    private readonly guest: Guest,
    private readonly wake: () => void,
  ) {}

  private get path(): string {
    return `/local/domain/${this.guest.domain.config.domid}/control/shutdown`;
  }
  inner(): string {
    return JSON.stringify(this.guest.store.dom0.tryRead(this.path) ?? '');
  }
  outer(): string {
    return this.host === undefined ? NOT_ATTACHED : 'never asked';
  }

  async attach(host: Host): Promise<void> {
    this.host = host;
    host.store.onChange(this.changed);
  }
  async detach(): Promise<void> {
    this.host?.store.onChange(undefined);
    this.host = undefined;
  }

  private readonly changed = ({ path, value }: HostNode): void => {
    if (path === 'control/shutdown' && value !== null && REQUESTS.has(value)) this.ask(value);
    else if (path === 'control/sysrq' && value) this.write('control/sysrq', value);
    else if (path === 'memory/target' && value !== null && KIB.test(value)) this.write(path, value);
    else if (AVAILABILITY.test(path) && (value === 'online' || value === 'offline')) {
      const { domid } = this.guest.domain.config;
      if (this.guest.store.dom0.exists(`/local/domain/${domid}/${path}`)) this.write(path, value);
    }
  };

  /** Writes the guest's own control/shutdown, as a toolstack does. */
  ask(kind: string): void {
    this.write('control/shutdown', kind);
  }
  /** True until the guest has taken the request. */
  pending(kind: string): boolean {
    return this.guest.store.dom0.tryRead(this.path) === kind;
  }
  withdraw(kind: string): void {
    if (this.pending(kind)) this.write('control/shutdown', '');
  }

  private write(path: string, value: string): void {
    this.guest.store.dom0.write(`/local/domain/${this.guest.domain.config.domid}/${path}`, value);
    this.wake();
  }
}
