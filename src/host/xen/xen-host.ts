/**
 * A real Xen host as the helper sees it, which is an ordinary domain of it with a domU's rights. Its outer values
 * change while it is open: after `xl migrate` or `xl restore` the domain has another id, other rings and other devices.
 *
 * How that is noticed: the helper's kernel resumes and sets its watches again, so each of ours fires. If the kernel's
 * clocks say that it was suspended, or the domain id is another, everything is read again, until the devices are
 * connected to their new back ends.
 */
import { monotonicNs } from '../../os/monotonic.js';
import { machineSuspends } from '../../os/suspends.js';
import type { DomId, Nanoseconds, Port } from '../../xen/types.js';
import { XenbusStateConnected } from '../../xen/xenbus.js';
import type { XenstoreClient } from '../../xenstore/client.js';
import type { Host, HostClock, HostIdentity, OuterDevice, OuterKind } from '../host.js';
import type { Networks } from '../net/networks.js';
import { readFacts, type XenFacts } from './facts.js';
import { XenLinks } from './links.js';
import { OuterReader, type OuterValues } from './outer-values.js';
import { giveAddress, type OwnAddress } from './own-network.js';
import { PLACES, type XenPlaces } from './places.js';
import { PUBLISHED, SYSRQ, XenStore } from './xen-store.js';
import { connectXenbus } from './xenbus.js';

export interface XenHostOptions {
  readonly places?: XenPlaces;
  readonly networks?: Networks;
  /** The guest's memory at its beginning, KiB. */
  readonly guestKib?: number;
  /** The address of a vif that is the helper's alone. */
  readonly own?: OwnAddress;
  /** Of the kernel under this process. */
  readonly suspends?: { readonly totalNs: number; look(): number; onSuspend(run: () => void): () => void };
  readonly log: (line: string) => void;
}

/** How long devices may take to connect after a resume before the ledger gets its column all the same, ms. */
const SETTLE_MS = 10_000;
const LOOK_AGAIN_MS = 100;

const connected = String(XenbusStateConnected);

/** What tells one place from another: all but the state of devices. */
function placeOf({ devices, ...rest }: OuterValues, { xenVersion, all }: XenFacts): string {
  const nodes = devices.map(({ kind, devid, nodes }) => {
    const { state, 'backend-state': back, ...others } = nodes;
    return { kind, devid, others };
  });
  return JSON.stringify([rest, nodes, xenVersion, all]);
}

export class XenHost implements Host {
  readonly pretended: ReadonlySet<OuterKind> = new Set();
  readonly clock: HostClock;
  readonly links: XenLinks;
  readonly store: XenStore;
  private readonly reader: OuterReader;
  private readonly suspends: NonNullable<XenHostOptions['suspends']>;
  private readonly stopped = new AbortController();
  private values!: OuterValues;
  private xen: XenFacts;
  /** Of the place at which the present values were taken. */
  private place = '';
  /** The suspends that were looked into, ns. */
  private seenSuspends = 0;
  private changed: ((moved: boolean) => void) | undefined;
  private devicesChanged: (() => void) | undefined;
  private looking: Promise<void> | undefined;
  private lookAgain = false;
  private readonly backends = new Map<string, AbortController>();
  /** The last values of nodes that are passed on to the guest. */
  private readonly passed = new Map<string, string>();
  /** The helper's memory beyond its guest's, KiB. */
  private overheadKib = 0;

  private constructor(
    private readonly xs: XenstoreClient,
    private readonly options: XenHostOptions,
  ) {
    this.suspends = options.suspends ?? machineSuspends();
    this.reader = new OuterReader(xs);
    this.store = new XenStore(xs, options.log);
    this.links = new XenLinks(this.places, options.networks ?? {}, options.log);
    this.xen = readFacts(this.places);
    const host = this;
    const { suspends } = this;
    this.clock = {
      get tscKhz() {
        return host.xen.tscKhz;
      },
      awake: () => Math.floor(monotonicNs()) as Nanoseconds,
      uptime: () => Math.floor(monotonicNs() + suspends.totalNs) as Nanoseconds,
      suspended: () => suspends.look() as Nanoseconds,
      wallClock: () => (Date.now() * 1e6) as Nanoseconds,
    };
    const stop = suspends.onSuspend(() => {
      this.changed?.(false);
      this.lookSoon();
    });
    this.stopped.signal.addEventListener('abort', stop);
  }

  static async open(options: XenHostOptions): Promise<XenHost> {
    const host = new XenHost(await connectXenbus((options.places ?? PLACES).xenbus), options);
    try {
      await host.begin();
      if (options.own !== undefined) await giveAddress(host.places, options.own);
    } catch (error) {
      await host.close();
      throw error;
    }
    return host;
  }

  private get places(): XenPlaces {
    return this.options.places ?? PLACES;
  }

  get identity(): HostIdentity {
    const { xenVersion, cpuModel } = this.xen;
    return { name: this.values.name, xenVersion, cpuModel };
  }
  get domid(): DomId {
    return this.values.domid as DomId;
  }
  get storePort(): Port {
    return this.values.storePort as Port;
  }
  get consolePort(): Port {
    return this.values.consolePort as Port;
  }
  get storeFrame(): number {
    return this.values.storeFrame;
  }
  get consoleFrame(): number {
    return this.values.consoleFrame;
  }
  get devices(): readonly OuterDevice[] {
    return this.values.devices;
  }
  get facts(): Readonly<Record<string, string>> {
    return { ...this.xen.all, 'domain name': this.values.name, 'domain uuid': this.values.uuid };
  }

  onChanged(listener: ((moved: boolean) => void) | undefined): void {
    this.changed = listener;
  }
  onDevices(listener: (() => void) | undefined): void {
    this.devicesChanged = listener;
  }

  async close(): Promise<void> {
    await this.store.settled();
    this.stopped.abort();
    for (const watch of this.backends.values()) watch.abort();
    await this.xs.close();
  }

  private async begin(): Promise<void> {
    this.seenSuspends = this.suspends.look();
    this.take(await this.reader.all());
    this.place = placeOf(this.values, this.xen);
    const target = await this.reader.number('memory/target');
    this.overheadKib = Math.max(0, target - (this.options.guestKib ?? target));
    if (target > 0) this.passed.set('memory/target', String(target));
    for (const id of await this.reader.names('cpu')) {
      const path = `cpu/${id}/availability`;
      this.passed.set(path, await this.reader.text(path));
    }
    this.follow('domid', () => this.lookSoon());
    this.follow('device', () => this.lookSoon());
    this.follow('memory/target', () => this.pass('memory/target'));
    this.follow('cpu', (path) => this.pass(path));
    // The helper's kernel takes what `xl sysrq` writes before any program can see it: dom0 writes the key here.
    this.onOrder(SYSRQ, (key) => {
      if (/^[a-z0-9]$/i.test(key)) this.store.changed({ path: 'control/sysrq', value: key });
    });
  }

  /** Calls `event` for each change at or below `path` until the host is closed. */
  private follow(path: string, event: (path: string) => unknown, signal = this.stopped.signal): void {
    const watch = async (): Promise<void> => {
      for await (const at of this.xs.watch(path, { signal })) await event(at);
    };
    watch().catch((error: Error) => {
      if (!signal.aborted && !this.stopped.signal.aborted)
        this.options.log(`xenstore: ${path} is not watched any more: ${error.message}`);
    });
  }

  private take(found: OuterValues): void {
    const { own } = this.options;
    const guests = ({ nodes }: OuterDevice): boolean =>
      own === undefined || nodes['mac']?.toLowerCase() !== own.mac;
    const values = { ...found, devices: found.devices.filter(guests) };
    this.values = values;
    const wanted = new Set(
      values.devices.map(({ nodes }) => nodes['backend'] ?? '').filter((path) => path !== ''),
    );
    for (const [path, watch] of this.backends) {
      if (wanted.has(path)) continue;
      this.backends.delete(path);
      watch.abort();
    }
    for (const path of wanted) {
      if (this.backends.has(path)) continue;
      const watch = new AbortController();
      this.backends.set(path, watch);
      this.follow(`${path}/state`, () => this.lookSoon(), watch.signal);
    }
  }

  /** Reads the outer values again, once for any number of events. */
  private lookSoon(): void {
    this.lookAgain = true;
    this.looking ??= this.look()
      .catch((error: Error) => {
        if (!this.stopped.signal.aborted)
          this.options.log(`xenstore: the outer values cannot be read: ${error.message}`);
      })
      .finally(() => {
        this.looking = undefined;
      });
  }

  private async look(): Promise<void> {
    while (this.lookAgain && !this.stopped.signal.aborted) {
      this.lookAgain = false;
      const before = JSON.stringify(this.values.devices);
      const { domid } = this.values;
      this.take(await this.reader.all());
      const suspended = this.suspends.look();
      const resumed = suspended > this.seenSuspends || this.domid !== domid;
      if (resumed) {
        this.seenSuspends = suspended;
        await this.settle();
        this.arrive();
      } else if (JSON.stringify(this.values.devices) !== before) {
        // A device that came or went here is part of this place.
        this.place = placeOf(this.values, this.xen);
      }
      if (JSON.stringify(this.values.devices) !== before) this.devicesChanged?.();
    }
  }

  /** Waits until the devices that are there are connected to their back ends. */
  private async settle(): Promise<void> {
    for (const end = performance.now() + SETTLE_MS; performance.now() < end; ) {
      if (
        this.devices.every(
          ({ nodes }) => nodes['state'] === connected && nodes['backend-state'] === connected,
        )
      )
        return;
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
      if (this.stopped.signal.aborted) return;
      this.take(await this.reader.all());
    }
  }

  /** The helper runs again. If that is elsewhere, everybody is told. */
  private arrive(): void {
    this.xen = readFacts(this.places);
    const place = placeOf(this.values, this.xen);
    const moved = place !== this.place;
    this.place = place;
    this.store.again();
    this.links.announce();
    this.changed?.(moved);
  }

  /** Passes on what dom0 asks of the guest by a node of the domain, if its value is another than before. */
  private async pass(at: string): Promise<void> {
    // The watch of a relative path fires with relative paths.
    const path = at.replace(/^\/local\/domain\/\d+\//, '');
    if (path !== 'memory/target' && !/^cpu\/\d+\/availability$/.test(path)) return;
    const value = await this.reader.text(path);
    const before = this.passed.get(path);
    this.passed.set(path, value);
    if (value === '' || before === undefined || value === before) return;
    if (path !== 'memory/target') this.store.changed({ path, value });
    else if (/^\d{1,15}$/.test(value))
      this.store.changed({ path, value: String(Math.max(0, Number(value) - this.overheadKib)) });
  }

  onOrder(name: string, take: (value: string) => void): void {
    const path = `${PUBLISHED}/${name}`;
    this.follow(path, async () => {
      const value = await this.reader.text(path);
      if (value === '') return;
      await this.xs.write(path, '').catch((error: Error) => this.options.log(`xenstore: ${error.message}`));
      take(value);
    });
  }
}
