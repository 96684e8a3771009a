/** Messages that both sides of a connection to a daemon exchange before and besides all others. */
import * as v from 'valibot';
import type { Rpc } from './rpc.js';
import { fields, is, many, text } from './shapes.js';
import { ask, dispatcher, openRequest, request } from './table.js';

/** Versions of the daemons' protocol, best first. */
export const PROTOCOL_VERSIONS: readonly number[] = [1];

/** Name of the socket, in a daemon's directory, on which it accepts people's requests. */
export const CONTROL_SOCKET = 'control.sock';
/**
 * A client on the control socket must know the content of this file, which only the daemon's user can read, and no
 * guest's process. A kernel that cannot keep guests' processes away from a socket can still keep them from reading a
 * file.
 */
export const CONTROL_KEY = 'control.key';

export const SESSION = {
  /** Undeclared fields are accepted here: a later version must be able to add some and still connect. */
  hello: openRequest('Opens a connection; nothing else is taken before it.', {
    params: {
      versions: is(many(v.unknown(), 256), 'versions of this protocol that the sender speaks, best first'),
      key: v.optional(is(text(256), 'what the file control.key has; on the unix socket only')),
    },
    answer: fields({
      version: is(v.number('a number is expected'), 'the version that is spoken from here on'),
      name: v.optional(is(text(256), "the host's name"), ''),
    }),
    errors: ['not-trusted', 'bad-state'],
  }),
  ping: request('Asks for a sign of life; either side may.', { params: {}, answer: v.unknown() }),
};

/** The handler for clients of a daemon: it answers keep-alive requests. */
export const answerSigns = dispatcher({ ping: SESSION.ping }, { ping: () => null });

const PING_MS = 5_000;
const PING_TIMEOUT_MS = 15_000;

/** Closes a connection whose other side has gone silent. It does not keep the process alive. */
export function keepAlive(rpc: Rpc): void {
  const pings = rpc.clock.every(
    PING_MS,
    () => void ask(rpc, SESSION, 'ping', {}, PING_TIMEOUT_MS).catch(() => rpc.destroy()),
  );
  rpc.whenClosed(() => pings.cancel());
}
