/** How a verb reaches a daemon: through the unix socket in its directory, or another host's through mutual TLS. */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { Client, connect } from '../client/index.js';
import { loadIdentity, loadTrusted } from '../transport/identity.js';
import { greeted, openPeer, resolvePeer } from '../transport/peer.js';

/** The default directory of a host. */
export function defaultDirectory(): string {
  if (process.env.STILLPOINT_DIR !== undefined) return resolve(process.env.STILLPOINT_DIR);
  return process.getuid?.() === 0 ? '/var/lib/stillpoint' : join(homedir(), '.stillpoint');
}

export interface Where {
  /** Directory of the daemon on this machine, which also has our key. */
  readonly dir: string;
  /** Another host, by trusted name or HOST:PORT. */
  readonly on?: string;
}

/** Connects and sends the greeting. */
export async function connectDaemon({ dir, on }: Where): Promise<Client> {
  if (on === undefined) return connect({ directory: dir });
  const trusted = loadTrusted(dir);
  const peer = resolvePeer(on, trusted, true);
  const stream = await openPeer(peer, loadIdentity(dir), trusted);
  return greeted(peer, Client.over(stream, { keepAlive: true }));
}
