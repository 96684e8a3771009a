/** The verbs that change what a running guest has: vCPUs, memory, and the configuration of its next power-on. */
import { Failure } from '../../protocol/failure.js';
import type { GuestConfig } from '../../protocol/guest-config.js';
import { checkName } from '../domains/domains.js';
import type { HostedDomain } from '../domains/hosted-domain.js';
import type { HostDaemon } from '../host-daemon.js';
import { withoutWarnings } from './definition-requests.js';

const PAGE_KIB = 4;
/** A guest is powered on with whole MiB. */
const MIB_KIB = 1024;
/** How long a guest's process may take to note other sizes. */
const NOTE_MS = 10_000;

function configOf({ state }: HostedDomain): GuestConfig {
  if (state.phase !== 'live' || state.config === null)
    throw new Failure('bad-state', `domain ${state.name} does not run`);
  return state.config;
}

/** The sizes that the guest has when it reboots, here or where it moves to. */
async function resize(
  domain: HostedDomain,
  sizes: Partial<Pick<GuestConfig, 'onlineVcpus' | 'memoryKib'>>,
): Promise<void> {
  await domain.ask('resized', sizes, NOTE_MS);
  domain.keepConfig({ ...configOf(domain), ...sizes });
}

export async function vcpuSet(daemon: HostDaemon, domain: HostedDomain, online: number): Promise<null> {
  const { vcpus } = configOf(domain);
  if (online > vcpus) throw new Failure('usage', `the guest has at most ${vcpus} vCPUs`);
  await resize(domain, { onlineVcpus: online });
  for (let id = 0; id < vcpus; id++)
    daemon.platform.toolstackStore.set(
      domain.domid,
      `cpu/${id}/availability`,
      id < online ? 'online' : 'offline',
    );
  return null;
}

const mostKib = (domain: HostedDomain): number =>
  domain.state.memoryLimitKib ?? configOf(domain).maxMemoryKib;

export async function memSet(daemon: HostDaemon, domain: HostedDomain, targetKib: number): Promise<null> {
  const most = mostKib(domain);
  if (targetKib > most)
    throw new Failure(
      'usage',
      `memory_dynamic_max must be less than or equal to memory_static_max (${most} KiB)`,
    );
  await resize(domain, { memoryKib: Math.max(MIB_KIB, targetKib - (targetKib % MIB_KIB)) });
  const target = targetKib - (targetKib % PAGE_KIB);
  daemon.platform.toolstackStore.set(domain.domid, 'memory/target', String(target));
  return null;
}

export async function memMax(daemon: HostDaemon, domain: HostedDomain, maxKib: number): Promise<null> {
  const { memoryKib, maxMemoryKib } = configOf(domain);
  if (maxKib < memoryKib)
    throw new Failure(
      'usage',
      `memory_static_max must be greater than or equal to memory_dynamic_max (${memoryKib} KiB)`,
    );
  if (maxKib > maxMemoryKib)
    throw new Failure('usage', `the guest was powered on with room for ${maxMemoryKib} KiB (maxmem)`);
  domain.state.memoryLimitKib = maxKib;
  domain.save();
  daemon.platform.toolstackStore.set(domain.domid, 'memory/static-max', String(maxKib));
  return null;
}

export function configUpdate(
  daemon: HostDaemon,
  domain: HostedDomain,
  given: GuestConfig,
): { warnings: readonly string[] | undefined } {
  const { kept, warnings } = withoutWarnings(given);
  const { name, uuid } = domain.state;
  configOf(domain);
  checkName(kept.name);
  daemon.domains.files.checkFiles(kept, []);
  daemon.domains.mustHaveRoomInstead(domain, kept);
  // The guest stays the one that it is, whatever the file calls it.
  domain.state.next = { ...kept, name, uuid };
  domain.save();
  return { warnings };
}
