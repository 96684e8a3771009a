/**
 * A matrix of faults in a move: each party for which a move waits may hang, be slow, refuse or be gone, at
 * every step. The hand-over and the code of both sides are real. Their processes and the network are
 * simulated here, and vitest's fake clock drives all.
 */
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ToDestination } from '../../migration/handover.js';
import { systemChance, systemClock } from '../../os/clock.js';
import { Failure } from '../../protocol/failure.js';
import { DEFAULT_MOVE } from '../../protocol/moves.js';
import type { Rpc, RpcHandlers } from '../../protocol/rpc.js';
import type { HostedDomain } from '../domains/hosted-domain.js';
import { IncomingMove } from './incoming-move.js';
import { OutgoingMove } from './outgoing-move.js';

const ANSWER_MS = 1000;
const log = pino({ level: 'silent' });
const SENT = { rounds: [], bytes: 1, stopMs: 1, lastPagesMs: 1, lastPages: 1, reason: 'downtime' };

/**
 * How a party behaves from a step on. A party that `hangs` does nothing until it is woken at the end; then it
 * does everything that it was asked.
 */
type Behaviour = 'hangs' | 'is slow' | 'is too slow' | 'refuses' | 'is gone';
const BEHAVIOURS: readonly Behaviour[] = ['hangs', 'is slow', 'is too slow', 'refuses', 'is gone'];
type Party = 'source process' | 'destination daemon' | 'destination process';
const STEPS: Readonly<Record<Party, readonly string[]>> = {
  'source process': ['hello', 'travellingDisks', 'send', 'lock', 'resume'],
  'destination daemon': ['connect', 'clock', 'moveOpen', 'ready', 'offer', 'accepted', 'forget'],
  'destination process': ['received', 'go'],
};

/** Answers requests as a process does: in order, or not at all while it hangs. */
class PlayedProcess {
  alive = true;
  rpc: object | undefined = {};
  private behaviour: Behaviour | undefined;
  private asleep = false;
  private readonly queue: (() => void)[] = [];

  constructor(
    private readonly step: string | undefined,
    private readonly how: Behaviour,
    private readonly answer: (method: string) => Promise<unknown> | unknown,
    private readonly died: () => void,
  ) {}

  ask(method: string, _params: object, timeoutMs = 0): Promise<unknown> {
    if (this.rpc === undefined) return Promise.reject(new Failure('io', 'no process'));
    if (method === this.step) this.behaviour = this.how;
    const answered = this.serve(method);
    answered.catch(() => {});
    if (timeoutMs === 0) return answered;
    return Promise.race([
      answered,
      new Promise((_, reject) =>
        setTimeout(() => reject(new Failure('timed-out', `${method}: no answer`)), timeoutMs),
      ),
    ]);
  }

  private async serve(method: string): Promise<unknown> {
    switch (this.behaviour) {
      case 'refuses':
        if (method === this.step) throw new Failure('io', 'it does not want to');
        break;
      case 'is gone':
        this.die();
        throw new Failure('io', 'the connection was closed');
      case 'is slow':
      case 'is too slow':
        if (method !== 'status')
          await new Promise((done) =>
            setTimeout(done, this.behaviour === 'is slow' ? 0.6 * ANSWER_MS : 1.5 * ANSWER_MS),
          );
        break;
      case 'hangs':
        this.asleep = true;
    }
    if (this.asleep) await new Promise<void>((done) => this.queue.push(done));
    if (!this.alive) throw new Failure('io', 'the connection was closed');
    return this.answer(method);
  }

  die(): void {
    if (!this.alive) return;
    this.alive = false;
    this.rpc = undefined;
    this.died();
  }
  async wake(): Promise<void> {
    this.asleep = false;
    this.behaviour = undefined;
    for (const go of this.queue.splice(0)) {
      go();
      await vi.advanceTimersByTimeAsync(0);
    }
  }
}

/** A guest that moves from A to B. The party `party` behaves like `how` from `step` on. */
class World {
  source: 'running' | 'stopped' | 'locked' | 'dead' | 'dropped' = 'running';
  destination: 'waiting' | 'running' | 'dead' = 'waiting';
  record = false;
  /** How often the crash policy was applied. */
  policies = 0;
  /** The violations of what must always hold. */
  readonly wrong: string[] = [];
  readonly move: OutgoingMove;
  readonly process: PlayedProcess;
  private readonly arriving: PlayedProcess;
  private incoming: IncomingMove | undefined;
  private handlers: RpcHandlers = {};
  private arrived: () => void = () => undefined;
  private connection = 0;
  private asleep = false;
  private gone = false;
  private waiting: (() => void)[] = [];

  constructor(
    private readonly party: Party,
    private readonly step: string,
    private readonly how: Behaviour,
  ) {
    const of = (one: Party): string | undefined => (one === party ? step : undefined);
    this.process = new PlayedProcess(
      of('source process'),
      how,
      (method) => this.doSource(method),
      () => {
        if (this.source !== 'dropped') this.source = 'dead';
        void this.move.guestDied();
      },
    );
    this.arriving = new PlayedProcess(
      of('destination process'),
      how,
      (method) => this.doDestination(method),
      () => {
        if (this.destination === 'waiting') this.destination = 'dead';
        void this.incoming?.processEnded();
      },
    );
    const domain = Object.assign(this.process, {
      state: { name: 'guest', uuid: 'u', vcpus: 1, memoryKib: 1024 },
      diesSoon: async () => !this.process.alive,
      kill: async () => this.ends('the source ended its process'),
    }) as unknown as HostedDomain;
    this.move = new OutgoingMove(
      {
        log,
        clock: systemClock,
        chance: systemChance,
        answerMs: ANSWER_MS,
        connect: (_, given) => this.connect(given),
        wallClock: () => 0,
        travelling: () => domain.ask('travellingDisks', {}, ANSWER_MS).then(() => []),
        defined: () => undefined,
        undefine: () => undefined,
        persist: () => undefined,
        erase: () => undefined,
        resume: async () => {
          if (this.process.alive) await domain.ask('resume', {}, ANSWER_MS);
          else this.policies++;
        },
        drop: async () => {
          this.ends('the source dropped it');
          this.source = 'dropped';
        },
        retire: () => undefined,
        finished: () => undefined,
      },
      domain,
      { handover: 'h', domid: 1, uuid: 'u', peer: { name: 'B', host: 'b', port: 1 } },
    );
  }

  private ends(what: string): void {
    if (!this.record) this.wrong.push(`${what}, and the destination does not own the guest`);
  }

  private doSource(method: string): unknown {
    switch (method) {
      case 'travellingDisks':
        return [];
      case 'send':
        return this.send();
      case 'lock':
        if (this.source !== 'stopped') throw new Failure('bad-state', 'not sent');
        this.source = 'locked';
        return null;
      case 'resume':
        if (this.record) this.wrong.push('it goes on at the source, and the destination owns it');
        this.source = 'running';
        return null;
      default:
        return { paused: false };
    }
  }
  private async send(): Promise<unknown> {
    await this.move.stopping();
    this.source = 'stopped';
    this.arrived();
    return SENT;
  }

  private doDestination(method: string): unknown {
    if (method === 'received')
      return new Promise((done) => {
        this.arrived = () => done({ config: {} });
      });
    if (method !== 'go') return null;
    // The step `resume` needs a destination that refuses the offer, or the source's process would never be
    // asked to resume.
    if (this.step === 'resume') throw new Failure('io', 'the disk is not to be had');
    if (this.source === 'running') this.wrong.push('two live guests');
    this.record = true;
    this.destination = 'running';
    return { attachMs: 1, recordMs: 1, startMs: 1 };
  }

  // --- The destination's daemon, and the connection to it ---

  /**
   * Called when the destination's daemon reaches a step. Resolves when it performs the step, which may be
   * never.
   */
  private async reaches(step: string): Promise<void> {
    if (this.party === 'destination daemon' && step === this.step) {
      if (this.how === 'hangs') this.asleep = true;
      if (this.how === 'is gone') this.loseConnections();
      if (this.how === 'refuses' && ['connect', 'clock', 'moveOpen'].includes(step))
        throw new Failure('io', 'refused');
      if (this.how === 'is slow') await new Promise((done) => setTimeout(done, 0.6 * ANSWER_MS));
      if (this.how === 'is too slow') await new Promise((done) => setTimeout(done, 1.5 * ANSWER_MS));
    }
    if (this.asleep) await new Promise<void>((done) => this.waiting.push(done));
    if (this.gone) throw new Failure('io', 'the connection was closed');
  }
  /**
   * Switches the destination's machine off. Its state of the hand-over is lost, unless the guest was running
   * there already.
   */
  private loseConnections(): void {
    this.gone = true;
    this.connection++;
    if (!this.record) {
      this.arriving.alive = false;
      this.destination = 'dead';
    }
    queueMicrotask(() => this.handlers.closed?.({} as Rpc));
  }

  private async connect(given: RpcHandlers): Promise<Rpc> {
    const connection = ++this.connection;
    this.handlers = given;
    const stands = (): boolean => connection === this.connection;
    await Promise.race([
      this.reaches('connect'),
      // The same time limit as in peer.ts.
      new Promise((_, reject) => setTimeout(() => reject(new Failure('io', 'no answer')), 5000)),
    ]);
    const back = {
      closed: false,
      notice: (_: string, message: { message: string }) =>
        void this.reaches(message.message).then(
          () => stands() && given.notice?.('move', { ...message, handover: 'h' }),
          () => undefined,
        ),
    } as unknown as Rpc;
    const rpc = {
      request: (method: string, _params: object, timeoutMs: number) =>
        Promise.race([
          this.reaches(method).then(() => (method === 'clock' ? 0 : this.open(back))),
          new Promise((_, reject) =>
            setTimeout(() => reject(new Failure('timed-out', `${method}: no answer`)), timeoutMs),
          ),
        ]),
      notice: (_: string, { message }: { message: ToDestination }) =>
        void this.reaches(message).then(
          () => stands() && this.heard(back, message),
          () => undefined,
        ),
      close: () => undefined,
      destroy: () => this.incoming?.cut(back),
    } as unknown as Rpc;
    return rpc;
  }

  private async open(back: Rpc): Promise<unknown> {
    const domain = Object.assign(this.arriving, {
      domid: 9,
      state: { config: null },
      ownedBy: () => this.record,
      exitOnDisk: () => ({ reason: 'crash', details: 'it died' }),
      kill: async () => this.arriving.die(),
    }) as unknown as HostedDomain;
    this.incoming = new IncomingMove(
      {
        log,
        clock: systemClock,
        answerMs: ANSWER_MS,
        introduce: () => undefined,
        received: () => undefined,
        settle: () => undefined,
        discard: async () => {
          if (this.record) this.wrong.push('what the destination owns was discarded');
          this.arriving.alive = false;
          this.destination = 'dead';
        },
        erase: () => undefined,
        finished: () => undefined,
      },
      'h',
      '',
      domain,
      false,
    );
    await this.incoming.open(back);
    return { version: 1, port: 1, host: '' };
  }

  private heard(back: Rpc, message: ToDestination): void {
    const { incoming } = this;
    // The hand-over was never opened, or the destination's daemon no longer knows it.
    if (incoming === undefined) return;
    incoming.heardFrom(back);
    void incoming.event(message);
  }

  /** Makes all parties work again. */
  async heal(): Promise<void> {
    this.asleep = false;
    if (this.gone) {
      this.gone = false;
      // The destination's daemon starts again. It finds the owner record, or nothing.
      if (!this.record) this.incoming = new IncomingMove({ log } as never, 'h', '', undefined, false);
    }
    for (const go of this.waiting.splice(0)) go();
    await this.process.wake();
    await this.arriving.wake();
    await vi.advanceTimersByTimeAsync(60_000);
  }
}

describe('a move in which one party fails', () => {
  beforeEach(() => {
    vi.useFakeTimers({
      toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance'],
    });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  const cases = Object.entries(STEPS).flatMap(([party, steps]) =>
    steps.flatMap((step) => BEHAVIOURS.map((how) => ({ party: party as Party, step, how }))),
  );

  it.each(cases)(
    '$how ($party, at $step): ends within its time limits, with one guest, on the host that the message names',
    async ({ party, step, how }) => {
      const world = new World(party, step, how);
      let outcome: string | undefined;
      world.move.run({ ...DEFAULT_MOVE, copyStorage: true }, true).then(
        () => {
          outcome = 'moved';
        },
        (error: Error) => {
          outcome = error.message;
        },
      );
      // The sum of the limits of all steps bounds how long anybody waits.
      for (let ms = 0; outcome === undefined && ms < 25_000; ms += 50) await vi.advanceTimersByTimeAsync(50);
      expect(outcome).toBeDefined();
      const sourceDead = !world.process.alive && !world.record;
      if (outcome === 'moved') {
        expect([world.source, world.destination, world.record]).toEqual(['dropped', 'running', true]);
      } else if (/goes on here$/.test(outcome!)) {
        expect([world.source, world.record]).toEqual([sourceDead ? 'dead' : 'running', false]);
      } else if (/goes on here as soon as/.test(outcome!)) {
        expect([world.record, how]).toEqual([false, expect.not.stringMatching(/^is slow$/)]);
      } else {
        expect(outcome).toContain('may own the guest and does not answer');
        // If the source's process does not answer, its daemon decides what becomes of the guest.
        expect(party).toBe('destination daemon');
      }
      const words = outcome;
      await world.heal();
      expect(world.wrong).toEqual([]);
      if (!world.process.alive && !world.record) {
        expect([world.source, world.policies]).toEqual(['dead', 1]);
        return;
      }
      if (step === 'resume' && how === 'refuses') return;
      // Exactly one guest runs in the end, on the host that the message named.
      expect([words, world.source === 'running', world.destination === 'running']).toEqual([
        words,
        !world.record,
        world.record,
      ]);
      if (words!.includes('goes on here')) expect(world.source).toBe('running');
    },
  );
});
