/**
 * Whether this host has room for one more guest: for its memory, and within the limits of the host's configuration.
 * As on Xen, a guest's memory is its own from the beginning, whether it has used it so far or not.
 */
import { Failure } from '../../protocol/failure.js';
import type { HostConfig } from '../host-config.js';
import type { HostMemory } from '../world.js';

/** How much of the machine's memory guests may have together if the configuration does not say, percent. */
const GUESTS_PERCENT = 95;

export interface Size {
  readonly vcpus: number;
  readonly memoryKib: number;
}

type Limits = Pick<HostConfig, 'memoryMib' | 'guests' | 'guestMemoryMib' | 'guestVcpus' | 'overcommit'>;

const mib = (kib: number): number => Math.ceil(kib / 1024);

/**
 * Fails with `no-room`, and says which limit it is. `others`: the domains that there are. `overcommit`: somebody wants
 * it although the memory does not suffice; the limits of the configuration hold all the same.
 */
export function mustHaveRoom(
  wanted: Size,
  others: readonly Size[],
  config: Limits,
  memory: HostMemory,
  overcommit: boolean,
): void {
  const refuse = (why: string): never => {
    throw new Failure('no-room', why);
  };
  const { guests, guestMemoryMib, guestVcpus, memoryMib } = config;
  const wants = mib(wanted.memoryKib);
  if (guests > 0 && others.length >= guests)
    refuse(`this host may have ${guests} domains (guests), and has them`);
  if (guestMemoryMib > 0 && wants > guestMemoryMib)
    refuse(`a guest may have ${guestMemoryMib} MiB here (guestMemoryMib); this one wants ${wants} MiB`);
  if (guestVcpus > 0 && wanted.vcpus > guestVcpus)
    refuse(`a guest may have ${guestVcpus} vCPUs here (guestVcpus); this one wants ${wanted.vcpus}`);
  if (overcommit || config.overcommit) return;
  const most = memoryMib > 0 ? memoryMib : Math.floor((mib(memory.totalKib) * GUESTS_PERCENT) / 100);
  const had = mib(others.reduce((sum, { memoryKib }) => sum + memoryKib, 0));
  if (had + wants > most)
    refuse(
      `the guests of this host may have ${most} MiB together (memoryMib), and have ${had} MiB; this one wants ${wants} MiB (--overcommit makes it all the same)`,
    );
  const available = mib(memory.availableKib);
  if (wants > available)
    refuse(
      `this host has ${available} MiB of memory available; the guest wants ${wants} MiB (--overcommit makes it all the same)`,
    );
}
