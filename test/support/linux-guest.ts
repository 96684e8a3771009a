/** Debian's kernel with the test's initramfs in this process, in real time, and its moves from host to host. */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Guests } from '../../scripts/lib/guests.js';
import { type Tier, wasmEngine } from '../../src/engine/engines.js';
import type { GuestLoop } from '../../src/guest-process/event-loop.js';
import { guestLoop } from '../../src/guest-process/guest-loop.js';
import type { DeviceConfig } from '../../src/helper/devices.js';
import { Guest, type GuestSurroundings } from '../../src/helper/guest.js';
import type { OutageBounds, OutageTerms } from '../../src/helper/points/outage.js';
import { uuidBytes } from '../../src/helper/uuid.js';
import type { Host } from '../../src/host/host.js';

export interface LinuxOptions {
  readonly devices?: readonly DeviceConfig[];
  readonly vcpus?: number;
  readonly memoryMib?: number;
  /** Additional words for the kernel's command line. */
  readonly extra?: string;
  /** The ramdisk to use in place of the test's initramfs. */
  readonly ramdisk?: Uint8Array;
  /** The tier in which its instructions are executed, on every host. */
  readonly tier?: Tier;
}

export interface MoveWords {
  /** The tier from now on; the same as before if it is not given. */
  readonly tier?: Tier;
  readonly terms?: OutageTerms;
  readonly bounds?: OutageBounds;
  /** Is called when the guest has just been stopped. */
  stopped?(): void;
}

export class LinuxGuest {
  text = '';
  readonly log: string[] = [];
  moves = 0;
  private guest!: Guest;
  private loop!: GuestLoop;
  private failure: unknown;

  private constructor(
    private readonly name: string,
    private tier: Tier | undefined,
  ) {}

  static async boot(
    name: string,
    files: Guests,
    host: Host,
    options: LinuxOptions = {},
  ): Promise<LinuxGuest> {
    const linux = new LinuxGuest(name, options.tier);
    const guest = await Guest.powerOn(
      {
        name,
        uuid: uuidBytes(randomUUID()),
        memoryMib: options.memoryMib ?? 96,
        vcpus: options.vcpus ?? 1,
        image: {
          kernel: readFileSync(files.vmlinux),
          ramdisk: options.ramdisk ?? readFileSync(files.initramfs),
          cmdline: `console=hvc0 quiet rdinit=/init ${options.extra ?? ''}`,
        },
        kernelName: 'vmlinux',
        ramdiskName: 'initramfs',
        devices: options.devices,
      },
      host,
      linux.around(),
    );
    await guest.attach();
    linux.run(guest);
    return linux;
  }

  private around(): GuestSurroundings {
    return {
      engine: wasmEngine({ tier: this.tier }),
      console: (bytes) => {
        this.text += Buffer.from(bytes).toString('latin1').replaceAll('\r', '');
        return true;
      },
      log: (line) => this.log.push(line),
      wake: () => this.loop?.kick(),
    };
  }

  private run(guest: Guest): void {
    this.guest = guest;
    this.loop = guestLoop(
      guest,
      (end) => {
        this.failure = new Error(`guest ${this.name} ended: ${JSON.stringify(end).slice(0, 2000)}`);
      },
      (error) => {
        this.failure = error;
      },
    );
    guest.start();
    this.loop.start();
  }

  get inner(): Guest {
    return this.guest;
  }

  type(text: string): void {
    for (let bytes = Buffer.from(text), taken = 0; taken < bytes.length; ) {
      const n = this.guest.console.type(bytes.subarray(taken));
      if (n === 0) throw new Error('the console takes no more');
      taken += n;
    }
    this.loop.kick();
  }

  /** Waits for console output after `from` (an offset in `text`). */
  async until(pattern: RegExp, seconds = 240, from = 0): Promise<RegExpExecArray> {
    for (const end = performance.now() + seconds * 1000; performance.now() < end; ) {
      const found = pattern.exec(this.text.slice(from));
      if (found) return found;
      if (this.failure !== undefined) throw this.failure;
      await new Promise((done) => setTimeout(done, 10));
    }
    throw new Error(`guest ${this.name}: ${pattern} did not come; last lines:\n${this.text.slice(-1500)}`);
  }

  /** Types a command at the shell. Returns what it printed. */
  async command(command: string, seconds = 120): Promise<string> {
    const from = this.text.length;
    // The words are typed in another form, so that the terminal's echo does not match what is waited for.
    this.type(`echo "be""gin"; ${command}; echo "do""ne"\n`);
    return (await this.until(/begin\n([\s\S]*)^done\n/m, seconds, from))[1];
  }

  /** Moves the guest to another host, between two instructions and without telling it. */
  async moveTo(host: Host, words: MoveWords = {}): Promise<void> {
    const before = this.guest;
    this.loop.stop();
    await before.pause();
    const record = before.saveState(words.terms);
    words.stopped?.();
    this.tier = words.tier ?? this.tier;
    const after = await Guest.empty(before.describe(), host, this.around());
    after.ram.set(before.ram);
    after.restoreState(record, words.bounds);
    await before.release();
    await after.attach();
    this.run(after);
    this.moves++;
    // The source releases its resources when the guest already runs elsewhere.
    await before.detach();
  }

  async end(): Promise<void> {
    this.loop.stop();
    await this.guest.pause();
    await this.guest.detach();
  }
}
