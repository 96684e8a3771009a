/**
 * A guest in the foreground: its console is this terminal, or these pipes, from one power cycle to the next.
 * Invariant: the console log contains every byte that the guest printed, in order, even if this process is killed.
 */
import { openSync, writeSync } from 'node:fs';
import { type WasmEngine, wasmEngine } from '../engine/engines.js';
import { type GuestEnd, guestLoop } from '../guest-process/guest-loop.js';
import { Guest, type GuestSpec } from '../helper/guest.js';
import type { Host } from '../host/host.js';
import { DEFAULT_PLATFORM, loadPlatform } from '../host/platforms.js';
import { collectGarbage } from '../os/garbage.js';
import { hugePages } from '../os/huge-pages.js';
import { nodeUnpackers } from '../os/unpackers.js';
import { printableLines } from '../protocol/printable.js';
import type { Nanoseconds } from '../xen/types.js';
import { profileText } from './profile.js';
import { Terminal } from './terminal.js';

/** Console output kept for the report of a crash, in bytes. */
const LAST_OUTPUT_BYTES = 4096;
/** Wall clock at power-on of a deterministic guest: 2026-01-01T00:00:00Z, ns. */
const DETERMINISTIC_START_NS = 1_767_225_600e9;
/** How long an instruction of a deterministic guest takes, ns. */
const NS_PER_INSTRUCTION = 1;

export interface ForegroundOptions {
  /** Descriptor of the console log. */
  readonly log?: number;
  /** When to end the guest, on the clock of performance.now(). */
  readonly deadline?: number;
  /** Nothing of the host affects the guest except what is typed: neither its clock nor the speed of the terminal. */
  readonly deterministic?: boolean;
  /** Links for the guest's vifs, by bridge. */
  readonly networks?: Readonly<Record<string, string>>;
  /** Prints after each power cycle how the guest's instructions were executed. */
  readonly profile?: boolean;
}

export type Outcome = GuestEnd | { readonly kind: 'timeout' | 'left' };

/** A host whose clocks always show the time of power-on. */
function timelessHost(host: Host): Host {
  const clock = {
    tscKhz: host.clock.tscKhz,
    uptime: () => 0 as Nanoseconds,
    wallClock: () => DETERMINISTIC_START_NS as Nanoseconds,
  };
  return { ...host, clock };
}

/** The request cannot be fulfilled: a message for the user, and exit status 2. */
export class BadInput extends Error {}

/** Opens `file` for appending. Throws as fs does. */
export const openLog = (file: string): number => openSync(file, 'a');

export class Foreground {
  private readonly terminal: Terminal;
  private readonly timer: NodeJS.Timeout | undefined;
  /** The engine of the current guest, if a profile is wanted. */
  private engine: WasmEngine | undefined;
  /** The current guest: accepts typed bytes, and is told when the terminal has room again. */
  private guest: { type(bytes: Uint8Array): number; drained(): void } | undefined;
  /** Resolves what is awaited: the end of a cycle, or of hold(). */
  private ended: ((outcome: Outcome) => void) | undefined;
  private left: Outcome | undefined;
  /** The latest console output, at most LAST_OUTPUT_BYTES. */
  output = Buffer.alloc(0);

  constructor(private readonly options: ForegroundOptions) {
    this.terminal = new Terminal({
      onInput: (bytes) => this.guest?.type(bytes) ?? 0,
      onEscape: () => this.leave({ kind: 'left' }),
      onDrain: () => this.guest?.drained(),
    });
    const { deadline } = options;
    if (deadline !== undefined)
      this.timer = setTimeout(
        () => this.leave({ kind: 'timeout' }),
        Math.max(0, deadline - performance.now()),
      );
  }

  /** Runs one cycle from power-on to its end; `bootLoader`: of a boot loader, which may hand a kernel over. Throws KernelError, and what `spec` throws. */
  async cycle(spec: () => GuestSpec, bootLoader = false): Promise<Outcome> {
    this.output = Buffer.alloc(0);
    let wake: () => void = () => undefined;
    // The guest of the last cycle is freed before the next one is created.
    collectGarbage();
    const guest = await this.powerOn(spec, () => wake());
    // The files and everything built from them are garbage now.
    collectGarbage();
    try {
      await guest.attach();
    } catch (error) {
      throw new BadInput((error as Error).message);
    }
    let stop: () => void = () => undefined;
    try {
      return await new Promise<Outcome>((resolve, reject) => {
        const loop = guestLoop(guest, resolve, reject, bootLoader);
        stop = () => loop.stop();
        wake = () => loop.kick();
        this.ended = resolve;
        this.guest = {
          type: (bytes) => {
            const taken = guest.console.type(bytes);
            loop.kick();
            return taken;
          },
          drained: () => {
            guest.console.drained();
            loop.kick();
          },
        };
        if (this.left !== undefined) resolve(this.left);
        guest.start();
        loop.start();
      });
    } finally {
      stop();
      this.guest = undefined;
      if (this.engine !== undefined) process.stderr.write(profileText(this.engine));
      this.engine = undefined;
      this.ended = undefined;
      await guest.detach();
    }
  }

  private async powerOn(spec: () => GuestSpec, wake: () => void): Promise<Guest> {
    const { deterministic, networks = {}, profile } = this.options;
    const log = (line: string): void => void process.stderr.write(`(XEN) ${printableLines(line)}\n`);
    const platform = await loadPlatform(DEFAULT_PLATFORM);
    const host = await platform.openSingleHost('run', { networks, log });
    const create = wasmEngine({
      advise: await hugePages(),
      profile: profile ? () => performance.now() : undefined,
    });
    return Guest.powerOn(
      deterministic ? { ...spec(), nsPerInstruction: NS_PER_INSTRUCTION } : spec(),
      deterministic ? timelessHost(host) : host,
      {
        console: (bytes) => this.print(bytes),
        log,
        wake,
        tidy: collectGarbage,
        unpackers: nodeUnpackers(),
        engine: async (config) => {
          const made = await create(config);
          if (profile) this.engine = made;
          return made;
        },
      },
    );
  }

  /** Keeps everything as it is until Ctrl-], the deadline, or a signal. */
  async hold(): Promise<void> {
    const alive = setInterval(() => undefined, 0x7fff_ffff);
    await new Promise<Outcome>((resolve) => {
      this.ended = resolve;
      if (this.left !== undefined) resolve(this.left);
    });
    clearInterval(alive);
  }

  close(): void {
    clearTimeout(this.timer);
    this.terminal.close();
  }

  private leave(outcome: Outcome): void {
    this.left ??= outcome;
    this.ended?.(this.left);
  }

  private print(bytes: Uint8Array): boolean {
    const { log, deterministic } = this.options;
    if (log !== undefined) for (let done = 0; done < bytes.length; ) done += writeSync(log, bytes, done);
    this.output = Buffer.concat([this.output, bytes]).subarray(-LAST_OUTPUT_BYTES);
    const goOn = this.terminal.write(bytes);
    return deterministic || goOn;
  }
}
