// A real Xen 4.17 with a small dom0 of Debian 12 in QEMU's software emulation. Nothing is left of it in any ending: QEMU
// is the child of a shell that ends it, and removes its folder, as soon as the pipe to this process closes.
import { type ChildProcess, spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { E2fsprogs } from '../../../test/disk/e2fsprogs.js';
import { type BedParts, buildBed, findEmulator } from './build.js';
import { Channel, type Ended } from './channel.js';
import { EmulatorFailed, emulatorFailures } from './emulator-failures.js';
import { type MachineMoved, Monitor } from './monitor.js';

/**
 * V8 needs SSSE3 and SSE4.1 in a domain, and Linux waits seconds for random numbers without RDRAND; `-cpu max` of QEMU
 * 7.2 corrupts memory of user programs.
 */
const CPU = 'qemu64,+svm,+npt,family=6,model=6,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand';
const CHANNELS = 3;
/** For commands of a person, from another process. */
export const HAND = 'hand';
const MONITOR = 'monitor';
const SCRATCH = 'scratch.img';
const INCOMING = 'incoming';
const uriOf = (dir: string): string => `unix:${join(dir, INCOMING)}`;
const SCRATCH_BYTES = 8 * 2 ** 30;
const BOOT_S = 240;
const LOOK_MS = 500;
const JUDGE_MS = 3000;
/** Waits for the program's end or for that of its own input, whichever is first. */
const KEEPER = `dir=$1; shift
exec 3<&0
"$@" </dev/null >"$dir/qemu.log" 2>&1 3<&- & qemu=$!
{ read -r _ <&3; kill -KILL $qemu; } 2>/dev/null & watch=$!
exec 3<&-
wait $qemu; status=$?
kill $watch 2>/dev/null
rm -rf "$dir"
exit $status`;

export interface BedOptions {
  /** MiB of the whole machine (3072), and of dom0 in it (768). */
  readonly memory?: number;
  readonly dom0Memory?: number;
  /** Processors (2), of which dom0 has one. */
  readonly processors?: number;
  /** What is to lie in dom0's folder /s: a file of this machine by its path, or the bytes. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
  /** More of the machine: arguments of QEMU. */
  readonly more?: readonly string[];
}

export class XenBed {
  private readonly free: Channel[] = [];
  private readonly channels: Channel[] = [];
  private watch: NodeJS.Timeout | undefined;
  private readonly waiting: ((channel: Channel) => void)[] = [];

  private constructor(
    /** Of this run: console.log, qemu.log, sockets. Removed when it ends. */
    readonly dir: string,
    private readonly keeper: ChildProcess,
    private readonly ended: Promise<void>,
    private readonly options: BedOptions,
  ) {}

  /** Makes what is needed in .cache; throws NoPackages where it cannot be had. */
  static build(): Promise<BedParts> {
    return buildBed();
  }

  /** Starts it and waits until dom0 answers. */
  static async up(options: BedOptions = {}): Promise<XenBed> {
    const tools = await E2fsprogs.fetch();
    const dir = mkdtempSync(join(tmpdir(), 'bed-'));
    const stage = join(dir, 'stage');
    mkdirSync(stage);
    for (const [name, from] of Object.entries(options.files ?? {})) {
      const to = join(stage, name);
      mkdirSync(dirname(to), { recursive: true });
      if (typeof from === 'string') copyFileSync(from, to);
      else writeFileSync(to, from);
    }
    const scratch = join(dir, SCRATCH);
    writeFileSync(scratch, '');
    truncateSync(scratch, SCRATCH_BYTES);
    tools.run('mke2fs', '-q', '-F', '-t', 'ext4', '-O', '^has_journal', '-m', '0', '-d', stage, scratch);
    const bed = await XenBed.start(dir, options);
    try {
      await bed.connect();
    } catch (error) {
      throw await bed.failed(error);
    }
    return bed;
  }

  /** A bed for one purpose. Throws EmulatorFailed where that ended because the emulator failed. */
  static async with(options: BedOptions, live: (bed: XenBed) => Promise<void>): Promise<void> {
    const bed = await XenBed.up(options);
    try {
      await live(bed);
    } catch (error) {
      throw await bed.judged(error);
    } finally {
      await bed.down();
    }
  }

  /** Whose fault an error is. The emulator's failure is said on the console, a little later than tools feel it. */
  async judged(error: unknown): Promise<unknown> {
    await new Promise((done) => setTimeout(done, JUDGE_MS));
    const failures = this.emulatorFailures();
    return failures > 0 ? new EmulatorFailed(failures, error) : error;
  }

  /** Starts QEMU, in a folder that has the scratch disk, and waits until it listens. */
  private static async start(dir: string, options: BedOptions, incoming = false): Promise<XenBed> {
    const { dir: parts } = await buildBed();
    const emulator = await findEmulator();
    const dom0 = options.dom0Memory ?? 768;
    const xen = `placeholder console=com1 com1=115200,8n1 loglvl=info guest_loglvl=all dom0_mem=${dom0}M,max:${dom0}M dom0_max_vcpus=1 noreboot=1 spec-ctrl=no xpti=no`;
    const socket = (id: string) => ['-chardev', `socket,id=${id},path=${join(dir, id)},server=on,wait=off`];
    const ports = [...Array.from({ length: CHANNELS }, (_, i) => `channel${i}`), HAND];
    const args = [
      ...emulator.args,
      ...['-machine', 'pc', '-accel', 'tcg,thread=multi', '-cpu', CPU],
      ...['-smp', String(options.processors ?? 2), '-m', String(options.memory ?? 3072)],
      ...['-nodefaults', '-display', 'none', '-vga', 'none', '-no-reboot'],
      ...['-kernel', 'xen', '-append', xen],
      ...['-initrd', 'vmlinux console=hvc0 loglevel=4 mitigations=off,dom0.cpio'],
      ...['-drive', `file=${join(dir, SCRATCH)},format=raw,if=none,id=d0,cache=unsafe`],
      ...['-device', 'virtio-blk-pci,drive=d0'],
      ...[
        '-chardev',
        `socket,id=console,path=${join(dir, 'console')},server=on,wait=off,logfile=${join(dir, 'console.log')}`,
      ],
      ...['-serial', 'chardev:console', '-device', 'virtio-serial-pci'],
      ...ports.flatMap((id) => [...socket(id), '-device', `virtserialport,chardev=${id},name=${id}`]),
      ...[...socket(MONITOR), '-mon', `chardev=${MONITOR},mode=control`],
      ...(options.more ?? []),
      ...(incoming ? ['-incoming', uriOf(dir)] : []),
    ];
    // A process group of its own: what ends this one by its group does not end the keeper.
    const keeper = spawn('/bin/sh', ['-c', KEEPER, 'keeper', dir, emulator.file, ...args], {
      cwd: parts,
      env: emulator.env,
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    });
    keeper.stdin?.on('error', () => undefined);
    const ended = new Promise<void>((done) => {
      keeper.once('exit', () => done());
      keeper.once('error', () => done());
    });
    const bed = new XenBed(dir, keeper, ended, options);
    const sockets = [MONITOR, ...(incoming ? [INCOMING] : [])].map((name) => join(dir, name));
    for (let i = 0; !sockets.every((path) => existsSync(path)); i++) {
      if (keeper.exitCode !== null || i > 600) throw await bed.failed(new Error('QEMU did not start'));
      await new Promise((done) => setTimeout(done, 50));
    }
    return bed;
  }

  private async failed(error: unknown): Promise<Error> {
    const said = `${this.read('qemu.log')}${this.console().slice(-2000)}`;
    await this.down();
    return new Error(`the bed did not come up: ${error instanceof Error ? error.message : error}\n${said}`);
  }

  private async connect(): Promise<void> {
    for (let i = 0; i < CHANNELS; i++)
      this.channels.push(await Channel.open(join(this.dir, `channel${i}`), BOOT_S));
    this.free.push(...this.channels);
    // Xen's tools wait without end for a xenstored that is gone: nobody needs to wait for them.
    this.watch = setInterval(() => {
      if (this.emulatorFailures() > 0) for (const channel of this.channels) channel.close();
    }, LOOK_MS).unref();
  }

  /**
   * Migrates the whole machine, with Xen, dom0 and all guests, to a second QEMU on this machine. No command may run
   * meanwhile. This bed is down after it; the one that is returned goes on.
   */
  async migrate(): Promise<{ readonly bed: XenBed; readonly moved: MachineMoved }> {
    const dir = mkdtempSync(join(tmpdir(), 'bed-'));
    linkSync(join(this.dir, SCRATCH), join(dir, SCRATCH));
    const bed = await XenBed.start(dir, this.options, true);
    try {
      const monitor = await Monitor.open(join(this.dir, MONITOR));
      const moved = await monitor.migrate(uriOf(dir)).finally(() => monitor.close());
      await this.down();
      await bed.connect();
      return { bed, moved };
    } catch (error) {
      throw await bed.failed(error);
    }
  }

  private read(name: string): string {
    const file = join(this.dir, name);
    return existsSync(file) ? readFileSync(file, 'latin1') : '';
  }

  /** All that Xen and dom0's kernel have printed. */
  console(): string {
    return this.read('console.log');
  }

  /** How often the emulator itself has failed so far. */
  emulatorFailures(): number {
    return emulatorFailures(this.console());
  }

  /** Runs a command by dom0's bash, ended after `seconds`. As many at once as there are channels; more of them wait. */
  async run(
    command: string,
    seconds: number,
    input?: Uint8Array,
  ): Promise<Ended & { readonly text: string }> {
    const channel = this.free.pop() ?? (await new Promise<Channel>((done) => this.waiting.push(done)));
    try {
      const { status, output } = await channel.run(command, seconds, input);
      return { status, output, text: output.toString('latin1') };
    } finally {
      const next = this.waiting.shift();
      if (next === undefined) this.free.push(channel);
      else next(channel);
    }
  }

  /** What a command prints; an error with those words where its exit status is not 0. */
  async must(command: string, seconds: number): Promise<string> {
    const { status, text } = await this.run(command, seconds);
    if (status !== 0)
      throw new Error(`in dom0, "${command}" ended with status ${status}: ${text.slice(-1000)}`);
    return text;
  }

  /** Writes a file of dom0. */
  async put(bytes: Uint8Array, path: string): Promise<void> {
    const { status, text } = await this.run(`cat >'${path}.part' && mv '${path}.part' '${path}'`, 300, bytes);
    if (status !== 0) throw new Error(`${path} of dom0 was not written: ${text}`);
  }

  /** Reads a file of dom0, of at most 256 MiB. */
  async get(path: string): Promise<Buffer> {
    const { status, output } = await this.run(`cat '${path}'`, 300);
    if (status !== 0) throw new Error(`${path} of dom0 was not read: ${output.toString('latin1')}`);
    return output;
  }

  /** Ends it; its folder is gone when this returns. */
  async down(): Promise<void> {
    clearInterval(this.watch);
    for (const channel of this.channels) channel.close();
    this.keeper.stdin?.end();
    await this.ended;
  }
}
