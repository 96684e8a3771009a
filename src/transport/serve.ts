/**
 * The serving side of a connection, whoever serves: nothing is taken before the greeting, and at each message the other
 * side is trusted anew.
 */
import { ProtocolError } from '../protocol/check.js';
import { Failure } from '../protocol/failure.js';
import { type ByteStream, type Params, Rpc, type RpcClock } from '../protocol/rpc.js';
import { keepAlive, PROTOCOL_VERSIONS, SESSION } from '../protocol/session.js';
import { dispatcher, type Right } from '../protocol/table.js';

export interface Served {
  /** The host's name, for the answer to the greeting. */
  readonly name: string;
  /** Throws if the greeting lacks a key that it needs. */
  checkKey?(shown: string | undefined): void;
  /** At the greeting: whether there is room for this connection. */
  known(): boolean;
  /** Whether each side is to notice when the other has gone silent. */
  readonly keptAlive: boolean;
  /** What the other side may do now; undefined if it is no longer trusted, which ends the connection. */
  rights(): ReadonlySet<Right> | undefined;
  /** A request after the greeting. */
  request(method: string, params: Params, rights: ReadonlySet<Right>): unknown;
  /** A notice of one that may move guests. A ProtocolError of it has no effect. */
  notice(method: string, params: Params): void;
  closed(rpc: Rpc): void;
}

export function serveConnection(stream: ByteStream, served: Served, clock?: RpcClock): Rpc {
  let greeted = false;
  const session = dispatcher(SESSION, {
    hello: ({ versions, key }) => {
      const version = PROTOCOL_VERSIONS.find((one) => versions.includes(one));
      if (version === undefined)
        throw new Failure('usage', `versions of the protocol here: ${PROTOCOL_VERSIONS.join(', ')}`);
      served.checkKey?.(key);
      if (!greeted && !served.known()) {
        setImmediate(() => rpc.destroy());
        throw new Failure('bad-state', 'too many connections');
      }
      greeted = true;
      if (served.keptAlive) keepAlive(rpc);
      return { version, name: served.name };
    },
    ping: () => null,
  });
  const rpc: Rpc = new Rpc(
    stream,
    {
      request: async (method, params) => {
        const rights = served.rights();
        if (rights === undefined) {
          rpc.destroy();
          throw new Failure('not-trusted', 'no longer trusted');
        }
        if (!greeted && method !== 'hello') throw new Failure('usage', 'hello comes first');
        return Object.hasOwn(SESSION, method)
          ? session(method, params)
          : served.request(method, params, rights);
      },
      notice: (method, params) => {
        if (!greeted || served.rights()?.has('move') !== true) return;
        try {
          served.notice(method, params);
        } catch (error) {
          // Other faults in its messages have no effect.
          if (!(error instanceof ProtocolError)) throw error;
        }
      },
      closed: (closed) => served.closed(closed),
    },
    clock,
  );
  return rpc;
}
