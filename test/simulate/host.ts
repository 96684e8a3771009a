/** A simulated machine: its disk, its processes, its clock, and the real daemon in a simulated world. */
import type { Logger } from 'pino';
import type { ProcessId } from '../../src/control/domains/spawn.js';
import type { HostConfig } from '../../src/control/host-config.js';
import { HostDaemon } from '../../src/control/host-daemon.js';
import type { World } from '../../src/control/world.js';
import type { RunnerModule } from '../../src/guest-process/guest-runner.js';
import { FileImages, type ImageAccess } from '../../src/host/disk/images.js';
import type { GivenAccess } from '../../src/host/images.js';
import type { HostPlatform } from '../../src/host/platform.js';
import type { Clock } from '../../src/os/clock.js';
import { pathHere } from '../../src/os/folder-map.js';
import { Failure } from '../../src/protocol/failure.js';
import { greet } from '../../src/transport/peer.js';
import { Disk, filesOf } from './disk.js';
import { GuestProcess } from './guest.js';
import type { End, Place } from './network.js';
import { Actor } from './time.js';
import type { SimulatedWorld } from './world.js';

/** What a daemon that is dead waits for: it never resolves. */
export class Dead extends Error {
  override name = 'Dead';
}

const DIR = '/d';
/** How long after its end a service is restarted, ms. */
const AGAIN_MS = 1_000;
const CONNECT_MS = 5_000;
const FIRST_PORT = 7000;
/** The folders of images, the same on all hosts. */
const FOLDERS = { '/images': '/images', '/shared': '/shared' };

/** One run of a daemon. */
export class Run extends Actor {
  daemon: HostDaemon | undefined;
  /** Other hosts can reach it. */
  listens = false;
  private changes = 0;
  private dies: { after: number; how: 'daemon' | 'machine' } | undefined;

  constructor(readonly host: SimulatedHost) {
    super(host.world.time, `${host.name} daemon`);
  }

  diesAfter(changes: number, how: 'daemon' | 'machine'): void {
    this.dies = { after: this.changes + changes, how };
  }

  /** No further fault is planned. */
  mend(): void {
    this.dies = undefined;
  }

  readonly look = (): void => {
    if (!this.alive) throw new Dead();
  };
  /** The daemon is about to change something on its disk. */
  readonly step = (): void => {
    this.look();
    if (this.dies === undefined || ++this.changes <= this.dies.after) return;
    if (this.dies.how === 'daemon') this.host.killDaemon();
    else this.host.powerFails();
    throw new Dead();
  };

  /** Something that may take time, and whose result a dead daemon never gets. */
  private async answer<T>(ms: number, what: () => T): Promise<T> {
    this.look();
    await this.sleep(ms);
    return what();
  }

  world(): World {
    const { host, look, step } = this;
    const { world, disk } = host;
    const clock: Clock = {
      monotonicMs: () => world.time.now,
      wallMs: () => host.wallMs(),
      after: (ms, what) => this.after(ms, what),
      every: (ms, what) => this.every(ms, what),
    };
    return {
      clock,
      chance: {
        uuid: () => world.uuid(),
        bytes: (length) => Buffer.from(Array.from({ length }, () => world.dice.below(256))),
      },
      files: filesOf(disk, step, look),
      memory: () => ({ totalKib: 2 ** 40, availableKib: 2 ** 40 }),
      boot: `boot ${host.boot}`,
      self: { pid: host.daemonPid, startTicks: host.boot },
      processes: {
        haveOwnUsers: host.isRoot,
        start: ({ places }) =>
          this.answer(world.dice.between(1, 40), () => {
            step();
            disk.makeDirectory(places.directory);
            return host.startProcess(places.directory);
          }),
        connect: async (_, id) => {
          look();
          const process = host.process(id);
          if (process === undefined) throw new Failure('crashed', "the guest's process ended");
          const [ours, theirs] = world.network.pair([host, this], [host, process]);
          process.after(0.1, () => process.accept(theirs));
          return ours as never;
        },
        connectData: (directory) =>
          this.answer(1, () => {
            const process = host.processIn(directory);
            const offer = process?.dataOffer;
            if (process === undefined || offer === undefined) return undefined;
            process.dataOffer = undefined;
            const [ours, theirs] = world.network.pair([host, this], [host, process]);
            offer.taken(theirs);
            return bytesOf(ours) as never;
          }),
        isAlive: (id) => {
          look();
          return host.isAlive(id);
        },
        diesWithin: async (id, ms) => {
          const end = world.time.now + ms;
          while (host.isAlive(id)) {
            if (world.time.now >= end) return false;
            await this.sleep(5);
          }
          look();
          return true;
        },
        kill: (id, because) =>
          this.answer(0, () => {
            const process = host.process(id);
            if (process === undefined) return;
            world.say(`${host.name}: the daemon kills process ${id.pid}: ${because}`);
            host.kill(process);
          }),
        howEnded: () => this.answer(0, () => 'ended'),
        lastLine: () => '',
        confinement: () => [],
        lookAfter: () => ({ bytes: 0, names: 0 }),
        keepLogs: () => undefined,
        traces: () => [],
        yieldToOthers: () => undefined,
        competeAgain: () => undefined,
        runner: async () => RUNNER,
      },
      images: {
        create: async (path) => {
          const temporary = `${path}.partial`;
          await this.answer(1, () => {
            step();
            disk.make(temporary, true);
          });
          return {
            sink: (bytes) =>
              this.answer(0.1, () => {
                step();
                if (disk.full) throw new Failure('io', 'ENOSPC');
                disk.find(temporary)!.text += Buffer.from(bytes).toString('latin1');
              }),
            commit: () =>
              this.answer(2, () => {
                step();
                const { text } = disk.find(temporary)!;
                disk.put(path, text);
                disk.remove(temporary);
              }),
            discard: () =>
              this.answer(0.1, () => {
                step();
                disk.remove(temporary);
              }),
          };
        },
        open: (path) =>
          this.answer(1, () => {
            const found = disk.find(path);
            if (found === undefined) throw new Failure('io', `ENOENT: ${path}`);
            const bytes = Buffer.from(found.text, 'latin1');
            return {
              read: async (into: Uint8Array, at: number) => bytes.copy(into, 0, at),
              copyTo: async (stream: unknown, start: number) => {
                const end = stream as End;
                end.write(bytes.subarray(start));
                end.end();
              },
              close: async () => undefined,
            };
          }),
      },
      hosts: {
        toItself: () => {
          look();
          return world.network.pair([host, this], [host, this]) as never;
        },
        connect: async (_dir, peer, _trusted, handlers) => {
          const there = world.hosts[peer.port - FIRST_PORT];
          const stream = await world.reach(this, host, there, CONNECT_MS, (end) => there.run?.accept(end));
          return greet(stream as never, peer, handlers, clock);
        },
      },
    };
  }

  /** The real functions, on a simulated disk. */
  private images(): FileImages {
    return new FileImages(FOLDERS, [], filesOf(this.host.disk, this.step, this.look), this.access());
  }

  /** How access to images is given: by entries in lists of this host. */
  private access(): ImageAccess {
    const { host } = this;
    const { world, disk } = host;
    return {
      give: async ({ uid, folders, given: before, record }, disks) => {
        const given: GivenAccess[] = [...before];
        for (const { target } of disks) {
          const path = pathHere(target, folders);
          await this.answer(world.dice.between(0, 5), () => undefined);
          const inode = disk.find(path);
          if (inode === undefined) throw new Failure('bad-config', `disk ${path}: ENOENT`);
          if (world.images.holder(host, path) !== undefined)
            throw new Failure(
              'bad-state',
              `disk ${path}: another guest, here or on another host, has it open`,
            );
          if (given.some((one) => one.ino === inode.ino)) continue;
          const entry = `${uid} ${inode.ino}`;
          const how = host.entries.has(entry) ? 'found' : 'entry';
          given.push({ path, dev: 1, ino: inode.ino, how, perm: 6, uid: 0, gid: 0 });
          record([...given]);
          host.entries.add(entry);
        }
      },
      keep: (_, given) => this.answer(0, () => given.map((one) => ({ ...one, how: 'entry' as const }))),
      takeBack: (uid, given) =>
        this.answer(world.dice.between(0, 5), () => {
          for (const { how, ino } of given) if (how !== 'found') host.entries.delete(`${uid} ${ino}`);
        }),
      mustNameWithin: async () => undefined,
      lend: () => null,
      takeBackLent: () => undefined,
    };
  }

  accept(end: End): void {
    this.daemon!.accept(end as never, undefined, () => true);
  }

  async start(): Promise<void> {
    const { host } = this;
    const log = host.log(this);
    this.daemon = new HostDaemon({
      dir: DIR,
      listen: { host: '127.0.0.1', port: host.port },
      plainLoopback: true,
      config: host.config,
      platform: host.platform(this.images()),
      log,
      world: this.world(),
    });
    await this.daemon.recover();
    this.listens = true;
  }
}

/** The bytes that arrive over a connection, in the form that `for await` takes. */
function bytesOf(end: End): End {
  const chunks: Uint8Array[] = [];
  let over = false;
  let wake: () => void = () => undefined;
  end.on('data', (chunk: Uint8Array) => {
    chunks.push(chunk);
    wake();
  });
  end.on('end', () => {
    over = true;
    wake();
  });
  return Object.assign(end, {
    async *[Symbol.asyncIterator]() {
      for (;;) {
        if (chunks.length > 0) yield chunks.shift()!;
        else if (over) return;
        else
          await new Promise<void>((done) => {
            wake = done;
          });
      }
    },
  });
}

const RUNNER = { readConfig: (text: string) => JSON.parse(text) } as unknown as RunnerModule;

export class SimulatedHost implements Place {
  readonly disk = new Disk();
  up = true;
  boot = 1;
  run: Run | undefined;
  readonly name: string;
  readonly port: number;
  daemonPid = 1;
  /** The entries of guests' users in the access lists of images: "user inode". */
  readonly entries = new Set<string>();
  /** The domains in this host's xenstore. */
  readonly shown = new Set<number>();
  private processes = new Map<number, GuestProcess>();
  private listeners = new Map<number, { process: GuestProcess; taken(end: End): void }>();
  private wallSkewMs = 1.7e12;
  private lastPort = 40_000;

  constructor(
    readonly world: SimulatedWorld,
    readonly index: number,
    readonly isRoot: boolean,
  ) {
    this.name = 'ABCDEFGH'[index];
    this.port = FIRST_PORT + index;
    this.disk.makeDirectory(DIR);
    this.disk.makeDirectory('/shared');
    this.disk.makeDirectory('/saved');
  }

  get dir(): string {
    return DIR;
  }
  readonly config: HostConfig = {
    platform: 'simulated',
    guestUid: 1000,
    guestOverheadMib: 1,
    guestProcesses: 1,
    guestFileMib: 1,
    coresMib: 1,
    memoryMib: 0,
    guests: 0,
    guestMemoryMib: 0,
    guestVcpus: 0,
    overcommit: false,
    guestFolders: [],
    dataPorts: '',
    greetingS: 10,
    moveAnswerS: 5,
    kernels: {},
    runner: '',
  };

  wallMs(): number {
    return this.world.time.now + this.wallSkewMs;
  }
  stepClock(ms: number): void {
    this.wallSkewMs += ms;
  }

  platform(images: HostPlatform['images']): HostPlatform {
    const nothing = { write: () => [] };
    return {
      kind: 'simulated',
      settings: {},
      identity: { name: this.name, xenVersion: '4.17.0', cpuModel: 'none' },
      clock: {
        uptime: () => this.world.time.now * 1e6,
        wallClock: () => this.wallMs() * 1e6,
        tscKhz: 1e6,
      } as HostPlatform['clock'],
      domids: { first: 1 + 100 * this.index, last: 0x7fef },
      allocate: () => ({ storePort: 1, consolePort: 2, storeFrame: 3, consoleFrame: 4 }),
      toolstackStore: {
        addDomain: ({ domid }) => this.shown.add(domid),
        rename: () => undefined,
        set: () => undefined,
        removeDomain: (domid) => this.shown.delete(domid),
        addDevice: () => undefined,
        removeDevice: () => undefined,
        relay: () => nothing,
      } as HostPlatform['toolstackStore'],
      pretended: new Set(),
      images,
      reach: () => ({ writable: [], readable: [], sockets: [], longestFile: undefined }),
      openHost: () => {
        throw new Error('no host is opened in a simulation');
      },
    };
  }

  log(run: Run): Logger {
    const { world } = this;
    const line =
      (level: string) =>
      (fields: unknown, words = ''): void => {
        if (!run.alive || !world.traces) return;
        world.say(
          `${this.name}: ${level}${typeof fields === 'string' ? fields : `${words} ${JSON.stringify(fields)}`}`,
        );
      };
    return { info: line(''), warn: line('WARN '), error: line('ERROR ') } as unknown as Logger;
  }

  // --- processes ---

  startProcess(directory: string): ProcessId {
    const process = new GuestProcess(this, this.world.nextPid++, directory);
    this.processes.set(process.pid, process);
    return { pid: process.pid, startTicks: this.boot };
  }
  process({ pid, startTicks }: ProcessId): GuestProcess | undefined {
    return startTicks === this.boot ? this.processes.get(pid) : undefined;
  }
  isAlive(id: ProcessId): boolean {
    if (id.pid === this.daemonPid) return id.startTicks === this.boot && this.run?.alive === true;
    return this.process(id) !== undefined;
  }
  processIn(directory: string): GuestProcess | undefined {
    return this.all.find((process) => process.directory === directory);
  }
  get all(): GuestProcess[] {
    return [...this.processes.values()];
  }
  kill(process: GuestProcess): void {
    if (!this.processes.delete(process.pid)) return;
    this.world.truth.killed(process);
    process.died();
    this.world.network.died(process);
  }
  /** The process ends by itself. */
  processEnds(process: GuestProcess): void {
    if (!this.processes.delete(process.pid)) return;
    process.died();
    this.world.network.died(process);
  }

  listen(process: GuestProcess, taken: (end: End) => void): number {
    const port = ++this.lastPort;
    this.listeners.set(port, { process, taken });
    return port;
  }
  unlisten(port: number): void {
    this.listeners.delete(port);
  }
  listener(port: number) {
    return this.listeners.get(port);
  }
  get listening(): number {
    return this.listeners.size;
  }

  // --- the daemon ---

  startDaemon(): void {
    if (!this.up || this.run?.alive === true) return;
    this.daemonPid = this.world.nextPid++;
    const run = new Run(this);
    this.run = run;
    this.world.say(`${this.name}: the daemon starts`);
    run.start().catch((error: Error) => {
      if (!run.alive || error instanceof Dead) return;
      this.world.say(`${this.name}: the daemon cannot start: ${error.message}`);
      this.killDaemon();
      this.world.time.after(AGAIN_MS, () => this.startDaemon());
    });
  }

  killDaemon(): void {
    const { run } = this;
    if (run === undefined || !run.alive) return;
    this.world.say(`${this.name}: the daemon is dead`);
    run.alive = false;
    this.shown.clear();
    this.world.network.died(run);
    this.world.daemonDied(run.daemon);
  }

  /** The daemon ends in order. */
  closeDaemon(): void {
    this.run?.daemon?.rest();
  }

  powerFails(): void {
    if (!this.up) return;
    this.world.say(`${this.name}: the power fails`);
    this.up = false;
    this.world.truth.booted(this.index);
    this.killDaemon();
    for (const process of this.all) {
      this.world.truth.killed(process, 'the power failed');
      process.died();
      this.world.network.died(process);
    }
    this.processes.clear();
    this.listeners.clear();
    this.disk.crash(this.world.dice);
  }

  switchOn(): void {
    if (this.up) return;
    this.world.say(`${this.name}: is switched on`);
    this.boot++;
    this.up = true;
    this.startDaemon();
  }
}
