/**
 * `stillpoint/client`: programs that use a daemon, as the command line does.
 *
 *     const client = await connect({ directory: '/var/lib/stillpoint' });
 *     const move = await client.migrate('web', 'other-host');
 *     for await (const step of move.progress) console.log(step);
 *     console.log(await move.done);
 *
 * Whatever fails, fails with a Failure, whose `code` never changes (docs/protocol.md lists the codes).
 */
import { existsSync, readFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { Failure } from '../protocol/failure.js';
import { CONTROL_KEY, CONTROL_SOCKET } from '../protocol/session.js';
import { Client, type ClientOptions } from './client.js';

export type {
  CreatedRow,
  DiskRow,
  DomainChange,
  DomainEvent,
  DomainIdentity,
  DomainRow,
  HostInfo,
  NetworkRow,
  VcpuRows,
  WatchedDomain,
} from '../protocol/control.js';
export { Failure, type FailureCode } from '../protocol/failure.js';
export type { GuestConfig } from '../protocol/guest-config.js';
export type {
  AnyProgress,
  MoveOptions,
  MoveProgress,
  MoveStats,
  StorageProgress,
} from '../protocol/moves.js';
export type { ByteStream } from '../protocol/rpc.js';
export { Client, type ClientOptions, type GuestConsole, type Move, type Watch } from './client.js';

/** Connects to the daemon of a directory (`stillpoint host --dir`), or to one whose control socket is at `socket`. */
export async function connect(
  to: { readonly directory: string } | ({ readonly socket: string } & ClientOptions),
): Promise<Client> {
  if ('directory' in to) return ofDirectory(to.directory);
  return Client.over(await opened(to.socket, to.socket), to);
}

async function ofDirectory(directory: string): Promise<Client> {
  const path = join(directory, CONTROL_SOCKET);
  if (!existsSync(path)) {
    throw new Failure('no-daemon', `no daemon runs in ${directory} (stillpoint host --dir ${directory})`);
  }
  const stream = await opened(path, directory);
  return Client.over(stream, { key: controlKey(directory) });
}

function opened(path: string, where: string): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ path }, () => resolve(socket));
    socket.once('error', (error: NodeJS.ErrnoException) => {
      reject(
        new Failure(
          'no-daemon',
          error.code === 'EACCES'
            ? `${path}: not yours to use`
            : `no daemon answers in ${where}: ${error.message}`,
        ),
      );
    });
  });
}

/** Undefined if there is no such file, as with a daemon of an earlier version, or if this user may not read it. */
function controlKey(directory: string): string | undefined {
  try {
    return readFileSync(join(directory, CONTROL_KEY), 'utf8');
  } catch {
    return undefined;
  }
}
