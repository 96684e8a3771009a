/**
 * Moves of a helper domain's guest, between this domain and any other host that runs Stillpoint: another helper domain,
 * or the daemon of a plain Linux. The protocol, the state machines and the guest's side are those of the daemons
 * (docs/handover.md); here is what a daemon does around them, for one guest that is in the same process.
 *
 * Invariants: a guest that was offered and not refused never runs here again: neither does this process go on with it,
 * nor does dom0 start the domain anew (wrap.ts refuses such policies). A guest that arrives runs no instruction before
 * its owner record is written. Only hosts that are trusted now are heard, and only this helper's own guest is taken in.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import type net from 'node:net';
import { join } from 'node:path';
import { Duplex, PassThrough } from 'node:stream';
import { type DomainHooks, HostedDomain, type IncomingRef } from '../control/domains/hosted-domain.js';
import { readIncoming } from '../control/domains/state-files.js';
import { type IncomingContext, IncomingMove } from '../control/moves/incoming-move.js';
import { type OutgoingContext, OutgoingMove } from '../control/moves/outgoing-move.js';
import type { DomainWorld, MoveLog } from '../control/world.js';
import type { GuestRunner, RunnerHooks } from '../guest-process/guest-runner.js';
import { GuestService } from '../guest-process/guest-service.js';
import { openFactory, readConfig } from '../guest-process/pv-runner.js';
import type { Host } from '../host/host.js';
import type { FilledImages } from '../host/images.js';
import type { ToDestination } from '../migration/handover.js';
import { STREAM_VERSIONS } from '../migration/stream-records.js';
import { systemChance, systemClock } from '../os/clock.js';
import { DOOR_LIMITS, Doorkeeper } from '../os/doorkeeper.js';
import { readOrSetAside, writeDurable } from '../os/durable.js';
import { systemFiles } from '../os/files.js';
import { Failure } from '../protocol/failure.js';
import type { GuestConfig } from '../protocol/guest-config.js';
import { GUEST, GUEST_FILES } from '../protocol/guest-process.js';
import type { MoveOptions, MoveStats } from '../protocol/moves.js';
import { PEER, type Peer, TO_DESTINATION } from '../protocol/peer.js';
import { Rpc, type RpcHandlers } from '../protocol/rpc.js';
import { type AnswerOf, dispatcher, listener, type ParamsOf, type Right } from '../protocol/table.js';
import { loadIdentity, type Trusted, TrustedHosts } from '../transport/identity.js';
import {
  type Caller,
  connectPeer,
  listenForPeers,
  type PeerAddress,
  resolvePeer,
} from '../transport/peer.js';
import { serveConnection } from '../transport/serve.js';
import type { MoveSettings } from './move-settings.js';

/** As `moveAnswerS` of a daemon, ms. */
const ANSWER_MS = 30_000;
const GREETING_MS = 10_000;
/** How long the last words of a hand-over may take, ms: nothing depends on them any more. */
const BOOKS_MS = 10_000;
/** After a guest was not taken in, its source has so long to read why, ms. */
const SAY_WHY_MS = 500;
/** Which move brought the guest here. */
const CAME = 'came.json';

const MAY_MOVE: ReadonlySet<Right> = new Set<Right>(['move']);

/** Where the guest is, as this domain sees it. */
type Whereabouts = 'awaited' | 'arriving' | 'not-taken' | 'here' | 'gone';

export interface HelperMovesOptions {
  readonly settings: MoveSettings;
  /** The directory in which `identity/` is. */
  readonly identity: string;
  /** For the records of a hand-over. It lives as long as the domain. */
  readonly directory: string;
  /** The guest's, as the helper was made for it. */
  readonly config: GuestConfig;
  readonly host: Host;
  readonly hooks: RunnerHooks;
  kernel(): Uint8Array;
  ramdisk(): Uint8Array;
  /** A move has ended, and the guest is here. */
  rested(): void;
  /** The guest lives on another host. Called once, after all else. */
  left(to: string): void;
  /** The guest was not taken in: this program has to start anew, without what it has of it. */
  again(): void;
  /** The guest's service has failed: this process must end. */
  failed(why: string): void;
}

/** A stream of bytes within this process, by its two ends. */
function connection(): readonly [Duplex, Duplex] {
  const [there, back] = [new PassThrough(), new PassThrough()];
  return [Duplex.from({ readable: back, writable: there }), Duplex.from({ readable: there, writable: back })];
}

/** dom0 gives a helper its disks: none is filled here. */
const noDisks: FilledImages = {
  begin: () => Promise.reject(new Failure('bad-state', 'a helper domain takes in no disk')),
  write: () => Promise.reject(new Failure('bad-state', 'a helper domain takes in no disk')),
  flush: () => Promise.resolve(),
  close: () => Promise.resolve(),
};

export class HelperMoves {
  private readonly trusted: TrustedHosts;
  private readonly connections = new Map<Rpc, string>();
  private server: net.Server | undefined;
  private where: Whereabouts = 'awaited';
  private domain: HostedDomain | undefined;
  private service: GuestService | undefined;
  /** False once the guest's service has ended: nothing of the guest can run here any more. */
  private serving = false;
  private hangUp: () => void = () => undefined;
  private outgoing: OutgoingMove | undefined;
  private incoming: IncomingMove | undefined;
  private closeBooks: () => void = () => undefined;
  private settle: (guest: GuestRunner) => void = () => undefined;

  constructor(private readonly options: HelperMovesOptions) {
    mkdirSync(options.directory, { recursive: true, mode: 0o700 });
    this.trusted = new TrustedHosts(options.identity, options.hooks.log);
  }

  /** True if a move has brought the guest into this domain, however often it has rebooted since. */
  get cameHere(): boolean {
    return systemFiles.exists(join(this.options.directory, GUEST_FILES.owner.name));
  }

  get settings(): MoveSettings {
    return this.options.settings;
  }

  get moving(): boolean {
    return this.outgoing !== undefined;
  }

  /** Powers the guest on. */
  async create(): Promise<GuestRunner> {
    const { config } = this.options;
    const domain = await this.open(config, null);
    await domain.ask('create', { config, host: this.grant(), paused: false });
    this.where = 'here';
    return this.service!.guest!;
  }

  /** Resolves when the guest has come from another host and runs. */
  arrival(): Promise<GuestRunner> {
    return new Promise((resolve) => {
      this.settle = resolve;
    });
  }

  /** Lets other hosts connect. Resolves with the port. */
  async listen(): Promise<number> {
    const { settings, identity, hooks } = this.options;
    const door = new Doorkeeper({ ...DOOR_LIMITS, greetingMs: GREETING_MS });
    const { address: host, port } = settings;
    this.server = await listenForPeers(
      {
        host,
        port,
        plainLoopback: false,
        identity: loadIdentity(identity),
        trusted: () => this.trusted.all(),
        door,
        failed: (error) => hooks.log(`a connection could not be taken: ${error.message}`),
      },
      (socket, fingerprint = '') => this.accept(socket, fingerprint, () => door.known(socket, fingerprint)),
    );
    return (this.server.address() as net.AddressInfo).port;
  }

  /** Moves the guest to a host that is trusted, by its name or its address. Fails if the guest stays here. */
  async migrate(to: string, options: MoveOptions): Promise<MoveStats> {
    const { domain, service } = this;
    if (this.where !== 'here' || domain === undefined || service?.guest === undefined)
      throw new Failure('bad-state', 'the guest is not here');
    if (this.outgoing !== undefined) throw new Failure('bad-state', 'the guest is moving');
    const peer = resolvePeer(to, this.trusted.all(), false);
    domain.state.config = service.guest.config;
    const { domid, uuid } = domain.state;
    const file = { handover: systemChance.uuid(), domid, uuid, peer };
    this.outgoing = new OutgoingMove(this.outgoingContext(peer), domain, file);
    return this.outgoing.run(options, false);
  }

  /** When this resolves, the guest continues here. */
  async cancel(): Promise<void> {
    if (this.outgoing === undefined) throw new Failure('bad-state', 'the guest is not moving');
    await this.outgoing.cancel();
  }

  /** Somebody knows where the guest lives, and the other host does not answer. */
  async decide(keep: boolean): Promise<void> {
    if (this.outgoing?.phase !== 'offered') throw new Failure('bad-state', 'no move waits to be settled');
    await this.outgoing.event(keep ? 'refused' : 'accepted');
  }

  close(): void {
    this.server?.close();
    for (const rpc of this.connections.keys()) rpc.destroy();
  }

  /** The steps of a hand-over are for those who look for a fault in it; what goes wrong is said. */
  private readonly log: MoveLog = {
    info: () => undefined,
    warn: (facts, what) => this.options.hooks.log(`${what}: ${JSON.stringify(facts)}`),
    error: (facts, what) => this.options.hooks.log(`${what}: ${JSON.stringify(facts)}`),
  };

  // --- the guest, in this process ---

  private readonly world: DomainWorld = {
    clock: systemClock,
    files: systemFiles,
    processes: {
      connect: () => Promise.resolve(this.serve()),
      isAlive: () => this.serving,
      diesWithin: async (_id, ms) => {
        for (const end = performance.now() + ms; this.serving && performance.now() < end; )
          await new Promise((resolve) => setTimeout(resolve, 5));
        return !this.serving;
      },
      kill: async (_id, why) => this.abandon(why),
      howEnded: () => Promise.resolve('ended'),
      lastLine: () => '',
      traces: () => [],
    },
  };

  /** A guest that is or may be running can only be ended together with this process. */
  private abandon(why: string): void {
    if (!this.serving) return;
    this.serving = false;
    if (this.where === 'here') this.options.failed(why);
    this.hangUp();
  }

  private serve(): Duplex {
    const [daemons, services] = connection();
    const service = this.service!;
    const rpc: Rpc = new Rpc(services, {
      request: dispatcher(GUEST, service.handlers),
      closed: () => service.detachDaemon(rpc),
    });
    service.attachDaemon(rpc);
    this.hangUp = () => {
      daemons.destroy();
      services.destroy();
    };
    return daemons;
  }

  private async open(config: GuestConfig, incoming: IncomingRef | null): Promise<HostedDomain> {
    const { directory, host, hooks } = this.options;
    const moves = this;
    this.serving = true;
    this.service = new GuestService({ readConfig, openFactory }, () => this.ended(), {
      openHost: () => Promise.resolve({ host, images: { fill: () => noDisks, foundAt: () => undefined } }),
      kernel: this.options.kernel,
      ramdisk: this.options.ramdisk,
      log: hooks.log,
      recordExit: (exit) => writeFileSync(join(directory, GUEST_FILES.exit.name), JSON.stringify(exit)),
      // The console is the domain's: no daemon shows it.
      console: { take: () => undefined, latest: () => Buffer.alloc(0) },
      get directory() {
        // The owner record of a guest that was given up is not written: it can never run.
        if (!moves.serving) throw new Failure('bad-state', 'the guest was given up');
        return directory;
      },
      hooks,
    });
    const { name, uuid, vcpus, maxMemoryKib: memoryKib } = config;
    const { domid, storePort, consolePort, storeFrame, consoleFrame } = host;
    this.domain = new HostedDomain(
      {
        ...{ domid, name, uuid, vcpus, memoryKib, config, incoming },
        ...{ storePort, consolePort, storeFrame, consoleFrame },
        process: { pid: process.pid, startTicks: 0 },
        createdMs: systemClock.wallMs(),
        phase: incoming === null ? 'building' : 'incoming',
        exit: null,
      },
      { directory, log: '', socket: '', uid: undefined },
      join(directory, 'domain.json'),
      this.domainHooks,
      this.world,
    );
    await this.domain.connect();
    return this.domain;
  }

  private readonly domainHooks: DomainHooks = {
    ended: () => {
      if (this.incoming !== undefined && this.incoming.phase !== 'owner') void this.incoming.processEnded();
      else void this.outgoing?.guestDied();
    },
    stopping: async () => this.outgoing?.stopping(),
    // The helper's own xenstore and its own devices are not a daemon's affair.
    store: () => undefined,
    unplugged: () => undefined,
    processEnded: () => undefined,
    odd: (_domain, what) => this.options.hooks.log(what),
  };

  private ended(): void {
    this.serving = false;
    // The answer to the request that ended it is on its way.
    setTimeout(() => this.hangUp(), SAY_WHY_MS);
  }

  private grant() {
    const { domid, identity, storePort, consolePort, storeFrame, consoleFrame } = this.options.host;
    const outer = { storePort, consolePort, storeFrame, consoleFrame };
    return { platform: 'xen', settings: {}, name: identity.name, domid, ...outer };
  }

  // --- source ---

  private connect(peer: PeerAddress, handlers: RpcHandlers): Promise<Rpc> {
    return connectPeer(peer, loadIdentity(this.options.identity), this.trusted.all(), handlers);
  }

  private outgoingContext(peer: PeerAddress): OutgoingContext {
    const { host } = this.options;
    const closed = new Promise<void>((resolve) => {
      this.closeBooks = resolve;
    });
    return {
      log: this.log,
      clock: systemClock,
      chance: systemChance,
      answerMs: ANSWER_MS,
      connect: (to, handlers) => this.connect(to, handlers),
      wallClock: () => host.clock.wallClock(),
      travelling: () => Promise.reject(new Failure('bad-state', 'the disks of a helper domain are dom0’s')),
      // A helper domain is dom0's, and so is what starts it.
      defined: () => undefined,
      undefine: () => undefined,
      // The domain's memory is all that it has: a record there ends with the guest itself.
      persist: () => undefined,
      erase: () => undefined,
      resume: async (domain) => {
        await domain.ask('resume', {}, ANSWER_MS);
      },
      drop: async (domain) => {
        this.where = 'gone';
        await domain.endProcess('moved');
        const late = new Promise<void>((resolve) => setTimeout(resolve, BOOKS_MS));
        void Promise.race([closed, late]).then(() => this.options.left(peer.name));
      },
      retire: () => undefined,
      finished: () => {
        this.outgoing = undefined;
        if (this.where === 'here') this.options.rested();
        this.closeBooks();
      },
    };
  }

  // --- destination ---

  private incomingContext(): IncomingContext {
    return {
      log: this.log,
      clock: systemClock,
      answerMs: ANSWER_MS,
      introduce: () => undefined,
      received: (domain, found) => mustBe(found, domain.state, 'what was received'),
      settle: (domain) => {
        this.where = 'here';
        domain.state.phase = 'live';
        this.settle(this.service!.guest!);
      },
      discard: (domain) => domain.endProcess('discarded'),
      erase: (_handover, domain) => {
        if (domain !== undefined) domain.state.incoming = null;
      },
      finished: (move) => {
        if (move !== this.incoming) return;
        this.incoming = undefined;
        if (this.where === 'arriving') this.notTaken();
      },
    };
  }

  private notTaken(): void {
    this.where = 'not-taken';
    this.options.hooks.log('the guest was not taken in: it goes on where it was, and is waited for anew');
    setTimeout(() => this.options.again(), SAY_WHY_MS);
  }

  private async moveOpen(
    request: ParamsOf<Peer, 'moveOpen'>,
    caller: Caller,
  ): Promise<AnswerOf<Peer, 'moveOpen'>> {
    const { handover, config, versions, paused, key, disks = [] } = request;
    const { settings, config: own, directory, hooks } = this.options;
    if (this.where !== 'awaited') throw new Failure('bad-state', 'this helper domain waits for no guest');
    mustBe(request, own, 'the announced guest');
    if (config === undefined)
      throw new Failure('move-failed', 'a helper domain needs the configuration of its guest beforehand');
    mustFit(request, config, own);
    if (key === undefined) throw new Failure('not-trusted', 'data without encryption is not taken here');
    if (disks.length > 0)
      throw new Failure('move-failed', 'the disks of a helper domain are given by its dom0, and do not move');
    if (paused) throw new Failure('bad-state', 'a helper domain has nobody who would unpause its guest');
    const version = STREAM_VERSIONS.find((one) => versions.includes(one));
    if (version === undefined)
      throw new Failure('move-failed', `versions of the stream here: ${STREAM_VERSIONS.join(', ')}`);
    this.where = 'arriving';
    hooks.log(`the guest comes from ${this.trusts(caller.fingerprint)?.name}`);
    const ref = { handover, peer: caller.fingerprint };
    let domain: HostedDomain | undefined;
    try {
      writeDurable(join(directory, CAME), { ...ref, uuid: own.uuid });
      domain = await this.open(config, ref);
      const move = new IncomingMove(this.incomingContext(), handover, caller.fingerprint, domain, false);
      this.incoming = move;
      const from = { host: settings.address, identity: handover, key };
      const wanted = {
        host: this.grant(),
        from,
        ports: [settings.port && settings.port + 1],
        disks: [],
        expected: domain.expectation(),
      };
      const { port } = await domain.ask('receive', wanted, ANSWER_MS);
      await move.open(caller.rpc);
      if (caller.rpc.closed) move.cut(caller.rpc);
      return { version, port, host: '', disks: [], defined: false };
    } catch (error) {
      this.incoming = undefined;
      await domain?.endProcess('failed');
      this.notTaken();
      throw error;
    }
  }

  /** A source sent a message about a hand-over. */
  private heard({ rpc, fingerprint }: Caller, handover: string, message: ToDestination): void {
    let move = this.incoming?.handover === handover ? this.incoming : undefined;
    if (move === undefined) {
      const came = readOrSetAside(join(this.options.directory, CAME), readIncoming, this.options.hooks.log);
      const known = came?.handover === handover ? came : undefined;
      // A domain that was made anew does not know what became of a guest that was offered to the one before it.
      if (known === undefined && (message === 'ask' || message === 'offer')) {
        const { name = '' } = this.trusts(fingerprint) ?? {};
        this.options.hooks.log(
          `${name} asks about a move that this domain knows nothing of: settle it there`,
        );
        return;
      }
      move = new IncomingMove(this.incomingContext(), handover, known?.peer ?? fingerprint, undefined, false);
      if (known !== undefined && this.cameHere) move.phase = 'owner';
    }
    // Only the source itself may learn or decide anything.
    if (move.peer !== fingerprint) return;
    move.heardFrom(rpc);
    void move.event(message);
  }

  private trusts(fingerprint: string): Trusted | undefined {
    return this.trusted.all().find((host) => host.fingerprint === fingerprint && host.allow.includes('move'));
  }

  private accept(socket: net.Socket, fingerprint: string, known: () => boolean): void {
    const { host } = this.options;
    const peer = dispatcher(PEER, {
      clock: () => host.clock.wallClock(),
      moveOpen: (request) => this.moveOpen(request, { rpc, fingerprint }),
    });
    const rpc: Rpc = serveConnection(socket, {
      get name() {
        return host.identity.name;
      },
      known,
      keptAlive: true,
      // A peer may move guests, and no more.
      rights: () => (this.trusts(fingerprint) === undefined ? undefined : MAY_MOVE),
      request: (method, params) => peer(method, params),
      notice: listener(TO_DESTINATION, {
        move: ({ handover, message }) => this.heard({ rpc, fingerprint }, handover, message),
      }),
      closed: (closed) => {
        this.connections.delete(closed);
        this.incoming?.cut(closed);
      },
    });
    this.connections.set(rpc, fingerprint);
  }
}

/** Fails if something is of another guest than it should be. */
function mustBe(
  found: { readonly name: string; readonly uuid: string },
  wanted: { readonly name: string; readonly uuid: string },
  what: string,
): void {
  for (const field of ['name', 'uuid'] as const)
    if (found[field].toLowerCase() !== wanted[field].toLowerCase())
      throw new Failure(
        'move-failed',
        `${what} has the ${field} ${found[field]}; this helper domain is for ${wanted[field]}`,
      );
}

/** Fails if the guest has another size than the domain was made for, or a device that the domain has not. */
function mustFit(
  announced: {
    readonly name: string;
    readonly uuid: string;
    readonly vcpus: number;
    readonly memoryKib: number;
  },
  config: GuestConfig,
  own: GuestConfig,
): void {
  mustBe(config, announced, 'the configuration');
  const sizes = [
    ['vcpus', config.vcpus, announced.vcpus, own.vcpus],
    ['memory', config.maxMemoryKib, announced.memoryKib, own.maxMemoryKib],
  ] as const;
  for (const [what, one, other, wanted] of sizes)
    if (one !== wanted || other !== wanted)
      throw new Failure('move-failed', `the guest has ${what} ${one}; this helper domain is for ${wanted}`);
  for (const { kind, devid } of config.devices)
    if (!own.devices.some((device) => device.kind === kind && device.devid === devid))
      throw new Failure('move-failed', `the guest has a ${kind} ${devid}, which this helper domain has not`);
}
