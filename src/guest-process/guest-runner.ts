/**
 * What the guest process needs from the code that runs a guest. One implementation runs Xen PV guests; tests have
 * another. All calls are made on the process's main thread.
 */

import type { DeviceConfig } from '../helper/devices.js';
import type { LedgerColumn, LedgerRow } from '../helper/ledger.js';
import type { Host } from '../host/host.js';
import type { TravellingDisk } from '../migration/disk-sender.js';
import type { GuestFactory, IncomingGuest, MovableGuest } from '../migration/moving-guest.js';
import type { GuestConfig } from '../protocol/guest-config.js';

/** Why a guest stopped by itself: Xen's SHUTDOWN_*. */
export type StopReason = 'poweroff' | 'reboot' | 'crash';

export interface VcpuStatus {
  readonly id: number;
  readonly state: 'running' | 'blocked' | 'offline';
  readonly seconds: number;
}

export interface RunnerStatus {
  readonly vcpus: readonly VcpuStatus[];
  /** CPU time used since power-on, on all hosts together. */
  readonly cpuSeconds: number;
  /** Memory that the guest has now (XENMEM_current_reservation), KiB. */
  readonly memoryKib: number;
  /** Time since power-on, as the guest counts it. */
  readonly uptimeSeconds: number;
  readonly instructions: number;
}

/** One migration point, for people and for JSON, with the number of moves that the guest has survived. */
export interface PointRow extends LedgerRow {
  readonly moves: number;
}

export interface DeviceStatus extends DeviceConfig {
  /** The front end's nodes in the guest's own xenstore, relative to its directory. */
  readonly front: Readonly<Record<string, string>>;
  /** What this host provides for it, in words. */
  readonly link: string;
}

/** A disk of the guest: its number, and its size in bytes (whole sectors). */
export interface DiskSize {
  readonly devid: number;
  readonly bytes: number;
}

export interface RunnerHooks {
  console(bytes: Uint8Array): void;
  /** The guest stopped by itself; no further slice runs. `code` is the reason as SCHEDOP_shutdown has it. */
  stopped(reason: StopReason, details: string, code?: number): void;
  /** The helper was moved to another place together with its guest. */
  moved?(): void;
  /** The guest has released a device as it was asked to, however late. The configuration no longer contains it. */
  unplugged?(kind: string, devid: number): void;
  /** A line of the hypervisor's log. */
  log(line: string): void;
}

export interface GuestRunner {
  readonly movable: MovableGuest;
  readonly config: GuestConfig;
  /** Lets a guest that was created here execute its first instruction. */
  start(): void;
  /**
   * Until the function that it gives is called, the guest does not become another: what a boot loader has loaded
   * waits. A move and a change of devices need that.
   */
  hold?(): Promise<() => void>;
  /** Typed bytes; returns how many were accepted. */
  type(bytes: Uint8Array): number;
  /** Sends a request through control/shutdown. Resolves when the guest has accepted it; `signal` withdraws it. */
  requestShutdown(kind: 'poweroff' | 'reboot', signal: AbortSignal): Promise<void>;
  status(): RunnerStatus;
  points(): readonly PointRow[];
  /** The outer values of each place at which the guest has been in this process, the present one last. */
  history?(): readonly LedgerColumn[];
  /** The time in which the guest could not run, since power-on, ns. */
  outageNs?(): number;
  /** The hypervisor's messages about this guest, oldest first. */
  dmesg(): string;
  /** Changes the toolstack's name; the guest's own view of its name stays the same. */
  rename(name: string): void;
  /** Gives a vCPU a non-maskable interrupt; false if there is no such vCPU. */
  nmi?(vcpu: number): boolean;
  /** Other sizes in its configuration, for its next power-on. What it has now is for its kernel to change. */
  resized(sizes: Partial<Pick<GuestConfig, 'onlineVcpus' | 'memoryKib'>>): void;
  /** Disks and networks, in the order in which they were attached. */
  devices(): readonly DeviceStatus[];
  /** Attaches a device to the running guest. The error says what is wrong. */
  plug(device: DeviceConfig): Promise<void>;
  /** Asks the guest to release a device, or takes it away (`force`); false if `signal` fired first. */
  unplug(kind: string, devid: number, force: boolean, signal: AbortSignal): Promise<boolean>;
  /**
   * The guest's core as `xl dump-core` writes it, part by part. The guest must stand still until the last part was
   * taken.
   */
  core?(): Iterable<Uint8Array>;
  /** The sizes of its disks. */
  diskSizes?(): readonly DiskSize[];
  /** Starts to copy the disks with these numbers. */
  openDisks?(devids: readonly number[]): Promise<OpenDisks>;
}

/** Disks that are being copied; `close` must be called at the end, whatever the outcome. */
export interface OpenDisks {
  readonly disks: readonly TravellingDisk[];
  close(): Promise<void>;
}

export interface IncomingRunner extends IncomingGuest {
  readonly runner: GuestRunner;
}

export interface RunnerFactory extends GuestFactory<IncomingRunner> {
  /**
   * Executes once, as a rehearsal, the code that will run while an arriving guest stands still, so that it is
   * compiled by then; calls `breathe` between the parts.
   */
  rehearse?(breathe: () => Promise<void>): Promise<void>;
  /** `config`: the daemon's record of the guest, if it has one; the configuration in the stream must match it. */
  construct(description: Uint8Array, config?: GuestConfig): Promise<IncomingRunner>;
  /** Builds the guest; `kernel` and `ramdisk` are the contents of the files. The error says what is wrong with them. */
  create(config: GuestConfig, kernel: Uint8Array, ramdisk: Uint8Array | undefined): Promise<GuestRunner>;
}

/** What a runner module exports. */
export interface RunnerModule {
  /**
   * Reads an xl.cfg. `file` is for messages; relative paths in it are relative to `directory`. `makeUuid` is called for
   * a guest without a uuid in it; if it is left out, a random one is made.
   */
  readConfig(text: string, file: string, directory: string, makeUuid?: (name: string) => string): GuestConfig;
  openFactory(host: Host, hooks: RunnerHooks): RunnerFactory;
}
