/**
 * A guest's process on a simulated host. It does all that src/guest-process/guest-service.ts does, for a guest whose
 * RAM is one number. It speaks the daemon's protocol over the real rpc.ts, and writes its owner record as the real
 * process does.
 */

import { DATA_SOCKET } from '../../src/guest-process/guest-files.js';
import type { ReceivedImage } from '../../src/host/images.js';
import { preambleRecord } from '../../src/migration/stream-records.js';
import { writeDurable } from '../../src/os/durable.js';
import type { Files } from '../../src/os/files.js';
import { Failure } from '../../src/protocol/failure.js';
import type { GuestConfig } from '../../src/protocol/guest-config.js';
import {
  GUEST_FILES,
  type GuestExit,
  type GuestPhase,
  type GuestRequests,
  type ReceivedInfo,
} from '../../src/protocol/guest-process.js';
import { type Params, Rpc } from '../../src/protocol/rpc.js';
import type { ParamsOf } from '../../src/protocol/table.js';
import { encodeRecord } from '../../src/records/record.js';
import { filesOf } from './disk.js';
import type { SimulatedHost } from './host.js';
import type { End } from './network.js';
import { Actor } from './time.js';

/** The contents of its RAM, which a move copies byte for byte. */
export interface Memory {
  readonly uuid: string;
  /** How often the guest was switched on. */
  readonly boot: number;
  /** A counter that increases with whatever it does. */
  count: number;
}

type With<M extends keyof GuestRequests> = ParamsOf<GuestRequests, M>;

/** Messages from the sending process to the receiving one. */
type Sent =
  | { readonly say: 'hello'; readonly identity: string }
  | { readonly say: 'round'; readonly round: number }
  | {
      readonly say: 'all';
      readonly memory: Memory;
      readonly config: GuestConfig;
      readonly disks: Record<number, string>;
    };

const RELEASE_MS = 5_000;
const CONNECT_MS = 5_000;
const LONELY_MS = 60_000;

export class GuestProcess extends Actor {
  phase: GuestPhase = 'empty';
  memory: Memory | undefined;
  config: GuestConfig | undefined;
  paused = false;
  locked = false;
  stoppedByMove = false;
  /** Whether its guest executes instructions. */
  running = false;
  /** Requests that it refuses, each once. */
  readonly refuses = new Set<string>();
  /** How much longer each request takes, ms. */
  slow = 0;
  private sending: { abort(why: Error): void } | undefined;
  private receiving: Promise<ReceivedInfo> | undefined;
  private daemon: Rpc | undefined;
  private begun = false;
  /** No daemon has connected to it yet: it ends by itself if none does. */
  get lonely(): boolean {
    return !this.begun;
  }
  private readonly files: Files;
  /** For the daemon that takes its stream: what is to be sent there. */
  dataOffer: { taken(end: End): void } | undefined;
  port = 0;
  /** How it ended is on its disk. */
  recorded = false;

  constructor(
    readonly host: SimulatedHost,
    readonly pid: number,
    readonly directory: string,
  ) {
    super(host.world.time, `${host.name}/${pid}`);
    const look = (): void => {};
    this.files = filesOf(host.disk, look, look, directory);
    this.after(LONELY_MS, () => {
      if (!this.begun) this.leave('discarded', 'no daemon spoke to this process');
    });
  }

  private get truth() {
    return this.host.world.truth;
  }
  private get dice() {
    return this.host.world.dice;
  }

  // --- its daemon ---

  accept(end: End): void {
    this.begun = true;
    const rpc: Rpc = new Rpc(
      end as never,
      {
        request: (method, params) => this.serve(method, params),
        notice: () => undefined,
        closed: () => this.detach(rpc),
      },
      {
        monotonicMs: () => this.time.now,
        after: (ms, what) => this.after(ms, what),
        every: (ms, what) => this.every(ms, what),
      },
    );
    this.daemon?.destroy();
    this.daemon = rpc;
  }

  private detach(daemon: Rpc): void {
    if (this.daemon !== daemon) return;
    this.daemon = undefined;
    if (this.phase === 'incoming' || this.phase === 'empty') this.leave('discarded', 'the daemon is gone');
    this.sending?.abort(new Failure('io', 'the daemon is gone'));
    if (this.stoppedByMove && !this.locked) this.resume();
  }

  private async serve(method: string, params: Params): Promise<unknown> {
    if (this.slow > 0) await this.sleep(this.dice.between(0, this.slow));
    if (this.refuses.delete(method)) throw new Failure('io', `${method} fails here`);
    const handler = this.requests[method];
    if (handler === undefined) throw new Failure('usage', `unknown request ${method}`);
    return handler(params as never);
  }

  private readonly requests: Record<string, (params: never) => unknown> = {
    hello: () => this.hello(),
    create: (params: With<'create'>) => this.create(params),
    receive: (params: With<'receive'>) => this.receive(params),
    received: () => this.receiving ?? Promise.reject(new Failure('bad-state', 'nothing was to be received')),
    go: (params: With<'go'>) => this.go(params),
    pause: () => {
      this.free();
      this.paused = true;
      this.halt();
      return null;
    },
    unpause: () => {
      this.free();
      if (this.paused) this.start(() => (this.paused = false));
      return null;
    },
    status: () => ({
      vcpus: [{ id: 0, state: this.running ? 'running' : 'blocked', seconds: 1 }],
      memoryKib: 4096,
      cpuSeconds: 1,
      uptimeSeconds: 1,
      instructions: this.live().count,
      paused: this.paused || this.stoppedByMove,
      rssKib: 1,
    }),
    devices: () => this.config!.devices.map((device) => ({ ...device, front: {}, link: '' })),
    travellingDisks: () => {
      this.free();
      return this.disks().map(({ devid, target }) => ({
        devid,
        target,
        path: target,
        format: 'raw',
        readOnly: false,
        bytes: 4096,
      }));
    },
    shutdown: async ({ kind }: With<'shutdown'>) => {
      this.free();
      if (this.paused) throw new Failure('bad-state', 'the guest is paused and cannot answer');
      this.after(this.dice.between(1, 500), () => this.stops(kind));
      return null;
    },
    send: (params: With<'send'>) => this.send(params),
    abortSend: () => {
      this.sending?.abort(new Failure('io', 'given up'));
      return null;
    },
    lock: () => this.lock(),
    resume: () => this.resume(),
    end: async ({ reason }: With<'end'>) => {
      await this.sleep(this.dice.between(0, 20));
      this.halt();
      if (reason === 'saved' && this.phase === 'live' && this.memory !== undefined) this.truth.saved(this);
      this.leave(reason, '');
      return null;
    },
  };

  private hello() {
    const { pid, phase, paused, locked } = this;
    return { pid, phase, paused, locked, config: this.phase === 'live' ? this.config : null };
  }

  // --- the guest ---

  private live(): Memory {
    if (this.memory === undefined || this.phase === 'incoming' || this.phase === 'starting')
      throw new Failure('bad-state', 'there is no guest yet');
    if (this.phase === 'ended') throw new Failure('bad-state', 'the guest has stopped');
    return this.memory;
  }
  private free(): Memory {
    const memory = this.live();
    if (this.sending !== undefined || this.stoppedByMove)
      throw new Failure('bad-state', 'the guest is moving');
    return memory;
  }
  private disks(): { devid: number; target: string }[] {
    return (this.config?.devices ?? []).map(({ devid, spec }) => ({
      devid,
      target: (JSON.parse(spec) as { target: string }).target,
    }));
  }

  /** The guest executes instructions from here on. */
  private start(before: () => void = () => undefined): void {
    before();
    if (this.running || this.paused || this.phase !== 'live' || this.stoppedByMove) return;
    this.running = true;
    this.truth.starts(this);
    this.write();
  }
  /** The guest stands still, and its writes have reached its disks. */
  private halt(): void {
    if (!this.running) return;
    this.write();
    this.running = false;
    this.truth.halts(this);
  }
  /** The guest does something: it increases the counter and writes it to its disks. */
  write(): void {
    const { memory } = this;
    if (!this.running || memory === undefined) return;
    memory.count++;
    this.truth.counts(this);
    for (const { target } of this.disks()) this.host.world.images.write(this, target, JSON.stringify(memory));
  }

  /** The guest ends by itself. */
  stops(reason: GuestExit['reason']): void {
    if (this.phase !== 'live' || !this.running) return;
    this.halt();
    this.truth.stopped(this, reason);
    this.phase = 'ended';
    this.sending?.abort(new Failure('io', `the guest stopped: ${reason}`));
    this.release();
    this.recordExit({ reason, details: '' });
    this.daemon?.notice('stopped', { reason, details: '' });
  }

  private recordExit(exit: GuestExit): void {
    try {
      writeDurable(GUEST_FILES.exit.name, exit, this.files);
      this.recorded = true;
    } catch {
      // The disk is full: whoever did not hear of the end takes it for a crash.
      if (this.memory !== undefined) this.truth.killed(this, 'how it ended is not on its disk');
    }
  }

  private attach(): void {
    for (const { target } of this.disks()) this.host.world.images.lock(this, target);
  }
  private release(): void {
    for (const { target } of this.disks()) this.host.world.images.unlock(this, target);
  }

  private async create({ config, paused }: With<'create'>): Promise<unknown> {
    if (this.phase !== 'empty') throw new Failure('bad-state', 'this process has its guest');
    await this.sleep(this.dice.between(1, 100));
    this.config = config;
    this.attach();
    this.memory = this.truth.switchedOn(config.uuid);
    this.phase = 'live';
    this.paused = paused;
    this.truth.arrives(this);
    this.start();
    return this.hello();
  }

  private async receive({ from, disks, expected }: With<'receive'>): Promise<{ port: number }> {
    if (this.phase !== 'empty') throw new Failure('bad-state', 'this process has its guest');
    this.phase = 'incoming';
    await this.sleep(this.dice.between(1, 60));
    let connected: (end: End) => void = () => undefined;
    const connection = new Promise<End>((done) => {
      connected = done;
    });
    if (from.path !== undefined) this.dataOffer = { taken: connected };
    else this.port = this.host.listen(this, (end) => connected(end));
    this.receiving = this.takeIn(connection, from.path !== undefined, from.identity, disks, expected.config);
    this.receiving.catch(() => this.host.unlisten(this.port));
    return { port: this.port };
  }

  private async takeIn(
    connection: Promise<End>,
    fromFile: boolean,
    identity: string,
    disks: readonly ReceivedImage[],
    config: GuestConfig | null,
  ): Promise<ReceivedInfo> {
    const end = await connection;
    this.host.unlisten(this.port);
    const all = await new Promise<Extract<Sent, { say: 'all' }>>((done, failed) => {
      let text = '';
      end.on('data', (sent: unknown) => {
        if (fromFile) {
          text += Buffer.from(sent as Uint8Array).toString('latin1');
          return;
        }
        const said = sent as Sent;
        if (said.say === 'hello' && said.identity !== identity) failed(new Failure('io', 'another move'));
        else if (said.say === 'all') done(said);
        else end.write('taken');
      });
      end.on('end', () => {
        const at = text.indexOf('{"say":"all"');
        try {
          done(JSON.parse(text.slice(at)));
        } catch {
          failed(new Failure('io', 'the stream ends before the guest is whole'));
        }
      });
    });
    await this.sleep(this.dice.between(0, 30));
    this.memory = { ...all.memory };
    this.config = config ?? all.config;
    for (const { devid, path } of disks) {
      if (this.host.disk.full) throw new Failure('io', 'the disk that comes cannot be kept here: ENOSPC');
      const inode = this.host.disk.find(path);
      if (inode === undefined) throw new Failure('io', `${path} is not there`);
      this.host.disk.fill(inode, all.disks[devid]);
    }
    const { name, uuid } = this.config;
    return { name, uuid, config: this.config, bytes: 1, stateMs: 1 };
  }

  private async go({ handover, paused }: With<'go'>): Promise<unknown> {
    if (this.memory === undefined || this.phase !== 'incoming')
      throw new Failure('bad-state', 'no guest is waiting');
    this.phase = 'starting';
    try {
      await this.sleep(this.dice.between(0, 50));
      if (this.refuses.delete('attach')) throw new Failure('io', 'the disk is not to be had');
      this.attach();
    } catch (error) {
      this.phase = 'incoming';
      if (this.daemon === undefined) this.leave('failed', String(error));
      throw error;
    }
    if (handover !== null) {
      try {
        writeDurable(GUEST_FILES.owner.name, { handover, uuid: this.memory.uuid }, this.files);
      } catch (error) {
        this.leave('failed', 'the owner record cannot be written');
        throw error;
      }
    }
    this.phase = 'live';
    this.paused = paused;
    this.truth.arrives(this);
    this.start();
    return { attachMs: 1, recordMs: 1, startMs: 1 };
  }

  // --- a move ---

  private async send({ to, handover, disks = [], answerMs = 0 }: With<'send'>): Promise<unknown> {
    this.free();
    let abort: (why: Error) => void = () => undefined;
    const aborted = new Promise<never>((_, reject) => {
      abort = reject;
    });
    aborted.catch(() => undefined);
    this.sending = { abort };
    const during = <T>(what: Promise<T>): Promise<T> => Promise.race([what, aborted]);
    let end: End | undefined;
    let halted = false;
    try {
      const link = await during(this.reach(to.path === undefined ? to : undefined));
      end = link;
      let taken: () => void = () => undefined;
      link.on('data', () => taken());
      link.on('close', () => abort(new Failure('internal', 'the data connection failed')));
      /** A piece that the other side has to accept in time. */
      const piece = (sent: Sent): Promise<void> =>
        during(
          new Promise<void>((done, failed) => {
            taken = done;
            link.write(sent);
            if (answerMs > 0)
              this.after(answerMs, () => failed(new Failure('timed-out', 'nothing is taken any more')));
          }),
        );
      if (to.path === undefined) {
        await piece({ say: 'hello', identity: to.identity });
        for (let round = 1; round <= 2; round++) {
          await during(this.sleep(this.dice.between(1, 200)));
          await piece({ say: 'round', round });
          this.daemon?.notice('progress', PROGRESS);
        }
      }
      if (handover) {
        if (this.daemon === undefined) throw new Failure('io', 'the daemon is gone');
        await this.daemon.request('stopping');
      }
      halted = this.running;
      this.halt();
      await during(this.sleep(this.dice.between(0, 20)));
      const copied = Object.fromEntries(
        this.disks()
          .filter(({ devid }) => disks.includes(devid))
          .map(({ devid, target }) => [devid, this.host.world.images.read(this.host, target) ?? '']),
      );
      const all: Sent = { say: 'all', memory: { ...this.memory! }, config: this.config!, disks: copied };
      let bytes = 1;
      if (to.path === undefined) link.write(all);
      else bytes = this.writeImage(link, all);
      if (!handover) link.end();
      this.stoppedByMove = true;
      if (this.daemon === undefined) this.resume();
      return { ...SENT, bytes };
    } catch (error) {
      end?.destroy();
      if (halted) this.start();
      throw error;
    } finally {
      this.sending = undefined;
      this.dataOffer = undefined;
    }
  }

  /** The file of a guest begins with the real head of a stream. */
  private writeImage(end: End, all: Sent): number {
    const { uuid, name } = this.config!;
    const head = { version: 1, pageBytes: 4096, frames: 1024, uuid, name, writer: 'simulated' };
    const parts = [encodeRecord(preambleRecord, head), new TextEncoder().encode(JSON.stringify(all))];
    for (const part of parts) end.write(part);
    return parts.reduce((sum, part) => sum + part.length, 0);
  }

  /** Connects to another host's process, or waits for our daemon to fetch the stream. */
  private reach(to: { host: string; port: number } | undefined): Promise<End> {
    if (to !== undefined) return this.host.world.connectData(this, to.host, to.port, CONNECT_MS);
    return new Promise((done) => {
      this.dataOffer = { taken: done };
    });
  }

  private async lock(): Promise<null> {
    if (!this.stoppedByMove) throw new Failure('bad-state', 'only a guest that was sent can be locked');
    this.locked = true;
    await this.sleep(this.dice.between(0, 5));
    if (this.refuses.delete('release')) {
      await this.sleep(RELEASE_MS);
      this.locked = false;
      throw new Failure('io', `its disks are not let go of within ${RELEASE_MS / 1000} s`);
    }
    if (this.locked) this.release();
    return null;
  }

  private resume(): null {
    const had = this.locked;
    this.locked = false;
    this.sending?.abort(new Failure('io', 'the move was given up'));
    if (this.stoppedByMove) {
      this.stoppedByMove = false;
      if (had) this.attach();
      this.start();
    }
    return null;
  }

  // --- its end ---

  private leave(reason: GuestExit['reason'], details: string): void {
    this.phase = 'ended';
    this.recordExit({ reason, details });
    this.after(0.01, () => this.host.processEnds(this));
  }

  /** The process has ended. */
  died(): void {
    if (this.running) this.truth.halts(this);
    this.running = false;
    this.alive = false;
    this.release();
    this.host.unlisten(this.port);
  }
}

export const DATA_NAME = DATA_SOCKET;
const PROGRESS = {
  round: 1,
  pages: 1,
  sent: 1,
  dirty: 1,
  mbPerSecond: 1,
  dirtyPagesPerSecond: 1,
  expectedDowntimeMs: 1,
};
const SENT = {
  rounds: [],
  bytes: 1,
  storageBytes: 0,
  precopyMs: 1,
  reason: 'downtime',
  stopMs: 1,
  lastPagesMs: 1,
  lastPages: 1,
  stateMs: 1,
  stoppedAt: 1,
};
