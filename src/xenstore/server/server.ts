/**
 * The server: it takes requests one after the other and answers each.
 *
 * Invariant: every request is answered once, in the order of arrival. The events that it causes precede its answer,
 * as in xenstored.
 */
import { XENSTORE_ERROR_PROTO } from '../../xen/xs-wire.js';
import type { Message } from '../wire/message.js';
import type { Connection } from './connection.js';
import { Hub } from './hub.js';
import { LocalClient } from './local.js';
import { answer } from './requests.js';
import { traceLine } from './trace.js';

export class XenstoreServer extends Hub {
  /** Makes a client inside this process with the rights of `domid`. */
  local(domid = 0): LocalClient {
    return new LocalClient(this, this.connect('local', domid));
  }

  /**
   * Serves as many of the requests in `bytes` between `from` and `to` as may be read. Returns where it stopped. Call
   * `settle` afterwards.
   */
  receive(connection: Connection, bytes: Uint8Array, from: number, to: number): number {
    const { parser } = connection;
    let at = from;
    while (at < to && this.canRead(connection)) {
      const state = parser.push(bytes, at, to);
      at = parser.consumed;
      if (state.kind === 'message') this.handle(connection, state.message);
      else if (state.kind === 'failed') this.fail(connection, XENSTORE_ERROR_PROTO);
    }
    return at;
  }

  /** Serves one request. Call `settle` afterwards. */
  handle(connection: Connection, request: Message): void {
    const cause = connection.actor.privileged ? undefined : { domid: connection.actor.domid, pending: 1 };
    this.cause = cause;
    if (this.logging) this.options.log?.(traceLine('IN', connection, request));
    const { tree } = this.store;
    const before = tree.changes;
    answer(this, connection, request, (type, body) => {
      if (cause !== undefined) this.store.account(cause.domid).outstanding++;
      this.send(connection, { type, reqId: request.reqId, txId: request.txId, body }, cause);
    });
    this.cause = undefined;
    if (cause !== undefined && tree.changes !== before) this.writeRate?.spend(cause.domid);
  }
}
