/** A simulated world: hosts, the network between them, images, and the time that passes there. */

import type { HostDaemon } from '../../src/control/host-daemon.js';
import { Failure } from '../../src/protocol/failure.js';
import type { GuestConfig } from '../../src/protocol/guest-config.js';
import type { GuestProcess } from './guest.js';
import { SimulatedHost } from './host.js';
import { type End, Network } from './network.js';
import { type Actor, Dice, Time } from './time.js';
import { Truth } from './truth.js';

/**
 * The images of guests' disks; those below /shared are the same on all hosts. A lock ends with the process that holds
 * it.
 */
class Images {
  private readonly shared = new Map<string, string>();
  private readonly locks = new Map<string, GuestProcess>();
  constructor(private readonly world: SimulatedWorld) {}

  private key(host: SimulatedHost, path: string): string {
    return path.startsWith('/shared/') ? path : `${host.name}:${host.disk.find(path)?.ino ?? 0}`;
  }
  holder(host: SimulatedHost, path: string): GuestProcess | undefined {
    const holder = this.locks.get(this.key(host, path));
    return holder?.alive === true ? holder : undefined;
  }
  lock(process: GuestProcess, path: string): void {
    const { host } = process;
    if (host.disk.find(path) === undefined) throw new Failure('io', `disk ${path}: ENOENT`);
    const holder = this.holder(host, path);
    if (holder !== undefined && holder !== process)
      throw new Failure('io', `disk ${path}: another guest has it open`);
    this.locks.set(this.key(host, path), process);
  }
  unlock(process: GuestProcess, path: string): void {
    const key = this.key(process.host, path);
    if (this.locks.get(key) === process) this.locks.delete(key);
  }
  read(host: SimulatedHost, path: string): string | undefined {
    return path.startsWith('/shared/') ? this.shared.get(path) : host.disk.find(path)?.text;
  }
  write(process: GuestProcess, path: string, text: string): void {
    const { host } = process;
    if (this.holder(host, path) !== process)
      this.world.truth.violation(`process ${process.name} writes on ${path}, which it has not locked`);
    if (path.startsWith('/shared/')) this.shared.set(path, text);
    else host.disk.fill(host.disk.find(path)!, text);
  }
  /** Somebody has put the disk back into its old state. */
  put(host: SimulatedHost, config: GuestConfig, text: string): void {
    for (const { spec } of config.devices) {
      const { target } = JSON.parse(spec) as { target: string };
      for (const one of this.world.hosts) {
        if (target.startsWith('/shared/')) one.disk.put(target, '');
        else if (one === host) one.disk.put(target, text);
        else one.disk.drop(target);
      }
      if (target.startsWith('/shared/')) this.shared.set(target, text);
    }
  }
  /** A guest that continues finds what it has written. */
  mustHold(process: GuestProcess): void {
    const { boot, count } = process.memory!;
    for (const { spec } of process.config!.devices) {
      const { target } = JSON.parse(spec) as { target: string };
      const text = this.read(process.host, target) ?? '';
      const { boot: b, count: c } = text === '' ? { boot: 0, count: 0 } : JSON.parse(text);
      if (b !== boot || c !== count)
        this.world.truth.violation(
          `disk ${target} holds ${b}.${c} where process ${process.name} goes on from ${boot}.${count}`,
        );
    }
  }
  /** Locks of dead processes do not count. */
  locked(): string[] {
    return [...this.locks].filter(([, process]) => process.alive).map(([key]) => key);
  }
}

const MOST_TRACE = 4000;

export class SimulatedWorld {
  readonly time = new Time();
  readonly dice: Dice;
  readonly network: Network;
  readonly images = new Images(this);
  readonly truth = new Truth(this);
  readonly hosts: SimulatedHost[];
  readonly trace: string[] = [];
  nextPid = 100;
  private readonly lost = new Set<(daemon: HostDaemon | undefined) => void>();

  constructor(
    seed: number,
    readonly traces: boolean,
  ) {
    this.dice = new Dice(seed ^ 0x5eed);
    this.network = new Network(this.time, this.dice);
    this.hosts = [0, 1, 2].map((index) => new SimulatedHost(this, index, this.dice.chance(0.5)));
  }

  say(what: string): void {
    if (!this.traces || this.trace.length > MOST_TRACE) return;
    this.trace.push(`${this.time.now.toFixed(2).padStart(10)}  ${what}`);
  }
  uuid(): string {
    const hex = Array.from({ length: 32 }, () => this.dice.below(16).toString(16)).join('');
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  }
  processes(): GuestProcess[] {
    return this.hosts.flatMap((host) => host.all);
  }

  whenDies(daemon: HostDaemon, what: () => void): () => void {
    const told = (dead: HostDaemon | undefined): void => {
      if (dead === daemon) what();
    };
    this.lost.add(told);
    return () => this.lost.delete(told);
  }
  daemonDied(daemon: HostDaemon | undefined): void {
    for (const told of [...this.lost]) told(daemon);
  }

  /** A connection to another host's daemon. */
  async reach(
    from: Actor,
    at: SimulatedHost,
    to: SimulatedHost,
    limitMs: number,
    accept: (end: End) => void,
  ): Promise<End> {
    const way = this.network.delay(at.index, to.index);
    if (way === undefined || !to.up) {
      await from.sleep(limitMs);
      throw new Failure('io', `${to.name}: no answer`);
    }
    await from.sleep(way);
    const { run } = to;
    if (run?.alive !== true || !run.listens) throw new Failure('io', `${to.name}: ECONNREFUSED`);
    const [ours, theirs] = this.network.pair([at, from], [to, run]);
    accept(theirs);
    await from.sleep(way);
    return ours;
  }

  /** A connection to a process of another host that listens for a guest. */
  async connectData(from: GuestProcess, name: string, port: number, limitMs: number): Promise<End> {
    const to = this.hosts[Number(name.split('.').at(-1)) - 1];
    const way = this.network.delay(from.host.index, to.index);
    if (way === undefined || !to.up) {
      await from.sleep(limitMs);
      throw new Failure('io', `${to.name}: no answer`);
    }
    await from.sleep(way);
    const listener = to.listener(port);
    if (listener === undefined) throw new Failure('io', `${to.name}:${port}: ECONNREFUSED`);
    const [ours, theirs] = this.network.pair([from.host, from], [to, listener.process]);
    listener.taken(theirs);
    return ours;
  }
}
