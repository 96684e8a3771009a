/** How a verb reaches a daemon: by the unix socket in its directory, or another host's by mutual TLS. */
import { existsSync, readFileSync } from 'node:fs';
import net from 'node:net';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { loadIdentity, loadTrusted } from '../control/transport/identity.js';
import { connectPeer, resolvePeer } from '../control/transport/peer.js';
import { Failure } from '../protocol/failure.js';
import { type Params, Rpc, type RpcHandlers } from '../protocol/rpc.js';
import { CONTROL_KEY, CONTROL_SOCKET, PROTOCOL_VERSIONS } from '../protocol/session.js';

/** Where a host keeps its things when nothing else is said. */
export function defaultDirectory(): string {
  if (process.env.STILLPOINT_DIR !== undefined) return resolve(process.env.STILLPOINT_DIR);
  return process.getuid?.() === 0 ? '/var/lib/stillpoint' : join(homedir(), '.stillpoint');
}

export interface Where {
  /** Directory of the daemon on this machine, and of our key. */
  readonly dir: string;
  /** Another host, by trusted name or HOST:PORT. */
  readonly on?: string;
}

/** Connects and greets. Notices go to `notice`. */
export async function connectDaemon(
  where: Where,
  notice: (method: string, params: Params) => void = () => {},
  closed: () => void = () => {},
): Promise<Rpc> {
  const handlers: RpcHandlers = {
    request: (method) => {
      if (method === 'ping') return null;
      throw new Failure('usage', `unknown request ${method}`);
    },
    notice,
    closed,
  };
  if (where.on !== undefined) {
    const trusted = loadTrusted(where.dir);
    return connectPeer(resolvePeer(where.on, trusted, true), loadIdentity(where.dir), trusted, handlers);
  }
  const path = join(where.dir, CONTROL_SOCKET);
  if (!existsSync(path)) {
    throw new Failure('no-daemon', `no daemon runs in ${where.dir} (stillpoint host --dir ${where.dir})`);
  }
  const socket = await new Promise<net.Socket>((done, fail) => {
    const one = net.connect({ path }, () => done(one));
    one.once('error', (error: NodeJS.ErrnoException) => {
      fail(
        new Failure(
          'no-daemon',
          error.code === 'EACCES'
            ? `${path}: not yours to use`
            : `no daemon answers in ${where.dir}: ${error.message}`,
        ),
      );
    });
  });
  const rpc = new Rpc(socket, handlers);
  await rpc.request('hello', { versions: PROTOCOL_VERSIONS, key: controlKey(where.dir) }, 10_000);
  return rpc;
}

/** Undefined where there is none, as beside a daemon of an earlier version, or where it is not ours to read. */
function controlKey(dir: string): string | undefined {
  try {
    return readFileSync(join(dir, CONTROL_KEY), 'utf8');
  } catch {
    return undefined;
  }
}
