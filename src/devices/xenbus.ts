/**
 * The back end's side of a split driver's handshake, the same for disks and networks: it watches the front end's
 * `state` in the guest's own xenstore and answers with its own, as Linux's back ends do.
 *
 * Invariants: the driver holds rings, grants and ports of the guest exactly while `connected`; while it lets go of
 * them (I/O may be under way) the front end's state is not looked at, and then as it is by then. Every state may
 * follow every other, and the same one may be written again: what has been done is not done twice. What the
 * front end wrote is read at the moment of use and trusted in nothing.
 * Source: xen/include/public/io/xenbus.h; Linux, drivers/block/xen-blkback/xenbus.c (frontend_changed),
 * drivers/xen/xenbus/xenbus_client.c (xenbus_dev_fatal).
 */
import { bool, bytes, list, struct, text, u8, u32 } from '../records/fields.js';
import { recordType } from '../records/record.js';
import {
  XenbusStateClosed,
  XenbusStateClosing,
  XenbusStateConnected,
  XenbusStateInitialised,
  XenbusStateInitialising,
  XenbusStateInitWait,
  XenbusStateUnknown,
} from '../xen/xenbus.js';
import type { LocalClient, LocalWatch } from '../xenstore/server/local.js';
import type { DevicePoint, HostLinks } from './links.js';

/** What the front end wrote cannot be used; the message goes to the log and into the device's error node. */
export class XenbusError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'XenbusError';
  }
}

/** Nodes below the back end's directory. */
export type Nodes = Readonly<Record<string, string | number>>;

/** What a driver may ask of the bus at any time. */
export interface Bus {
  /** The front end broke the protocol: closes the device and says why. */
  fatal(message: string): void;
  /** Writes nodes of a connected device anew (a size, a link's state). */
  write(nodes: Nodes): void;
}

/** What a kind of device (vbd, vif) adds to the handshake. */
export interface XenbusDriver {
  /** Set before anything else is called. */
  bus: Bus | undefined;
  /** Whether a front end in this state has written all that `connect` needs: Initialised or Connected. */
  connectsAt(frontState: number): boolean;
  /** Written before InitWait: what is offered to the front end. The same on every host. */
  offers(): Nodes;
  /**
   * Takes the front end's rings and ports. The nodes it returns are written before the state becomes Connected.
   * Throws XenbusError; then nothing is held.
   */
  connect(front: FrontEnd): Nodes;
  /** The guest goes on, after `connect`, `restore` or `pause`: requests may be in the rings already. */
  start(): void;
  /** The guest stands still; when this resolves nothing of ours changes its memory or its disk until `start`. */
  pause(): Promise<void>;
  /** Lets go of all that `connect` took and calls `done` (now or later) when nothing uses it any more. */
  disconnect(done: () => void): void;
  /** Everything of a connected device that is not in guest memory. Only while the guest is paused. */
  save(): Uint8Array;
  /** Continues a connected device on the same rings, grants and ports. Throws RecordError. */
  restore(record: Uint8Array): void;
  /**
   * Takes this host's link: once on each host, after `restore` where there was one, before the guest's first
   * instruction there. A failure leaves the guest with its source; nothing may be left open then.
   */
  attach?(links: HostLinks, devid: number): Promise<void>;
  /**
   * The guest stands still and is about to be another host's: what only one host may have at a time is let go, and
   * taken back by a `start` that follows nevertheless.
   */
  release?(): Promise<void>;
  /** Lets go of the link for good: the guest lives elsewhere, ended, or loses the device. Any state; once. */
  detach?(): Promise<void>;
  /** For the ledger: what the guest sees of the device, and what this host gave. */
  points?(): readonly DevicePoint[];
}

/** Where a device is in the guest's xenstore. */
export interface XenbusId {
  /** "vbd", "vif". */
  readonly kind: string;
  readonly devid: number;
  /** The guest's, as it sees itself. */
  readonly domid: number;
}

export const frontPath = ({ kind, devid, domid }: XenbusId): string =>
  `/local/domain/${domid}/device/${kind}/${devid}`;
export const backPath = ({ kind, devid, domid }: XenbusId): string =>
  `/local/domain/0/backend/${kind}/${domid}/${devid}`;

/** The front end's nodes, as domain 0 reads them. */
export class FrontEnd {
  constructor(
    private readonly store: LocalClient,
    readonly path: string,
  ) {}

  text(name: string): string | undefined {
    return this.store.tryRead(`${this.path}/${name}`);
  }
  /** An unsigned decimal number up to `max`, or undefined where there is no such node. Throws XenbusError. */
  optional(name: string, max: number): number | undefined {
    const value = this.text(name);
    if (value === undefined) return undefined;
    const n = /^\d{1,10}$/.test(value) ? Number(value) : Number.NaN;
    if (!(n <= max)) throw new XenbusError(`${name} is "${value.slice(0, 32)}", not a number up to ${max}`);
    return n;
  }
  number(name: string, max: number): number {
    const n = this.optional(name, max);
    if (n === undefined) throw new XenbusError(`${name} is missing`);
    return n;
  }
  /** A feature node: present and not 0. */
  flag(name: string): boolean {
    return (this.optional(name, 0xffff_ffff) ?? 0) !== 0;
  }
}

/** One device as it is saved. `spec` is what its host's link is made from, in the daemon's words. */
export const xenbusDeviceField = struct({
  kind: [text, 'vbd or vif'],
  devid: [u32, 'device id'],
  spec: [text, 'what the host connects it to, JSON'],
  state: [u8, "the back end's XenbusState"],
  online: [bool, 'not being unplugged'],
  connected: [bool, 'rings, grants and ports are in use'],
  driver: [bytes, "the driver's record, of a connected device"],
});
export type SavedXenbusDevice = ReturnType<typeof xenbusDeviceField.read>;
export const xenbusRecord = recordType('XBUS', 1, 'split devices; their xenstore nodes are in the store', {
  devices: [list(xenbusDeviceField), 'in the order they were plugged in'],
});

export interface XenbusEvents {
  log(line: string): void;
  /** The device was unplugged and the front end has let go of it; its nodes are still there. */
  gone(): void;
}

export class XenbusBackend implements Bus {
  private state = XenbusStateUnknown;
  private online = true;
  private connected = false;
  /** The driver is letting go. */
  private leaving = false;
  private watch: LocalWatch | undefined;
  private readonly front: FrontEnd;
  private readonly back: string;

  constructor(
    private readonly store: LocalClient,
    readonly id: XenbusId,
    readonly driver: XenbusDriver,
    private readonly events: XenbusEvents,
  ) {
    this.front = new FrontEnd(store, frontPath(id));
    this.back = backPath(id);
    driver.bus = this;
  }

  get backState(): number {
    return this.state;
  }
  get frontState(): number {
    const value = this.front.text('state');
    return value !== undefined && /^[0-8]$/.test(value) ? Number(value) : XenbusStateUnknown;
  }
  get isConnected(): boolean {
    return this.connected;
  }

  /** A new device, whose nodes of the toolstack are there: offers, and waits for a front end. */
  begin(): void {
    this.write(this.driver.offers());
    this.switchTo(XenbusStateInitWait);
    this.listen();
  }

  /** A device that arrives with its guest; the store is as it was. Throws RecordError. */
  restore(saved: SavedXenbusDevice): void {
    this.state = saved.state;
    this.online = saved.online;
    if (saved.connected) this.driver.restore(saved.driver);
    this.connected = saved.connected;
  }
  /** After `restore`, when the guest may see changes again. */
  resume(): void {
    this.listen();
    if (this.connected && !this.leaving) this.driver.start();
  }

  async pause(): Promise<void> {
    if (this.connected) await this.driver.pause();
  }

  save(spec: string): SavedXenbusDevice {
    const { kind, devid } = this.id;
    const { state, online, connected } = this;
    // A device that is letting go is saved as connected: the next host lets go of it again.
    const driver = connected ? this.driver.save() : new Uint8Array(0);
    return { kind, devid, spec, state, online, connected, driver };
  }

  /** Asks the front end to let go, as the toolstack does on a detach; `gone` follows when it has. */
  unplug(): void {
    this.online = false;
    this.store.write(`${this.back}/online`, '0');
    this.store.write(`${this.back}/state`, String(XenbusStateClosing));
    // Where no front end holds anything there is nothing to wait for.
    if (!this.connected && !this.leaving) this.close();
  }

  /** Takes the device away, whatever the front end does: `gone` follows when no I/O is under way any more. */
  surpriseRemove(): void {
    this.online = false;
    this.close();
  }

  /** Ends watching; nothing of the guest changes. */
  stop(): void {
    this.watch?.stop();
    this.watch = undefined;
  }

  private listen(): void {
    this.watch ??= this.store.watch(`${this.front.path}/state`, () => this.frontChanged(), 0);
  }

  private frontChanged(): void {
    if (this.leaving) return;
    const front = this.frontState;
    switch (front) {
      case XenbusStateInitialising:
        // A front end that starts anew without having closed has forgotten its rings.
        if (this.connected) this.close(XenbusStateInitWait);
        else if (this.state === XenbusStateClosed || this.state === XenbusStateClosing)
          this.switchTo(XenbusStateInitWait);
        break;
      case XenbusStateInitialised:
      case XenbusStateConnected:
        if (!this.driver.connectsAt(front)) break;
        // Closing: it went back without having closed, or it was refused and has to close first.
        if (this.state !== XenbusStateClosing) this.connect();
        else if (this.connected) this.close(XenbusStateInitWait);
        break;
      case XenbusStateClosing:
        if (this.state !== XenbusStateClosed) this.switchTo(XenbusStateClosing);
        break;
      case XenbusStateClosed:
      case XenbusStateUnknown:
        this.close();
        break;
    }
  }

  private connect(): void {
    if (this.connected) return;
    try {
      const nodes = this.driver.connect(this.front);
      this.connected = true;
      this.write(nodes);
      this.switchTo(XenbusStateConnected);
    } catch (error) {
      if (!(error instanceof XenbusError)) throw error;
      this.fatal(error.message);
      return;
    }
    this.driver.start();
  }

  /** Lets go of the front end; then `next`, unless the device was unplugged. */
  private close(next = XenbusStateClosed): void {
    const done = (): void => {
      this.leaving = false;
      this.connected = false;
      this.switchTo(this.online ? next : XenbusStateClosed);
      if (!this.online) {
        this.stop();
        this.events.gone();
      } else this.frontChanged();
    };
    if (this.leaving) return;
    if (this.connected) {
      this.leaving = true;
      this.driver.disconnect(done);
    } else if (!this.online) done();
    else this.switchTo(next);
  }

  /** Says why, where Linux's tools look for it, and closes. */
  fatal(message: string): void {
    const { kind, devid, domid } = this.id;
    this.events.log(`${kind} ${devid}: ${message}`);
    this.store.write(`/local/domain/0/error/backend/${kind}/${domid}/${devid}/error`, message);
    const closing = (): void => {
      this.leaving = false;
      this.connected = false;
      this.switchTo(XenbusStateClosing);
      this.frontChanged();
    };
    if (!this.connected) this.switchTo(XenbusStateClosing);
    else if (!this.leaving) {
      this.leaving = true;
      this.driver.disconnect(closing);
    }
  }

  write(nodes: Nodes): void {
    this.store.transact((view) => {
      for (const [name, value] of Object.entries(nodes)) view.write(`${this.back}/${name}`, String(value));
    });
  }

  private switchTo(state: number): void {
    if (this.state === state) return;
    this.state = state;
    this.store.write(`${this.back}/state`, String(state));
  }
}
