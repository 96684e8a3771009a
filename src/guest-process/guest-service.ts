/**
 * The work of a guest's process: it serves one guest, which it makes from a configuration or takes from a
 * stream, and it runs, moves and ends the guest when the daemon asks for that.
 *
 * Invariant (docs/handover.md): a guest that came by a move runs no instruction before its owner record is on
 * disk. A guest that a move has stopped runs again if the daemon is lost, unless the guest is locked; a
 * locked guest never runs again in this process.
 */
import { readFileSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { Host, HostStore } from '../host/host.js';
import type { FilledImages, HostImages } from '../host/images.js';
import type { HostGrant } from '../host/platform.js';
import { loadPlatform } from '../host/platforms.js';
import { DataListener, openData } from '../migration/data-channel.js';
import { receiveGuest } from '../migration/destination.js';
import type { GuestFactory } from '../migration/moving-guest.js';
import { sendGuest } from '../migration/source.js';
import { CONSOLE_VERSION, consoleLogRecord, MAX_CONSOLE_LOG } from '../migration/stream-records.js';
import type { StreamHead } from '../migration/stream-writer.js';
import { WorkerSender } from '../migration/worker-sender.js';
import { writeDurable } from '../os/durable.js';
import { logLine } from '../os/log-output.js';
import { within } from '../os/within.js';
import { Failure } from '../protocol/failure.js';
import { type GuestConfig, readDiskSpec } from '../protocol/guest-config.js';
import {
  ASKED_BY_GUEST,
  type ExpectedGuest,
  FROM_GUEST,
  GUEST_FILES,
  type GuestExit,
  type GuestHello,
  type GuestPhase,
  type GuestRequests,
  type ReceivedInfo,
} from '../protocol/guest-process.js';
import { MAX_CONSOLE_BYTES, MAX_DMESG } from '../protocol/limits.js';
import type { StartedInfo } from '../protocol/moves.js';
import { quotedName } from '../protocol/name.js';
import type { Rpc } from '../protocol/rpc.js';
import {
  type AnsweredOf,
  ask,
  type Handlers,
  type NoticedOf,
  type ParamsOf,
  say,
} from '../protocol/table.js';
import { RecordError } from '../records/fields.js';
import { decodeRaw, decodeRecord, encodeRecord, recordSize } from '../records/record.js';
import { MAX_DETAILS, recordExit } from './exit-record.js';
import { ConsoleKeeper } from './guest-console.js';
import { CONSOLE_LOG } from './guest-files.js';
import type {
  GuestRunner,
  IncomingRunner,
  OpenDisks,
  RunnerFactory,
  RunnerHooks,
  RunnerModule,
} from './guest-runner.js';
import { RelayedStore } from './relayed-store.js';

/** The file descriptors that the daemon opened for this process before it started it. */
const KERNEL_FD = 3;
const RAMDISK_FD = 4;

/** The longest time that this process waits until nothing of a stopped guest can reach its disks any more. */
const RELEASE_MS = 5_000;
/** The longest text, in characters, that a migration point's value may have. */
const MAX_WORDS = 4096;

/** What the service has of the program that it is in. */
export interface ServiceSurroundings {
  /** The host that was granted, and its images. */
  openHost(
    grant: HostGrant,
    store: HostStore,
  ): Promise<{ readonly host: Host; readonly images: Pick<HostImages, 'fill' | 'foundAt'> }>;
  kernel(): Uint8Array;
  ramdisk(): Uint8Array;
  log(line: string): void;
  recordExit(exit: GuestExit): void;
  readonly console: Pick<ConsoleKeeper, 'take' | 'latest'> &
    Partial<Pick<ConsoleKeeper, 'flushed' | 'earlier' | 'history' | 'follow' | 'followed'>>;
  /** The directory of the owner record. */
  readonly directory: string;
  /** Is told what the guest does before the daemon is. */
  readonly hooks?: Partial<RunnerHooks>;
}

/** A guest's process of its own. */
const ofProcess = (): ServiceSurroundings => ({
  async openHost(grant, store) {
    const platform = await (await loadPlatform(grant.platform)).open(grant.name, grant.settings);
    return { host: platform.openHost(grant, { store, log: logLine }), images: platform.images };
  },
  kernel: () => readFileSync(KERNEL_FD),
  ramdisk: () => readFileSync(RAMDISK_FD),
  log: logLine,
  recordExit,
  console: new ConsoleKeeper(CONSOLE_LOG),
  directory: '.',
});

type With<M extends keyof GuestRequests> = ParamsOf<GuestRequests, M>;
type Answer<M extends keyof GuestRequests> = AnsweredOf<GuestRequests, M>;

export class GuestService {
  private phase: GuestPhase = 'empty';
  private runner: GuestRunner | undefined;
  private incoming: IncomingRunner | undefined;
  private receiving: Promise<ReceivedInfo> | undefined;
  private sender: WorkerSender | undefined;
  /** True once a move has sent all of the guest and stopped it. */
  private stoppedByMove = false;
  private locked = false;
  /** The number of devices whose links are being opened. */
  private plugging = 0;
  private dumping = false;
  private paused = false;
  /** Of the host that the daemon has granted. */
  private images: Pick<HostImages, 'fill' | 'foundAt'> | undefined;
  /** Lets a guest that was created, or that arrived paused, run its first instruction. */
  private firstStart: (() => void) | undefined;
  private watched = false;
  private daemon: Rpc | undefined;
  private readonly store = new RelayedStore(() => {
    const { daemon } = this;
    return daemon && { unsent: daemon.unsent, send: (nodes) => say(daemon, FROM_GUEST, 'store', { nodes }) };
  });

  constructor(
    private readonly module: RunnerModule,
    private readonly exit: (status: number) => void,
    private readonly around: ServiceSurroundings = ofProcess(),
  ) {}

  /** What this process does for each request of its daemon. */
  readonly handlers: Handlers<GuestRequests> = {
    hello: () => this.hello(),
    create: (wanted) => this.create(wanted),
    receive: (wanted) => this.receive(wanted),
    received: () => this.received(),
    go: (wanted) => this.go(wanted),
    pause: () => this.held(() => this.pause()),
    unpause: () => this.unpause(),
    status: () => this.status(),
    points: () => this.points(),
    dmesg: () => this.dmesg(),
    shutdown: (wanted) => this.shutdown(wanted),
    nmi: (wanted) => this.nmi(wanted),
    resized: (wanted) => this.resized(wanted),
    rename: (wanted) => this.rename(wanted),
    devices: () => this.devices(),
    plug: (wanted) => this.held(() => this.plug(wanted)),
    unplug: (wanted) => this.held(() => this.unplug(wanted)),
    type: (wanted) => this.type(wanted),
    watchConsole: () => this.watchConsole(),
    travellingDisks: () => this.held(async () => this.travellingDisks()),
    send: (wanted) => this.held(() => this.send(wanted)),
    dumpCore: (wanted) => this.held(() => this.dumpCore(wanted)),
    abortSend: (wanted) => this.abortSend(wanted),
    lock: () => this.lock(),
    resume: () => this.resume(),
    end: (wanted) => this.end(wanted),
  };

  /** Takes the connection of a daemon. The connection of an earlier daemon is closed. */
  attachDaemon(daemon: Rpc): void {
    this.daemon?.destroy();
    this.daemon = daemon;
    this.watched = false;
  }

  detachDaemon(daemon: Rpc): void {
    if (this.daemon !== daemon) return;
    this.daemon = undefined;
    if (this.phase === 'incoming' || this.phase === 'empty') this.leave('discarded', 'the daemon is gone');
    this.sender?.abort('the daemon is gone');
    if (this.stoppedByMove && !this.locked) this.resume();
  }

  storeChanged(node: { path: string; value: string | null }): void {
    this.store.changed(node);
  }

  hello(): GuestHello {
    // The daemon may have been restarted: then it does not know what this guest has written into its
    // xenstore.
    this.store.tellAll();
    return {
      pid: process.pid,
      phase: this.phase,
      paused: this.paused,
      locked: this.locked,
      config: this.runner?.config ?? null,
    };
  }

  private async factory(grant: HostGrant): Promise<RunnerFactory> {
    const { hooks = {}, log } = this.around;
    const { host, images } = await this.around.openHost(grant, this.store);
    this.images = images;
    return this.module.openFactory(host, {
      console: (bytes) => {
        hooks.console?.(bytes);
        this.around.console.take(bytes);
        if (this.watched) this.show(bytes);
      },
      stopped: (reason, details, code) => {
        hooks.stopped?.(reason, details, code);
        this.stopped({ reason, details });
      },
      moved: () => hooks.moved?.(),
      unplugged: (kind, devid) => {
        hooks.unplugged?.(kind, devid);
        this.tell('unplugged', { kind, devid });
      },
      log,
    });
  }

  /** The guest, once there is one that may run here. */
  get guest(): GuestRunner | undefined {
    return this.runner;
  }

  /** Sends the daemon a notice, if a daemon is connected. */
  private tell<M extends keyof typeof FROM_GUEST & string>(
    method: M,
    params: NoticedOf<typeof FROM_GUEST, M>,
  ): void {
    if (this.daemon !== undefined) say(this.daemon, FROM_GUEST, method, params);
  }

  private show(bytes: Uint8Array): void {
    for (let from = 0; from < bytes.length; from += MAX_CONSOLE_BYTES) {
      const part = Buffer.from(bytes.subarray(from, from + MAX_CONSOLE_BYTES));
      this.tell('console', { data: part.toString('base64') });
    }
  }

  private stopped({ reason, details }: GuestExit): void {
    if (this.phase !== 'live') return;
    const exit = { reason, details: details.slice(0, MAX_DETAILS) };
    this.phase = 'ended';
    this.around.recordExit(exit);
    this.sender?.abort(`the guest stopped: ${exit.reason}`);
    // Whoever keeps the console of a guest that crashed finds its last words in it.
    const flushed = this.around.console.flushed?.() ?? Promise.resolve();
    void flushed.then(() => this.tell('stopped', exit));
  }

  private live(): GuestRunner {
    if (this.runner === undefined) throw new Failure('bad-state', 'there is no guest yet');
    if (this.phase === 'ended') throw new Failure('bad-state', 'the guest has stopped');
    return this.runner;
  }
  /**
   * The guest, for requests that would change it. They are refused while a move is settling who owns the
   * guest.
   */
  private free(): GuestRunner {
    const runner = this.live();
    if (this.sender !== undefined || this.stoppedByMove)
      throw new Failure('bad-state', 'the guest is moving');
    if (this.dumping) throw new Failure('bad-state', "the guest's core is being written");
    return runner;
  }

  async create({ config, host, paused }: With<'create'>): Promise<GuestHello> {
    if (this.phase !== 'empty') throw new Failure('bad-state', 'this process has its guest');
    const kernel = this.around.kernel();
    const ramdisk = config.ramdisk === '' ? undefined : this.around.ramdisk();
    const runner = await (await this.factory(host)).create(config, kernel, ramdisk);
    this.runner = runner;
    this.phase = 'live';
    this.firstStart = () => runner.start();
    this.paused = paused;
    if (!paused) this.begin();
    return this.hello();
  }

  /** Does this to a guest that stays the one that it is meanwhile. */
  private async held<T>(act: () => Promise<T>): Promise<T> {
    const release = await this.runner?.hold?.();
    try {
      return await act();
    } finally {
      release?.();
    }
  }

  private begin(): void {
    const start = this.firstStart;
    this.firstStart = undefined;
    start?.();
  }

  async receive({ host, from, ports, disks, expected }: With<'receive'>): Promise<{ port: number }> {
    if (this.phase !== 'empty') throw new Failure('bad-state', 'this process has its guest');
    this.phase = 'incoming';
    const factory = await this.factory(host);
    // The rehearsal runs before the source sends anything: a small guest would otherwise have arrived by
    // then, and would stand still until the rehearsal ends. A guest from a file stands still in any case, so
    // it is not rehearsed.
    if (from.path === undefined) await this.rehearse(factory);
    else rmSync(from.path, { force: true });
    const listener = await DataListener.listen(from, ports);
    const taker = this.images!.fill(disks, this.around.log);
    this.receiving = this.takeIn(listener, factory, from.path !== undefined, taker, expected);
    this.receiving.catch(() => listener.close());
    return { port: listener.port };
  }

  private async rehearse(factory: RunnerFactory): Promise<void> {
    try {
      await factory.rehearse?.(() => new Promise((done) => setImmediate(done)));
    } catch (error) {
      // A rehearsal that fails does not matter to the move, but somebody should see that it failed.
      this.around.log(`rehearsal: ${(error as Error).stack}`);
    }
  }

  private async takeIn(
    listener: DataListener,
    factory: RunnerFactory,
    fromFile: boolean,
    disks: FilledImages,
    expected: ExpectedGuest,
  ): Promise<ReceivedInfo> {
    const socket = await listener.connection();
    const chunks = socket.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>;
    const { config: given } = expected;
    const checking: GuestFactory<IncomingRunner> = {
      async construct(description) {
        const incoming = await factory.construct(description, given ?? undefined);
        mustBeExpected(incoming.runner.config, expected, "the stream's configuration");
        return incoming;
      },
    };
    const head = (found: StreamHead): void => mustBeExpected(found, expected, "the stream's head");
    const own = (records: Uint8Array): Uint8Array => this.takeConsole(records);
    const received = receiveGuest(chunks, checking, { fromFile, disks, head, own });
    const { guest, bytes, stateMs } = await received.finally(() => disks.close());
    socket.end();
    socket.resume();
    this.incoming = guest;
    const { config, movable } = guest.runner;
    return { name: movable.name, uuid: movable.uuid, config, bytes, stateMs };
  }

  /** Takes what the guest has printed elsewhere, if `records` begin with that. Returns the rest. */
  private takeConsole(records: Uint8Array): Uint8Array {
    if (String.fromCharCode(...records.subarray(0, 4)) !== consoleLogRecord.tag) return records;
    const { output } = decodeRecord(consoleLogRecord, decodeRaw(records));
    this.around.console.earlier?.(output.subarray(-MAX_CONSOLE_LOG));
    return records.subarray(recordSize(records));
  }

  /** What the guest has printed, for its next process. */
  private consoleRecord(where: 'description' | 'state'): Uint8Array {
    const { console } = this.around;
    const output = where === 'state' ? console.followed?.() : console.history?.();
    if (where === 'description') console.follow?.();
    return encodeRecord(consoleLogRecord, {
      output: (output ?? new Uint8Array()).subarray(-MAX_CONSOLE_LOG),
    });
  }

  received(): Promise<ReceivedInfo> {
    return this.receiving ?? Promise.reject(new Failure('bad-state', 'nothing was to be received'));
  }

  async go({ handover, paused }: With<'go'>): Promise<StartedInfo> {
    const { incoming } = this;
    if (incoming === undefined || this.phase !== 'incoming')
      throw new Failure('bad-state', 'no guest is waiting');
    this.phase = 'starting';
    const t0 = performance.now();
    try {
      await incoming.attach();
    } catch (error) {
      this.phase = 'incoming';
      if (this.daemon === undefined) this.leave('failed', String(error));
      throw error;
    }
    const t1 = performance.now();
    // The hand-over is decided here: before this line the guest belongs to the source, after it to this host.
    if (handover !== null) this.claim(handover, incoming);
    const t2 = performance.now();
    this.phase = 'live';
    this.runner = incoming.runner;
    this.firstStart = () => incoming.start();
    this.paused = paused;
    if (!paused) this.begin();
    return { attachMs: t1 - t0, recordMs: t2 - t1, startMs: performance.now() - t2 };
  }

  private claim(handover: string, incoming: IncomingRunner): void {
    try {
      writeDurable(join(this.around.directory, GUEST_FILES.owner.name), {
        handover,
        uuid: incoming.runner.movable.uuid,
      });
    } catch (error) {
      // The write may have failed after the record was on disk. The daemon looks for the record once this
      // process has ended and can no longer change it.
      this.leave('failed', `the owner record cannot be written: ${(error as Error).message}`);
      throw error;
    }
  }

  async pause(): Promise<null> {
    const runner = this.free();
    if (!this.paused) {
      this.paused = true;
      // The guest stands still even if this fails. A write that a disk has not finished ends when its server
      // answers, as on Xen.
      await runner.movable.pause().catch((error: Error) => this.around.log(error.message));
    }
    return null;
  }

  unpause(): null {
    const runner = this.free();
    if (!this.paused) return null;
    this.paused = false;
    if (this.firstStart !== undefined) this.begin();
    else runner.movable.resume();
    return null;
  }

  status(): Answer<'status'> {
    if (this.runner === undefined) throw new Failure('bad-state', 'there is no guest yet');
    const rssKib = Math.round(process.memoryUsage.rss() / 1024);
    return { ...this.runner.status(), paused: this.paused || this.stoppedByMove, rssKib };
  }
  points(): Answer<'points'> {
    const clip = (text: string): string => text.slice(0, MAX_WORDS);
    return this.live()
      .points()
      .map((row) => ({ ...row, inner: clip(row.inner), outer: clip(row.outer) }));
  }
  dmesg(): string {
    return (this.runner?.dmesg() ?? '').slice(-MAX_DMESG);
  }

  async shutdown({ kind, timeoutS }: With<'shutdown'>): Promise<null> {
    const runner = this.free();
    if (this.paused) throw new Failure('bad-state', 'the guest is paused and cannot answer');
    const withdraw = new AbortController();
    const timer = setTimeout(() => withdraw.abort(), timeoutS * 1000);
    try {
      await runner.requestShutdown(kind, withdraw.signal);
    } catch (error) {
      if (!withdraw.signal.aborted) throw error;
      throw new Failure(
        'timed-out',
        `the guest did not take the request to ${kind === 'poweroff' ? 'shut down' : 'reboot'} within ${timeoutS} s; ` +
          'a guest without a driver for it never does (destroy ends it)',
      );
    } finally {
      clearTimeout(timer);
    }
    return null;
  }

  nmi({ vcpu }: With<'nmi'>): null {
    if (this.free().nmi?.(vcpu) !== true) throw new Failure('usage', `the guest has no vCPU ${vcpu}`);
    return null;
  }
  resized(sizes: With<'resized'>): null {
    this.free().resized(sizes);
    return null;
  }
  rename({ name }: With<'rename'>): null {
    this.live().rename(name);
    return null;
  }
  devices(): Answer<'devices'> {
    return this.live().devices();
  }
  async plug({ device, at }: With<'plug'>): Promise<GuestConfig> {
    const runner = this.free();
    if (at !== null) this.images?.foundAt(readDiskSpec(device.spec).target, at);
    this.plugging++;
    try {
      await runner.plug(device);
    } finally {
      this.plugging--;
    }
    return runner.config;
  }
  async unplug({ kind, devid, force, timeoutS }: With<'unplug'>): Promise<GuestConfig> {
    const runner = this.free();
    if (this.paused && !force)
      throw new Failure(
        'bad-state',
        `the guest is paused and cannot let go of ${kind} ${devid} (unpause it, or use --force)`,
      );
    if (!(await runner.unplug(kind, devid, force, AbortSignal.timeout(timeoutS * 1000)))) {
      const who = force ? 'what is behind it' : 'the guest';
      throw new Failure(
        'timed-out',
        `${who} did not let go of ${kind} ${devid} within ${timeoutS} s; it is gone when that has`,
      );
    }
    return runner.config;
  }
  type({ data }: With<'type'>): number {
    return this.live().type(Buffer.from(data, 'base64'));
  }
  watchConsole(): string {
    this.watched = true;
    return this.around.console.latest().toString('base64');
  }

  travellingDisks(): Answer<'travellingDisks'> {
    return this.free().diskSizes?.() ?? [];
  }

  async send(wanted: With<'send'>): Promise<Answer<'send'>> {
    const { to, options, handover, version, clockDifference, disks = [], answerMs } = wanted;
    const runner = this.free();
    if (this.plugging > 0) throw new Failure('bad-state', 'a device is being plugged in');
    const { movable } = runner;
    const sender = new WorkerSender(to, movable.ram, movable.frames, answerMs);
    this.sender = sender;
    let openDisks: OpenDisks | undefined;
    try {
      await this.around.console.flushed?.();
      if (disks.length > 0) openDisks = await this.openDisks(runner, disks, answerMs);
      const stats = await sendGuest(movable, sender, options, {
        progress: (progress) => this.tell('progress', progress),
        storageProgress: (progress) => this.tell('progress', progress),
        disks: openDisks?.disks,
        stopping: async () => {
          if (!handover) return;
          if (this.daemon === undefined) throw new Failure('io', 'the daemon is gone');
          await ask(this.daemon, ASKED_BY_GUEST, 'stopping', {});
        },
        alreadyPaused: this.paused,
        answerMs,
        version,
        beside:
          version !== undefined && version >= CONSOLE_VERSION
            ? (where) => this.consoleRecord(where)
            : undefined,
        clockDifference,
      });
      this.stoppedByMove = true;
      if (this.daemon === undefined) this.resume();
      return stats;
    } finally {
      this.sender = undefined;
      // This is not awaited, because the guest may be standing still.
      openDisks?.close().catch((error: Error) => this.around.log(error.message));
      // The sender's thread ends by itself once everything is written, and has ended already if it failed.
      if (!this.stoppedByMove) sender.close();
    }
  }

  private async openDisks(
    runner: GuestRunner,
    disks: readonly number[],
    answerMs = Number.POSITIVE_INFINITY,
  ): Promise<OpenDisks | undefined> {
    const opening = runner.openDisks?.(disks);
    if (opening === undefined || !Number.isFinite(answerMs)) return opening;
    try {
      return await within(
        opening,
        answerMs,
        `its disks cannot be opened for a copy within ${answerMs / 1000} s`,
      );
    } catch (error) {
      // The disks may still be opened after the time limit; then they are closed.
      opening.then(
        (late) => late.close(),
        () => undefined,
      );
      throw error;
    }
  }

  /** Also of a guest that has crashed, for as long as this process is there. */
  async dumpCore({ to }: With<'dumpCore'>): Promise<{ bytes: number }> {
    const { runner } = this;
    const ended = this.phase === 'ended';
    if (!ended) this.free();
    const parts = runner?.core;
    if (runner === undefined || parts === undefined)
      throw new Failure('bad-state', 'of this guest no core can be written');
    this.dumping = true;
    const stops = !ended && !this.paused;
    let bytes = 0;
    try {
      // The guest stands still even if one of its disks does not answer in time.
      if (stops) await runner.movable.pause().catch((error: Error) => this.around.log(error.message));
      const socket = await openData({ ...to, port: 0 });
      let failed: Error | undefined;
      socket.on('error', (error) => {
        failed = error;
      });
      try {
        for (const part of parts.call(runner)) {
          if (failed !== undefined || socket.destroyed)
            throw failed ?? new Failure('io', 'nobody takes the core');
          bytes += part.length;
          if (!socket.write(part)) await drained(socket);
        }
        await new Promise<void>((done) => socket.end(done));
      } finally {
        socket.destroy();
      }
    } finally {
      this.dumping = false;
      if (stops && !this.paused && this.phase === 'live') runner.movable.resume();
    }
    return { bytes };
  }

  abortSend({ reason }: With<'abortSend'>): null {
    this.sender?.abort(reason);
    return null;
  }

  /**
   * Answers once nothing of this guest can reach its disks any more. If that takes longer than RELEASE_MS,
   * the guest is not locked and its daemon does not offer it to the destination.
   */
  async lock(): Promise<null> {
    if (!this.stoppedByMove) throw new Failure('bad-state', 'only a guest that was sent can be locked');
    this.locked = true;
    try {
      const released = this.runner?.movable.release() ?? Promise.resolve();
      await within(released, RELEASE_MS, `its disks are not let go of within ${RELEASE_MS / 1000} s`);
    } catch (error) {
      this.locked = false;
      throw error;
    }
    return null;
  }

  resume(): null {
    this.locked = false;
    this.sender?.abort('the move was given up');
    if (this.stoppedByMove) {
      this.stoppedByMove = false;
      if (!this.paused) this.runner?.movable.resume();
    }
    return null;
  }

  async end({ reason }: With<'end'>): Promise<null> {
    await this.runner?.movable.detach().catch((error: Error) => this.around.log(error.message));
    if (this.runner === undefined) await this.incoming?.discard();
    this.leave(reason, '');
    return null;
  }

  /** Ends this process in order. The process exits after the answers that are on their way have left. */
  private leave(reason: GuestExit['reason'], details: string): void {
    this.phase = 'ended';
    this.around.log(`this process ends: ${reason} ${details}`.trimEnd());
    this.around.recordExit({ reason, details });
    setImmediate(() => this.exit(0));
  }
}

/** Whoever takes the core takes a part of it within this time, ms. */
const DRAIN_MS = 60_000;

/** Resolves when more can be written, or the connection is gone. */
function drained(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (): void => {
      clearTimeout(timer);
      socket.off('drain', done);
      socket.off('close', done);
      resolve();
    };
    const timer = setTimeout(() => {
      socket.off('drain', done);
      socket.off('close', done);
      reject(new Failure('timed-out', `of the core, nothing was taken within ${DRAIN_MS / 1000} s`));
    }, DRAIN_MS);
    socket.once('drain', done);
    socket.once('close', done);
  });
}

/** Throws if a part of a stream describes another guest than the source has announced. */
function mustBeExpected(
  found: { readonly name: string; readonly uuid: string },
  expected: ExpectedGuest,
  where: string,
): void {
  for (const field of ['name', 'uuid'] as const) {
    if (found[field] !== expected[field])
      throw new RecordError(
        0,
        `${where} is of a guest with the ${field} ${quotedName(found[field])}; ${quotedName(expected[field])} was announced`,
      );
  }
}
