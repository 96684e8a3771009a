/**
 * Runs Xen PV guests in a guest process: connects the helper's guest to Node's event loop, and implements the
 * interfaces that the daemon and a move need. main.ts loads this module.
 */
import { frontPath } from '../devices/xenbus.js';
import { PAGE } from '../engine/engine.js';
import { wasmEngine } from '../engine/engines.js';
import { BOOT_LOADER, SHUTDOWN_HAND_OVER } from '../guest/boot-loader.js';
import type { GuestImage } from '../guest/builder.js';
import { unpackKernel } from '../guest/bzimage.js';
import { KernelError } from '../guest/kernel-error.js';
import type { DeviceConfig } from '../helper/devices.js';
import { Guest, type GuestSpec, type GuestSurroundings } from '../helper/guest.js';
import type { LedgerColumn } from '../helper/ledger.js';
import { rehearse } from '../helper/rehearsal.js';
import { uuidText } from '../helper/uuid.js';
import type { Host } from '../host/host.js';
import { crashText } from '../hypervisor/crash-report.js';
import { sendNmi } from '../hypervisor/vcpu/vcpu-op.js';
import type { MovableGuest } from '../migration/moving-guest.js';
import { collectGarbage } from '../os/garbage.js';
import { hugePages } from '../os/huge-pages.js';
import { tuneEngine } from '../os/tune-engine.js';
import { nodeUnpackers } from '../os/unpackers.js';
import { Failure } from '../protocol/failure.js';
import { type GuestConfig, readConfigRecord } from '../protocol/guest-config.js';
import { quotedName } from '../protocol/name.js';
import { printable } from '../protocol/printable.js';
import { bytes, RecordError, text, u32 } from '../records/fields.js';
import { decodeRaw, decodeRecord, encodeRecord, recordType } from '../records/record.js';
import type { LocalClient } from '../xenstore/server/local.js';
import { firstKernel, guestSpec, loadedSpec, readGuestConfig } from './device-requests.js';
import { DiskSources, diskOf } from './disk-sources.js';
import type { GuestLoop } from './event-loop.js';
import { type GuestEnd, guestLoop } from './guest-loop.js';
import type {
  DeviceStatus,
  DiskSize,
  GuestRunner,
  IncomingRunner,
  PointRow,
  RunnerFactory,
  RunnerHooks,
  RunnerStatus,
} from './guest-runner.js';

export const readConfig = readGuestConfig;
const advise = await hugePages();

/** The first record of a stream: the guest, its configuration, and the number of its moves. */
export const runnerRecord = recordType('RUNR', 1, 'a guest in a stream', {
  config: [text, "the daemon's configuration of the guest, JSON"],
  moves: [u32, 'moves before this one'],
  container: [bytes, 'record GUES'],
});

const DMESG_LINES = 1000;
/** Maximum length of a line, characters. */
const MAX_LINE = 1024;
/** Limits for a front end's nodes: how many are read, and the characters of a value. */
const MAX_FRONT_NODES = 256;
const MAX_FRONT_VALUE = 256;

/** Switches a guest on. */
type PowerOn = (spec: GuestSpec) => Promise<Guest>;

class PvRunner implements GuestRunner {
  private loop: GuestLoop;
  private readonly log: string[] = [];
  /** While what a boot loader has loaded is being started in the place of the boot loader. */
  private starting: Promise<void> | undefined;
  /** By how many the guest is held to be the one that it is: what its boot loader has loaded waits for them. */
  private holders = 0;
  private waiting = false;
  private running = false;
  private ended = false;
  /** Time in slices of the boot loader, ms. */
  private busyBeforeMs = 0;

  constructor(
    public config: GuestConfig,
    public guest: Guest,
    private readonly hooks: RunnerHooks,
    private readonly moves: number,
    private readonly powerOn: PowerOn,
  ) {
    this.loop = this.loopOf(guest);
  }

  private loopOf(guest: Guest): GuestLoop {
    return guestLoop(
      guest,
      (end) => this.guestEnded(end),
      (error) => {
        throw error;
      },
      this.config.kernel === BOOT_LOADER,
    );
  }

  private guestEnded(end: GuestEnd): void {
    if (end.kind !== 'handed-over') {
      const details = end.kind === 'crash' ? `${end.reason}\n${crashText(end.report)}` : '';
      this.hooks.stopped(end.kind, details, end.code);
    } else if (this.holders > 0) this.waiting = true;
    else if (!this.ended)
      this.starting = this.startLoaded(end.image).finally(() => {
        this.starting = undefined;
      });
  }

  async hold(): Promise<() => void> {
    this.holders++;
    await this.starting;
    return () => {
      this.holders--;
      if (this.holders > 0 || !this.waiting) return;
      this.waiting = false;
      // The boot loader says again that it has ended; a guest that has moved says so where it is.
      if (this.running) this.loop.start();
    };
  }

  /**
   * The guest begins again with what its boot loader has loaded: the same devices and the same places on this host. If that
   * fails, the guest has crashed.
   */
  private async startLoaded(loaded: GuestImage): Promise<void> {
    try {
      this.busyBeforeMs = this.busyMs;
      const kernel = await unpackKernel(loaded.kernel, nodeUnpackers());
      await this.guest.detach();
      // The boot loader's memory is freed before the guest gets its own.
      collectGarbage();
      const devices = this.guest.devices.configs;
      const guest = await this.powerOn({ ...loadedSpec(this.config, { ...loaded, kernel }), devices });
      this.guest = guest;
      this.loop = this.loopOf(guest);
      collectGarbage();
      await guest.attach();
      if (!this.ended) this.start();
    } catch (error) {
      const details = `what the boot loader has loaded cannot be started: ${(error as Error).message}`;
      this.note(details);
      this.hooks.stopped('crash', details, SHUTDOWN_HAND_OVER);
    }
  }

  private get busyMs(): number {
    return this.busyBeforeMs + this.loop.busyMs;
  }

  get movable(): MovableGuest {
    const { guest, config } = this;
    const { engine } = guest.domain;
    const nameNow = (): string => this.config.name;
    return {
      // The name may have changed by the time the guest is saved.
      get name() {
        return nameNow();
      },
      uuid: config.uuid,
      frames: engine.ram.frames,
      ram: guest.ram,
      describe: () =>
        encodeRecord(runnerRecord, {
          config: JSON.stringify(this.config),
          moves: this.moves,
          container: guest.describe(),
        }),
      warmUp: engine.abilities.warmUp,
      startDirtyLog: () => engine.dirty.start(),
      readDirty: (into) => engine.dirty.read(into),
      stopDirtyLog: () => engine.dirty.stop(),
      pause: async () => {
        this.running = false;
        this.loop.stop();
        await guest.pause();
      },
      quiesce: () => guest.quiesce(),
      resume: () => this.start(),
      saveState: (terms) => guest.saveState(terms),
      release: () => guest.release(),
      detach: async () => {
        this.ended = true;
        await this.starting;
        this.running = false;
        this.loop.stop();
        await this.guest.detach();
      },
    };
  }

  start(): void {
    this.running = true;
    this.guest.start();
    this.loop.start();
  }

  type(typed: Uint8Array): number {
    const taken = this.guest.console.type(typed);
    this.loop.kick();
    return taken;
  }

  async requestShutdown(kind: 'poweroff' | 'reboot', signal: AbortSignal): Promise<void> {
    let { guest } = this;
    guest.points.suspendSignal.ask(kind);
    try {
      while (guest.points.suspendSignal.pending(kind)) {
        signal.throwIfAborted();
        await new Promise((done) => setTimeout(done, 20));
        if (guest === this.guest) continue;
        // What its boot loader has loaded is asked in its place.
        guest = this.guest;
        guest.points.suspendSignal.ask(kind);
      }
    } catch (error) {
      guest.points.suspendSignal.withdraw(kind);
      throw error;
    }
  }

  status(): RunnerStatus {
    const { domain } = this.guest;
    const { vcpus } = domain.state;
    return {
      vcpus: vcpus.map((v) => ({
        id: v.id,
        state: v.down ? 'offline' : v.blocked ? 'blocked' : 'running',
        seconds: v.runstateTime[0] / 1e9,
      })),
      cpuSeconds: this.busyMs / 1000,
      memoryKib: domain.state.frames.owned * (PAGE / 1024),
      uptimeSeconds: domain.clock.now() / 1e9,
      instructions: vcpus.reduce((sum, v) => sum + (v.cpu.retired ?? 0), 0),
    };
  }

  points(): readonly PointRow[] {
    return this.guest.ledgerRows().map((row) => ({ ...row, moves: this.moves }));
  }

  history(): readonly LedgerColumn[] {
    return this.guest.ledger.columns();
  }
  outageNs(): number {
    return this.guest.points.outage.total;
  }

  devices(): readonly DeviceStatus[] {
    return this.guest.devices.list().map(({ kind, devid, spec, bus, driver }) => ({
      kind,
      devid,
      spec,
      front: nodesBelow(this.guest.store.dom0, frontPath(bus.id)),
      link:
        driver
          .points?.()
          .find((p) => p.name === 'link')
          ?.outer() ?? '',
    }));
  }

  async plug(device: DeviceConfig): Promise<void> {
    await this.guest.plug(device);
    this.config = { ...this.config, devices: this.guest.devices.configs };
    this.loop.kick();
  }

  async unplug(kind: string, devid: number, force: boolean, signal: AbortSignal): Promise<boolean> {
    const { devices } = this.guest;
    const device = devices.find(kind, devid);
    if (device === undefined) throw new Failure('usage', `the guest has no ${kind} ${devid}`);
    const gone = force ? devices.remove(device, signal) : devices.unplug(device, signal);
    this.loop.kick();
    return gone;
  }

  unplugged(kind: string, devid: number): void {
    this.config = { ...this.config, devices: this.guest.devices.configs };
    this.hooks.unplugged?.(kind, devid);
  }

  core(): Iterable<Uint8Array> {
    return this.guest.domain.core();
  }

  diskSizes(): readonly DiskSize[] {
    const { devices } = this.guest;
    return this.config.devices
      .filter(({ kind }) => kind === 'vbd')
      .map(({ devid }) => ({ devid, bytes: (diskOf(devices, devid).disk?.sectors ?? 0) * 512 }));
  }
  openDisks(devids: readonly number[]): Promise<DiskSources> {
    return DiskSources.open(this.guest.devices, devids, (line) => this.note(line));
  }

  wake(): void {
    this.loop.kick();
  }

  /** Logs what the hypervisor reports; it may contain text from the guest. */
  note(text: string): void {
    for (const line of text.replace(/\n+$/, '').split('\n')) {
      const shown = printable(line, MAX_LINE);
      this.log.push(shown);
      if (this.log.length > DMESG_LINES) this.log.shift();
      this.hooks.log(shown);
    }
  }

  dmesg(): string {
    return this.log.map((line) => `(XEN) ${line}\n`).join('');
  }

  nmi(vcpu: number): boolean {
    const v = this.guest.domain.state.vcpus[vcpu];
    if (v === undefined) return false;
    sendNmi(this.guest.domain.state, v);
    this.loop.kick();
    return true;
  }

  resized({ onlineVcpus, memoryKib }: Partial<Pick<GuestConfig, 'onlineVcpus' | 'memoryKib'>>): void {
    const { config } = this;
    this.config = {
      ...config,
      onlineVcpus: onlineVcpus ?? config.onlineVcpus,
      memoryKib: memoryKib ?? config.memoryKib,
    };
  }

  rename(name: string): void {
    this.config = { ...this.config, name };
  }
}

/** Compares a stream's configuration with the daemon's. Throws RecordError. */
function mustAgree(carried: GuestConfig, given: GuestConfig): void {
  for (const field of ['name', 'uuid', 'vcpus', 'maxMemoryKib', 'kernel', 'ramdisk'] as const) {
    if (carried[field] !== given[field])
      throw new RecordError(
        0,
        `the stream's configuration has ${field} = ${quotedName(carried[field])}; ${quotedName(given[field])} was announced`,
      );
  }
}

/** Compares a container with its guest's configuration. `sizes`: the daemon sent it. Throws RecordError. */
function mustContain(guest: Guest, config: GuestConfig, sizes: boolean): void {
  const { uuid, vcpus, maxMemoryMib } = guest.container;
  const wrong =
    uuidText(uuid) !== config.uuid.toLowerCase()
      ? `the uuid ${uuidText(uuid)}`
      : vcpus !== config.vcpus
        ? `${vcpus} vCPUs`
        : sizes && maxMemoryMib * 1024 !== config.maxMemoryKib
          ? `${maxMemoryMib} MiB`
          : undefined;
  if (wrong !== undefined)
    throw new RecordError(0, `the container is of a guest with ${wrong}, and its configuration of another`);
}

/** The devices in a guest's state must be those of its configuration, with the same settings. Throws RecordError. */
function mustHaveOnly(found: readonly DeviceConfig[], configured: readonly DeviceConfig[]): void {
  for (const { kind, devid, spec } of found) {
    const known = configured.find((d) => d.kind === kind && d.devid === devid);
    if (known === undefined || known.spec !== spec)
      throw new RecordError(
        0,
        `the guest's state has a ${kind} ${devid} that ${known === undefined ? 'is not in' : 'is another than that of'} its configuration`,
      );
  }
}

/** The values of all nodes below `path`, two levels deep, as split drivers use. */
function nodesBelow(store: LocalClient, path: string): Record<string, string> {
  const nodes: Record<string, string> = {};
  let seen = 0;
  const visit = (prefix: string, depth: number): void => {
    for (const name of store.list(path + prefix)) {
      if (seen++ >= MAX_FRONT_NODES) return;
      const value = store.tryRead(`${path}${prefix}/${name}`) ?? '';
      nodes[`${prefix}/${name}`.slice(1, 1 + MAX_FRONT_VALUE)] = value.slice(0, MAX_FRONT_VALUE);
      if (depth > 1) visit(`${prefix}/${name}`, depth - 1);
    }
  };
  if (store.exists(path)) visit('', 2);
  return nodes;
}

export function openFactory(host: Host, hooks: RunnerHooks): RunnerFactory {
  tuneEngine();
  let runner: PvRunner | undefined;
  const engine = wasmEngine({ advise });
  const around: GuestSurroundings = {
    console(output) {
      hooks.console(output);
      return true;
    },
    log: (line) => (runner === undefined ? hooks.log(line) : runner.note(line)),
    wake: () => runner?.wake(),
    unplugged: (kind, devid) => runner?.unplugged(kind, devid),
    moved: () => hooks.moved?.(),
    tidy: collectGarbage,
    unpackers: nodeUnpackers(),
    engine,
  };
  const powerOn: PowerOn = (spec) => Guest.powerOn(spec, host, around);
  return {
    rehearse: (breathe) => rehearse(host, engine, breathe),
    async create(config, kernel, ramdisk) {
      const begin = async () => {
        const { image, missing } = firstKernel(config, kernel);
        if (missing !== undefined) hooks.log(missing);
        return powerOn(guestSpec(config, image, ramdisk));
      };
      const guest = await begin().catch((error) => {
        throw error instanceof KernelError
          ? new Failure('bad-config', `kernel ${config.kernel}: ${error.message}`)
          : error;
      });
      collectGarbage();
      await guest.attach();
      runner = new PvRunner(config, guest, hooks, 0, powerOn);
      return runner;
    },
    async construct(description, given): Promise<IncomingRunner> {
      const { config: carried, moves, container } = decodeRecord(runnerRecord, decodeRaw(description));
      const config = readConfigRecord(carried);
      if (given !== undefined) mustAgree(config, given);
      const guest = await Guest.empty(container, host, around);
      mustContain(guest, config, given !== undefined);
      const arrived = new PvRunner(given ?? config, guest, hooks, moves + 1, powerOn);
      if (arrived.config.devices.some((device) => device.kind === 'vbd')) host.links.expectDisks?.();
      runner = arrived;
      return {
        runner: arrived,
        frames: guest.domain.engine.ram.frames,
        ram: guest.ram,
        warmUp: guest.domain.engine.abilities.warmUp,
        written: (frame) => {
          const { engine } = guest.domain;
          engine.touch(engine.ram.linearOf(frame));
        },
        restoreState: (records, bounds) => {
          guest.restoreState(records, bounds);
          mustHaveOnly(guest.devices.configs, arrived.config.devices);
        },
        attach: () => guest.attach(),
        start: () => arrived.start(),
        discard: () => guest.detach(),
      };
    },
  };
}
