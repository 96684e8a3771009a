/**
 * What the daemon remembers of its guests. A guest that reboots is never lost, even when the daemon is killed
 * at any of its steps on disk, when the disk is full, or when the clock is set back. The guests' processes
 * are simulated; the daemon's code and its files are real.
 */
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { HostXenstore } from '../../host/standalone/toolstack-store.js';
import { Failure } from '../../protocol/failure.js';
import type { GuestConfig } from '../../protocol/guest-config.js';
import { GUEST_FILES, type GuestHello } from '../../protocol/guest-process.js';
import { Rpc } from '../../protocol/rpc.js';
import { blockAttach, blockDetach } from '../api/disk-requests.js';
import { networkAttach, networkDetach } from '../api/network-requests.js';
import { openHostConfig } from '../host-config.js';
import { Moves } from '../moves/moves.js';
import { systemWorld } from '../system-world.js';
import { Domains } from './domains.js';
import type { HostedDomain } from './hosted-domain.js';

/** The disk as the daemon that is running now finds it. */
const disk = vi.hoisted(() => ({
  /**
   * Counted down at each step on disk. At 0 the daemon counts as dead, and its further steps have no effect.
   */
  stepsLeft: Number.POSITIVE_INFINITY,
  full: false,
  step(writes: boolean): void {
    if (disk.stepsLeft-- <= 0) throw new Error('this daemon is dead');
    if (writes && disk.full)
      throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
  },
}));
vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  const stepping =
    <A extends unknown[], R>(what: (...args: A) => R, writes: (...args: A) => boolean | undefined) =>
    (...args: A): R => {
      const kind = writes(...args);
      if (kind !== undefined) disk.step(kind);
      return what(...args);
    };
  return {
    ...fs,
    openSync: stepping(fs.openSync, (_path, flags) => (flags === 'w' ? true : undefined)),
    renameSync: stepping(fs.renameSync, () => false),
    rmSync: stepping(fs.rmSync, () => false),
  };
});

/** The processes of the guests. They outlive the daemons. */
const processes = vi.hoisted(() => new Map<number, Played>());
interface Played {
  readonly directory: string;
  phase: string;
  devices: { kind: string; devid: number; spec: string }[];
  rpc?: Rpc;
}
vi.mock('./spawn.js', () => {
  let pid = 0;
  const isAlive = (id: { pid: number }): boolean => processes.has(id.pid);
  return {
    passable: () => undefined,
    isAlive,
    socketOf: ({ socket }: { socket: string }) => socket,
    startTicks: () => 0,
    killProcess: async (id: { pid: number }) => void processes.delete(id.pid),
    deathOf: async (id: { pid: number }) => !isAlive(id),
    spawnGuest: ({ places: { directory } }: { places: { directory: string } }) => {
      mkdir(directory);
      processes.set(++pid, { directory, phase: 'empty', devices: [] });
      return { pid, startTicks: 0 };
    },
    connectGuest: async (_: unknown, id: { pid: number }) => connect(id.pid),
  };
});
const { mkdirSync } = await vi.importActual<typeof import('node:fs')>('node:fs');
function mkdir(path: string): void {
  mkdirSync(path, { recursive: true });
}

/** The two ends of a connection. */
function pair(): [Duplex, Duplex] {
  const ends: Duplex[] = [];
  const end = (other: number): Duplex =>
    new Duplex({
      read: () => undefined,
      write(chunk, _, done) {
        ends[other].push(chunk);
        done();
      },
    });
  ends.push(end(1), end(0));
  return [ends[0], ends[1]];
}

function connect(pid: number): Duplex {
  const [ours, theirs] = pair();
  const process = processes.get(pid)!;
  process.rpc = new Rpc(theirs, {
    request(method, params): unknown {
      if (method === 'create') process.phase = 'live';
      if (method === 'devices') return process.devices.map((one) => ({ ...one, front: {}, link: '' }));
      if (method === 'plug') {
        process.devices.push((params as { device: { kind: string; devid: number; spec: string } }).device);
        return { ...config, devices: process.devices };
      }
      if (method === 'unplug') throw new Failure('timed-out', 'the guest did not let go');
      if (method === 'end') {
        writeFileSync(join(process.directory, GUEST_FILES.exit.name), '{"reason":"destroyed","details":""}');
        setImmediate(() => {
          processes.delete(pid);
          theirs.push(null);
          ours.push(null);
        });
        return null;
      }
      if (method !== 'hello' && method !== 'create') return null;
      const { phase } = process;
      return { pid, phase, paused: false, locked: false, config: null } as unknown as GuestHello;
    },
  });
  return ours;
}

const config = {
  name: 'guest',
  uuid: '11111111-2222-3333-4444-555555555555',
  vcpus: 1,
  memoryKib: 4096,
  maxMemoryKib: 4096,
  kernel: '',
  ramdisk: '',
  cmdline: '',
  onPoweroff: 'destroy',
  onReboot: 'restart',
  onCrash: 'destroy',
  clock: 'elapse',
  devices: [],
  more: {},
} as const satisfies GuestConfig;

describe('what a daemon remembers of its guests:', () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'stillpoint-reboot-'));
    mkdir(join(dir, 'guests'));
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] });
  });
  afterEach(() => {
    vi.useRealTimers();
    disk.full = false;
    disk.stepsLeft = Number.POSITIVE_INFINITY;
    processes.clear();
    rmSync(dir, { recursive: true, force: true });
  });

  async function daemon(): Promise<Domains> {
    const log = pino({ level: 'silent' });
    const domains = new Domains({
      world: systemWorld,
      dir,
      ...(await openHostConfig(undefined, 'A')),
      log,
      unconfined: false,
    });
    const moves = new Moves({
      dir,
      domains,
      log,
      listenHost: '',
      plain: true,
      connect: () => Promise.reject(new Error('no other host')),
    });
    domains.moves = moves;
    await moves.recover(await domains.recover());
    return domains;
  }
  const pass = async (ms: number): Promise<void> => {
    for (let at = 0; at < ms; at += 500) {
      await vi.advanceTimersByTimeAsync(500);
      for (let i = 0; i < 5; i++) await new Promise((turn) => setImmediate(turn));
    }
  };
  /** Switches a guest on and then lets it reboot. */
  async function rebooting(domains: Domains, then = (): void => undefined): Promise<void> {
    const domain = await domains.create(config, false);
    await pass(2000);
    then();
    const process = processes.get(domain.state.process!.pid)!;
    process.phase = 'ended';
    writeFileSync(join(process.directory, GUEST_FILES.exit.name), '{"reason":"reboot","details":""}');
    process.rpc!.notice('stopped', { reason: 'reboot', details: '' });
  }
  const rows = (domains: Domains): string[] =>
    [...domains.all.values()].map(({ state }: HostedDomain) => `${state.domid} ${state.name} ${state.phase}`);
  /** Expects one guest, alive, in a domain with a new id, and nothing else. */
  function expectAgain(domains: Domains): void {
    expect(rows(domains)).toEqual([expect.stringMatching(/^[2-9] guest live$/)]);
    const [domain] = domains.all.values();
    expect([...processes.keys()]).toEqual([domain.state.process!.pid]);
    expect(readdirSync(join(dir, 'state'))).toEqual([`${domain.domid}.json`]);
    expect((domains.store as HostXenstore).server.local(0).tryRead(`/vm/${config.uuid}/name`)).toBe('guest');
  }

  it.each([
    {
      what: 'disk',
      attach: (domains: Domains, domain: HostedDomain) =>
        blockAttach(domains, domain, 'vdev=xvdf,target=nbd://127.0.0.1/x,format=raw'),
      detach: (domains: Domains, domain: HostedDomain) => blockDetach(domains, domain, 'xvdf', false),
    },
    {
      what: 'vif',
      attach: (domains: Domains, domain: HostedDomain) => networkAttach(domains, domain, ''),
      detach: (domains: Domains, domain: HostedDomain) => networkDetach(domains, domain, '0', false),
    },
  ])('the place of a $what that the guest lets go of late is free again', async ({ attach, detach }) => {
    const domains = await daemon();
    const domain = await domains.create(config, false);
    const { devid } = await attach(domains, domain);
    const process = processes.get(domain.state.process!.pid)!;
    const has = (): number[] => domain.state.config!.devices.map((device) => device.devid);
    await expect(detach(domains, domain)).rejects.toThrow('did not let go');
    expect(has()).toEqual([devid]);
    const [{ kind }] = process.devices;
    process.devices = [];
    for (const one of has()) process.rpc!.notice('unplugged', { kind, devid: one });
    await pass(500);
    expect(has()).toEqual([]);
    expect((await attach(domains, domain)).devid).toBe(devid);
    // The same must hold if no daemon was connected when it happened.
    process.devices = [];
    for (const one of domains.all.values()) one.rpc?.setHandlers({});
    domains.all.clear();
    const after = await daemon();
    const [again] = after.all.values();
    expect(again.state.config!.devices).toEqual([]);
    expect((await attach(after, again)).devid).toBe(devid);
  });

  it('a guest that reboots lives again, and its old domain is gone', async () => {
    const domains = await daemon();
    await rebooting(domains);
    await pass(3000);
    expectAgain(domains);
  });

  it('a guest that reboots lives again when its daemon is killed at any step', async () => {
    let steps = 0;
    for (let dead = true; dead; steps++) {
      const before = await daemon();
      await rebooting(before, () => {
        disk.stepsLeft = steps;
      });
      await pass(3000);
      dead = disk.stepsLeft < 0;
      disk.stepsLeft = Number.POSITIVE_INFINITY;
      // The dead daemon must not act any more: its handlers and domains are removed.
      for (const domain of before.all.values()) domain.rpc?.setHandlers({});
      before.all.clear();
      const after = await daemon();
      await pass(3000);
      expectAgain(after);
      for (const domain of after.all.values()) await after.ends.discard(domain, 'destroyed');
      rmSync(dir, { recursive: true });
      mkdir(join(dir, 'guests'));
    }
    // Fewer steps would mean that this test no longer counts the steps of a reboot.
    expect(steps).toBeGreaterThan(8);
  });

  it('a guest that reboots lives again when there is room on the disk again', async () => {
    const domains = await daemon();
    await rebooting(domains, () => {
      disk.full = true;
    });
    await pass(30_000);
    expect(rows(domains)).toEqual(['1 guest ended']);
    expect(existsSync(join(dir, 'state', '1.json'))).toBe(true);
    disk.full = false;
    await pass(60_000);
    expectAgain(domains);
  });

  it('a guest that reboots lives again when the clock was set back', async () => {
    const domains = await daemon();
    await rebooting(domains, () => {
      vi.setSystemTime(Date.now() - 86_400_000);
    });
    await pass(3000);
    expectAgain(domains);
  });

  it('a guest that reboots and that nobody wants any more is not switched on again', async () => {
    const domains = await daemon();
    await rebooting(domains, () => {
      disk.full = true;
    });
    await pass(3000);
    await domains.ends.discard([...domains.all.values()][0], 'destroyed');
    disk.full = false;
    await pass(60_000);
    expect(rows(domains)).toEqual([]);
  });
});
