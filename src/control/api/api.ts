/**
 * The verbs of the daemon, as requests over rpc.ts. Every answer is plain JSON; every failure is a Failure.
 * Invariant: a request says who may make it (`control` or `move`) by the table it stands in.
 */
import { readFileSync } from 'node:fs';
import { cpus, freemem, totalmem } from 'node:os';
import type { GuestConfig } from '../../guest-process/guest-runner.js';
import type { OuterKind } from '../../host/host.js';
import { DEFAULT_MOVE, type MoveOptions } from '../../migration/source.js';
import { sleep } from '../../os/clock.js';
import { Failure } from '../../protocol/failure.js';
import type { Params } from '../../protocol/rpc.js';
import type { Domain } from '../domains/domain.js';
import { checkName } from '../domains/domains.js';
import type { HostDaemon } from '../host-daemon.js';
import { restoreDomain, saveDomain } from '../images/images.js';
import { type Caller, resolvePeer } from '../transport/peer.js';
import { blockAttach, blockDetach, blockList } from './disk-requests.js';
import { networkAttach, networkDetach, networkList } from './network-requests.js';

/** One line of `list`. */
export interface DomainRow {
  readonly domid: number;
  readonly name: string;
  readonly uuid: string;
  /** What the guest has now; the most that it may have is in its configuration. */
  readonly memoryMib: number;
  /** Those that are online. */
  readonly vcpus: number;
  /** As in xl: r running, b blocked, p paused, s shut down, c crashed, d dying; - otherwise. */
  readonly state: string;
  readonly seconds: number;
  readonly uptimeSeconds: number;
  readonly moving: boolean;
  readonly pid: number;
  readonly rssKib: number;
  readonly instructions: number;
}

/** What `create` answers. */
export interface CreatedRow extends DomainRow {
  /** What of the configuration has no effect, each with file and line. */
  readonly warnings?: readonly string[];
}

/** Which guest a reference means. Whoever asks more than once goes on with the uuid: it is never another guest's. */
export interface DomainIdentity {
  readonly domid: number;
  readonly name: string;
  readonly uuid: string;
}

export interface HostInfo {
  readonly host: string;
  readonly release: string;
  readonly nr_cpus: number;
  readonly cpu_model: string;
  readonly tsc_khz: number;
  readonly total_memory: number;
  readonly free_memory: number;
  readonly uptime_s: number;
  readonly wall_clock: string;
  readonly xen_version: string;
  readonly domains: number;
  readonly next_domid_after: number;
  readonly plain_loopback: boolean;
  /** Which of these values the host invents. */
  readonly pretended: readonly (keyof HostInfo)[];
}

/** Values of `info` that a host may invent, and their kinds. */
const OUTER_INFO: readonly (readonly [keyof HostInfo, OuterKind])[] = [
  ['cpu_model', 'cpuModel'],
  ['tsc_khz', 'tscKhz'],
  ['uptime_s', 'uptime'],
  ['wall_clock', 'wallClock'],
  ['xen_version', 'xenVersion'],
  ['next_domid_after', 'domid'],
];

type Handler = (daemon: HostDaemon, params: Params, caller: Caller) => unknown;

const text = (params: Params, name: string): string => {
  const value = params[name];
  if (typeof value !== 'string' || value === '') throw new Failure('usage', `${name} is missing`);
  return value;
};
/** Longer than a timer of Node's can wait is no time. */
const MAX_NUMBER = 2_147_483;
const number = (params: Params, name: string, otherwise: number): number => {
  const value = params[name];
  if (value === undefined) return otherwise;
  if (typeof value !== 'number' || !(value >= 0 && value <= MAX_NUMBER))
    throw new Failure('usage', `${name} must be a number from 0 to ${MAX_NUMBER}`);
  return value;
};
/** The guest that a request means: by `uuid`, where its sender has found out which it is, and as `guest` names it. */
const guest = (daemon: HostDaemon, params: Params): Domain => {
  const called = text(params, 'guest');
  return daemon.domains.find(params.uuid === undefined ? called : text(params, 'uuid'), called);
};
/** Asks a guest's process. Of a guest that is removed meanwhile the answer is that there is none. */
async function asked<T>(
  daemon: HostDaemon,
  params: Params,
  what: (domain: Domain) => Promise<T>,
): Promise<T> {
  const domain = guest(daemon, params);
  try {
    return await what(domain);
  } catch (error) {
    throw domain.leaving ? daemon.domains.missing(text(params, 'guest')) : error;
  }
}
const resting = (daemon: HostDaemon, params: Params): Domain => {
  const domain = guest(daemon, params);
  if (domain.state.phase === 'building')
    throw new Failure('bad-state', `domain ${domain.state.name} is being built`);
  daemon.moves.mustRest(domain);
  return domain;
};

async function row(daemon: HostDaemon, domain: Domain): Promise<DomainRow> {
  const { domid, name, uuid, config, phase, exit, process } = domain.state;
  const status = await domain.ask('status', {}, 2_000).catch(() => undefined);
  const ended = phase === 'ended';
  const runs = status?.vcpus.some((v) => v.state === 'running') === true;
  const state = [
    !ended && runs && status?.paused === false ? 'r' : '-',
    !ended && !runs && status?.paused === false ? 'b' : '-',
    !ended && status?.paused === true ? 'p' : '-',
    ended && exit?.reason !== 'crash' ? 's' : '-',
    ended && exit?.reason === 'crash' ? 'c' : '-',
    '-',
  ].join('');
  return {
    domid,
    name: phase === 'incoming' ? `${name}--incoming` : name,
    uuid,
    memoryMib: Math.round((status?.memoryKib ?? config?.memoryKib ?? domain.state.memoryKib) / 1024),
    vcpus:
      status?.vcpus.filter((v) => v.state !== 'offline').length ?? config?.onlineVcpus ?? domain.state.vcpus,
    state,
    seconds: status?.cpuSeconds ?? 0,
    uptimeSeconds: status?.uptimeSeconds ?? 0,
    moving: daemon.moves.isMoving(domain),
    pid: process?.pid ?? 0,
    rssKib: status?.rssKib ?? 0,
    instructions: status?.instructions ?? 0,
  };
}

async function readConfig(daemon: HostDaemon, params: Params): Promise<GuestConfig> {
  const module = await daemon.world.processes.runner(daemon.config.runner);
  try {
    return module.readConfig(text(params, 'config'), text(params, 'file'), text(params, 'directory'));
  } catch (error) {
    throw new Failure('bad-config', (error as Error).message);
  }
}

/** Longest that a guest is given to take a request, unless the caller says otherwise. */
const SHUTDOWN_TIMEOUT_S = 60;

async function ask(daemon: HostDaemon, params: Params, kind: 'poweroff' | 'reboot'): Promise<null> {
  const domain = resting(daemon, params);
  const timeoutS = number(params, 'timeoutS', SHUTDOWN_TIMEOUT_S);
  const { domid } = domain;
  await domain.ask('shutdown', { kind, timeoutS });
  if (params.wait !== true) return null;
  const { clock } = daemon.world;
  const end = clock.monotonicMs() + timeoutS * 1000;
  while (daemon.domains.all.get(domid) === domain && domain.state.phase !== 'ended') {
    if (clock.monotonicMs() > end)
      throw new Failure('timed-out', `the guest took the request, and still runs after ${timeoutS} s`);
    await sleep(clock, 50);
  }
  return null;
}

function moveOptions(params: Params): MoveOptions {
  const onTimeout = params.onTimeout ?? DEFAULT_MOVE.onTimeout;
  if (onTimeout !== 'cancel' && onTimeout !== 'force')
    throw new Failure('usage', 'on-timeout is cancel or force');
  const { clock } = params;
  if (clock !== undefined && clock !== 'elapse' && clock !== 'freeze')
    throw new Failure('usage', 'clock is elapse or freeze');
  return {
    maxDowntimeMs: number(params, 'maxDowntimeMs', DEFAULT_MOVE.maxDowntimeMs),
    maxRounds: Math.max(1, number(params, 'maxRounds', DEFAULT_MOVE.maxRounds)),
    timeoutS: number(params, 'timeoutS', DEFAULT_MOVE.timeoutS),
    bandwidthMBs: number(params, 'bandwidthMBs', DEFAULT_MOVE.bandwidthMBs),
    onTimeout,
    clock,
    copyStorage: params.copyStorage === true,
  };
}

/** What people and scripts may ask for. */
export const controlRequests: Readonly<Record<string, Handler>> = {
  list: (daemon) => Promise.all([...daemon.domains.all.values()].map((domain) => row(daemon, domain))),
  domain: (daemon, params) => row(daemon, guest(daemon, params)),
  identity(daemon, params): DomainIdentity {
    const { domid, name, uuid } = guest(daemon, params).state;
    return { domid, name, uuid };
  },
  config: (daemon, params) => guest(daemon, params).state.config,
  info: (daemon): HostInfo => ({
    host: daemon.name,
    release: readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim(),
    nr_cpus: cpus().length,
    cpu_model: daemon.platform.identity.cpuModel,
    tsc_khz: daemon.platform.clock.tscKhz,
    total_memory: Math.round(totalmem() / 2 ** 20),
    free_memory: Math.round(freemem() / 2 ** 20),
    uptime_s: Math.floor(daemon.platform.clock.uptime() / 1e9),
    wall_clock: new Date(daemon.platform.clock.wallClock() / 1e6).toISOString(),
    xen_version: daemon.platform.identity.xenVersion,
    domains: daemon.domains.all.size,
    next_domid_after: Math.max(0, ...daemon.domains.all.keys()),
    plain_loopback: daemon.plain,
    pretended: OUTER_INFO.filter(([, kind]) => daemon.platform.pretended.has(kind)).map(([name]) => name),
  }),
  async create(daemon, params) {
    const config = await readConfig(daemon, params);
    const made = await row(daemon, await daemon.domains.create(config, params.paused === true));
    return { ...made, warnings: config.more.warnings };
  },
  pause: (daemon, params) => resting(daemon, params).ask('pause', {}),
  unpause: (daemon, params) => resting(daemon, params).ask('unpause', {}),
  shutdown: (daemon, params) => ask(daemon, params, 'poweroff'),
  reboot: (daemon, params) => ask(daemon, params, 'reboot'),
  async destroy(daemon, params) {
    const domain = guest(daemon, params);
    await daemon.moves.giveUp(domain);
    // One that was arriving is gone by now.
    if (daemon.domains.all.get(domain.domid) === domain) await daemon.domains.discard(domain, 'destroyed');
    return null;
  },
  async rename(daemon, params) {
    const domain = resting(daemon, params);
    const name = text(params, 'name');
    checkName(name);
    if (!daemon.domains.nameIsFree(name)) throw new Failure('name-taken', `a domain has the name ${name}`);
    await domain.ask('rename', { name });
    domain.state.name = name;
    if (domain.state.config !== null) domain.state.config = { ...domain.state.config, name };
    domain.save();
    daemon.platform.toolstackStore.rename(domain.domid, domain.state.uuid, name);
    return null;
  },
  save: (daemon, params) =>
    saveDomain(daemon.domains, resting(daemon, params), text(params, 'path'), params.keep === true),
  async restore(daemon, params) {
    return row(daemon, await restoreDomain(daemon.domains, text(params, 'path'), params.paused === true));
  },
  migrate(daemon, params, caller) {
    const peer = resolvePeer(text(params, 'host'), daemon.trusted.all(), daemon.plain);
    return daemon.moves.migrate(guest(daemon, params), peer, moveOptions(params), (progress) =>
      caller.rpc.notice('progress', progress),
    );
  },
  blockAttach: (daemon, params) => blockAttach(daemon.domains, resting(daemon, params), text(params, 'spec')),
  blockDetach: (daemon, params) =>
    blockDetach(daemon.domains, resting(daemon, params), text(params, 'which'), params.force === true),
  blockList: (daemon, params) => blockList(guest(daemon, params)),
  networkAttach: (daemon, params) => {
    const spec = typeof params.spec === 'string' ? params.spec : '';
    return networkAttach(daemon.domains, resting(daemon, params), spec);
  },
  networkDetach: (daemon, params) =>
    networkDetach(daemon.domains, resting(daemon, params), text(params, 'which'), params.force === true),
  networkList: (daemon, params) => networkList(guest(daemon, params)),
  /** Somebody changed the files of those who are trusted. */
  trustChanged: (daemon) => daemon.trustChanged(),
  cancelMove: (daemon, params) => daemon.moves.cancel(guest(daemon, params)),
  settle: (daemon, params) => daemon.moves.decide(guest(daemon, params), params.keep === true),
  moves: (daemon) => daemon.moves.stats,
  points: (daemon, params) => asked(daemon, params, (domain) => domain.ask('points', {})),
  dmesg: (daemon, params) => asked(daemon, params, (domain) => domain.ask('dmesg', {})),
  vcpus: async (daemon, params) => {
    const domains = params.guest === undefined ? [...daemon.domains.all.values()] : [guest(daemon, params)];
    return Promise.all(
      domains.map(async (domain) => ({
        domid: domain.domid,
        name: domain.state.name,
        vcpus: (await domain.ask('status', {}, 2_000).catch(() => undefined))?.vcpus ?? [],
      })),
    );
  },
  async console(daemon, params, caller) {
    const domain = guest(daemon, params);
    const watcher = (data: string): void => caller.rpc.notice('console', { data });
    const latest = await domain.ask('watchConsole', {});
    domain.consoles.add(watcher);
    caller.rpc.stream.on('close', () => domain.consoles.delete(watcher));
    return { latest, domid: domain.domid, uuid: domain.state.uuid };
  },
  type: (daemon, params) =>
    asked(daemon, params, (domain) => domain.ask('type', { data: text(params, 'data') })),
  /** Resolves when the domain is no more here. */
  async gone(daemon, params) {
    const domain = guest(daemon, params);
    while (daemon.domains.all.get(domain.domid) === domain) await sleep(daemon.world.clock, 100);
    return null;
  },
};

/** What other hosts may ask for. */
export const moveRequests: Readonly<Record<string, Handler>> = {
  /** This host's wall clock, ns since 1970: so that a source can tell how far its own is off. */
  clock: (daemon) => daemon.domains.wallClock(),
  moveOpen: (daemon, params, caller) => daemon.moves.open(caller, params),
};
