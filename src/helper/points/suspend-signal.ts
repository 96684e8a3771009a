/**
 * The suspend signal, which a cooperative migration needs and which is never given here: control/shutdown = "suspend"
 * in xenstore, the suspend event channel, the return of SCHEDOP_shutdown, a rewritten start_info.
 *
 * When a tool on the host writes to the domain's control/shutdown, the value is passed on to the guest's own node, as
 * with `xl shutdown`; "suspend" is not. Requests to bring vCPUs online or offline (`xl vcpu-set`) and the target size
 * for the balloon driver (`xl mem-set`) are passed on too. The guest's own values move with it: what the arrival
 * writes into a host's store is not a request.
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
    'src/helper/seam.test.ts: passes a request to shut down on from a tool on the host, but no request to suspend',
    'test/e2e/moves.test.ts: it is never asked',
  ],
};

/** The values that a tool may write to control/shutdown (Xen's docs/misc/xenstore-paths.pandoc), without suspend. */
const REQUESTS = new Set(['poweroff', 'halt', 'reboot', 'crash']);
/** Says whether vCPU N is to be online; the guest's kernel acts on it. Only nodes that the guest has are written. */
const AVAILABILITY = /^cpu\/\d+\/availability$/;

/** The value of `memory/target`: KiB in decimal. */
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
