// A guest for tests of moves: no processor, but everything that a move must not lose. Each tick it writes one page,
// and restoreState() holds every byte of RAM against what the counter says must be there.
//
// Its "disk" is a lock file (config.more.disk): attach and resume take it, pause lets it go. Two live guests at
// once would be seen there, and are written to DISK.violations. Its "image" (config.more.image) is a file that it only
// opens, again each time, as servers of disks do.

import {
  appendFileSync,
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  rmSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import type {
  DeviceStatus,
  GuestRunner,
  IncomingRunner,
  PointRow,
  RunnerFactory,
  RunnerHooks,
  RunnerStatus,
} from '../../src/guest-process/guest-runner.js';
import type { Host } from '../../src/host/host.js';
import type { MovableGuest } from '../../src/migration/moving-guest.js';
import type { GuestConfig } from '../../src/protocol/guest-config.js';

/** The fake guest's own settings in its configuration. */
export interface FakeMore {
  readonly [key: string]: unknown;
  readonly ticksPerTurn: number;
  readonly tickMs: number;
  /** The number of frames of 4096 bytes. */
  readonly frames: number;
  readonly directory: string;
  /** The paths of its lock file and of its image. */
  readonly disk?: string;
  readonly image?: string;
  /** A folder of gates; see `gate`. */
  readonly gates?: string;
  /** The tick at which it stops by itself, and the reason. */
  readonly stopAt?: number;
  readonly stopReason?: 'poweroff' | 'reboot' | 'crash';
  /** The name of a host on which its disk cannot be opened. */
  readonly refuseOn?: string;
  /** With 1 it ignores requests to shut down. */
  readonly wild?: number;
}

export interface FakeConfig extends GuestConfig {
  readonly more: FakeMore;
}

import { codeOf, messageOf } from '../../scripts/lib/errors.js';

const PAGE = 4096;
const encode = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
function decode<T>(bytes: Uint8Array): T {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)) as T;
  } catch {
    throw Object.assign(new Error('not a state of the fake guest'), { name: 'RecordError' });
  }
}

/** The settings in a configuration, before defaults are added. */
type Found = Partial<Pick<FakeConfig, 'name' | 'uuid' | 'kernel'>> &
  Pick<FakeConfig, 'onCrash' | 'onReboot'> &
  FakeMore;

export function readConfig(
  text: string,
  file: string,
  directory: string,
  makeUuid: (name: string) => string = () => crypto.randomUUID(),
): FakeConfig {
  const defaults = { ticksPerTurn: 20, tickMs: 1, frames: 512, directory };
  const given: Record<string, string | number> = {};
  text.split('\n').forEach((line, i) => {
    if (line.trim() === '' || line.startsWith('#')) return;
    const match = /^(\w+)\s*=\s*(?:"([^"]*)"|(-?[\d.]+))$/.exec(line.trim());
    if (match === null) throw new Error(`${file}:${i + 1}: key = value expected`);
    given[match[1]] = match[2] ?? Number(match[3]);
  });
  const found: Found = { onCrash: 'destroy', onReboot: 'restart', ...defaults, ...given };
  if (found.name === undefined) throw new Error(`${file}: name is missing`);
  const { name, uuid, onCrash, onReboot, kernel = '', ...rest } = found;
  const disk = { target: found.image, format: 'raw', readOnly: false, cdrom: false };
  const spec = JSON.stringify({ ...disk, vdev: 'xvda', virtualDevice: 51712 });
  return {
    name,
    uuid: uuid ?? makeUuid(name),
    vcpus: 1,
    memoryKib: found.frames * 4,
    maxMemoryKib: found.frames * 4,
    kernel,
    ramdisk: '',
    cmdline: '',
    onPoweroff: 'destroy',
    onReboot,
    onCrash,
    clock: 'elapse',
    devices: found.image === undefined ? [] : [{ kind: 'vbd', devid: 51712, spec }],
    more: rest,
  };
}

/** Holds this process at `step` for as long as the file GATES/STEP exists. */
function gate(config: FakeConfig, step: string): void {
  const { gates } = config.more;
  if (gates === undefined || !existsSync(`${gates}/${step}`)) return;
  closeSync(openSync(`${gates}/${step}.reached`, 'w'));
  const clock = new Int32Array(new SharedArrayBuffer(4));
  while (existsSync(`${gates}/${step}`)) Atomics.wait(clock, 0, 0, 2);
}

/** A process that is dead and not yet waited for holds no lock. */
function isAlive(pid: string): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}

/** A lock like that of a disk: it ends with its process. Throws EEXIST if a live process holds it. */
function takeLock(path: string): void {
  for (;;) {
    try {
      const fd = openSync(path, 'wx', 0o666);
      writeSync(fd, String(process.pid));
      closeSync(fd);
      return;
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
      let holder: string;
      try {
        holder = readFileSync(path, 'utf8');
      } catch {
        continue;
      }
      if (holder === '' || isAlive(holder)) throw error;
      rmSync(path, { force: true });
    }
  }
}

/** What tick `count` writes: all of one page. */
const pageOf = (count: number, frames: number): number => (count * 7919 + (count >>> 4)) % frames;

export class FakeGuest implements MovableGuest, IncomingRunner, GuestRunner {
  count = 0;
  moves = 0;
  name: string;
  readonly uuid: string;
  readonly frames: number;
  readonly ram: Uint8Array;
  private readonly words: Float64Array;
  private readonly dirty: Uint8Array;
  private running = false;
  private logging = false;
  private locked = false;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    public config: FakeConfig,
    private readonly host: Host | undefined,
    private readonly hooks: RunnerHooks,
  ) {
    this.name = config.name;
    this.uuid = config.uuid;
    this.frames = config.more.frames;
    this.ram = new Uint8Array(new SharedArrayBuffer(this.frames * PAGE));
    this.words = new Float64Array(this.ram.buffer);
    this.dirty = new Uint8Array((this.frames + 7) >>> 3);
  }
  get movable(): MovableGuest {
    return this;
  }
  get runner(): GuestRunner {
    return this;
  }

  // --- the guest's life ---
  private write(page: number, value: number): void {
    this.words.fill(value, page * (PAGE / 8), (page + 1) * (PAGE / 8));
    if (this.logging) this.dirty[page >>> 3] |= 1 << (page & 7);
  }
  tick(): void {
    this.count++;
    // Every 64th write clears the page again, because zero pages must be sent too.
    this.write(pageOf(this.count, this.frames), this.count % 64 === 0 ? 0 : this.count);
    if (this.count % 500 === 0) this.hooks.console(new TextEncoder().encode(`tick ${this.count}\n`));
    const { stopAt, stopReason } = this.config.more;
    if (this.count === stopAt) {
      this.halt();
      this.hooks.stopped(stopReason ?? 'poweroff', '');
    }
  }
  private readonly turn = (): void => {
    if (!this.running) return;
    for (let i = 0; i < this.config.more.ticksPerTurn && this.running; i++) this.tick();
    this.timer = setTimeout(this.turn, this.config.more.tickMs);
  };
  private halt(): void {
    this.running = false;
    clearTimeout(this.timer);
    this.unlockDisk();
  }
  start(): void {
    gate(this.config, 'start');
    this.running = true;
    if (this.moves === 0) this.lockDisk();
    this.turn();
  }
  private lockDisk(): void {
    const { disk } = this.config.more;
    if (disk === undefined) return;
    try {
      takeLock(disk);
      this.locked = true;
    } catch (error) {
      appendFileSync(`${disk}.violations`, `${this.host?.identity.name} ${this.count}: ${codeOf(error)}\n`);
    }
  }
  private unlockDisk(): void {
    const { disk } = this.config.more;
    if (this.locked && disk !== undefined) unlinkSync(disk);
    this.locked = false;
  }

  // --- MovableGuest ---
  describe(): Uint8Array {
    gate(this.config, 'describe');
    return encode({ ...this.config, name: this.name });
  }
  startDirtyLog(): void {
    gate(this.config, 'dirty-log');
    this.dirty.fill(0);
    this.logging = true;
  }
  readDirty(into: Uint8Array): number {
    gate(this.config, 'round');
    let fresh = 0;
    for (let i = 0; i < this.dirty.length; i++) {
      for (let b = this.dirty[i]; b !== 0; b &= b - 1) fresh++;
      into[i] |= this.dirty[i];
    }
    this.dirty.fill(0);
    return fresh;
  }
  core(): Iterable<Uint8Array> {
    return [Buffer.from(`core of ${this.name}\n`), new Uint8Array(100_000)];
  }
  stopDirtyLog(): void {
    this.logging = false;
  }
  async pause(): Promise<void> {
    gate(this.config, 'pause');
    this.running = false;
    clearTimeout(this.timer);
    this.unlockDisk();
  }
  openImage(): void {
    const { image } = this.config.more;
    if (image !== undefined) closeSync(openSync(image, 'r+'));
  }
  resume(): void {
    try {
      this.openImage();
    } catch (error) {
      appendFileSync(`${this.config.more.disk}.violations`, `image: ${messageOf(error)}\n`);
    }
    if (this.running) appendFileSync(`${this.config.more.disk}.violations`, 'resumed while running\n');
    this.running = true;
    this.lockDisk();
    this.turn();
  }
  saveState(): Uint8Array {
    gate(this.config, 'save-state');
    return encode({ count: this.count, moves: this.moves });
  }
  async release(): Promise<void> {}
  async detach(): Promise<void> {
    gate(this.config, 'detach');
    this.halt();
  }

  // --- IncomingGuest ---
  restoreState(records: Uint8Array): void {
    gate(this.config, 'restore-state');
    const { count, moves } = decode<{ count: number; moves: number }>(records);
    const expected = new Float64Array(this.frames);
    for (let c = Math.max(1, count - this.frames * 64); c <= count; c++) {
      expected[pageOf(c, this.frames)] = c % 64 === 0 ? 0 : c;
    }
    for (let page = 0; page < this.frames; page++) {
      for (const at of [0, 1, PAGE / 8 - 1]) {
        const found = this.words[page * (PAGE / 8) + at];
        if (found !== expected[page] && count < this.frames * 64) {
          throw Object.assign(
            new Error(`page ${page} holds ${found}, ${expected[page]} expected at tick ${count}`),
            {
              name: 'RecordError',
            },
          );
        }
      }
    }
    this.count = count;
    this.moves = moves + 1;
  }
  async attach(): Promise<void> {
    gate(this.config, 'attach');
    this.openImage();
    const { disk, refuseOn } = this.config.more;
    if (refuseOn !== undefined && refuseOn === this.host?.identity.name)
      throw new Error('the disk is not to be had');
    if (disk === undefined) return;
    if (existsSync(`${disk}.refuse`)) throw new Error('the disk is not to be had');
    takeLock(disk);
    this.locked = true;
  }
  async discard(): Promise<void> {
    this.unlockDisk();
  }

  // --- GuestRunner ---
  type(bytes: Uint8Array): number {
    const text = new TextDecoder().decode(bytes);
    if (text.includes('crash')) {
      this.halt();
      this.hooks.stopped('crash', 'told to');
    } else this.hooks.console(bytes);
    return bytes.length;
  }
  requestShutdown(kind: 'poweroff' | 'reboot', signal: AbortSignal): Promise<void> {
    if (this.config.more.wild === 1) {
      return new Promise<void>((_, reject) =>
        signal.addEventListener('abort', () => reject(new Error('withdrawn'))),
      );
    }
    setTimeout(() => {
      this.halt();
      this.hooks.stopped(kind, '');
    }, 20);
    return Promise.resolve();
  }
  status(): RunnerStatus {
    return {
      vcpus: [{ id: 0, state: this.running ? 'running' : 'blocked', seconds: this.count / 1000 }],
      cpuSeconds: this.count / 1000,
      memoryKib: this.config.memoryKib,
      uptimeSeconds: this.count / 100,
      instructions: this.count,
    };
  }
  points(): readonly PointRow[] {
    return [
      {
        name: 'domain id',
        rows: 'D1-D4',
        inner: '1',
        outer: String(this.host?.domid),
        pretended: this.host?.pretended.has('domid') ?? false,
        moves: this.moves,
      },
    ];
  }
  devices(): readonly DeviceStatus[] {
    return [];
  }
  dmesg(): string {
    return `(XEN) fake guest ${this.name}\n`;
  }
  async plug(): Promise<void> {
    throw new Error('the fake guest takes no devices while it runs');
  }
  async unplug(): Promise<boolean> {
    return false;
  }
  nmi(vcpu: number): boolean {
    return vcpu === 0;
  }
  resized(): void {}
  rename(name: string): void {
    this.name = name;
  }
}

export function openFactory(host: Host, hooks: RunnerHooks): RunnerFactory {
  return {
    async create(config) {
      const guest = new FakeGuest(config as FakeConfig, host, hooks);
      guest.openImage();
      return guest;
    },
    async construct(description, given) {
      const config = (given as FakeConfig | undefined) ?? decode<FakeConfig>(description);
      gate(config, 'construct');
      return new FakeGuest(config, host, hooks);
    },
  };
}
