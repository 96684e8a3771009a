// Connections to a daemon on this machine: over `rawDaemon` anything can be sent, for tests of what a daemon refuses;
// `askDaemon` sends one request of the control protocol, with its types. Programs use src/client.
import { readFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { CONTROL, type Control } from '../../src/protocol/control.js';
import { Failure } from '../../src/protocol/failure.js';
import { Rpc } from '../../src/protocol/rpc.js';
import { CONTROL_KEY, CONTROL_SOCKET, PROTOCOL_VERSIONS } from '../../src/protocol/session.js';
import { type AnswerOf, type AskedOf, ask } from '../../src/protocol/table.js';

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

/** How a request of the control protocol is sent to one daemon. */
export type AskDaemon = <M extends keyof Control & string>(
  method: M,
  params: AskedOf<Control, M>,
) => Promise<AnswerOf<Control, M>>;

/** Sends one request of the control protocol to the daemon in `dir`. Returns the answer, checked against its table. */
export async function askDaemon<M extends keyof Control & string>(
  dir: string,
  method: M,
  params: AskedOf<Control, M>,
): Promise<AnswerOf<Control, M>> {
  const rpc = await rawDaemon(dir);
  try {
    return await ask(rpc, CONTROL, method, params);
  } finally {
    rpc.close();
  }
}
