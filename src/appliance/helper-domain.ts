/**
 * A helper domain's one program: runs one guest on a real Xen. The guest's disks, networks, console and power are the
 * domain's own; what dom0 asks of the domain it asks of the guest, and as the guest ends so does the domain.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { readGuestConfig } from '../guest-process/device-requests.js';
import type { GuestRunner, StopReason } from '../guest-process/guest-runner.js';
import { openFactory } from '../guest-process/pv-runner.js';
import type { Host } from '../host/host.js';
import { loadPlatform } from '../host/platforms.js';
import { VERSION } from '../protocol/generated/version.js';
import type { GuestConfig } from '../protocol/guest-config.js';
import { printableLines } from '../protocol/printable.js';
import { SHUTDOWN_crash, SHUTDOWN_suspend } from '../xen/sched.js';
import { cpuFault } from './cpu-check.js';
import { HelperConsole } from './helper-console.js';
import { OwnDevices } from './own-devices.js';
import type { Places } from './places.js';
import { Published, type PublishedState } from './published.js';

/** How often what changes by itself is shown anew, ms. */
const SHOW_MS = 60_000;
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
  readonly kind: StopReason;
  readonly reason: number;
}

export class HelperDomain {
  private runner: GuestRunner | undefined;
  private published: Published | undefined;
  private ended: ((end: End) => void) | undefined;
  private asked: 'poweroff' | 'reboot' | undefined;
  private moves = 0;
  private config!: GuestConfig;
  private host!: Host;

  constructor(
    private readonly places: Places,
    private readonly streams: HelperStreams,
  ) {}

  /** What dom0 asks for; the guest gets it, now or when it is there. */
  ask(kind: 'poweroff' | 'reboot'): void {
    this.asked = kind;
    const { runner } = this;
    if (runner === undefined) return;
    this.log(`dom0 asks for ${kind}`);
    // A guest that does not answer is ended by dom0, when it wants.
    void runner.requestShutdown(kind, new AbortController().signal);
  }

  /** Runs the guest until it ends; then the reason is written. Rejects where it cannot be run. */
  async run(): Promise<void> {
    const fault = cpuFault(readFileSync(`${this.places.host['proc'] ?? '/proc'}/cpuinfo`, 'latin1'));
    if (fault !== undefined) throw new Error(fault);
    this.config = readGuestConfig(
      readFileSync(this.places.guest, 'utf8'),
      this.places.guest,
      dirname(this.places.guest),
    );
    const platform = await loadPlatform('xen');
    this.host = await platform.openSingleHost(this.config.name, {
      guestKib: this.config.memoryKib,
      places: this.places.host,
      networks: this.places.networks,
      log: (line) => this.log(line),
    });
    this.published = new Published(this.host.store);
    try {
      this.show('starting');
      const end = await this.live();
      this.show(end.kind, end.reason);
      mkdirSync(dirname(this.places.reason), { recursive: true });
      writeFileSync(this.places.reason, `${end.reason}\n`);
    } finally {
      await Promise.race([
        this.published.settled(),
        new Promise((resolve) => setTimeout(resolve, LAST_WORDS_MS).unref()),
      ]);
      await this.host.close?.();
    }
  }

  private async live(): Promise<End> {
    const stopped = new Promise<End>((resolve) => {
      this.ended = resolve;
    });
    const console = new HelperConsole(
      this.streams.input,
      this.streams.output,
      (bytes) => this.runner?.type(bytes) ?? 0,
    );
    const runner = await this.create(console);
    this.runner = runner;
    const { sys = '/sys', dev = '/dev' } = this.places.host;
    const devices = new OwnDevices(
      this.host,
      runner,
      { sys, dev },
      (line) => this.log(line),
      () => this.show('running'),
    );
    const timer = setInterval(() => this.show('running'), SHOW_MS);
    runner.start();
    this.show('running');
    devices.look();
    if (this.asked !== undefined) this.ask(this.asked);
    try {
      return await stopped;
    } finally {
      clearInterval(timer);
      devices.stop();
      await console.close();
      // The disks are closed: what the guest has written is with dom0.
      await runner.movable.detach();
    }
  }

  private async create(console: HelperConsole): Promise<GuestRunner> {
    const factory = openFactory(this.host, {
      console: (bytes) => console.write(bytes),
      log: (line) => this.log(line),
      stopped: (kind, details, code = SHUTDOWN_crash) => {
        if (details !== '') this.log(details);
        const usable = code >= 0 && code <= MAX_REASON && !NOT_OF_A_GUEST.has(code);
        this.ended?.({ kind, reason: usable ? code : SHUTDOWN_crash });
      },
      moved: () => this.arrived(),
      unplugged: () => this.show('running'),
    });
    const { kernel, ramdisk } = this.config;
    const read = (path: string): Uint8Array => readFileSync(path);
    const runner = await factory.create(
      this.config,
      read(kernel),
      ramdisk === '' ? undefined : read(ramdisk),
    );
    for (const file of this.places.spent) rmSync(file, { force: true });
    return runner;
  }

  private arrived(): void {
    this.moves++;
    const last = this.runner?.history?.().at(-1);
    this.log(`moved: the domain is ${last?.domid} now, and the guest has not noticed`);
    this.show('running');
  }

  private show(state: string, reason?: number): void {
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
      at: new Date().toISOString(),
      reason,
    };
    published?.state(shown);
    published?.facts(host.facts ?? {});
    if (runner !== undefined) published?.ledger(runner.points(), runner.history?.() ?? []);
  }

  private log(text: string): void {
    for (const line of text.replace(/\n+$/, '').split('\n')) {
      this.streams.log(printableLines(line));
      this.published?.log(line);
    }
  }
}
