/**
 * Runs Xen PV guests in a guest process: connects the helper's guest to Node's event loop, and implements the
 * interfaces that the daemon and a move need. main.ts loads this module.
 */
import { frontPath } from '../devices/xenbus.js';
import { PAGE } from '../engine/engine.js';
import { wasmEngine } from '../engine/engines.js';
import { KernelError } from '../guest/kernel-error.js';
import type { DeviceConfig } from '../helper/devices.js';
import { Guest, type GuestSurroundings } from '../helper/guest.js';
import type { LedgerColumn } from '../helper/ledger.js';
import { rehearse } from '../helper/rehearsal.js';
import { uuidText } from '../helper/uuid.js';
import type { Host } from '../host/host.js';
import { crashText } from '../hypervisor/crash-report.js';
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
import { guestSpec, readGuestConfig } from './device-requests.js';
import { DiskSources, diskOf } from './disk-sources.js';
import type { GuestLoop } from './event-loop.js';
import { guestLoop } from './guest-loop.js';
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

class PvRunner implements GuestRunner {
  readonly movable: MovableGuest;
  private readonly loop: GuestLoop;
  private readonly log: string[] = [];

  constructor(
    public config: GuestConfig,
    readonly guest: Guest,
    private readonly hooks: RunnerHooks,
    private readonly moves: number,
  ) {
    const { domain } = guest;
    this.loop = guestLoop(
      guest,
      (end) =>
        hooks.stopped(
          end.kind,
          end.kind === 'crash' ? `${end.reason}\n${crashText(end.report)}` : '',
          end.code,
        ),
      (error) => {
        throw error;
      },
    );
    const nameNow = (): string => this.config.name;
    this.movable = {
      // The name may have changed by the time the guest is saved.
      get name() {
        return nameNow();
      },
      uuid: config.uuid,
      frames: domain.engine.ram.frames,
      ram: guest.ram,
      describe: () =>
        encodeRecord(runnerRecord, {
          config: JSON.stringify(this.config),
          moves: this.moves,
          container: guest.describe(),
        }),
      warmUp: domain.engine.abilities.warmUp,
      startDirtyLog: () => domain.engine.dirty.start(),
      readDirty: (into) => domain.engine.dirty.read(into),
      stopDirtyLog: () => domain.engine.dirty.stop(),
      pause: async () => {
        this.loop.stop();
        await guest.pause();
      },
      quiesce: () => guest.quiesce(),
      resume: () => this.start(),
      saveState: (terms) => guest.saveState(terms),
      release: () => guest.release(),
      detach: async () => {
        this.loop.stop();
        await guest.detach();
      },
    };
  }

  start(): void {
    this.guest.start();
    this.loop.start();
  }

  type(typed: Uint8Array): number {
    const taken = this.guest.console.type(typed);
    this.loop.kick();
    return taken;
  }

  async requestShutdown(kind: 'poweroff' | 'reboot', signal: AbortSignal): Promise<void> {
    const { suspendSignal } = this.guest.points;
    suspendSignal.ask(kind);
    try {
      while (suspendSignal.pending(kind)) {
        signal.throwIfAborted();
        await new Promise((done) => setTimeout(done, 20));
      }
    } catch (error) {
      suspendSignal.withdraw(kind);
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
      cpuSeconds: this.loop.busyMs / 1000,
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
  return {
    rehearse: (breathe) => rehearse(host, engine, breathe),
    async create(config, kernel, ramdisk) {
      const guest = await Guest.powerOn(guestSpec(config, kernel, ramdisk), host, around).catch((error) => {
        throw error instanceof KernelError
          ? new Failure('bad-config', `kernel ${config.kernel}: ${error.message}`)
          : error;
      });
      collectGarbage();
      await guest.attach();
      runner = new PvRunner(config, guest, hooks, 0);
      return runner;
    },
    async construct(description, given): Promise<IncomingRunner> {
      const { config: carried, moves, container } = decodeRecord(runnerRecord, decodeRaw(description));
      const config = readConfigRecord(carried);
      if (given !== undefined) mustAgree(config, given);
      const guest = await Guest.empty(container, host, around);
      mustContain(guest, config, given !== undefined);
      const arrived = new PvRunner(given ?? config, guest, hooks, moves + 1);
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
