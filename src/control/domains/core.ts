/** `dump-core`: a guest's core, from its process into a file that only the daemon can reach. */
import { DATA_SOCKET } from '../../guest-process/guest-files.js';
import { Failure } from '../../protocol/failure.js';
import type { World } from '../world.js';
import type { HostedDomain } from './hosted-domain.js';
import { dataOf } from './process-data.js';

/** How long the guest's process may take for its core, ms. */
const CORE_MS = 600_000;

/**
 * Writes the guest's core to `path`, which is there as a whole or not at all. The guest stands still meanwhile. `most`:
 * bytes that it may have; a process that was taken over may send anything. Returns its length.
 */
export async function dumpCore(
  world: World,
  domain: HostedDomain,
  path: string,
  most = Number.POSITIVE_INFINITY,
): Promise<number> {
  const image = await world.images.create(path);
  const over = new AbortController();
  try {
    const to = { path: DATA_SOCKET, host: '', identity: 'core' };
    const sent = domain.ask('dumpCore', { to }, CORE_MS);
    let written = 0;
    const stored = dataOf(world, domain, over.signal).then(async (socket) => {
      for await (const chunk of socket as AsyncIterable<Uint8Array>) {
        written += chunk.length;
        if (written > most) throw new Failure('io', `the core has more than ${most} bytes`);
        await image.sink(chunk);
      }
    });
    stored.catch(() => {});
    const failed = stored.then(() => new Promise<never>(() => {}));
    const { bytes } = await Promise.race([sent, failed]);
    await stored;
    if (written !== bytes) throw new Failure('io', `${bytes} bytes were sent, ${written} were written`);
    await image.commit();
    return bytes;
  } catch (error) {
    over.abort();
    await image.discard();
    throw error;
  }
}
