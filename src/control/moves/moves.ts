/**
 * All hand-overs of this host, outgoing and incoming, and their files:
 *
 *     handovers/out-ID.json   at the source: OutgoingFile, from before the guest stops until the hand-over is closed
 *     handovers/in-ID.json    at the destination: written if the guest ends before the source has asked for the outcome
 *     state/DOMID.json        at the destination: `incoming` names the hand-over by which the guest came
 *     guests/DOMID/owner.json at the destination: the owner record
 */
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { ToDestination } from '../../migration/handover.js';
import { STREAM_VERSIONS } from '../../migration/stream-records.js';
import { sleep } from '../../os/clock.js';
import { removeDurable, removeUnfinished, syncDirectory, writeDurable } from '../../os/durable.js';
import { within } from '../../os/within.js';
import { describeError, Failure } from '../../protocol/failure.js';
import { disksOf, type GuestConfig } from '../../protocol/guest-config.js';
import type { GuestExit } from '../../protocol/guest-process.js';
import type { MoveOptions, MoveProgress, MoveStats, StorageProgress } from '../../protocol/moves.js';
import type { Peer } from '../../protocol/peer.js';
import type { Rpc, RpcHandlers } from '../../protocol/rpc.js';
import type { AnswerOf, ParamsOf } from '../../protocol/table.js';
import { isOwnAddress, OWN, type PeerAddress } from '../../transport/peer.js';
import type { MoveWatcher } from '../domains/domain-ends.js';
import { type Domains, mustBeOf } from '../domains/domains.js';
import type { HostedDomain } from '../domains/hosted-domain.js';
import { readIncoming, readOutgoing } from '../domains/state-files.js';
import { dataPorts } from '../host-config.js';
import type { World } from '../world.js';
import { type IncomingContext, IncomingMove } from './incoming-move.js';
import { type OutgoingContext, type OutgoingFile, OutgoingMove } from './outgoing-move.js';

interface IncomingFile {
  readonly handover: string;
  readonly peer: string;
  readonly uuid: string;
}

export interface MovesOptions {
  readonly dir: string;
  readonly domains: Domains;
  readonly log: Logger;
  /** Address on which the processes of arriving guests listen. */
  readonly listenHost: string;
  readonly plain: boolean;
  connect(peer: PeerAddress, handlers: RpcHandlers): Promise<Rpc>;
}

/** How many guests of other hosts may be arriving at once. */
const MAX_ARRIVING = 16;
/** Time between two attempts to take up a domain of an earlier daemon: the first interval and the longest. */
const TAKE_UP_RETRY_MS = [1_000, 60_000] as const;
/** How many of the latest moves' statistics are kept. */
const KEPT_STATS = 100;

export class Moves implements MoveWatcher {
  readonly stats: MoveStats[] = [];
  private readonly outgoing = new Map<HostedDomain | string, OutgoingMove>();
  private readonly incoming = new Map<string, IncomingMove>();
  /** Guests that belong to a hand-over whose files cannot be read; an operator decides about them (decide()). */
  private readonly unclear = new Set<HostedDomain>();
  private readonly dir: string;
  private readonly domains: Domains;
  private readonly world: World;

  constructor(private readonly options: MovesOptions) {
    this.dir = join(options.dir, 'handovers');
    this.domains = options.domains;
    this.world = options.domains.world;
    this.world.files.makeDirectory(this.dir, 0o700);
  }

  private get answerMs(): number {
    return this.domains.config.moveAnswerS * 1000;
  }

  // --- source ---

  private readonly outgoingContext = (): OutgoingContext => ({
    log: this.options.log,
    clock: this.world.clock,
    chance: this.world.chance,
    answerMs: this.answerMs,
    connect: this.options.connect,
    wallClock: () => this.domains.wallClock(),
    travelling: (domain) => this.domains.files.travelling(domain),
    defined: ({ state }) => {
      const known = this.domains.definitions.get(state.uuid);
      return known?.kept === 'defined' ? { autostart: known.autostart } : state.defined;
    },
    undefine: ({ uuid, peer, defined = false }) => {
      // Within this host it is as it was.
      if (!isOwnAddress(peer)) this.domains.definitions.movedAway(uuid, defined);
    },
    persist: (file) => writeDurable(join(this.dir, `out-${file.handover}.json`), file, this.world.files),
    erase: (handover) => removeDurable(join(this.dir, `out-${handover}.json`), this.world.files),
    resume: async (domain) => {
      if (domain.alive && domain.state.phase !== 'ended') {
        // A guest whose process lost its connection resumes by itself, unless it was locked.
        if (domain.rpc === undefined) await domain.connect();
        await domain.ask('resume', {}, this.answerMs);
      } else {
        this.outgoing.delete(domain);
        this.domains.ends.applyPolicy(domain, domain.state.exit ?? domain.exitOnDisk());
      }
    },
    drop: async (domain) => {
      // Freeing a guest's memory takes CPU time, which the new process needs if both hosts are on one machine.
      if (domain.state.process !== null) this.world.processes.yieldToOthers(domain.state.process);
      await this.domains.ends.discard(domain, 'moved');
    },
    retire: (disks) => this.domains.images.retire(disks),
    finished: (move) => {
      this.outgoing.delete(move.domain ?? move.handover);
    },
  });

  async migrate(
    domain: HostedDomain,
    peer: PeerAddress,
    options: MoveOptions,
    progress: (progress: MoveProgress | StorageProgress) => void,
  ): Promise<MoveStats> {
    this.mustStay(domain);
    if (domain.state.phase !== 'live')
      throw new Failure('bad-state', `domain ${domain.state.name} is ${domain.state.phase}`);
    if (this.outgoing.has(domain)) throw new Failure('bad-state', `domain ${domain.state.name} is moving`);
    const file = { handover: this.world.chance.uuid(), domid: domain.domid, uuid: domain.state.uuid, peer };
    const move = new OutgoingMove(this.outgoingContext(), domain, file);
    this.outgoing.set(domain, move);
    this.domains.changed(domain, 'moving');
    domain.onProgress = progress;
    try {
      const stats = await move.run(options, this.options.plain);
      this.stats.push(stats);
      if (this.stats.length > KEPT_STATS) this.stats.shift();
      return stats;
    } catch (error) {
      if (!this.outgoing.has(domain) && this.domains.all.get(domain.domid) === domain)
        this.domains.changed(domain, 'stays', { details: describeError(error).message });
      throw error;
    } finally {
      domain.onProgress = undefined;
    }
  }

  /** When this resolves, the guest continues here. */
  async cancel(domain: HostedDomain): Promise<void> {
    const move = this.outgoing.get(domain);
    if (move === undefined) throw new Failure('bad-state', `domain ${domain.state.name} is not moving`);
    await move.cancel();
  }

  /**
   * When this resolves, no move of the domain is under way: the domain is here, or it was only arriving and is gone.
   */
  async giveUp(domain: HostedDomain): Promise<void> {
    if (this.outgoing.has(domain)) await this.cancel(domain);
    if (domain.state.phase !== 'incoming') return;
    const { name, incoming } = domain.state;
    const move = incoming === null ? undefined : this.incoming.get(incoming.handover);
    if (move !== undefined && !(await move.refuse('it was destroyed while it arrived')))
      throw new Failure('bad-state', `domain ${name} is about to run here; destroy it then`);
  }

  /** The operator knows that the destination is lost for good, or has seen the guest run there. */
  async decide(domain: HostedDomain, keep: boolean): Promise<void> {
    const move = this.outgoing.get(domain);
    if (move === undefined && this.unclear.has(domain)) {
      this.unclear.delete(domain);
      if (keep) await domain.ask('resume', {});
      else {
        this.domains.definitions.movedAway(domain.state.uuid, false);
        await this.domains.ends.discard(domain, 'moved');
      }
      return;
    }
    if (move?.phase !== 'offered')
      throw new Failure('bad-state', `no move of ${domain.state.name} waits to be settled`);
    await move.event(keep ? 'refused' : 'accepted');
  }

  isMoving(domain: HostedDomain): boolean {
    return this.outgoing.has(domain);
  }

  concerns(uuid: string): boolean {
    return [...this.outgoing.values()].some((move) => move.uuid.toLowerCase() === uuid.toLowerCase());
  }

  /** Throws if the domain is being ended or saved: what begins with it now might outlive it, or let it run on. */
  private mustStay(domain: HostedDomain): void {
    if (domain.leaving) throw new Failure('bad-state', `domain ${domain.state.name} is being ended`);
    if (domain.saving) throw new Failure('bad-state', `domain ${domain.state.name} is being saved`);
  }

  /** Throws if a verb would disturb a hand-over. */
  mustRest(domain: HostedDomain): void {
    this.mustStay(domain);
    if (this.outgoing.has(domain)) throw new Failure('bad-state', `domain ${domain.state.name} is moving`);
    if (domain.state.phase === 'incoming')
      throw new Failure('bad-state', `domain ${domain.state.name} is arriving`);
  }

  async stopping(domain: HostedDomain): Promise<void> {
    const move = this.outgoing.get(domain);
    if (move === undefined) throw new Failure('bad-state', 'no move is under way');
    await move.stopping();
  }

  ended(domain: HostedDomain, _exit: GuestExit): boolean {
    const coming =
      domain.state.incoming === null ? undefined : this.incoming.get(domain.state.incoming.handover);
    if (coming !== undefined && coming.phase !== 'owner') {
      void coming.processEnded();
      return true;
    }
    const move = this.outgoing.get(domain);
    if (move === undefined) return false;
    void move.guestDied();
    return true;
  }

  removing(domain: HostedDomain): void {
    const ref = domain.state.incoming;
    if (ref === null || !domain.ownedBy(ref.handover)) return;
    // The source may still ask: the answer must outlive the guest.
    const file: IncomingFile = { ...ref, uuid: domain.state.uuid };
    writeDurable(join(this.dir, `in-${ref.handover}.json`), file, this.world.files);
  }

  // --- destination ---

  private readonly incomingContext = (): IncomingContext => ({
    log: this.options.log,
    clock: this.world.clock,
    answerMs: this.answerMs,
    introduce: async (domain) => {
      this.domains.images.name(domain.state.disks ?? []);
      await this.domains.introduce(domain, domain.state.config!);
    },
    received: (domain, guest) => this.domains.arrived(domain, guest),
    settle: (domain) => {
      if (this.domains.all.get(domain.domid) !== domain) return;
      this.domains.settle(domain);
      // The guest ended between its first instruction and now.
      if (!domain.alive) this.domains.ends.applyPolicy(domain, domain.exitOnDisk());
    },
    discard: (domain) => this.domains.ends.discard(domain, 'discarded'),
    erase: (handover, domain) => {
      if (domain !== undefined && this.domains.all.get(domain.domid) === domain) {
        this.domains.files.settleImages(domain);
        domain.state.incoming = null;
        domain.save();
        // The source has taken back the access of its own guest, which may have had the same user id; it is given
        // again here.
        this.domains.files
          .keepDisks(domain)
          .catch((error: Error) =>
            this.options.log.warn({ domid: domain.domid, error: error.message }, 'disks are not kept'),
          );
      }
      removeDurable(join(this.dir, `in-${handover}.json`), this.world.files);
    },
    finished: (move) => {
      this.incoming.delete(move.handover);
    },
  });

  /** Another host wants to send a guest. Answers with the address for its data. */
  async open(
    caller: { rpc: Rpc; fingerprint: string },
    request: ParamsOf<Peer, 'moveOpen'>,
  ): Promise<AnswerOf<Peer, 'moveOpen'>> {
    const {
      handover,
      name,
      uuid,
      vcpus,
      memoryKib,
      versions,
      paused,
      key,
      disks,
      config = null,
      defined,
    } = request;
    const from = this.ownGuest(caller, handover);
    const foreign = config === null ? [] : await this.admit(config, request, from?.state);
    const version = STREAM_VERSIONS.find((v) => versions.includes(v));
    if (version === undefined) {
      throw new Failure(
        'move-failed',
        `no version of the stream in common: here ${STREAM_VERSIONS}, there ${versions}`,
      );
    }
    if (key === undefined && !this.options.plain)
      throw new Failure('not-trusted', 'data without encryption is not taken here');
    // All guests that are arriving at this moment. A domain counts from its creation on, before anything is awaited.
    const arriving = [...this.domains.all.values()].filter((d) => d.state.phase === 'incoming');
    if (arriving.length >= MAX_ARRIVING)
      throw new Failure('bad-state', `${arriving.length} guests are arriving already`);
    if (
      arriving.some((d) => d.state.incoming?.handover === handover) ||
      this.incoming.has(handover) ||
      this.history(handover) !== undefined
    )
      throw new Failure('bad-state', 'this hand-over was opened before');
    const ref = { handover, peer: caller.fingerprint };
    const { images } = this.domains;
    const { clock } = this.world;
    const expected = disks === undefined ? [] : images.expect(disks, handover);
    if (config !== null) images.mustBeOf(expected, disksOf(config.devices));
    const wanted = {
      name,
      uuid,
      vcpus,
      memoryKib,
      config,
      foreign,
      // Within this host its definition stays as it is.
      defined: from === undefined ? defined : undefined,
      incoming: ref,
      disks: expected,
      movesFrom: from?.domid,
    };
    const domain = await this.domains.make(wanted, (made) =>
      within(
        images.make(expected).then(() => this.domains.files.giveImages(made, expected)),
        this.answerMs,
        `the images for its disks are not made within ${this.answerMs / 1000} s`,
        clock,
      ),
    );
    const move = new IncomingMove(this.incomingContext(), handover, caller.fingerprint, domain, paused);
    this.incoming.set(handover, move);
    try {
      const port = await this.listenForData(domain, handover, key);
      await move.open(caller.rpc);
      if (caller.rpc.closed) move.cut(caller.rpc);
      const keeps = defined !== undefined;
      // The guest's process of the source is on this machine.
      const host = from === undefined ? '' : this.loopback;
      return { version, port, host, disks: expected.map((d) => d.devid), defined: keeps };
    } catch (error) {
      this.incoming.delete(handover);
      await this.domains.ends.abandon(domain, 'failed');
      throw error;
    }
  }

  /** The domain of this host from which the guest comes, if this host itself sends it. */
  private ownGuest({ fingerprint }: { fingerprint: string }, handover: string): HostedDomain | undefined {
    if (fingerprint !== OWN) return undefined;
    return [...this.outgoing.values()].find((move) => move.handover === handover)?.domain;
  }

  /** Where the processes of this host reach one another. */
  private get loopback(): string {
    const { listenHost } = this.options;
    if (listenHost === '0.0.0.0') return '127.0.0.1';
    return listenHost === '::' ? '::1' : listenHost;
  }

  /** Checks the configuration of an announced guest; returns the files that it names. */
  private async admit(
    config: GuestConfig,
    announced: { name: string; uuid: string; vcpus: number; memoryKib: number },
    own: { readonly foreign?: readonly string[] } | undefined,
  ): Promise<readonly string[]> {
    mustBeOf(config, announced, 'the configuration');
    if (config.vcpus !== announced.vcpus || config.maxMemoryKib !== announced.memoryKib)
      throw new Failure('usage', 'the configuration is of a guest of another size than was announced');
    // What an operator has named for a guest of this host stays so.
    const foreign = own === undefined ? this.domains.files.namedFiles(config) : (own.foreign ?? []);
    await this.domains.files.admit(config, foreign);
    return foreign;
  }

  private async listenForData(
    domain: HostedDomain,
    identity: string,
    key: string | undefined,
  ): Promise<number> {
    const host = this.domains.grant(domain);
    const from = { host: this.options.listenHost, identity, key };
    const ports = dataPorts(this.domains.config);
    const disks = domain.state.disks ?? [];
    const wanted = { host, from, ports, disks, expected: domain.expectation() };
    const { port } = await domain.ask('receive', wanted, this.answerMs);
    this.world.processes.competeAgain(domain.state.process!);
    return port;
  }

  private history(handover: string): IncomingFile | undefined {
    if (!/^[0-9a-f-]{36}$/.test(handover)) return undefined;
    return this.domains.read(join('handovers', `in-${handover}.json`), readIncoming);
  }

  /** True if a file that could not be read may have said that this hand-over brought a guest here. */
  private mayBeOurs(handover: string): boolean {
    const ofState = (name: string): boolean => name.includes('.json.damaged');
    return (
      this.world.files.exists(join(this.dir, `in-${handover}.json.damaged`)) ||
      this.world.files.list(join(this.options.dir, 'state')).some(ofState)
    );
  }

  /** A source sent a message about a hand-over. */
  heard(caller: { rpc: Rpc; fingerprint: string }, handover: string, message: ToDestination): void {
    let move = this.incoming.get(handover);
    if (move === undefined) {
      const past = this.history(handover);
      // If the guest may be ours, nothing is answered: its source asks again until an operator has looked.
      if (past === undefined && this.mayBeOurs(handover)) return;
      move = new IncomingMove(
        this.incomingContext(),
        handover,
        past?.peer ?? caller.fingerprint,
        undefined,
        false,
      );
      if (past !== undefined) move.phase = 'owner';
    }
    // Only the source itself may learn or decide anything.
    if (move.peer !== caller.fingerprint) return;
    move.heardFrom(caller.rpc);
    void move.event(message);
  }

  /** A connection was closed. */
  cut(rpc: Rpc): void {
    for (const move of this.incoming.values()) move.cut(rpc);
  }

  // --- after a restart ---

  /**
   * Starts to settle what an earlier daemon left. The domains have been found, and are not adopted so far. Messages
   * of hand-overs are accepted from here on, and each is handled after the state of its hand-over is known. Resolves
   * when everything is settled: a guest whose process does not answer delays only its own hand-over.
   */
  recover(found: readonly HostedDomain[]): Promise<void> {
    const { files } = this.world;
    removeUnfinished(this.dir, files);
    // As for the records of domains: what is found is what a power failure leaves.
    syncDirectory(this.dir, files);
    const names = files.list(this.dir).filter((name) => /^out-.*\.json$/.test(name));
    const outgoing = names
      .map((name) => this.domains.read(join('handovers', name), readOutgoing))
      .filter((file) => file !== undefined);
    const damaged = files.list(this.dir).some((name) => /^out-.*\.damaged/.test(name));
    const restarts = new Map<HostedDomain | undefined, OutgoingMove>();
    for (const file of outgoing) {
      const domain = found.find((d) => d.domid === file.domid && d.state.uuid === file.uuid);
      const move = new OutgoingMove(this.outgoingContext(), domain, file);
      // From here on the end of its process does not count as a crash.
      move.phase = file.record;
      this.outgoing.set(domain ?? file.handover, move);
      if (domain === undefined) void move.restart(file.record);
      else restarts.set(domain, move);
    }
    const works = found.map((domain) => {
      const work = this.takeUpUntilDone(domain, damaged)
        .then(() => {
          const move = restarts.get(domain);
          if (move !== undefined) void move.restart(move.phase as OutgoingFile['record']);
        })
        .finally(() => {
          domain.recovering = undefined;
        });
      domain.recovering = work;
      return work;
    });
    return Promise.all(works).then(() => {});
  }

  /** Takes a domain up, however often that fails: a full disk is emptied one day. `destroy` of the domain ends it. */
  private async takeUpUntilDone(domain: HostedDomain, damaged: boolean): Promise<void> {
    const [first, last] = TAKE_UP_RETRY_MS;
    for (let ms: number = first; ; ms = Math.min(2 * ms, last)) {
      try {
        return await this.takeUp(domain, damaged);
      } catch (error) {
        if (this.domains.all.get(domain.domid) !== domain || domain.leaving) return;
        const { domid, name } = domain.state;
        this.options.log.error(
          { domid, name, error: (error as Error).message },
          'a guest cannot be taken up yet; it is tried again, and `destroy` ends it',
        );
        await sleep(this.world.clock, ms);
        if (this.domains.all.get(domain.domid) !== domain || domain.leaving) return;
      }
    }
  }

  private async takeUp(domain: HostedDomain, damaged: boolean): Promise<void> {
    const ref = domain.state.incoming;
    if (ref !== null && domain.state.phase === 'incoming') return this.recoverIncoming(domain, ref);
    if (domain.state.phase === 'building') return this.domains.ends.discard(domain, 'failed');
    if (ref !== null) this.incomingOf(domain, ref.handover, ref.peer).phase = 'owner';
    const hello = await this.domains.adopt(domain);
    // A guest that a move had stopped resumes, unless its destination may have it.
    if (this.outgoing.has(domain) || domain.rpc === undefined) return;
    if (hello?.locked === true && damaged) {
      this.unclear.add(domain);
      const { domid, name } = domain.state;
      this.options.log.error(
        { domid, name },
        'what is known of the move of this guest cannot be read; it stands still until `settle` says where it lives',
      );
    } else await domain.ask('resume', {}, this.answerMs);
  }

  private incomingOf(domain: HostedDomain, handover: string, peer: string): IncomingMove {
    const move = new IncomingMove(this.incomingContext(), handover, peer, domain, false);
    this.incoming.set(handover, move);
    return move;
  }

  private recoverIncoming(domain: HostedDomain, ref: { handover: string; peer: string }): Promise<void> {
    const move = this.incomingOf(domain, ref.handover, ref.peer);
    return move.recover(() => this.findIncoming(domain, ref.handover));
  }

  /** Finds out whether the guest became ours before the daemon ended, or is about to. */
  private async findIncoming(domain: HostedDomain, handover: string): Promise<'owner' | 'waiting'> {
    let starting = false;
    if (domain.alive && !domain.ownedBy(handover)) {
      // A process that was not told to start ends by itself; so either it answers "starting", or it is gone.
      starting = await domain.connect().then(
        (hello) => hello.phase === 'starting' || hello.phase === 'live',
        () => false,
      );
    }
    if (starting) {
      const { clock } = this.world;
      const end = clock.monotonicMs() + this.answerMs;
      while (domain.alive && !domain.ownedBy(handover) && clock.monotonicMs() < end) await sleep(clock, 10);
    }
    // The process was not told to start, or does not say so: the owner record on disk decides, once the process is
    // dead.
    if (!domain.ownedBy(handover)) await domain.kill();
    if (!domain.ownedBy(handover)) return 'waiting';
    // From here on its end is handled like that of any other guest.
    const move = this.incoming.get(handover);
    if (move !== undefined) move.phase = 'owner';
    await this.domains.adopt(domain);
    return 'owner';
  }
}
