/**
 * One domain of this host: its state on disk, its process, and the connection to it.
 *
 * Invariant: the state file is on disk before the process is told anything, and it is removed after the process is
 * dead; so a daemon that starts again finds every process there is.
 */
import { join } from 'node:path';
import type * as v from 'valibot';
import type { HostNode } from '../../host/host.js';
import type { GivenAccess, IncomingImage } from '../../host/images.js';
import type { Clock } from '../../os/clock.js';
import { removeDurable, writeDurable } from '../../os/durable.js';
import { check } from '../../protocol/check.js';
import { Failure } from '../../protocol/failure.js';
import type { AutostartPlan, GuestConfig } from '../../protocol/guest-config.js';
import {
  ASKED_BY_GUEST,
  type ExpectedGuest,
  FROM_GUEST,
  GUEST,
  GUEST_FILES,
  type GuestExit,
  type GuestFile,
  type GuestHello,
  type GuestRequests,
  TO_GUEST,
} from '../../protocol/guest-process.js';
import { parseJson } from '../../protocol/json.js';
import type { AnyProgress } from '../../protocol/moves.js';
import { printable } from '../../protocol/printable.js';
import { type Params, Rpc } from '../../protocol/rpc.js';
import { type AnswerOf, type AskedOf, dispatcher, listener, say } from '../../protocol/table.js';
import { Seldom } from '../seldom.js';
import type { DomainWorld } from '../world.js';
import type { ProcessId, ProcessPlaces } from './spawn.js';

/** The hand-over by which a guest came here. It is kept until the source has closed the hand-over. */
export interface IncomingRef {
  readonly handover: string;
  /** Fingerprint of the source's certificate; "" on a plain loopback connection. */
  readonly peer: string;
}

export interface HostedDomainState {
  readonly domid: number;
  name: string;
  readonly uuid: string;
  vcpus: number;
  readonly memoryKib: number;
  config: GuestConfig | null;
  /** The configuration of its next power-on on this host (`config-update`). */
  next?: GuestConfig;
  /** The most memory that `memSet` may give, if somebody has set that. */
  memoryLimitKib?: number;
  /** Files in its configuration that a peer or a saved file named: they must lie in this host's folders. */
  foreign?: readonly string[];
  process: ProcessId | null;
  readonly createdMs: number;
  /**
   * Rises by one with each domain of this host, independently of the clock: of two domains, the one with the greater
   * number is newer.
   */
  readonly generation?: number;
  /** The domain that rebooted into this one; its record stays on disk until this domain runs. */
  readonly replaces?: number;
  /** The directory of its process's code, below code/; left out for the installed package. */
  readonly code?: string;
  phase: 'building' | 'incoming' | 'live' | 'ended';
  exit: GuestExit | null;
  /** The guest was defined where it came from, and is to be defined here. */
  defined?: { readonly autostart: AutostartPlan | null };
  incoming: IncomingRef | null;
  /** Images that were made for the disks that arrive with the guest, until the guest is ours. */
  disks?: readonly IncomingImage[];
  /** Files to which the user of its process was given access; the access has to be taken back later. */
  grants?: readonly GivenAccess[];
  /** Machine frames and event-channel ports that this host gave it; see HostGrant. */
  readonly storePort: number;
  readonly consolePort: number;
  readonly storeFrame: number;
  readonly consoleFrame: number;
}

export interface DomainHooks {
  /** The guest stopped by itself, or its process died. Called once. */
  ended(domain: HostedDomain, exit: GuestExit): void;
  store(domain: HostedDomain, nodes: readonly HostNode[]): void;
  /** The guest has released a device. */
  unplugged(domain: HostedDomain, kind: string, devid: number): void;
  /** The guest process is about to stop its guest for a move. */
  stopping(domain: HostedDomain): Promise<void>;
  /** Its process is dead. `how`: how it ended, in words. `lastWords`: its last line of output, or "". */
  processEnded(domain: HostedDomain, how: string, lastWords: string): void;
  /** Something unusual about its process that deserves a line in the log; the rate is limited. */
  odd(domain: HostedDomain, what: string): void;
}

/**
 * How long to wait for an answer that needs only a look at the process's state, ms. A process that hangs then does
 * not block the caller.
 */
const LOOK_MS = 10_000;
/** The same for the first answer of a process that may just have been started. */
const START_MS = 20_000;
const LOOKS: ReadonlySet<keyof GuestRequests> = new Set([
  'hello',
  'status',
  'points',
  'dmesg',
  'devices',
  'type',
  'watchConsole',
  'rename',
]);

const END_TIMEOUT_MS = 5_000;
/** A process that closed its connection must be dead within this time. */
const DEATH_GRACE_MS = 2_000;

/** Waits for `something`, for at most `timeoutMs`; 0 means without a limit. */
async function within(clock: Clock, something: Promise<void>, timeoutMs: number): Promise<void> {
  if (timeoutMs === 0) return something;
  await new Promise<void>((done, failed) => {
    const late = clock.after(timeoutMs, done);
    something.then(done, failed).finally(() => late.cancel());
  });
}

export class HostedDomain {
  rpc: Rpc | undefined;
  /** The domain is being removed: further requests to it are refused. */
  leaving = false;
  /** It is being written into a file. */
  saving = false;
  /** The clients that watch its console, by their connections. */
  readonly consoles = new Map<Rpc, (data: string) => void>();
  onProgress: ((progress: AnyProgress) => void) | undefined;
  /** Pending while a domain of an earlier daemon is being adopted. This promise never rejects. */
  recovering: Promise<void> | undefined;
  /**
   * Its process kept running after it had lost the connection to the daemon. If a move had stopped the guest, the
   * guest has resumed in it.
   */
  livedOn = false;
  private told = false;
  private removed = false;
  /** How its process ended, in words; undefined until that is known. */
  private how: string | undefined;
  /** When this daemon first saw it: CLOCK_MONOTONIC, ms. */
  readonly since: number;
  /** Its guest ended and is being restarted as another domain. */
  restarting = false;
  private readonly oddities: Seldom;

  constructor(
    readonly state: HostedDomainState,
    readonly places: ProcessPlaces,
    private readonly stateFile: string,
    private readonly hooks: DomainHooks,
    private readonly world: DomainWorld,
  ) {
    this.since = world.clock.monotonicMs();
    this.oddities = new Seldom(world.clock);
  }

  /** The directory of its process. */
  get directory(): string {
    return this.places.directory;
  }

  get domid(): number {
    return this.state.domid;
  }

  /**
   * Writes the state file. Does nothing once the domain's files are removed: a record would bring the domain back.
   */
  save(): void {
    if (this.removed) return;
    writeDurable(this.stateFile, this.state, this.world.files);
  }

  /** Replaces the guest's configuration, also on disk. */
  keepConfig(config: GuestConfig): void {
    this.state.config = config;
    this.save();
  }

  /** What its process must compare an incoming stream with. */
  expectation(): ExpectedGuest {
    const { name, uuid, config } = this.state;
    return { name, uuid, config };
  }

  get alive(): boolean {
    return this.state.process !== null && this.world.processes.isAlive(this.state.process);
  }

  /** Connects to the process; from then on its death is noticed. */
  async connect(): Promise<GuestHello> {
    const socket = await this.world.processes.connect(this.places, this.state.process!);
    const rpc: Rpc = new Rpc(
      socket,
      {
        request: (method, params) => this.requests(method, params),
        notice: (method, params) => this.noticed(method, params),
        closed: () => {
          if (this.rpc !== rpc) return;
          this.livedOn ||= rpc.cutHere;
          void this.lost();
        },
      },
      this.world.clock,
    );
    this.rpc = rpc;
    try {
      // The process may only just be starting.
      return await this.request(rpc, 'hello', {}, START_MS);
    } catch (error) {
      this.rpc = undefined;
      rpc.destroy();
      if (await this.world.processes.diesWithin(this.state.process!, 0))
        throw new Failure('crashed', `the guest's process ended: ${this.lastLine}`);
      throw error;
    }
  }

  private readonly notices = listener(FROM_GUEST, {
    console: ({ data }) => {
      for (const watcher of this.consoles.values()) watcher(data);
    },
    progress: (progress) => this.onProgress?.(progress),
    store: ({ nodes }) => this.hooks.store(this, nodes),
    unplugged: ({ kind, devid }) => this.hooks.unplugged(this, kind, devid),
    stopped: ({ reason, details }) => this.tell({ reason, details }),
  });
  private readonly requests = dispatcher(ASKED_BY_GUEST, {
    stopping: async () => {
      await this.hooks.stopping(this);
      return null;
    },
  });

  private noticed(method: string, params: Params): void {
    try {
      this.notices(method, params);
    } catch (error) {
      // The process may send whatever it wants: an invalid message is logged at a limited rate, and has no other
      // effect.
      this.odd(error);
    }
  }

  private odd(error: unknown): void {
    if (this.oddities.allows())
      this.hooks.odd(this, printable(error instanceof Error ? error.message : String(error), 300));
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
    if (!(await this.world.processes.diesWithin(process, DEATH_GRACE_MS))) this.livedOn = true;
    await this.world.processes.kill(process, 'its connection was closed and it lived on');
    await this.noteEnd(process);
    this.tell(this.exitOnDisk());
  }

  /** Logs why its process ended, whatever happens to the guest. Called once. */
  private async noteEnd(process: ProcessId): Promise<void> {
    if (this.how !== undefined) return;
    this.how = '';
    this.how = await this.world.processes.howEnded(process);
    this.hooks.processEnded(this, this.how, this.lastLine);
  }

  private get lastLine(): string {
    return this.world.processes.lastLine(this.places);
  }

  /** The content of a file that its process wrote, or undefined if the content is not valid. */
  private fileOf<S extends v.GenericSchema>(file: GuestFile<S>): v.InferOutput<S> | undefined {
    const { name, shape, most } = file;
    const text = this.world.files.readForeign(join(this.directory, name), most);
    try {
      return text === '' ? undefined : check(shape, parseJson(text), name);
    } catch {
      // A half-written file counts as missing.
      return undefined;
    }
  }

  /** The exit that the process recorded; a crash, and `lost`, if it recorded none. */
  exitOnDisk(): GuestExit {
    const exit = this.fileOf(GUEST_FILES.exit);
    if (exit !== undefined) return { reason: exit.reason, details: exit.details };
    const details = `the guest's process ${this.how || 'died'} ${this.lastLine}`.trim();
    return { reason: 'crash', details, lost: true };
  }

  /** True if the guest became ours by this hand-over. */
  ownedBy(handover: string): boolean {
    const record = this.fileOf(GUEST_FILES.owner);
    return record?.handover === handover;
  }

  /** Sends a request to the process. Fails with 'io' if the answer does not have the declared shape. */
  async ask<M extends keyof GuestRequests>(
    method: M,
    params: AskedOf<GuestRequests, M>,
    timeoutMs = LOOKS.has(method) ? LOOK_MS : 0,
  ): Promise<AnswerOf<GuestRequests, M>> {
    if (this.rpc === undefined && this.recovering !== undefined)
      await within(this.world.clock, this.recovering, timeoutMs);
    if (this.rpc === undefined) throw new Failure('bad-state', `domain ${this.domid} has no process`);
    return this.request(this.rpc, method, params, timeoutMs);
  }

  private async request<M extends keyof GuestRequests>(
    rpc: Rpc,
    method: M,
    params: AskedOf<GuestRequests, M>,
    timeoutMs: number,
  ): Promise<AnswerOf<GuestRequests, M>> {
    const answer = await rpc.request(method, Object(params), timeoutMs);
    try {
      return check<GuestRequests[M]['answer']>(GUEST[method].answer, answer, `the answer to ${method}`);
    } catch (error) {
      this.odd(error);
      throw new Failure('io', `the process of domain ${this.domid}: ${(error as Error).message}`);
    }
  }

  changed(node: HostNode): void {
    if (this.rpc !== undefined) say(this.rpc, TO_GUEST, 'storeChanged', node);
  }

  /**
   * Ends the process, with a request if it answers and with SIGKILL if not, and resolves when it is dead.
   * on_poweroff, on_reboot and on_crash are not applied.
   */
  async endProcess(reason: GuestExit['reason']): Promise<void> {
    this.told = true;
    const { process } = this.state;
    if (process === null) return;
    if (this.rpc !== undefined) {
      try {
        await this.ask('end', { reason }, END_TIMEOUT_MS);
        await this.world.processes.diesWithin(process, END_TIMEOUT_MS);
      } catch {
        // It is killed below.
      }
    }
    await this.world.processes.kill(process, `it did not end by itself (${reason})`);
    await this.noteEnd(process);
  }

  /** For a process whose connection has closed: true if it is dead, or dies within DEATH_GRACE_MS. */
  async diesSoon(): Promise<boolean> {
    return this.state.process === null || this.world.processes.diesWithin(this.state.process, DEATH_GRACE_MS);
  }

  /**
   * Sends SIGKILL, without a warning, to the process and to all processes it has started; resolves when they are
   * dead.
   */
  async kill(): Promise<void> {
    const { process } = this.state;
    if (process === null) return;
    await this.world.processes.kill(process, 'it did not answer, and must not go on');
  }

  /** Removes all files of the domain. The process must be dead. */
  remove(): void {
    const { files, processes } = this.world;
    for (const path of [this.directory, ...processes.traces(this.places)]) {
      try {
        files.removeTree(path);
      } catch {
        // What a guest's process made so that it cannot be removed is looked at again when a daemon starts.
      }
    }
    this.removed = true;
    // For good: a record that came back after a power failure would be that of a guest that has crashed here.
    removeDurable(this.stateFile, files);
  }
}
