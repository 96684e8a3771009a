/** What both sides of a connection to a daemon say to each other before and beside all else. */
import * as v from 'valibot';
import type { Rpc } from './rpc.js';
import { fields, is, many, text } from './shapes.js';
import { ask, dispatcher, openRequest, request } from './table.js';

/** Versions of the daemons' protocol, best first. */
export const PROTOCOL_VERSIONS: readonly number[] = [1];

/** The name, in a daemon's directory, of the socket on which it takes people's requests. */
export const CONTROL_SOCKET = 'control.sock';
/**
 * Who speaks on the control socket has to know what is in this file, which only the daemon's user can read, and no
 * guest's process. A kernel that cannot keep those from a socket keeps them from a file.
 */
export const CONTROL_KEY = 'control.key';

export const SESSION = {
  /** Its fields are not held to be no others: what a later version adds to them must not keep it from being spoken to. */
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

/** What somebody takes who has connected to a daemon: it asks him whether he lives. */
export const answerSigns = dispatcher({ ping: SESSION.ping }, { ping: () => null });

const PING_MS = 5_000;
const PING_TIMEOUT_MS = 15_000;

/** Ends a connection whose other side has gone silent. Keeps no process from ending. */
export function keepAlive(rpc: Rpc): void {
  const pings = rpc.clock.every(
    PING_MS,
    () => void ask(rpc, SESSION, 'ping', {}, PING_TIMEOUT_MS).catch(() => rpc.destroy()),
  );
  rpc.whenClosed(() => pings.cancel());
}
