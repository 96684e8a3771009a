/**
 * One domain of this host: its state on disk, its process, and the connection to it.
 * Invariant: the state file is on disk before the process is told anything, and is removed after the process is
 * dead; so a daemon that starts again finds every process there is.
 */
import { chmodSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { HostNode } from '../host/host.js';
import type { Grant } from './disk-access.js';
import { readJson, writeDurable } from './durable.js';
import { Failure } from './failure.js';
import {
  EXIT_FILE,
  type GuestExit,
  type GuestHello,
  type GuestRequests,
  OWNER_FILE,
  type OwnerRecord,
} from './guest-protocol.js';
import type { GuestConfig } from './guest-runner.js';
import { killedBecause, wordsOfEnd } from './process-end.js';
import { Rpc } from './rpc.js';
import { connectGuest, deathOf, isAlive, killProcess, lastLine, type ProcessId } from './spawn.js';
import type { IncomingImage } from './storage.js';

/** The hand-over by which a guest came, until its source has closed the books. */
export interface IncomingRef {
  readonly handover: string;
  /** Fingerprint of the source's certificate; "" on plain loopback. */
  readonly peer: string;
}

export interface DomainState {
  readonly domid: number;
  name: string;
  readonly uuid: string;
  vcpus: number;
  readonly memoryKib: number;
  config: GuestConfig | null;
  process: ProcessId | null;
  readonly createdMs: number;
  /** Rises by one with each domain of this host, whatever its clock says: the greater of two is the newer. */
  readonly generation?: number;
  /** The domain whose reboot this is; it stays on record until this one lives. */
  readonly replaces?: number;
  phase: 'building' | 'incoming' | 'live' | 'ended';
  exit: GuestExit | null;
  incoming: IncomingRef | null;
  /** Images that were made for the disks that come with it, until it is ours. */
  disks?: readonly IncomingImage[];
  /** Files that its process's user was let have, and has to give back. */
  grants?: readonly Grant[];
  /** Machine frames and ports that this host gave; see HostGrant. */
  readonly storePort: number;
  readonly consolePort: number;
  readonly storeFrame: number;
  readonly consoleFrame: number;
}

export interface DomainHooks {
  /** The guest stopped of its own, or its process died. Once. */
  ended(domain: Domain, exit: GuestExit): void;
  store(domain: Domain, nodes: readonly HostNode[]): void;
  /** A device is no longer the guest's. */
  unplugged(domain: Domain, kind: string, devid: number): void;
  /** The guest process is about to stop its guest for a move. */
  stopping(domain: Domain): Promise<void>;
  /** Its process is dead: how that came, in words; its last words, or "". */
  processEnded(domain: Domain, how: string, lastWords: string): void;
}

const END_TIMEOUT_MS = 5_000;
/** A process that closed its connection must be dead soon after. */
const DEATH_GRACE_MS = 2_000;

export class Domain {
  rpc: Rpc | undefined;
  readonly consoles = new Set<(data: string) => void>();
  onProgress: ((progress: unknown) => void) | undefined;
  private told = false;
  /** How its process ended, in words, once that is known. */
  private how: string | undefined;
  /** When this daemon met it; CLOCK_MONOTONIC, ms. */
  readonly since = performance.now();
  /** Its guest ended, and is being switched on again as another domain. */
  restarting = false;

  constructor(
    readonly state: DomainState,
    readonly directory: string,
    private readonly stateFile: string,
    private readonly hooks: DomainHooks,
  ) {}

  get domid(): number {
    return this.state.domid;
  }

  save(): void {
    writeDurable(this.stateFile, this.state);
  }

  /** The guest's configuration is another one from here on, on disk too. */
  keepConfig(config: GuestConfig): void {
    this.state.config = config;
    this.save();
  }

  get alive(): boolean {
    return this.state.process !== null && isAlive(this.state.process);
  }

  /** Connects to the process; from now on its death is noticed. */
  async connect(): Promise<GuestHello> {
    const socket = await connectGuest(this.directory, this.state.process!);
    this.rpc = new Rpc(socket, {
      request: async (method) => {
        if (method !== 'stopping') throw new Failure('usage', `unknown request ${method}`);
        await this.hooks.stopping(this);
      },
      notice: (method, params) => this.notice(method, params),
      closed: () => void this.lost(),
    });
    return this.rpc.request<GuestHello>('hello');
  }

  private notice(method: string, params: Readonly<Record<string, unknown>>): void {
    if (method === 'console') for (const watcher of this.consoles) watcher(String(params.data));
    else if (method === 'progress') this.onProgress?.(params);
    else if (method === 'store') this.hooks.store(this, params.nodes as HostNode[]);
    else if (method === 'unplugged') this.hooks.unplugged(this, String(params.kind), Number(params.devid));
    else if (method === 'stopped') this.tell(params as unknown as GuestExit);
  }

  private tell(exit: GuestExit): void {
    if (this.told) return;
    this.told = true;
    this.hooks.ended(this, exit);
  }

  private async lost(): Promise<void> {
    this.rpc = undefined;
    const { process } = this.state;
    if (process === null) return;
    if (!(await deathOf(process, DEATH_GRACE_MS))) {
      killedBecause(process.pid, 'it closed its connection and lived on');
      await killProcess(process);
    }
    await this.noteEnd(process);
    this.tell(this.exitOnDisk());
  }

  /** The end of its process has a reason in the log, whatever becomes of the guest. Once. */
  private async noteEnd({ pid }: ProcessId): Promise<void> {
    if (this.how !== undefined) return;
    this.how = '';
    this.how = await wordsOfEnd(pid);
    this.hooks.processEnded(this, this.how, lastLine(this.directory));
  }

  /** How the process said that it ended; a crash if it said nothing. */
  exitOnDisk(): GuestExit {
    try {
      const exit = readJson<GuestExit>(join(this.directory, EXIT_FILE));
      if (exit !== undefined) return exit;
    } catch {
      // A half-written file is none.
    }
    const details = `the guest's process ${this.how || 'died'} ${lastLine(this.directory)}`.trim();
    return { reason: 'crash', details };
  }

  /** Whether the guest became ours by this hand-over. */
  ownedBy(handover: string): boolean {
    try {
      return readJson<OwnerRecord>(join(this.directory, OWNER_FILE))?.handover === handover;
    } catch {
      return false;
    }
  }

  ask<M extends keyof GuestRequests>(
    method: M,
    params: GuestRequests[M][0],
    timeoutMs = 0,
  ): Promise<GuestRequests[M][1]> {
    if (this.rpc === undefined)
      return Promise.reject(new Failure('bad-state', `domain ${this.domid} has no process`));
    return this.rpc.request(method, params, timeoutMs);
  }

  changed(node: HostNode): void {
    this.rpc?.notice('storeChanged', node);
  }

  /** Lets the data socket that we made in the guest's directory be used by the guest's own user. */
  static shareSocket(path: string): void {
    chmodSync(path, 0o666);
  }

  /** Ends the process, in order if it answers, and resolves when it is dead. No policy applies. */
  async endProcess(reason: GuestExit['reason']): Promise<void> {
    this.told = true;
    const { process } = this.state;
    if (process === null) return;
    if (this.rpc !== undefined) {
      try {
        await this.ask('end', { reason }, END_TIMEOUT_MS);
        await deathOf(process, END_TIMEOUT_MS);
      } catch {
        // Killed below.
      }
    }
    killedBecause(process.pid, `it did not end by itself (${reason})`);
    await killProcess(process);
    await this.noteEnd(process);
  }

  /** Its connection is gone: whether its process is dead, or is so within the time that a dying one takes. */
  async diesSoon(): Promise<boolean> {
    return this.state.process === null || deathOf(this.state.process, DEATH_GRACE_MS);
  }

  /** SIGKILL without a word: for a process that must not go on and does not answer. */
  async kill(): Promise<void> {
    const { process } = this.state;
    if (process === null) return;
    killedBecause(process.pid, 'it did not answer, and must not go on');
    await killProcess(process);
  }

  /** Removes all traces; the process is dead. */
  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
    rmSync(this.stateFile, { force: true });
  }
}
