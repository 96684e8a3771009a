/**
 * One client: who it is, its watches and transactions, the request it has sent half, the answers it has not
 * taken. It is the same for a guest's ring, a socket and code in this process; how bytes travel is the
 * transport's matter.
 */
import { homePath } from '../core/path.js';
import type { Actor } from '../core/permissions.js';
import type { Transaction } from '../core/transaction.js';
import type { Watch, Watcher } from '../core/watches.js';
import type { Message } from '../wire/message.js';
import { type Cause, Output } from '../wire/output.js';
import { MessageParser } from '../wire/parser.js';

/** What a transport does when the server asks it to. Neither may throw. */
export interface Transport {
  /** Messages wait in `output`: send what fits. */
  flush(): void;
  /** Requests are read again after a pause for too many outstanding ones. */
  resume(): void;
  /** The client broke the protocol: nothing more will be read or sent. `error` is for the ring's error field. */
  fail(error: number): void;
}

export type ConnectionKind = 'ring' | 'socket' | 'local';

/** Who asks; the target changes with SET_TARGET. */
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
  /** Takes the events of a local client. */
  listener: ((path: string, token: string) => void) | undefined;
  /** Event channel of a ring, as told in INTRODUCE. */
  port = 0;
  state: 'open' | 'failed' | 'closed' = 'open';
  /** On the server's list of those with something new to send. */
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
