/**
 * One client: its identity, its watches and transactions, the request that it has partly sent, and the answers that
 * it has not taken. It is the same for a guest's ring, a socket and code in this process; the transport moves the
 * bytes.
 */
import { homePath } from '../core/path.js';
import type { Actor } from '../core/permissions.js';
import type { Transaction } from '../core/transaction.js';
import type { Watch, Watcher } from '../core/watches.js';
import type { Message } from '../wire/message.js';
import { type Cause, Output } from '../wire/output.js';
import { MessageParser } from '../wire/parser.js';

/** What a transport does when the server asks for it. None of these may throw. */
export interface Transport {
  /** Messages wait in `output`: send what fits. */
  flush(): void;
  /** Requests may be read again after a pause because of too many outstanding ones. */
  resume(): void;
  /** The client broke the protocol, so nothing more will be read or sent. `error` is for the ring's error field. */
  fail(error: number): void;
}

export type ConnectionKind = 'ring' | 'socket' | 'local';

/** The actor of a connection. SET_TARGET changes its target. */
export interface MutableActor extends Actor {
  target: number;
}

export class Connection implements Watcher {
  readonly actor: MutableActor;
  readonly home: string;
  readonly watches: Watch[] = [];
  readonly transactions = new Map<number, Transaction>();
  nextTransactionId = 1;
  readonly parser = new MessageParser();
  readonly output: Output;
  transport: Transport | undefined;
  /** Receives the events of a local client. */
  listener: ((path: string, token: string) => void) | undefined;
  /** The event channel of a ring, as given in INTRODUCE. */
  port = 0;
  state: 'open' | 'failed' | 'closed' = 'open';
  /** True while it is on the server's list of connections with something new to send. */
  dirty = false;

  constructor(
    readonly kind: ConnectionKind,
    domid: number,
    privileged: boolean,
    readonly order: number,
    done: (c: Connection, m: Message, cause: Cause | undefined) => void,
    private readonly onEvent: (c: Connection, path: string, token: string) => void,
  ) {
    this.actor = { domid, target: -1, privileged };
    this.home = homePath(domid);
    this.output = new Output((m, cause) => done(this, m, cause));
  }

  event(path: string, token: string): void {
    this.onEvent(this, path, token);
  }
}
