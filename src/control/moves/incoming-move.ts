/**
 * A guest on its way in: runs the destination's state machine of src/migration/handover.ts.
 *
 * Invariant: "refused" is sent only when the guest's process is dead and has left no owner record, "accepted" only
 * when there is one. The guest's process writes the record right before the guest's first instruction.
 */
import {
  type DestinationAction,
  type DestinationEvent,
  type DestinationPhase,
  type FoundAtDestination,
  restartDestination,
  type Step,
  stepDestination,
  type ToSource,
} from '../../migration/handover.js';
import type { Clock } from '../../os/clock.js';
import { within } from '../../os/within.js';
import { describeError } from '../../protocol/failure.js';
import type { ReceivedInfo } from '../../protocol/guest-process.js';
import type { StartedInfo } from '../../protocol/moves.js';
import { TO_SOURCE } from '../../protocol/peer.js';
import type { Rpc } from '../../protocol/rpc.js';
import { say } from '../../protocol/table.js';
import type { HostedDomain } from '../domains/hosted-domain.js';
import { JobQueue } from '../job-queue.js';
import type { MoveLog } from '../world.js';

export interface IncomingContext {
  readonly log: MoveLog;
  readonly clock: Clock;
  /** How long the guest's process may take to answer, ms. */
  readonly answerMs: number;
  /**
   * Called before the process is told to start: writes the host's xenstore nodes and whatever else the process needs.
   */
  introduce(domain: HostedDomain): Promise<void> | void;
  /** The process has received a whole guest. Fails if it is not the guest that was announced. */
  received(domain: HostedDomain, guest: ReceivedInfo): void;
  /** The guest is ours. */
  settle(domain: HostedDomain): void;
  discard(domain: HostedDomain): Promise<void>;
  /** The source has closed the hand-over. */
  erase(handover: string, domain: HostedDomain | undefined): void;
  /** This hand-over has ended; no event can change it any more. */
  finished(move: IncomingMove): void;
}

export class IncomingMove {
  phase: DestinationPhase = 'none';
  /** The latest connection on which the source sent a message about this hand-over. */
  private rpc: Rpc | undefined;
  private readonly jobs = new JobQueue();
  private reason = '';
  private started: StartedInfo | undefined;

  constructor(
    private readonly context: IncomingContext,
    readonly handover: string,
    readonly peer: string,
    /** Undefined if the guest has ended since. */
    readonly domain: HostedDomain | undefined,
    private readonly paused: boolean,
  ) {}

  /** The process is listening for the stream: its answers become events from here on. */
  async open(rpc: Rpc): Promise<void> {
    this.rpc = rpc;
    await this.event('open');
    this.domain!.ask('received', {})
      .then(async (received) => {
        this.context.received(this.domain!, received);
        await this.event('received');
      })
      .catch((error) => this.fail(error));
  }

  /**
   * Restores what an earlier daemon left, once `find` has found it out; messages that arrive meanwhile are handled
   * after that.
   */
  recover(find: () => Promise<'owner' | 'waiting'>): Promise<void> {
    return this.jobs.run(async () => {
      const found = await find();
      if (found === 'owner') this.phase = 'owner';
      else await this.perform(restartDestination(found satisfies FoundAtDestination));
    });
  }

  heardFrom(rpc: Rpc): void {
    this.rpc = rpc;
  }

  /** This host does not want the guest. True if the guest has not been told to start; then nothing is left of it. */
  async refuse(reason: string): Promise<boolean> {
    if (this.phase === 'receiving' || this.phase === 'ready') this.reason = reason;
    await this.event('unwanted');
    return this.phase === 'none';
  }

  /** A connection to the source was closed. */
  cut(rpc: Rpc): void {
    if (this.rpc !== rpc) return;
    this.rpc = undefined;
    this.reason = 'the connection to the source was cut';
    void this.event('cut');
  }

  event(event: DestinationEvent): Promise<void> {
    return this.jobs.run(() => this.perform(stepDestination(this.phase, event)));
  }

  /** The process died or gave up. The owner record on disk says whether it owned the guest. */
  async processEnded(): Promise<void> {
    this.reason ||= this.domain?.exitOnDisk().details ?? '';
    await this.event(this.domain?.ownedBy(this.handover) === true ? 'started' : 'failed');
  }

  private async fail(error: unknown): Promise<void> {
    this.reason ||= describeError(error).message;
    if (this.domain?.alive === true) await this.event('failed');
    else await this.processEnded();
  }

  private async perform(step: Step<DestinationPhase, DestinationAction>): Promise<void> {
    const before = this.phase;
    this.phase = step.phase;
    for (const action of step.actions) {
      try {
        await this.act(action);
      } catch (error) {
        const { message } = describeError(error);
        this.context.log.error({ handover: this.handover, action: action.do, error: message }, 'hand-over');
        // The hand-over is still open: the source asks again until it is closed.
        if (action.do === 'erase') {
          this.phase = before;
          return;
        }
      }
    }
    if (this.phase === before && step.actions.length === 0) return;
    this.context.log.info({ handover: this.handover, from: before, to: this.phase }, 'hand-over');
    // Once: a source that asks again says nothing new of a guest that may have rebooted since.
    if (this.phase === 'owner' && before !== 'owner' && this.domain !== undefined)
      this.context.settle(this.domain);
    if (this.phase === 'none' || this.phase === 'settled') this.context.finished(this);
  }

  private async act(action: DestinationAction): Promise<void> {
    switch (action.do) {
      case 'send':
        this.say(action.message);
        return;
      case 'start-guest':
        // The outcome arrives as an event of its own.
        void this.start();
        return;
      case 'discard-guest':
        if (this.domain !== undefined) await this.context.discard(this.domain);
        return;
      case 'erase':
        this.context.erase(this.handover, this.domain);
        return;
    }
  }

  private async start(): Promise<void> {
    const domain = this.domain!;
    try {
      const { answerMs, clock } = this.context;
      await within(
        Promise.resolve(this.context.introduce(domain)),
        answerMs,
        `the files of its disks do not answer within ${answerMs / 1000} s`,
        clock,
      );
      this.started = await domain.ask('go', { handover: this.handover, paused: this.paused }, answerMs);
      await this.event('started');
    } catch (error) {
      this.reason = describeError(error).message;
      // Either the connection broke or starting failed: the owner record on disk decides, once the process is dead.
      if (!domain.ownedBy(this.handover)) await domain.kill();
      await this.processEnded();
    }
  }

  private say(message: ToSource): void {
    const { rpc, handover, reason, started, domain } = this;
    if (rpc !== undefined)
      say(rpc, TO_SOURCE, 'move', { handover, message, reason, domid: domain?.domid, started });
  }
}
