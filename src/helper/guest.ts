/**
 * One guest, whole: its domain, its own xenstore and its console, wired together. Everything in here is the
 * guest's for its whole power cycle; what a host gives comes in through DomainHost and the console's sink.
 */
import { ConsoleBackend, type ConsoleSink } from '../devices/console.js';
import { GuestStore } from '../devices/xenstore.js';
import { buildDomain, type GuestImage, loadImage } from '../guest/builder.js';
import { domainTree } from '../guest/domain-tree.js';
import { Domain, type DomainHost, type DomainRun } from '../hypervisor/domain.js';
import { virtualXen417 } from '../hypervisor/identity.js';
import { MFN_BASE, PAGE } from '../machine/machine.js';
import { bytes, f64, RecordError, text, u32 } from '../records/fields.js';
import { decodeRaw, decodeRecord, encodeRecord, recordType } from '../records/record.js';
import type { DomId, Port } from '../xen/types.js';
import { XenstoreServer } from '../xenstore/server/server.js';
import { restoreState } from '../xenstore/state/restore.js';
import { saveState } from '../xenstore/state/save.js';
import { DEVICE_KINDS } from './device-kinds.js';
import { Devices } from './devices.js';

/** The domain id that every guest sees of itself, on every host. */
export const INNER_DOMID = 1 as DomId;

export interface GuestSpec {
  readonly name: string;
  /** 16 bytes. */
  readonly uuid: Uint8Array;
  readonly memoryMib: number;
  readonly vcpus: number;
  readonly image: GuestImage;
  /** Names of the files, for the xenstore's /vm node. */
  readonly kernelName: string;
  readonly ramdiskName: string;
  /** Time counts instructions, so many ns each; undefined: it follows the host. */
  readonly nsPerInstruction?: number;
}

const uuidText = (uuid: Uint8Array): string =>
  Array.from(uuid, (b) => b.toString(16).padStart(2, '0'))
    .join('')
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');

/** What an equal, empty container is made from; fixed at power-on. */
export const containerRecord = recordType('GUES', 1, "what a guest's container is made of", {
  name: [text, 'name at power-on, as the guest sees it'],
  uuid: [bytes, 'uuid, 16 bytes'],
  memoryMib: [u32, 'memory, MiB'],
  vcpus: [u32, 'vCPUs'],
  nsPerInstruction: [u32, 'deterministic time: ns an instruction; 0: time follows the host'],
  storePfn: [u32, "frame of the store's ring"],
  consolePfn: [u32, "frame of the console's ring"],
  storePort: [u32, 'port of the store'],
  consolePort: [u32, 'port of the console'],
});
export type Container = Parameters<typeof containerRecord.body.write>[1];

/** Everything of a guest but its memory. */
export const guestStateRecord = recordType('GSTA', 2, 'the state of a guest, without its memory', {
  domain: [bytes, 'records of domain and machine'],
  store: [bytes, "the guest's xenstore, in Xen's xenstore migration format, version 2"],
  console: [bytes, 'record of the console back end'],
  devices: [bytes, 'record XBUS: disks and networks'],
  wallClockBase: [f64, 'wall clock at system time 0, ns since 1970'],
});

/** The 16 bytes of a uuid in its usual form. */
export const uuidBytes = (text: string): Uint8Array =>
  Uint8Array.from(text.replaceAll('-', '').match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));

export class Guest {
  private constructor(
    readonly container: Container,
    readonly domain: Domain,
    private readonly wall: WallClock,
    private readonly log: (line: string) => void,
  ) {}

  #store: GuestStore | undefined;
  #console: ConsoleBackend | undefined;
  #devices: Devices | undefined;

  get store(): GuestStore {
    return this.#store as GuestStore;
  }
  get console(): ConsoleBackend {
    return this.#console as ConsoleBackend;
  }
  get devices(): Devices {
    return this.#devices as Devices;
  }

  /** All machine frames, in place. */
  get ram(): Uint8Array {
    const { machine } = this.domain;
    return machine.mem.bytes(machine.framesBase, machine.frames * PAGE);
  }

  wallClock(): number {
    return this.wall.read();
  }

  private static async container(
    spec: {
      readonly uuid: Uint8Array;
      readonly memoryMib: number;
      readonly vcpus: number;
      readonly nsPerInstruction?: number;
    },
    host: DomainHost,
  ): Promise<{ domain: Domain; wall: WallClock }> {
    const memoryFrames = spec.memoryMib * 256;
    const wall = new WallClock();
    const domain = await Domain.create(
      {
        domid: INNER_DOMID,
        uuid: spec.uuid,
        vcpus: spec.vcpus,
        memoryFrames,
        maxFrames: memoryFrames,
        memoryMap: [{ start: 0, bytes: memoryFrames * PAGE, type: 1 }],
        identity: virtualXen417(spec.vcpus),
        nsPerInstruction: spec.nsPerInstruction || undefined,
      },
      { ...host, wallClock: () => wall.read() },
    );
    wall.begin(domain, host);
    return { domain, wall };
  }

  /** Builds a guest in a new container, ready to start. Throws KernelError on a bad kernel. */
  static async powerOn(spec: GuestSpec, host: DomainHost, sink: ConsoleSink): Promise<Guest> {
    const image = await loadImage(spec.image);
    const { domain, wall } = await Guest.container(spec, host);
    domain.prepare();
    const built = buildDomain({ ...domain.buildTarget, mfnBase: MFN_BASE }, image);
    domain.powerOn(built);
    const { storePort, consolePort } = domain;
    const guest = new Guest(
      {
        name: spec.name,
        uuid: spec.uuid,
        memoryMib: spec.memoryMib,
        vcpus: spec.vcpus,
        nsPerInstruction: spec.nsPerInstruction ?? 0,
        storePfn: built.storePfn,
        consolePfn: built.consolePfn,
        storePort,
        consolePort,
      },
      domain,
      wall,
      (line) => host.log?.(line),
    );
    const nodes = domainTree({
      domid: INNER_DOMID,
      name: spec.name,
      uuid: uuidText(spec.uuid),
      vcpus: spec.vcpus,
      staticMaxKib: spec.memoryMib * 1024,
      targetKib: spec.memoryMib * 1024,
      storePort,
      storeRingRef: MFN_BASE + built.storePfn,
      consolePort,
      consoleRingRef: MFN_BASE + built.consolePfn,
      consoleTty: '',
      kernel: spec.kernelName,
      ramdisk: spec.ramdiskName,
      cmdline: spec.image.cmdline,
      startTime: (host.wallClock() / 1e9).toFixed(2),
    });
    guest.#store = GuestStore.create(guest.storeAccess(), nodes);
    guest.#devices = guest.makeDevices();
    guest.connectConsole(sink);
    guest.bind();
    return guest;
  }

  /** An empty container equal to the one described. Throws RecordError. */
  static async empty(description: Uint8Array, host: DomainHost): Promise<Guest> {
    const c = decodeRecord(containerRecord, decodeRaw(description));
    if (c.uuid.length !== 16 || c.vcpus < 1 || c.vcpus > 8 || c.memoryMib < 1 || c.memoryMib > 3000)
      throw new RecordError(0, 'the container described cannot be made');
    const { domain, wall } = await Guest.container(c, host);
    const guest = new Guest(c, domain, wall, (line) => host.log?.(line));
    guest.ram.fill(0);
    return guest;
  }

  describe(): Uint8Array {
    return encodeRecord(containerRecord, this.container);
  }

  /** Only while the domain is paused. */
  saveState(): Uint8Array {
    return encodeRecord(guestStateRecord, {
      domain: this.domain.save(),
      store: saveState(this.store.server),
      console: this.console.save(),
      devices: this.devices.save(),
      wallClockBase: this.wall.base,
    });
  }

  /** Continues a saved guest in an empty container whose memory is complete. Throws RecordError. */
  restoreState(record: Uint8Array, sink: ConsoleSink): void {
    const state = decodeRecord(guestStateRecord, decodeRaw(record));
    const server = new XenstoreServer();
    restoreState(server, state.store);
    this.domain.restore(state.domain);
    this.domain.storePort = this.container.storePort as Port;
    this.domain.consolePort = this.container.consolePort as Port;
    this.wall.arrive(state.wallClockBase);
    this.#store = GuestStore.arrive(this.storeAccess(), server);
    this.#devices = this.makeDevices();
    this.devices.restore(state.devices);
    this.connectConsole(sink);
    this.console.restore(state.console);
    this.bind();
  }

  private access(pfn: number, port: number) {
    const { backend, machine } = this.domain;
    return {
      mem: machine.mem,
      page: machine.framesBase + pfn * PAGE,
      touch: (linear: number): void => backend.touch(linear),
      notify: (): void => backend.notify(port as Port),
    };
  }
  private storeAccess() {
    const { storePfn, storePort } = this.container;
    return { ...this.access(storePfn, storePort), domid: INNER_DOMID, port: storePort as Port };
  }
  private makeDevices(): Devices {
    return new Devices(this.store.dom0, this.domain.backend, INNER_DOMID, DEVICE_KINDS, this.log);
  }
  private connectConsole(sink: ConsoleSink): void {
    const { consolePfn, consolePort } = this.container;
    this.#console = new ConsoleBackend(this.access(consolePfn, consolePort), sink);
  }
  private bind(): void {
    const { backend } = this.domain;
    const { storePort, consolePort } = this.container;
    backend.bindBackend(storePort as Port, () => this.store.service());
    backend.bindBackend(consolePort as Port, () => this.console.service());
  }

  start(): void {
    this.domain.start();
    this.store.service();
    this.console.service();
    this.devices.resume();
  }

  /** Stops time; resolves when no I/O of ours is under way either, so that nothing of the guest changes. */
  async pause(): Promise<void> {
    this.domain.pause();
    await this.devices.pause();
  }

  /** Runs the guest for at most `limitNs` of its time. */
  run(limitNs: number): DomainRun {
    return this.domain.run(limitNs);
  }
}

/**
 * The wall clock that the guest sees. Invariant: it never goes backwards; where the host's true time is ahead on
 * arrival, it follows.
 */
class WallClock {
  /** Wall clock at system time 0, a multiple of 1024 ns so that a double holds it. */
  base = 0;
  private domain: Domain | undefined;
  private host: DomainHost | undefined;

  begin(domain: Domain, host: DomainHost): void {
    this.domain = domain;
    this.host = host;
    this.base = this.ofHost();
  }
  arrive(base: number): void {
    this.base = Math.max(base, this.ofHost());
  }
  read(): number {
    return this.base + (this.domain?.clock.now() ?? 0);
  }
  private ofHost(): number {
    const now = this.domain?.clock.now() ?? 0;
    return Math.floor(((this.host as DomainHost).wallClock() - now) / 1024) * 1024;
  }
}
