/**
 * A helper domain's one program: runs one guest on a real Xen. The guest's disks, networks, console and power are the
 * domain's own; what dom0 asks of the domain it asks of the guest, and as the guest ends so does the domain.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { BOOT_LOADER } from '../guest/boot-loader.js';
import { readGuestConfig } from '../guest-process/device-requests.js';
import type { GuestRunner, RunnerHooks, StopReason } from '../guest-process/guest-runner.js';
import { openFactory } from '../guest-process/pv-runner.js';
import type { Host } from '../host/host.js';
import { loadPlatform } from '../host/platforms.js';
import { Failure } from '../protocol/failure.js';
import { VERSION } from '../protocol/generated/version.js';
import type { GuestConfig } from '../protocol/guest-config.js';
import { printableLines } from '../protocol/printable.js';
import { SHUTDOWN_crash, SHUTDOWN_poweroff, SHUTDOWN_reboot, SHUTDOWN_suspend } from '../xen/sched.js';
import { cpuFault } from './cpu-check.js';
import { HelperConsole } from './helper-console.js';
import type { HelperMoves } from './helper-moves.js';
import { KernelLog } from './kernel-log.js';
import { type MoveOrder, readMoveOrder } from './move-order.js';
import { type MoveSettings, readMoveSettings } from './move-settings.js';
import { OwnDevices } from './own-devices.js';
import type { Places } from './places.js';
import { Published, type PublishedMove, type PublishedState } from './published.js';

/** How often what changes by itself is shown anew, ms. */
const SHOW_MS = 60_000;
/** Less than this is said in the log, KiB. */
const SHORT_KIB = 24 << 10;
/** How long the last words may take, ms: dom0's xenstore may be slow, and the guest has ended. */
const LAST_WORDS_MS = 3000;
/** A domain that ends with this reason waits to be saved. Only the helper's kernel may say that of the domain. */
const NOT_OF_A_GUEST = new Set([SHUTDOWN_suspend]);
const MAX_REASON = 255;

export interface HelperStreams {
  readonly input: Readable;
  readonly output: Writable;
  /** Our own messages, a line each. */
  readonly log: (line: string) => void;
}

interface End {
  readonly kind: StopReason | 'moved';
  readonly reason: number;
  /** Where a guest that has moved lives. */
  readonly to?: string;
}

/** What dom0 writes on the helper's command line so that it waits for its guest to come from another host. */
const WAIT = 'stillpoint.wait';
/** How the program ends: the domain with it, or it is to be started anew. */
export type Ending = 'ended' | 'again';

export class HelperDomain {
  private runner: GuestRunner | undefined;
  private published: Published | undefined;
  private ended: ((end: End | 'again') => void) | undefined;
  private console: HelperConsole | undefined;
  private asked: 'poweroff' | 'reboot' | undefined;
  private moves = 0;
  private config!: GuestConfig;
  private host!: Host;
  private transfers: HelperMoves | undefined;
  private devices: OwnDevices | undefined;
  private leaving = false;
  private waiting = false;
  private listens: string | undefined;
  private short = false;

  constructor(
    private readonly places: Places,
    private readonly streams: HelperStreams,
  ) {}

  /** What dom0 asks for; the guest gets it, now or when it is there. */
  ask(kind: 'poweroff' | 'reboot'): void {
    this.asked = kind;
    const { runner } = this;
    if (runner === undefined) {
      // A helper that waits has no guest that could answer.
      if (this.waiting)
        this.ended?.({ kind, reason: kind === 'poweroff' ? SHUTDOWN_poweroff : SHUTDOWN_reboot });
      return;
    }
    this.log(`dom0 asks for ${kind}`);
    // A guest that does not answer is ended by dom0, when it wants.
    void runner.requestShutdown(kind, new AbortController().signal);
  }

  /**
   * Runs the guest until it ends; then the reason is written. Rejects where it cannot be run. With "again" nothing is
   * written: the program is to be started anew, for a guest that could not be taken in or that has rebooted here.
   */
  async run(): Promise<Ending> {
    const { proc = '/proc' } = this.places.host;
    const fault = cpuFault(readFileSync(`${proc}/cpuinfo`, 'latin1'));
    if (fault !== undefined) throw new Error(fault);
    this.config = readGuestConfig(
      readFileSync(this.places.guest, 'utf8'),
      this.places.guest,
      dirname(this.places.guest),
    );
    const moves = readMoveSettings(this.places.move);
    const platform = await loadPlatform('xen');
    this.host = await platform.openSingleHost(this.config.name, {
      guestKib: this.config.memoryKib,
      own: moves?.vif && { address: moves.address, ...moves.vif },
      places: this.places.host,
      networks: this.places.networks,
      log: (line) => this.log(line),
    });
    this.published = new Published(this.host.store);
    const { dev = '/dev' } = this.places.host;
    const unfollow = KernelLog.follow(`${dev}/kmsg`, (line) => this.published?.log(line));
    try {
      this.show('starting');
      if (moves !== undefined) this.transfers = await this.openMoves(moves);
      const end = await this.live();
      if (end === 'again') return end;
      this.show(end.kind, end.reason, end.to);
      mkdirSync(dirname(this.places.reason), { recursive: true });
      writeFileSync(this.places.reason, `${end.reason}\n`);
      return 'ended';
    } finally {
      unfollow();
      this.transfers?.close();
      await Promise.race([
        this.published.settled(),
        new Promise((resolve) => setTimeout(resolve, LAST_WORDS_MS).unref()),
      ]);
      await this.host.close?.();
    }
  }

  private async live(): Promise<End | 'again'> {
    const stopped = new Promise<End | 'again'>((resolve) => {
      this.ended = resolve;
    });
    const console = new HelperConsole(
      this.streams.input,
      this.streams.output,
      (bytes) => this.runner?.type(bytes) ?? 0,
    );
    this.console = console;
    const runner = await Promise.race([this.begin(console), stopped]);
    if (runner === 'again' || 'reason' in runner) {
      await console.close();
      return runner;
    }
    this.runner = runner;
    const { sys = '/sys', dev = '/dev' } = this.places.host;
    const devices = new OwnDevices(
      this.host,
      runner,
      { sys, dev },
      (line) => this.log(line),
      () => this.show('running'),
    );
    this.devices = devices;
    const timer = setInterval(() => this.show('running'), SHOW_MS);
    if (this.transfers === undefined) runner.start();
    this.show('running');
    devices.look();
    if (this.asked !== undefined) this.ask(this.asked);
    let end: End | 'again' | undefined;
    try {
      end = await stopped;
    } finally {
      clearInterval(timer);
      devices.stop();
      await console.close();
      // The disks are closed: what the guest has written is with dom0. A guest that has moved has none here.
      if (end === undefined || end === 'again' || end.kind !== 'moved') await runner.movable.detach();
    }
    // The domain was made to wait; its guest, which has come, does not.
    return end !== 'again' && end.kind === 'reboot' && this.transfers?.cameHere === true ? 'again' : end;
  }

  /** The guest, which is made here or comes from another host. */
  private async begin(console: HelperConsole): Promise<GuestRunner> {
    const { transfers } = this;
    if (transfers === undefined) return this.create(console);
    const { proc = '/proc' } = this.places.host;
    const told = readFileSync(`${proc}/cmdline`, 'latin1').trim().split(/\s+/).includes(WAIT);
    this.waiting = told && !transfers.cameHere;
    const arrival = this.waiting ? transfers.arrival() : undefined;
    const port = await transfers.listen();
    this.listens = `${transfers.settings.address}:${port}`;
    this.log(`listens for other hosts on ${this.listens}`);
    if (arrival === undefined) {
      const runner = await transfers.create();
      // A guest that has come is powered on here again when it reboots.
      if (!transfers.cameHere) this.spend();
      return runner;
    }
    this.show('waiting');
    const timer = setInterval(() => this.show('waiting'), SHOW_MS);
    const runner = await arrival.finally(() => clearInterval(timer));
    this.waiting = false;
    this.log('the guest has come, and runs');
    return runner;
  }

  private async openMoves(settings: MoveSettings): Promise<HelperMoves> {
    const { HelperMoves } = await import('./helper-moves.js');
    const { guest, reason, move = '' } = this.places;
    const file = (name: string): Uint8Array => readFileSync(join(dirname(guest), name));
    this.host.onOrder?.('migrate', (value) => this.order(() => this.migrate(readMoveOrder(value))));
    this.host.onOrder?.('migrate-cancel', () => this.order(() => this.transfers?.cancel()));
    this.host.onOrder?.('migrate-settle', (where) =>
      this.order(() => {
        if (where !== 'keep' && where !== 'gone') throw new Failure('usage', 'keep or gone is expected');
        return this.transfers?.decide(where === 'keep');
      }),
    );
    return new HelperMoves({
      settings,
      identity: dirname(move),
      directory: join(dirname(reason), 'guest'),
      config: this.config,
      host: this.host,
      hooks: this.hooks((bytes) => this.console?.write(bytes)),
      kernel: () => file('kernel'),
      ramdisk: () => file('ramdisk'),
      rested: () => this.rested(),
      left: (to) => this.ended?.({ kind: 'moved', reason: SHUTDOWN_poweroff, to }),
      again: () => this.ended?.('again'),
      failed: (why) => {
        this.log(`the guest cannot go on: ${why}`);
        this.ended?.({ kind: 'crash', reason: SHUTDOWN_crash });
      },
    });
  }

  /** dom0 wants the guest to live on another host. */
  private async migrate({ to, options }: MoveOrder): Promise<void> {
    const { transfers, published } = this;
    const tell = (state: string, more: Partial<PublishedMove> = {}): void =>
      published?.move({ state, to, at: new Date().toISOString(), ...more });
    if (transfers === undefined || this.leaving)
      throw new Failure('bad-state', 'the guest is moving already');
    this.leaving = true;
    this.devices?.hold(true);
    this.log(`dom0 wants the guest to live on ${to}`);
    tell('moving');
    try {
      const { totalMs, downtimeMs } = await transfers.migrate(to, options);
      tell('moved', { totalMs, downtimeMs });
    } catch (error) {
      const { message } = error as Error;
      this.log(`the guest is not moved to ${to}: ${message}`);
      tell(transfers.moving ? 'unsettled' : 'stays', { error: message });
      if (!transfers.moving) this.rested();
    }
  }

  /** No move is under way any more. */
  private rested(): void {
    this.leaving = false;
    this.devices?.hold(false);
  }

  private order(what: () => Promise<void> | undefined): void {
    const run = async (): Promise<void> => what();
    run().catch((error: Error) => this.log(error.message));
  }

  private async create(console: HelperConsole): Promise<GuestRunner> {
    const factory = openFactory(
      this.host,
      this.hooks((bytes) => console.write(bytes)),
    );
    const { kernel, ramdisk } = this.config;
    const read = (path: string): Uint8Array => readFileSync(path);
    const runner = await factory.create(
      this.config,
      read(kernel === BOOT_LOADER ? join(dirname(this.places.guest), 'kernel') : kernel),
      ramdisk === '' ? undefined : read(ramdisk),
    );
    this.spend();
    return runner;
  }

  private spend(): void {
    for (const file of this.places.spent) rmSync(file, { force: true });
  }

  private hooks(console: RunnerHooks['console']): RunnerHooks {
    return {
      console,
      log: (line) => this.log(line),
      stopped: (kind, details, code = SHUTDOWN_crash) => {
        if (details !== '') this.log(details);
        const usable = code >= 0 && code <= MAX_REASON && !NOT_OF_A_GUEST.has(code);
        this.ended?.({ kind, reason: usable ? code : SHUTDOWN_crash });
      },
      moved: () => this.arrived(),
      unplugged: () => this.show('running'),
    };
  }

  private arrived(): void {
    this.moves++;
    const last = this.runner?.history?.().at(-1);
    this.log(`moved: the domain is ${last?.domid} now, and the guest has not noticed`);
    this.show('running');
  }

  private show(state: string, reason?: number, to?: string): void {
    const { runner, published, config, host } = this;
    const shown: PublishedState = {
      state,
      stillpoint: VERSION,
      guest: config.name,
      uuid: config.uuid,
      domid: host.domid,
      moves: this.moves,
      outageNs: runner?.outageNs?.() ?? 0,
      clock: config.clock,
      availableKib: this.available(),
      at: new Date().toISOString(),
      listens: this.listens,
      reason,
      to,
    };
    published?.state(shown);
    published?.facts(host.facts ?? {});
    if (runner !== undefined) published?.ledger(runner.points(), runner.history?.() ?? []);
  }

  /** Below a limit Linux reads programs from the image again and again: the domain needs more memory. */
  private available(): number | undefined {
    let meminfo: string;
    try {
      meminfo = readFileSync(`${this.places.host['proc'] ?? '/proc'}/meminfo`, 'latin1');
    } catch {
      return undefined;
    }
    const [, kib] = /^MemAvailable:\s+(\d+) kB$/m.exec(meminfo) ?? [];
    if (kib === undefined) return undefined;
    const short = Number(kib) < SHORT_KIB;
    if (short && !this.short)
      this.log(`memory is short: Linux in the helper has ${kib} KiB left; give the domain more`);
    this.short = short;
    return Number(kib);
  }

  private log(text: string): void {
    for (const line of text.replace(/\n+$/, '').split('\n')) {
      this.streams.log(printableLines(line));
      this.published?.log(line);
    }
  }
}
