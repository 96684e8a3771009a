/**
 * What the daemon does for each request of src/protocol/control.ts and src/protocol/peer.ts; those files define the
 * parameters and the answers. Every error is a Failure. A missing handler, or one with the wrong type of answer, does
 * not compile.
 *
 * Invariant: the table in which a request stands says which right it needs (`control` or `move`).
 */

import { readFileSync } from 'node:fs';
import { cpus, freemem, totalmem } from 'node:os';
import type { OuterKind } from '../../host/host.js';
import { sleep } from '../../os/clock.js';
import {
  CONTROL,
  CONTROL_NOTICES,
  type Control,
  type DomainRow,
  type HostInfo,
} from '../../protocol/control.js';
import { Failure } from '../../protocol/failure.js';
import { VERSION } from '../../protocol/generated/version.js';
import type { GuestConfig } from '../../protocol/guest-config.js';
import type { MoveOptions } from '../../protocol/moves.js';
import { PEER, type Peer } from '../../protocol/peer.js';
import { dispatcher, type Handlers, type ParamsOf, say } from '../../protocol/table.js';
import { type Caller, resolvePeer } from '../../transport/peer.js';
import { dumpCore } from '../domains/core.js';
import type { HostedDomain } from '../domains/hosted-domain.js';
import type { HostDaemon } from '../host-daemon.js';
import { restoreDomain, saveDomain } from '../images/images.js';
import { configUpdate, memMax, memSet, vcpuSet } from './adjust-requests.js';
import {
  define,
  definedRow,
  known,
  knownUuid,
  setAutostart,
  undefine,
  withoutWarnings,
} from './definition-requests.js';
import { blockAttach, blockDetach, blockList } from './disk-requests.js';
import { networkAttach, networkDetach, networkList } from './network-requests.js';

type Context = [daemon: HostDaemon, caller: Caller];
interface OfGuest {
  readonly guest: string;
  readonly uuid?: string;
}

/** Values of `info` that a host may invent, with the kind under which the host declares each. */
const OUTER_INFO: readonly (readonly [HostInfo['pretended'][number], OuterKind])[] = [
  ['cpu_model', 'cpuModel'],
  ['tsc_khz', 'tscKhz'],
  ['uptime_s', 'uptime'],
  ['wall_clock', 'wallClock'],
  ['xen_version', 'xenVersion'],
  ['next_domid_after', 'domid'],
];

/** The guest that a request is about: by `uuid` if the sender has already resolved the name, else by `guest`. */
const guest = (daemon: HostDaemon, { guest: called, uuid }: OfGuest): HostedDomain =>
  daemon.domains.find(uuid ?? called, called);
/**
 * Sends a request to a guest's process. If the guest is removed meanwhile, the caller is told that there is no such
 * guest.
 */
async function asked<T>(
  daemon: HostDaemon,
  params: OfGuest,
  what: (domain: HostedDomain) => Promise<T>,
): Promise<T> {
  const domain = guest(daemon, params);
  try {
    return await what(domain);
  } catch (error) {
    throw domain.leaving ? daemon.domains.missing(params.guest) : error;
  }
}
const resting = (daemon: HostDaemon, params: OfGuest): HostedDomain => {
  const domain = guest(daemon, params);
  if (domain.state.phase === 'building')
    throw new Failure('bad-state', `domain ${domain.state.name} is being built`);
  daemon.moves.mustRest(domain);
  return domain;
};

async function row(daemon: HostDaemon, domain: HostedDomain): Promise<DomainRow> {
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
    code: domain.state.code,
  };
}

type Params<M extends keyof Control> = ParamsOf<Control, M>;

/** `makeUuid`: as in RunnerModule. */
async function readConfig(
  daemon: HostDaemon,
  params: Params<'define'>,
  makeUuid?: (name: string) => string,
): Promise<GuestConfig> {
  const module = await daemon.world.processes.runner(daemon.config.runner);
  const { config, file, directory } = params;
  try {
    return module.readConfig(config, file, directory, makeUuid);
  } catch (error) {
    throw new Failure('bad-config', (error as Error).message);
  }
}

async function shutDown(
  daemon: HostDaemon,
  params: Params<'shutdown'>,
  kind: 'poweroff' | 'reboot',
): Promise<null> {
  const domain = resting(daemon, params);
  const { timeoutS, wait } = params;
  const { domid } = domain;
  await domain.ask('shutdown', { kind, timeoutS });
  if (!wait) return null;
  const { clock } = daemon.world;
  const end = clock.monotonicMs() + timeoutS * 1000;
  while (daemon.domains.all.get(domid) === domain && domain.state.phase !== 'ended') {
    if (clock.monotonicMs() > end)
      throw new Failure('timed-out', `the guest took the request, and still runs after ${timeoutS} s`);
    await sleep(clock, 50);
  }
  return null;
}

const controlHandlers: Handlers<Control, Context> = {
  list: (_, daemon) => Promise.all([...daemon.domains.all.values()].map((domain) => row(daemon, domain))),
  domain: (params, daemon) => row(daemon, guest(daemon, params)),
  identity(params, daemon) {
    const { domid, name, uuid } = guest(daemon, params).state;
    return { domid, name, uuid };
  },
  config: (params, daemon) => guest(daemon, params).state.config,
  info: (_, daemon) => ({
    host: daemon.name,
    release: readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim(),
    version: VERSION,
    code: daemon.domains.code.key || undefined,
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
  async create(params, daemon) {
    const { kept, warnings } = withoutWarnings(await readConfig(daemon, params));
    const made = await row(
      daemon,
      await daemon.domains.create(kept, params.paused, { overcommit: params.overcommit }),
    );
    return { ...made, warnings };
  },
  define: async (params, daemon) => define(daemon, await readConfig(daemon, params, knownUuid(daemon))),
  crashes: (_, { domains }) =>
    domains.crashes.list().map((crash) => ({ ...crash, directory: domains.crashes.directory(crash.id) })),
  undefine: (params, daemon) => undefine(daemon, params.uuid ?? params.guest, params.guest),
  defined: (_, daemon) => [...daemon.domains.definitions].map((one) => definedRow(daemon, one)),
  async start(params, daemon) {
    const definition = known(daemon, params.uuid ?? params.guest, params.guest);
    return row(daemon, await daemon.domains.start(definition, params.paused, params.overcommit));
  },
  autostart: (params, daemon) => setAutostart(daemon, params.uuid ?? params.guest, params.guest, params.plan),
  async pause(params, daemon) {
    const domain = resting(daemon, params);
    await domain.ask('pause', {});
    daemon.domains.changed(domain, 'paused');
    return null;
  },
  async unpause(params, daemon) {
    const domain = resting(daemon, params);
    await domain.ask('unpause', {});
    daemon.domains.changed(domain, 'unpaused');
    return null;
  },
  shutdown: (params, daemon) => shutDown(daemon, params, 'poweroff'),
  reboot: (params, daemon) => shutDown(daemon, params, 'reboot'),
  async destroy(params, daemon) {
    const { domains } = daemon;
    const stopped = domains.definitions.find(params.uuid ?? params.guest);
    if (stopped !== undefined) {
      const waits = domains.autostart.isPending(stopped.uuid);
      domains.autostart.withdraw(stopped.uuid);
      if (waits && domains.ofGuest(stopped.uuid) === undefined) return null;
    }
    const domain = guest(daemon, params);
    domains.autostart.withdraw(domain.state.uuid);
    await daemon.moves.giveUp(domain);
    // A domain that was arriving is gone by now.
    await domains.ends.destroy(domain);
    return null;
  },
  async rename(params, daemon) {
    const { name } = params;
    const { definitions } = daemon.domains;
    const stopped = definitions.find(params.uuid ?? params.guest);
    if (stopped !== undefined && daemon.domains.ofGuest(stopped.uuid) === undefined) {
      daemon.domains.nameMustBeFree(name, stopped.uuid);
      definitions.rename(stopped.uuid, name);
      return null;
    }
    const domain = resting(daemon, params);
    daemon.domains.nameMustBeFree(name, domain.state.uuid);
    await domain.ask('rename', { name });
    definitions.rename(domain.state.uuid, name);
    domain.state.name = name;
    if (domain.state.config !== null) domain.state.config = { ...domain.state.config, name };
    domain.save();
    daemon.platform.toolstackStore.rename(domain.domid, domain.state.uuid, name);
    daemon.domains.changed(domain, 'renamed');
    return null;
  },
  save: (params, daemon) => saveDomain(daemon.domains, resting(daemon, params), params.path, params.keep),
  dumpCore: async (params, daemon) => ({
    bytes: await dumpCore(daemon.world, resting(daemon, params), params.path),
  }),
  async restore(params, daemon) {
    return row(daemon, await restoreDomain(daemon.domains, params.path, params.paused, params.overcommit));
  },
  migrate(params, daemon, { rpc }) {
    const { host, maxDowntimeMs, maxRounds, timeoutS, onTimeout, bandwidthMBs, clock, copyStorage } = params;
    const peer = resolvePeer(host, daemon.trusted.all(), daemon.plain);
    const domain = guest(daemon, params);
    const { uuid } = domain.state;
    const options: MoveOptions = {
      maxDowntimeMs,
      maxRounds: Math.max(1, maxRounds),
      timeoutS,
      onTimeout,
      bandwidthMBs,
      clock,
      copyStorage: copyStorage === true,
    };
    return daemon.moves.migrate(domain, peer, options, (progress) =>
      say(rpc, CONTROL_NOTICES, 'progress', { ...progress, uuid }),
    );
  },
  blockAttach: (params, daemon) => blockAttach(daemon.domains, resting(daemon, params), params.spec),
  blockDetach: (params, daemon) =>
    blockDetach(daemon.domains, resting(daemon, params), params.which, params.force),
  blockList: (params, daemon) => blockList(guest(daemon, params)),
  networkAttach: (params, daemon) => networkAttach(daemon.domains, resting(daemon, params), params.spec),
  networkDetach: (params, daemon) =>
    networkDetach(daemon.domains, resting(daemon, params), params.which, params.force),
  networkList: (params, daemon) => networkList(guest(daemon, params)),
  vcpuSet: (params, daemon) => vcpuSet(daemon, resting(daemon, params), params.online),
  memSet: (params, daemon) => memSet(daemon, resting(daemon, params), params.targetKib),
  memMax: (params, daemon) => memMax(daemon, resting(daemon, params), params.maxKib),
  sysrq(params, daemon) {
    daemon.platform.toolstackStore.set(resting(daemon, params).domid, 'control/sysrq', params.key);
    return null;
  },
  trigger: (params, daemon) => resting(daemon, params).ask('nmi', { vcpu: params.vcpu }),
  async configUpdate(params, daemon) {
    const { uuid } = guest(daemon, params).state;
    const config = await readConfig(daemon, params, () => uuid);
    return configUpdate(daemon, resting(daemon, params), config);
  },
  trustChanged(_, daemon) {
    daemon.trustChanged();
    return null;
  },
  async cancelMove(params, daemon) {
    await daemon.moves.cancel(guest(daemon, params));
    return null;
  },
  async settle(params, daemon) {
    await daemon.moves.decide(guest(daemon, params), params.keep);
    return null;
  },
  moves: (_, daemon) => daemon.moves.stats,
  points: (params, daemon) => asked(daemon, params, (domain) => domain.ask('points', {})),
  dmesg: (params, daemon) => asked(daemon, params, (domain) => domain.ask('dmesg', {})),
  async vcpus({ guest: which, uuid }, daemon) {
    const domains =
      which === undefined ? [...daemon.domains.all.values()] : [guest(daemon, { guest: which, uuid })];
    return Promise.all(
      domains.map(async (domain) => ({
        domid: domain.domid,
        name: domain.state.name,
        vcpus: (await domain.ask('status', {}, 2_000).catch(() => undefined))?.vcpus ?? [],
      })),
    );
  },
  async console(params, daemon, { rpc }) {
    const domain = guest(daemon, params);
    const { uuid } = domain.state;
    const latest = await domain.ask('watchConsole', {});
    if (!domain.consoles.has(rpc)) {
      domain.consoles.set(rpc, (data) => say(rpc, CONTROL_NOTICES, 'console', { data, uuid }));
      rpc.whenClosed(() => domain.consoles.delete(rpc));
    }
    return { latest, domid: domain.domid, uuid };
  },
  leaveConsole(params, daemon, { rpc }) {
    guest(daemon, params).consoles.delete(rpc);
    return null;
  },
  type: (params, daemon) => asked(daemon, params, (domain) => domain.ask('type', { data: params.data })),
  async gone(params, daemon, { rpc }) {
    const domain = guest(daemon, params);
    while (daemon.domains.all.get(domain.domid) === domain && !rpc.closed)
      await sleep(daemon.world.clock, 100);
    return null;
  },
  events(_, daemon, { rpc }) {
    daemon.domains.events.add(rpc);
    return [...daemon.domains.all.values()].map((domain) => {
      const { domid, name, uuid, phase } = domain.state;
      return { domid, name, uuid, phase, moving: daemon.moves.isMoving(domain) };
    });
  },
  leaveEvents(_, daemon, { rpc }) {
    daemon.domains.events.remove(rpc);
    return null;
  },
};

/** The requests of people and scripts. */
export const control = dispatcher(CONTROL, controlHandlers);

const peerHandlers: Handlers<Peer, Context> = {
  clock: (_, daemon) => daemon.domains.wallClock(),
  moveOpen: (params, daemon, caller) => daemon.moves.open(caller, params),
};
/** The requests of other hosts. */
export const peer = dispatcher(PEER, peerHandlers);
