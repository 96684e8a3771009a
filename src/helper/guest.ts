/**
 * One complete guest: its domain, its own xenstore, its console and its devices, connected to each other, and the
 * migration points that connect it to a host. Everything in here belongs to the guest for its whole power cycle. What
 * a host provides comes in through Host and changes with it.
 *
 * The order of calls: `powerOn`, or `empty` followed by `restoreState`; then `attach`; then `start`; `run` any number
 * of times; `pause` and `start` alternately; `saveState` only while paused; `detach` at the end.
 */
import { ConsoleBackend, type ConsoleSink } from '../devices/console.js';
import { GuestStore } from '../devices/xenstore.js';
import { type CreateEngine, PAGE } from '../engine/engine.js';
import { buildDomain, type GuestImage, loadImage } from '../guest/builder.js';
import { MAX_GRANT_FRAMES } from '../guest/config.js';
import type { Unpackers } from '../guest/decompress.js';
import { domainTree } from '../guest/domain-tree.js';
import type { Host } from '../host/host.js';
import { Domain, type DomainRun } from '../hypervisor/domain.js';
import { GRANT_FRAMES } from '../hypervisor/grants/grant-table.js';
import { identityRecord, virtualXen417, type XenIdentity } from '../hypervisor/identity.js';
import { bool, bytes, RecordError, struct, text, u32 } from '../records/fields.js';
import { decodeRaw, decodeRecord, encodeRecord, recordType } from '../records/record.js';
import type { DomId, Port } from '../xen/types.js';
import type { Quotas } from '../xenstore/core/quotas.js';
import { XenstoreServer } from '../xenstore/server/server.js';
import { restoreState } from '../xenstore/state/restore.js';
import { saveState } from '../xenstore/state/save.js';
import { allowanceOf } from './allowance.js';
import { DEVICE_KINDS } from './device-kinds.js';
import { type DeviceConfig, type DeviceKind, Devices } from './devices.js';
import { Ledger, type LedgerRow, pointList } from './ledger.js';
import { type LivePoints, pointsOf } from './points/all.js';
import { ConsoleRing } from './points/console-ring.js';
import { type ClockPolicy, Outage, type OutageBounds, type OutageTerms } from './points/outage.js';
import { SuspendSignal } from './points/suspend-signal.js';
import { WallClock } from './points/wall-clock.js';
import { XenstoreTree } from './points/xenstore-tree.js';
import { uuidText } from './uuid.js';

/** The domain id that every guest sees as its own, on every host. */
const INNER_DOMID = 1 as DomId;

/** More leaves than any processor has. */
const MAX_CPUID_LEAVES = 256;

export interface GuestSpec {
  readonly name: string;
  /** 16 bytes. */
  readonly uuid: Uint8Array;
  readonly memoryMib: number;
  /** The maximum (maxmem) in MiB; if undefined, the same as memoryMib. */
  readonly maxMemoryMib?: number;
  /** The maximum number of vCPUs (maxvcpus), and how many of them are online at power-on (default: all). */
  readonly vcpus: number;
  readonly onlineVcpus?: number;
  readonly image: GuestImage;
  /** Names of the files, for the nodes below /vm in xenstore. */
  readonly kernelName: string;
  readonly ramdiskName: string;
  /** Makes time count instructions, with this many ns for each. Undefined: time follows the host. */
  readonly nsPerInstruction?: number;
  /** Whether an outage shows in the guest's clock; `elapse` by default. */
  readonly clock?: ClockPolicy;
  /** What the guest's wall clock is ahead of true time, s; 0 by default. */
  readonly clockOffsetS?: number;
  /** How many frames its table of grants may have; by default what suffices for its devices. */
  readonly grantFrames?: number;
  /** Quotas of its xenstore other than what suffices for its devices. */
  readonly xenstoreQuotas?: Partial<Quotas>;
  readonly devices?: readonly DeviceConfig[];
}

/** What the process around the guest provides. */
export interface GuestSurroundings {
  /** Makes the engine that executes the guest's instructions. */
  readonly engine: CreateEngine;
  /** Decompressors for kernels that are faster than those of src/guest. */
  readonly unpackers?: Unpackers;
  /** Receives the console's output. */
  readonly console: ConsoleSink;
  /** Logs a line of the hypervisor or of a device. */
  log(line: string): void;
  /** Something happened that a sleeping guest may be waiting for. */
  wake(): void;
  /** An unplugged device is gone, possibly long after the request. */
  unplugged?(kind: string, devid: number): void;
  /** The helper was moved to another host with its guest: the outer values are others. */
  moved?(): void;
  /** Returns memory to the system that was only needed temporarily; decompressing files leaves much of it. */
  tidy?(): void;
  /** The kinds of devices, if they are not the usual ones. */
  readonly deviceKinds?: Readonly<Record<string, DeviceKind>>;
}

const beginning = {
  name: [text, 'name at power-on, as the guest sees it'],
  uuid: [bytes, 'uuid, 16 bytes'],
  memoryMib: [u32, 'memory at power-on, MiB'],
} as const;
const rest = {
  vcpus: [u32, 'vCPUs'],
  nsPerInstruction: [u32, 'deterministic time: ns an instruction; 0: time follows the host'],
  storePfn: [u32, "frame of the store's ring"],
  consolePfn: [u32, "frame of the console's ring"],
  storePort: [u32, 'port of the store'],
  consolePort: [u32, 'port of the console'],
  identity: [bytes, 'record IDEN: the identity of hypervisor and processor'],
} as const;
/** Version 1 had no maximum of memory: the guest had what it began with. */
const container1 = struct({ ...beginning, ...rest });

const withMost = {
  ...beginning,
  maxMemoryMib: [u32, 'the most memory that it may have, MiB'],
  ...rest,
} as const;
/** In version 2 the machine-to-physical table was mapped only from the guest's first frame on. */
const container2 = struct(withMost);

const withM2p = {
  ...withMost,
  wholeM2p: [bool, 'the machine-to-physical table can be read from machine frame 0 on'],
} as const;
/** Until version 3 every guest had 64 frames of grants. */
const container3 = struct(withM2p);

/** From this record an equal, empty container can be made. It is fixed at power-on. */
export const containerRecord = recordType(
  'GUES',
  4,
  "what a guest's container is made of",
  { ...withM2p, grantFrames: [u32, 'how many frames its table of grants may have'] },
  [
    {
      version: 1,
      body: container1,
      upgrade: (old: ReturnType<typeof container1.read>) => ({
        ...old,
        maxMemoryMib: old.memoryMib,
        wholeM2p: false,
        grantFrames: GRANT_FRAMES,
      }),
    },
    {
      version: 2,
      body: container2,
      upgrade: (old: ReturnType<typeof container2.read>) => ({
        ...old,
        wholeM2p: false,
        grantFrames: GRANT_FRAMES,
      }),
    },
    {
      version: 3,
      body: container3,
      upgrade: (old: ReturnType<typeof container3.read>) => ({ ...old, grantFrames: GRANT_FRAMES }),
    },
  ],
);
type Container = Parameters<typeof containerRecord.body.write>[1];

/** Everything of a guest except its memory. */
export const guestStateRecord = recordType('GSTA', 2, 'the state of a guest, without its memory', {
  domain: [bytes, 'records of domain and machine'],
  store: [bytes, "the guest's xenstore, in Xen's xenstore migration format, version 2"],
  points: [pointList, 'migration points with a state of their own'],
  devices: [bytes, 'record XBUS: disks and networks'],
});

export class Guest {
  readonly points: LivePoints;
  readonly ledger: Ledger;
  #store: GuestStore | undefined;
  #console: ConsoleBackend | undefined;
  #devices: Devices | undefined;
  /** The suspends of this host that were counted as outages, ns. */
  private suspendedNs = 0;
  /** Since start(), until pause(). */
  private running = false;

  private constructor(
    readonly container: Container,
    readonly domain: Domain,
    private readonly host: Host,
    private readonly around: GuestSurroundings,
    clock: ClockPolicy,
  ) {
    this.points = {
      outage: new Outage(this, clock),
      wallClock: new WallClock(this),
      suspendSignal: new SuspendSignal(this, () => around.wake()),
      xenstoreTree: new XenstoreTree(this),
      consoleRing: new ConsoleRing(this),
    };
    this.ledger = new Ledger(pointsOf(this, this.points), () => this.#devices?.points() ?? []);
  }

  get store(): GuestStore {
    return this.#store as GuestStore;
  }
  get console(): ConsoleBackend {
    return this.#console as ConsoleBackend;
  }
  get devices(): Devices {
    return this.#devices as Devices;
  }

  /** A view of all machine frames. */
  get ram(): Uint8Array {
    const { engine } = this.domain;
    return engine.ram.bytes(0, engine.ram.frames);
  }

  /** The wall-clock time that the guest sees, in ns since 1970. */
  wallClock(): number {
    return this.points.wallClock.read();
  }

  private static async make(
    container: Pick<
      Container,
      'uuid' | 'memoryMib' | 'maxMemoryMib' | 'vcpus' | 'nsPerInstruction' | 'wholeM2p' | 'grantFrames'
    >,
    identity: XenIdentity,
    host: Host,
    around: GuestSurroundings,
    guest: () => Guest | undefined,
  ): Promise<Domain> {
    const { uuid, memoryMib, maxMemoryMib, vcpus, nsPerInstruction, wholeM2p, grantFrames } = container;
    const memoryFrames = memoryMib * 256;
    const maxFrames = maxMemoryMib * 256;
    return Domain.create(
      {
        domid: INNER_DOMID,
        uuid,
        vcpus,
        memoryFrames,
        maxFrames,
        memoryMap: [{ start: 0n, bytes: BigInt(maxFrames * PAGE), type: 1 }],
        identity,
        nsPerInstruction: nsPerInstruction || undefined,
        wholeM2p,
        grantFrames,
      },
      {
        // What the guest sees of a suspend, run() decides.
        monotonic: host.clock.awake === undefined ? () => host.clock.uptime() : host.clock.awake,
        wallClock: () => guest()?.wallClock() ?? 0,
        keptFromRunning: (ns) => {
          const it = guest() as Guest;
          it.points.outage.unforeseen(ns);
          it.points.wallClock.follow(host);
        },
        log: (line) => around.log(line),
        engine: around.engine,
      },
    );
  }

  /** Builds a guest in a new container; `attach` can follow. Throws KernelError if the kernel cannot be used. */
  static async powerOn(spec: GuestSpec, host: Host, around: GuestSurroundings): Promise<Guest> {
    const image = await loadImage(spec.image, around.unpackers);
    around.tidy?.();
    const { name, uuid, memoryMib, maxMemoryMib = memoryMib, vcpus, nsPerInstruction = 0 } = spec;
    const { grantFrames, quotas } = allowanceOf(spec);
    const made = {
      name,
      uuid,
      memoryMib,
      maxMemoryMib,
      vcpus,
      nsPerInstruction,
      wholeM2p: true,
      grantFrames,
    };
    let guest: Guest | undefined;
    const identity = virtualXen417(vcpus);
    const domain = await Guest.make(made, identity, host, around, () => guest);
    domain.prepare();
    const built = buildDomain(domain.buildTarget, image);
    domain.powerOn(built);
    const { storePort, consolePort } = domain;
    const { ram } = domain.engine;
    const { storePfn, consolePfn } = built;
    const frozen = encodeRecord(identityRecord, identity);
    const container = { ...made, storePfn, consolePfn, storePort, consolePort, identity: frozen };
    guest = new Guest(container, domain, host, around, spec.clock ?? 'elapse');
    guest.points.wallClock.setOffset(spec.clockOffsetS ?? 0);
    guest.points.wallClock.follow(host);
    const nodes = domainTree({
      domid: INNER_DOMID,
      name,
      uuid: uuidText(uuid),
      vcpus,
      onlineVcpus: spec.onlineVcpus ?? vcpus,
      staticMaxKib: maxMemoryMib * 1024,
      targetKib: memoryMib * 1024,
      storePort,
      storeRingRef: ram.mfnOf(storePfn),
      consolePort,
      consoleRingRef: ram.mfnOf(consolePfn),
      consoleTty: '',
      kernel: spec.kernelName,
      ramdisk: spec.ramdiskName,
      cmdline: spec.image.cmdline,
      startTime: (host.clock.wallClock() / 1e9).toFixed(2),
    });
    guest.#store = GuestStore.create(guest.storeAccess(), nodes, quotas);
    guest.furnish();
    guest.console.connect();
    for (const device of spec.devices ?? []) guest.devices.create(device);
    return guest;
  }

  /** Makes an empty container equal to the described one. Throws RecordError. */
  static async empty(description: Uint8Array, host: Host, around: GuestSurroundings): Promise<Guest> {
    const c = decodeRecord(containerRecord, decodeRaw(description));
    const sizes = c.memoryMib >= 1 && c.memoryMib <= c.maxMemoryMib && c.maxMemoryMib <= 3000;
    const grants = c.grantFrames >= 1 && c.grantFrames <= MAX_GRANT_FRAMES;
    if (c.uuid.length !== 16 || c.vcpus < 1 || c.vcpus > 8 || !sizes || !grants)
      throw new RecordError(0, 'the container described cannot be made');
    const identity = decodeRecord(identityRecord, decodeRaw(c.identity));
    if (identity.cpuid.length > MAX_CPUID_LEAVES) throw new RecordError(0, 'too many leaves of CPUID');
    let guest: Guest | undefined;
    const domain = await Guest.make(c, identity, host, around, () => guest);
    guest = new Guest(c, domain, host, around, 'elapse');
    // Clears what the new container has written itself. The pages after that are untouched, and those that are zero
    // in the guest stay so.
    guest.ram.fill(0, domain.layout.guest * PAGE);
    return guest;
  }

  describe(): Uint8Array {
    return encodeRecord(containerRecord, this.container);
  }

  /** Saves the state. The guest must be paused. `terms` is what a move says about the outage that it causes. */
  saveState(terms: OutageTerms = {}): Uint8Array {
    this.points.outage.setTerms(terms);
    return encodeRecord(guestStateRecord, {
      domain: this.domain.save(),
      store: saveState(this.store.server),
      points: this.ledger.save(),
      devices: this.devices.save(),
    });
  }

  /** Restores a saved guest into an empty container whose memory is complete. Throws RecordError. */
  restoreState(record: Uint8Array, bounds?: OutageBounds): void {
    const state = decodeRecord(guestStateRecord, decodeRaw(record));
    const server = new XenstoreServer();
    restoreState(server, state.store);
    this.domain.restore(state.domain);
    this.domain.storePort = this.container.storePort as Port;
    this.domain.consolePort = this.container.consolePort as Port;
    this.#store = GuestStore.arrive(this.storeAccess(), server);
    this.furnish();
    this.ledger.restore(state.points);
    this.points.outage.arrived(this.host, bounds);
    this.devices.restore(state.devices);
  }

  private page(pfn: number, port: number) {
    const { backend, engine } = this.domain;
    return {
      mem: engine.ram.mem,
      page: engine.ram.linearOf(pfn),
      touch: (linear: number): void => backend.touch(linear),
      notify: (): void => backend.notify(port as Port),
    };
  }
  private storeAccess() {
    const { storePfn, storePort } = this.container;
    return { ...this.page(storePfn, storePort), domid: INNER_DOMID, port: storePort as Port };
  }

  /** Makes console and devices, and connects the back ends to the toolstack's ports. */
  private furnish(): void {
    const { consolePfn, storePort, consolePort } = this.container;
    const { backend } = this.domain;
    this.#console = new ConsoleBackend(this.page(consolePfn, consolePort), this.around.console);
    this.#devices = new Devices(
      this.store.dom0,
      backend,
      INNER_DOMID,
      this.around.deviceKinds ?? DEVICE_KINDS,
      (line) => this.around.log(line),
      ({ kind, devid }) => this.around.unplugged?.(kind, devid),
    );
    backend.bindBackend(storePort as Port, () => this.store.service());
    backend.bindBackend(consolePort as Port, () => this.console.service());
  }

  /**
   * Takes what the host provides: first the devices' links, then all other points. If this fails, nothing stays
   * taken.
   */
  async attach(): Promise<void> {
    await this.devices.attach(this.host.links);
    try {
      await this.ledger.attach(this.host);
    } catch (error) {
      await this.devices.detach();
      throw error;
    }
    this.host.onChanged?.((moved) => {
      if (moved) {
        // Whoever is told of the move finds it counted.
        if (this.running) this.countSuspend();
        this.ledger.changed();
        this.around.moved?.();
      }
      // A guest that sleeps has a suspend counted, and its timers looked at.
      this.around.wake();
    });
  }

  /** Releases everything that the host provides, for good. */
  async detach(): Promise<void> {
    this.host.onChanged?.(undefined);
    await this.ledger.detach();
    // A guest whose state was refused has no devices.
    await this.#devices?.detach();
    this.domain.engine.close();
  }

  /**
   * The guest runs, for the first time on this host or again. The outage is counted, and timers that became due in it
   * fire.
   */
  start(): void {
    // Since the guest stopped, a suspend is part of that outage.
    this.suspendedNs = this.host.clock.suspended?.() ?? 0;
    this.points.outage.over(this.host);
    this.points.wallClock.follow(this.host);
    this.domain.start();
    this.running = true;
    this.console.resume();
    this.devices.resume();
  }

  /** Stops the guest. When the promise resolves, nothing of it changes until start(). */
  async pause(): Promise<void> {
    this.countSuspend();
    this.running = false;
    this.domain.pause();
    this.points.outage.stopped(this.host);
    await this.devices.pause();
  }

  /** For a guest that is already stopped but whose disks may still have been busy. */
  async quiesce(): Promise<void> {
    await this.devices.pause();
  }

  /** The guest is paused and about to be handed to another host: locks are released. start() takes them back. */
  async release(): Promise<void> {
    await this.devices.release();
  }

  /** Adds a device to a running guest. */
  async plug(config: DeviceConfig): Promise<void> {
    await this.devices.plug(config, this.host.links);
  }

  /** Runs the guest for at most `limitNs` of its time. */
  run(limitNs: number): DomainRun {
    this.countSuspend();
    return this.domain.run(limitNs);
  }

  /** If the kernel under this process was suspended since the guest ran: an outage like any other, counted once. */
  private countSuspend(): void {
    const total = this.host.clock.suspended?.() ?? 0;
    const ns = total - this.suspendedNs;
    if (!(ns > 0)) return;
    this.suspendedNs = total;
    this.domain.pause();
    this.points.outage.unforeseen(ns);
    this.points.wallClock.follow(this.host);
    this.domain.start();
  }

  ledgerRows(): LedgerRow[] {
    return this.ledger.rows();
  }
}
