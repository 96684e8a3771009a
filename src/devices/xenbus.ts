/**
 * The back end's side of a split driver's handshake, which is the same for disks and networks. It watches the front
 * end's `state` node in the guest's own xenstore and answers with a state of its own, as Linux's back ends do.
 *
 * Invariants: the driver holds rings, grants and ports of the guest exactly while `connected`. While it releases
 * them, which takes time if I/O is in progress, it ignores changes of the front end's state; afterwards it acts on
 * the state that the front end has by then. Any state may follow any other, and the same one may be written twice:
 * nothing is done twice. What the front end wrote is read at the moment of use and never trusted. Source:
 * xen/include/public/io/xenbus.h; Linux, drivers/block/xen-blkback/xenbus.c (frontend_changed),
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

/** The front end wrote something that cannot be used. The message goes to the log and into the device's error node. */
export class XenbusError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'XenbusError';
  }
}

/** Nodes below the back end's directory, by name. */
export type Nodes = Readonly<Record<string, string | number>>;

/** What a driver may ask of the bus at any time. */
export interface Bus {
  /** The front end broke the protocol: closes the device and records the reason. */
  fatal(message: string): void;
  /** Updates nodes of a connected device (a size, the state of a link). */
  write(nodes: Nodes): void;
}

/** What a kind of device (vbd, vif) adds to the handshake. */
export interface XenbusDriver {
  /** Is set before any other member is used. */
  bus: Bus | undefined;
  /** Whether a front end in this state (Initialised or Connected) has written all that `connect` needs. */
  connectsAt(frontState: number): boolean;
  /** The nodes that are written before InitWait: what is offered to the front end. They are the same on every host. */
  offers(): Nodes;
  /**
   * Takes the front end's rings and ports. The nodes that it returns are written before the state becomes Connected.
   * Throws XenbusError; in that case it holds nothing.
   */
  connect(front: FrontEnd): Nodes;
  /** The guest continues, after `connect`, `restore` or `pause`. There may already be requests in the rings. */
  start(): void;
  /**
   * The guest is stopped. When the promise resolves, the back end changes neither the guest's memory nor its disk
   * until `start`.
   */
  pause(): Promise<void>;
  /** Releases all that `connect` took. Calls `done`, at once or later, when nothing uses it any more. */
  disconnect(done: () => void): void;
  /**
   * Returns all state of a connected device that is not in guest memory. It is only called while the guest is paused.
   */
  save(): Uint8Array;
  /** Continues a connected device on the same rings, grants and ports. Throws RecordError. */
  restore(record: Uint8Array): void;
  /**
   * Takes this host's link. It is called once on each host: after `restore`, if there was one, and before the guest's
   * first instruction there. If it fails, the guest stays with its source; the driver must then leave nothing open.
   */
  attach?(links: HostLinks, devid: number): Promise<void>;
  /**
   * The guest is stopped and about to be handed to another host: releases what only one host may hold at a time. If
   * the guest continues here after all, `start` takes it back.
   */
  release?(): Promise<void>;
  /**
   * Releases the link for good, because the guest now lives elsewhere, has ended, or loses the device. It is called
   * once, in any state.
   */
  detach?(): Promise<void>;
  /** The rows of the ledger: what the guest sees of the device, and what this host provides. */
  points?(): readonly DevicePoint[];
}

/** Identifies a device in the guest's xenstore. */
interface XenbusId {
  /** "vbd", "vif". */
  readonly kind: string;
  readonly devid: number;
  /** The guest's domain id as the guest sees it. */
  readonly domid: number;
}

export const frontPath = ({ kind, devid, domid }: XenbusId): string =>
  `/local/domain/${domid}/device/${kind}/${devid}`;
export const backPath = ({ kind, devid, domid }: XenbusId): string =>
  `/local/domain/0/backend/${kind}/${domid}/${devid}`;

/** The front end's nodes, read as domain 0. */
export class FrontEnd {
  constructor(
    private readonly store: LocalClient,
    readonly path: string,
  ) {}

  text(name: string): string | undefined {
    return this.store.tryRead(`${this.path}/${name}`);
  }
  /**
   * Reads an unsigned decimal number of at most `max`. Returns undefined if the node does not exist. Throws
   * XenbusError.
   */
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
  /** A feature node: true if it exists and is not 0. */
  flag(name: string): boolean {
    return (this.optional(name, 0xffff_ffff) ?? 0) !== 0;
  }
}

/** One device as it is saved. From `spec`, the device's settings as JSON, each host makes its link. */
const xenbusDeviceField = struct({
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
  /** The device was unplugged and the front end has released it. Its nodes still exist. */
  gone(): void;
}

export class XenbusBackend implements Bus {
  private state = XenbusStateUnknown;
  private online = true;
  private connected = false;
  /** True while the driver is releasing the front end's rings. */
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

  /** Starts a new device whose toolstack nodes already exist: it makes its offers and waits for a front end. */
  begin(): void {
    this.write(this.driver.offers());
    this.switchTo(XenbusStateInitWait);
    this.listen();
  }

  /** Restores a device that arrives with its guest. The store is unchanged. Throws RecordError. */
  restore(saved: SavedXenbusDevice): void {
    this.state = saved.state;
    this.online = saved.online;
    if (saved.connected) this.driver.restore(saved.driver);
    this.connected = saved.connected;
  }
  /** To be called after `restore`, once the guest may see changes again. */
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
    // A device that is releasing its rings is saved as connected. The next host releases them again.
    const driver = connected ? this.driver.save() : new Uint8Array(0);
    return { kind, devid, spec, state, online, connected, driver };
  }

  /**
   * Asks the front end to release the device, as the toolstack does on a detach. `gone` is called when it has done
   * so.
   */
  unplug(): void {
    this.online = false;
    this.store.write(`${this.back}/online`, '0');
    this.store.write(`${this.back}/state`, String(XenbusStateClosing));
    // If no front end holds anything, there is nothing to wait for.
    if (!this.connected && !this.leaving) this.close();
  }

  /** Removes the device whatever the front end does. `gone` is called when no I/O is in progress any more. */
  surpriseRemove(): void {
    this.online = false;
    this.close();
  }

  /** Stops watching the front end. Nothing changes for the guest. */
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
        // A front end that initialises again without having closed has forgotten its rings.
        if (this.connected) this.close(XenbusStateInitWait);
        else if (this.state === XenbusStateClosed || this.state === XenbusStateClosing)
          this.switchTo(XenbusStateInitWait);
        break;
      case XenbusStateInitialised:
      case XenbusStateConnected:
        if (!this.driver.connectsAt(front)) break;
        // While we are Closing, the front end has gone back to this state without having closed, or it was refused
        // and has to close first.
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

  /** Releases the front end's rings and then switches to `next`, or to Closed if the device was unplugged. */
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

  /** Writes the reason to where Linux's tools look for it, and closes the device. */
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
