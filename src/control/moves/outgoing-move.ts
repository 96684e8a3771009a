/**
 * A guest on its way from here to another host: runs the source's state machine of src/migration/handover.ts.
 *
 * Invariant: each step and its actions are complete before the next event is handled, and a record that must be
 * persisted is on disk before anything is sent. If this daemon may not decide alone, it asks the destination for as
 * long as necessary.
 */
import type { LeftImage, TravellingImage } from '../../host/images.js';
import {
  restartSource,
  type SourceAction,
  type SourceEvent,
  type SourcePhase,
  type SourceRecord,
  type Step,
  stepSource,
  type ToDestination,
} from '../../migration/handover.js';
import { STREAM_VERSIONS } from '../../migration/stream-records.js';
import { type Alarm, type Chance, type Clock, sleep } from '../../os/clock.js';
import { ProtocolError } from '../../protocol/check.js';
import { describeError, Failure } from '../../protocol/failure.js';
import type { MoveOptions, MoveStats, SentStats } from '../../protocol/moves.js';
import { PEER, type Peer, TO_DESTINATION, TO_SOURCE, type ToSourceNotice } from '../../protocol/peer.js';
import type { Rpc, RpcHandlers } from '../../protocol/rpc.js';
import { answerSigns } from '../../protocol/session.js';
import { ask, listener, type ParamsOf, say } from '../../protocol/table.js';
import type { PeerAddress } from '../../transport/peer.js';
import type { HostedDomain } from '../domains/hosted-domain.js';
import { JobQueue } from '../job-queue.js';
import type { MoveLog } from '../world.js';

/** What the source stores on disk about a hand-over. */
export interface OutgoingFile {
  readonly handover: string;
  readonly domid: number;
  readonly uuid: string;
  readonly peer: PeerAddress;
  readonly record: SourceRecord;
  /** Files of disks that travel with the guest. Once the guest is gone, they are old copies. */
  readonly disks?: readonly string[];
  /** Their inodes, in the same order. Version 0.1 did not write them. */
  readonly inodes?: readonly number[];
  /** The destination knows that the guest is defined. */
  readonly defined?: boolean;
}

/** What a move needs from its daemon. */
export interface OutgoingContext {
  readonly log: MoveLog;
  readonly clock: Clock;
  readonly chance: Chance;
  /** How long each party may take to answer, ms. */
  readonly answerMs: number;
  connect(peer: PeerAddress, handlers: RpcHandlers): Promise<Rpc>;
  /** This host's wall-clock time, ns since 1970. */
  wallClock(): number;
  /** The guest's disks that can travel with it. */
  travelling(domain: HostedDomain): Promise<readonly TravellingImage[]>;
  /** Whether the guest is defined here; undefined if it is not. */
  defined(domain: HostedDomain): ParamsOf<Peer, 'moveOpen'>['defined'];
  /** The guest lives elsewhere: its definition here is of no use, where that is another host. */
  undefine(file: Omit<OutgoingFile, 'record'>): void;
  persist(file: OutgoingFile): void;
  erase(handover: string): void;
  /** The guest stays here: resumes it or, if its process died meanwhile, applies the policy for a crash. */
  resume(domain: HostedDomain): Promise<void>;
  /** The guest runs elsewhere: ends its process and removes its files here. */
  drop(domain: HostedDomain): Promise<void>;
  /** These files no longer hold the guest's disks. */
  retire(disks: readonly LeftImage[]): void;
  finished(move: OutgoingMove): void;
}

const CLOCK_EXCHANGES = 3;
/** How often a guest's process is asked for a sign of life within the time that it may take to answer. */
const SIGNS_OF_LIFE = 3;
const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 10_000;
/** How long a destination that gave up may take to send the reason. */
const THEIR_REASON_MS = 3_000;
/** After this, plus twice the time for an answer, the caller is told that the outcome is still being settled. */
const SETTLE_TIMEOUT_MS = 10_000;
const STUCK_DISK_RETRY_MS = 500;

export class OutgoingMove {
  phase: SourcePhase = 'streaming';
  private rpc: Rpc | undefined;
  private readonly jobs = new JobQueue();
  private reason: string | undefined;
  /** What is known about where the guest will run, for messages. */
  private outlook = 'the guest goes on here';
  private accepted: ToSourceNotice | undefined;
  private acceptedAt = 0;
  private readyAt = 0;
  private retryAlarm: Alarm | undefined;
  private readyAlarm: Alarm | undefined;
  private lifeAlarm: Alarm | undefined;
  private retryMs = FIRST_RETRY_MS;
  private settled: { resolve(): void; reject(error: Error): void } | undefined;

  constructor(
    private readonly context: OutgoingContext,
    readonly domain: HostedDomain | undefined,
    private file: Omit<OutgoingFile, 'record'>,
  ) {}

  private nowMs(): number {
    return this.context.clock.monotonicMs();
  }

  get handover(): string {
    return this.file.handover;
  }
  get uuid(): string {
    return this.file.uuid;
  }

  /** True while the end of the guest's process here does not count as a crash. */
  get needsNoGuest(): boolean {
    return (
      this.phase === 'sent' || this.phase === 'offered' || this.phase === 'gone' || this.phase === 'done'
    );
  }

  /** Performs the whole move. Resolves when the guest runs at the destination, fails when it stays here. */
  async run(options: MoveOptions, plain: boolean): Promise<MoveStats> {
    const domain = this.domain!;
    const started = this.nowMs();
    const outcome = new Promise<void>((resolve, reject) => {
      this.settled = { resolve, reject };
    });
    outcome.catch(() => {});
    // Steps that are under way when the move is given up are not awaited.
    const unlessGivenUp = async <T>(what: Promise<T>): Promise<T> => {
      what.catch(() => {});
      const value = await Promise.race([what, outcome as Promise<never>]);
      if (this.phase === 'idle') throw new Failure('move-failed', 'the move was given up');
      return value;
    };
    const { answerMs } = this.context;
    let sent: SentStats | undefined;
    try {
      this.rpc = await unlessGivenUp(this.connected());
      const key = plain ? undefined : this.context.chance.bytes(32).toString('hex');
      const { name, uuid, vcpus, memoryKib, config } = domain.state;
      const status = await unlessGivenUp(domain.ask('hello', {}, answerMs));
      const clockDifference = await unlessGivenUp(this.measureClocks(this.rpc));
      const travelling =
        options.copyStorage === true ? await unlessGivenUp(this.context.travelling(domain)) : undefined;
      const opened = await unlessGivenUp(
        ask(
          this.rpc,
          PEER,
          'moveOpen',
          {
            disks: travelling?.map(({ path: _, ino: __, ...disk }) => disk),
            handover: this.handover,
            versions: STREAM_VERSIONS,
            name,
            uuid,
            vcpus,
            // The daemon's own record, and nothing that the guest's process says.
            memoryKib: config?.maxMemoryKib ?? memoryKib,
            config: config ?? undefined,
            paused: status.paused,
            key,
            defined: this.context.defined(domain),
          },
          answerMs,
          'move-failed',
        ),
      );
      if (!STREAM_VERSIONS.includes(opened.version))
        throw new Failure('move-failed', 'the destination answered nonsense: version');
      const host = opened.host === '' ? this.file.peer.host : opened.host;
      const { disks } = opened;
      const files = travelling?.filter((d) => disks.includes(d.devid) && !d.readOnly) ?? [];
      this.file = {
        ...this.file,
        disks: files.map((d) => d.path),
        inodes: files.map((d) => d.ino),
        defined: opened.defined,
      };
      this.watchLife(domain);
      sent = await unlessGivenUp(
        domain
          .ask('send', {
            to: { host, port: opened.port, identity: this.handover, key },
            options,
            handover: true,
            version: opened.version,
            clockDifference,
            disks,
            answerMs,
          })
          .catch((error) => this.withTheirReason(error)),
      );
      await this.event('sent');
      // The destination may report that it is ready before our own guest process reports that everything was sent.
      if (this.readyAt !== 0) await this.event('ready');
      this.expectReady();
    } catch (error) {
      this.reason ??= describeError(error).message;
      await this.event('abort');
    } finally {
      this.lifeAlarm?.cancel();
    }
    const patience = this.context.clock.after(SETTLE_TIMEOUT_MS + 2 * answerMs, () => {
      this.settled?.reject(
        new Failure(
          'move-unsettled',
          `the destination ${this.peerName} may own the guest and does not answer; it is asked until it does, and the guest here does not run meanwhile`,
        ),
      );
    });
    try {
      await outcome;
    } finally {
      patience.cancel();
    }
    return this.stats(started, sent);
  }

  /** Connects; if the move was given up meanwhile, the connection is closed again. */
  private async connected(): Promise<Rpc> {
    const rpc = await this.context.connect(this.file.peer, this.handlers());
    if (this.phase !== 'idle') return rpc;
    rpc.destroy();
    throw new Failure('move-failed', 'the move was given up');
  }

  /**
   * A guest's process that hangs cannot report that, so it is asked for signs of life. If it does not answer, the
   * move is given up.
   */
  private watchLife(domain: HostedDomain): void {
    const { answerMs } = this.context;
    this.lifeAlarm = this.context.clock.every(answerMs / SIGNS_OF_LIFE, () => {
      domain.ask('status', {}, answerMs).catch((error) => {
        const { code, message } = describeError(error);
        // A process that has ended reports that in another way.
        if (code !== 'timed-out' || this.needsNoGuest) return;
        this.reason ??= `the guest's process does not answer (${message})`;
        void this.event('abort');
      });
    });
  }

  /**
   * The data connection has failed. A destination that gave up sends the reason over the control connection, and only
   * after it has discarded the guest: that reason says more than a closed connection.
   */
  private async withTheirReason(error: unknown): Promise<never> {
    const end = this.nowMs() + THEIR_REASON_MS;
    if (describeError(error).code === 'internal')
      while (this.reason === undefined && this.rpc !== undefined && this.nowMs() < end)
        await sleep(this.context.clock, 20);
    throw error;
  }

  /** Everything is sent: the destination has a limited time to report that it has the whole guest. */
  private expectReady(): void {
    if (this.phase !== 'sent') return;
    const { answerMs } = this.context;
    this.readyAlarm = this.context.clock.after(answerMs, () => {
      this.reason ??= `the destination did not take the guest in within ${answerMs / 1000} s`;
      void this.event('abort');
    });
  }

  /** The destination's wall clock minus ours, ns, from the exchange with the shortest round trip. */
  private async measureClocks(rpc: Rpc): Promise<number> {
    let best = Number.POSITIVE_INFINITY;
    let difference = 0;
    for (let i = 0; i < CLOCK_EXCHANGES; i++) {
      const before = this.nowMs();
      const ours = this.context.wallClock();
      const theirs = await ask(rpc, PEER, 'clock', {}, this.context.answerMs, 'move-failed');
      const took = this.nowMs() - before;
      if (took >= best) continue;
      best = took;
      difference = theirs - ours - (took / 2) * 1e6;
    }
    return difference;
  }

  private get peerName(): string {
    const { name, host, port } = this.file.peer;
    return name === '' ? `${host}:${port}` : name;
  }

  /** Continues a hand-over that an earlier daemon left on disk. */
  async restart(record: SourceRecord): Promise<void> {
    await this.jobs.run(() => this.perform(restartSource(record)));
  }

  private handlers(): RpcHandlers {
    const steps = listener(TO_SOURCE, {
      move: (message) => {
        if (message.handover === this.handover) this.heard(message);
      },
    });
    return {
      request: answerSigns,
      notice: (method, params) => {
        try {
          steps(method, params);
        } catch (error) {
          // Other faults in its messages have no effect.
          if (!(error instanceof ProtocolError)) throw error;
        }
      },
      closed: () => {
        this.rpc = undefined;
        this.reason ??= 'the connection to the destination was cut';
        void this.event('abort');
      },
    };
  }

  private heard(message: ToSourceNotice): void {
    if (message.message === 'ready') this.readyAt = this.nowMs();
    if (message.message === 'accepted' && this.accepted === undefined) {
      this.accepted = message;
      this.acceptedAt = this.nowMs();
    }
    if (message.message === 'refused')
      this.reason ??= `the destination refused: ${message.reason ?? 'no reason'}`;
    void this.event(message.message);
  }

  /** The guest process is about to stop its guest. Fails if the move was given up meanwhile. */
  async stopping(): Promise<void> {
    await this.event('stopping');
    if (this.phase !== 'stopping') throw new Failure('move-failed', this.reason ?? 'the move was given up');
  }

  /** The user gives up: when this resolves, the guest continues here. Fails if the destination already decides. */
  async cancel(): Promise<void> {
    if (this.phase === 'streaming' || this.phase === 'stopping' || this.phase === 'sent') {
      this.reason ??= 'cancelled';
      await this.event('abort');
    }
    if (this.phase === 'idle') return;
    const { peerName } = this;
    throw new Failure(
      'bad-state',
      this.phase === 'offered'
        ? `too late to cancel: ${peerName} was offered the guest and decides; it is asked until it answers (settle decides by hand)`
        : `too late to cancel: the guest lives on ${peerName}`,
    );
  }

  /** The guest's process is dead. If that is noticed after the move was given up, it counts as an ordinary crash. */
  guestDied(): Promise<void> {
    return this.jobs.run(async () => {
      if (this.phase === 'idle' && this.domain !== undefined) await this.context.resume(this.domain);
      else await this.perform(stepSource(this.phase, 'guest-died'), 'guest-died');
    });
  }

  event(event: SourceEvent): Promise<void> {
    return this.jobs.run(() => this.perform(stepSource(this.phase, event), event));
  }

  private async perform(step: Step<SourcePhase, SourceAction>, event?: SourceEvent): Promise<void> {
    const before = this.phase;
    for (const action of step.actions) {
      try {
        await this.act(action);
      } catch (error) {
        const { message } = describeError(error);
        const undone = this.undone(action);
        if (undone !== undefined) {
          // Nothing was offered so far: this is treated like the event `abort`.
          this.reason ??= `${undone}: ${message}`;
          await this.perform(stepSource(before, 'abort'));
          return;
        }
        this.context.log.error({ handover: this.handover, action: action.do, error: message }, 'hand-over');
      }
    }
    this.phase = step.phase;
    if (this.phase !== before || event === undefined) this.entered(before);
  }

  /** The message for an action that may fail; undefined for the others, which are retried for as long as necessary. */
  private undone(action: SourceAction): string | undefined {
    if (action.do === 'persist' && action.record === 'offered')
      return 'cannot write the state of the hand-over';
    return action.do === 'lock-guest' ? 'the guest here cannot be locked' : undefined;
  }

  private entered(before: SourcePhase): void {
    this.context.log.info({ handover: this.handover, from: before, to: this.phase }, 'hand-over');
    if (this.phase !== 'sent') this.readyAlarm?.cancel();
    if (this.phase === 'idle' || this.phase === 'done') {
      this.retryAlarm?.cancel();
      if (this.phase === 'done') this.rpc?.close();
      else this.rpc?.destroy();
      this.context.finished(this);
    }
    if (this.phase === 'idle') {
      this.settled?.reject(new Failure('move-failed', `${this.reason ?? 'given up'}; ${this.outlook}`));
    }
    if (this.phase === 'gone') this.settled?.resolve();
    if (this.phase === 'offered' || this.phase === 'gone') this.retryLater();
  }

  private retryLater(): void {
    this.retryAlarm?.cancel();
    this.retryAlarm = this.context.clock.after(this.retryMs, () => void this.retry());
    this.retryMs = Math.min(this.retryMs * 2, LAST_RETRY_MS);
  }

  private async retry(): Promise<void> {
    if (this.phase !== 'offered' && this.phase !== 'gone') return;
    // While the connection stands, a destination that is processing our offer is not asked again.
    const standing = this.rpc !== undefined;
    if (!standing) {
      try {
        this.rpc = await this.context.connect(this.file.peer, this.handlers());
      } catch (error) {
        this.context.log.warn(
          { handover: this.handover, error: describeError(error).message },
          'cannot ask yet',
        );
      }
    }
    if (this.rpc !== undefined) await this.event('retry');
    this.retryLater();
  }

  private async act(action: SourceAction): Promise<void> {
    switch (action.do) {
      case 'persist':
        if (action.record === 'offered') this.context.persist({ ...this.file, record: 'offered' });
        else await this.untilDone(() => this.context.persist({ ...this.file, record: 'gone' }));
        return;
      case 'erase':
        await this.untilDone(() => this.context.erase(this.handover));
        return;
      case 'send':
        this.say(action.message);
        return;
      case 'lock-guest':
        await this.lock();
        return;
      case 'resume-guest':
        if (this.domain !== undefined) await this.resume(this.domain);
        return;
      case 'drop-guest':
        await this.dropGuest();
        return;
    }
  }

  /**
   * A dead process runs nothing, and the locks of its disks were released with it; a living process must confirm that
   * it is locked.
   */
  private async lock(): Promise<void> {
    const { domain } = this;
    if (domain === undefined) return;
    if (domain.alive) {
      try {
        await domain.ask('lock', {}, this.context.answerMs);
        return;
      } catch (error) {
        if (domain.rpc !== undefined || !(await domain.diesSoon())) throw error;
      }
    }
    if (domain.livedOn) throw new Failure('bad-state', 'its process went on without its daemon');
  }

  /** From here on, whatever happens, nobody else owns the guest. */
  private async resume(domain: HostedDomain): Promise<void> {
    try {
      await this.context.resume(domain);
    } catch (error) {
      // The request was sent; the process performs it when it reads it.
      this.outlook = `the guest goes on here as soon as its process answers (${describeError(error).message})`;
      throw error;
    }
  }

  /**
   * The hand-over is closed after this. If anything of the guest were left here then, a daemon that starts again
   * would take it for a guest that crashed.
   */
  private async dropGuest(): Promise<void> {
    const { domain } = this;
    const { disks = [], inodes } = this.file;
    // Before anything else is removed: a host that is booted meanwhile must not start the guest.
    await this.untilDone(() => this.context.undefine(this.file));
    if (domain !== undefined) await this.untilDone(() => this.context.drop(domain));
    this.context.retire(disks.map((path, i) => ({ path, ino: inodes?.[i] })));
  }

  /** Retries until it succeeds: a full disk must not make the daemon forget what was decided. */
  private async untilDone(what: () => Promise<void> | void): Promise<void> {
    for (;;) {
      try {
        await what();
        return;
      } catch (error) {
        this.context.log.error({ handover: this.handover, error: describeError(error).message }, 'once more');
        await sleep(this.context.clock, STUCK_DISK_RETRY_MS);
      }
    }
  }

  private say(message: ToDestination): void {
    if (this.rpc !== undefined) say(this.rpc, TO_DESTINATION, 'move', { handover: this.handover, message });
  }

  private stats(started: number, sent: SentStats | undefined): MoveStats {
    const done = this.accepted?.started ?? { attachMs: 0, recordMs: 0, startMs: 0 };
    const stoppedAt = sent?.stoppedAt ?? this.acceptedAt;
    const stopMs = sent?.stopMs ?? 0;
    const lastPagesMs = sent?.lastPagesMs ?? 0;
    const stateMs = this.readyAt - stoppedAt - stopMs - lastPagesMs;
    const { attachMs, recordMs, startMs } = done;
    const totalMs = this.acceptedAt - started;
    return {
      name: this.domain?.state.name ?? '',
      destination: this.peerName,
      domid: this.accepted?.domid ?? -1,
      totalMs,
      downtimeMs: this.acceptedAt - stoppedAt,
      parts: {
        stopMs,
        lastPagesMs,
        stateMs,
        handoverMs: this.acceptedAt - this.readyAt - attachMs - recordMs - startMs,
        attachMs,
        recordMs,
        firstInstructionMs: startMs,
      },
      bytes: sent?.bytes ?? 0,
      storageBytes: sent?.storageBytes ?? 0,
      mbPerSecond: (sent?.bytes ?? 0) / Math.max(totalMs, 1) / 1000,
      lastPages: sent?.lastPages ?? 0,
      stopReason: sent?.reason ?? 'downtime',
      rounds: sent?.rounds ?? [],
    };
  }
}
