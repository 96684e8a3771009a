/**
 * What the guest process needs of the thing that runs a guest. One implementation runs Xen PV guests; tests have
 * another. All calls are made on the process's main thread.
 */
import type { DeviceConfig } from '../helper/devices.js';
import type { LedgerRow } from '../helper/ledger.js';
import type { ClockPolicy } from '../helper/points/outage.js';
import type { Host } from '../host/host.js';
import type { GuestFactory, IncomingGuest, MovableGuest } from '../migration/moving-guest.js';
import type { TravellingDisk } from '../migration/storage-copy.js';

export type EndAction = 'destroy' | 'restart' | 'preserve';

/** What the daemon knows of a guest's configuration. Plain JSON. */
export interface GuestConfig {
  readonly name: string;
  readonly uuid: string;
  /** The most that it may have (maxvcpus), and how many of them are online at power-on: all, if nothing is said. */
  readonly vcpus: number;
  readonly onlineVcpus?: number;
  readonly memoryKib: number;
  readonly maxMemoryKib: number;
  /** Paths on the daemon's host; "" for none. The daemon opens them, the guest process gets descriptors. */
  readonly kernel: string;
  readonly ramdisk: string;
  readonly cmdline: string;
  readonly onPoweroff: EndAction;
  readonly onReboot: EndAction;
  readonly onCrash: EndAction;
  /** What an outage is to the guest. */
  readonly clock: ClockPolicy;
  /** Disks and networks. */
  readonly devices: readonly DeviceConfig[];
  /** Whatever else the runner wants to know. */
  readonly more: Readonly<Record<string, unknown>>;
}

/** Why a guest stopped of its own: SHUTDOWN_* of Xen. */
export type StopReason = 'poweroff' | 'reboot' | 'crash';

export interface VcpuStatus {
  readonly id: number;
  readonly state: 'running' | 'blocked' | 'offline';
  readonly seconds: number;
}

export interface RunnerStatus {
  readonly vcpus: readonly VcpuStatus[];
  /** Processor time used since power-on, on all hosts together. */
  readonly cpuSeconds: number;
  /** Of the frames that the guest has now (XENMEM_current_reservation), KiB. */
  readonly memoryKib: number;
  /** Since power-on, as the guest counts it. */
  readonly uptimeSeconds: number;
  readonly instructions: number;
}

/** One migration point, for people and for JSON, and the moves that the guest has survived. */
export interface PointRow extends LedgerRow {
  readonly moves: number;
}

export interface DeviceStatus extends DeviceConfig {
  /** The front end's nodes in the guest's own xenstore, relative to its directory. */
  readonly front: Readonly<Record<string, string>>;
  /** What this host gave, in words. */
  readonly link: string;
}

/** A disk of the guest: its number, and its whole sectors in bytes. */
export interface DiskSize {
  readonly devid: number;
  readonly bytes: number;
}

export interface RunnerHooks {
  console(bytes: Uint8Array): void;
  /** The guest stopped of its own; no slice runs any more. */
  stopped(reason: StopReason, details: string): void;
  /** The guest has let go of a device that it was asked to, however late. `config` has it no more. */
  unplugged?(kind: string, devid: number): void;
  /** A line of the hypervisor's log. */
  log(line: string): void;
}

export interface GuestRunner {
  readonly movable: MovableGuest;
  readonly config: GuestConfig;
  /** The first instruction of a guest that was created here. */
  start(): void;
  /** Typed bytes; returns how many were taken. */
  type(bytes: Uint8Array): number;
  /** Asks through control/shutdown. Resolves when the guest took the request; `signal` withdraws it. */
  requestShutdown(kind: 'poweroff' | 'reboot', signal: AbortSignal): Promise<void>;
  status(): RunnerStatus;
  points(): readonly PointRow[];
  /** The hypervisor's messages to this guest's log, oldest first. */
  dmesg(): string;
  /** The toolstack's name; the guest's own view of its name stays. */
  rename(name: string): void;
  /** Disks and networks, in the order in which they came. */
  devices(): readonly DeviceStatus[];
  /** A device for the guest that runs. Fails with what is wrong. */
  plug(device: DeviceConfig): Promise<void>;
  /** Asks the guest to let go of a device, or takes it away (`force`); false when `signal` came first. */
  unplug(kind: string, devid: number, force: boolean, signal: AbortSignal): Promise<boolean>;
  /** How large its disks are. */
  diskSizes?(): readonly DiskSize[];
  /** Begins to copy the disks with these numbers. */
  openStorage?(devids: readonly number[]): Promise<RunnerStorage>;
}

/** Disks that are being copied; `close` at the end, whatever it was. */
export interface RunnerStorage {
  readonly disks: readonly TravellingDisk[];
  close(): Promise<void>;
}

export interface IncomingRunner extends IncomingGuest {
  readonly runner: GuestRunner;
}

export interface RunnerFactory extends GuestFactory<IncomingRunner> {
  /** Runs once through what will be done while an arriving guest stands still; `breathe` between the parts. */
  rehearse?(breathe: () => Promise<void>): Promise<void>;
  /** `config`: what the guest's daemon knows of it, where it does; what the stream says must be the same. */
  construct(description: Uint8Array, config?: GuestConfig): Promise<IncomingRunner>;
  /** Builds the guest; `kernel` and `ramdisk` are whole files. Throws with what is wrong with them. */
  create(config: GuestConfig, kernel: Uint8Array, ramdisk: Uint8Array | undefined): Promise<GuestRunner>;
}

/** What a runner module exports. */
export interface RunnerModule {
  /** Reads an xl.cfg. `file` is for messages; relative paths in it are relative to `directory`. */
  readConfig(text: string, file: string, directory: string): GuestConfig;
  openFactory(host: Host, hooks: RunnerHooks): RunnerFactory;
}
