// A connection to a daemon on this machine, by which anything can be asked: for tests of what a daemon refuses, and for
// those who name their requests at run time. Programs use src/client.
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { Failure } from '../../src/protocol/failure.js';
import { Rpc } from '../../src/protocol/rpc.js';
import { CONTROL_KEY, CONTROL_SOCKET, PROTOCOL_VERSIONS } from '../../src/protocol/session.js';

/** Connects to the daemon in `dir`, and greets it. */
export async function rawDaemon(
  dir: string,
  notice: (method: string, params: Readonly<Record<string, unknown>>) => void = () => {},
): Promise<Rpc> {
  const socket = await new Promise<net.Socket>((done, fail) => {
    const one = net.connect({ path: join(dir, CONTROL_SOCKET) }, () => done(one));
    one.once('error', (error) => fail(new Failure('no-daemon', error.message)));
  });
  const rpc = new Rpc(socket, { request: () => null, notice });
  const key = readFileSync(join(dir, CONTROL_KEY), 'utf8');
  await rpc.request('hello', { versions: PROTOCOL_VERSIONS, key }, 10_000);
  return rpc;
}

/** What it answers to one request. */
export async function askRaw<T>(dir: string, method: string, params: object = {}): Promise<T> {
  const rpc = await rawDaemon(dir);
  try {
    return await rpc.request<T>(method, params);
  } finally {
    rpc.close();
  }
}
