/** What a guest's process streams to its daemon: a guest that is saved, or its core. */
import type { Duplex } from 'node:stream';
import { sleep } from '../../os/clock.js';
import { Failure } from '../../protocol/failure.js';
import type { World } from '../world.js';
import type { HostedDomain } from './hosted-domain.js';

/** How long to wait for a guest's process to offer its data. */
const DATA_TIMEOUT_MS = 20_000;

/** Connects to the socket that the guest's process opens for a stream; gives up on `signal`. */
export async function dataOf(
  { clock, processes }: Pick<World, 'clock' | 'processes'>,
  domain: HostedDomain,
  signal?: AbortSignal,
): Promise<Duplex> {
  const end = clock.monotonicMs() + DATA_TIMEOUT_MS;
  for (;;) {
    signal?.throwIfAborted();
    const socket = await processes.connectData(domain.directory);
    if (socket !== undefined) return socket;
    if (!domain.alive) throw new Failure('crashed', "the guest's process ended");
    if (clock.monotonicMs() > end) throw new Failure('timed-out', "the guest's process offers no data");
    await sleep(clock, 5);
  }
}
