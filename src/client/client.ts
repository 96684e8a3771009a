/**
 * A program's connection to a daemon: each verb of src/protocol/control.ts as a typed method. The daemon's answers
 * and notices are checked against the tables before the program sees them.
 *
 * Nothing here depends on Node: it works over any byte stream. `connect()` in index.ts opens the usual one.
 */
import { ProtocolError } from '../protocol/check.js';
import {
  CONTROL,
  CONTROL_NOTICES,
  type Control,
  type CreatedRow,
  type DiskRow,
  type DomainEvent,
  type DomainIdentity,
  type DomainRow,
  type HostInfo,
  type NetworkRow,
  type VcpuRows,
  type WatchedDomain,
} from '../protocol/control.js';
import { Failure } from '../protocol/failure.js';
import type { AnyProgress, MoveStats } from '../protocol/moves.js';
import { type ByteStream, Rpc } from '../protocol/rpc.js';
import { answerSigns, keepAlive, PROTOCOL_VERSIONS, SESSION } from '../protocol/session.js';
import { type AnswerOf, type AskedOf, ask, listener } from '../protocol/table.js';
import { decodeBase64, encodeBase64 } from '../records/base64.js';
import { Arrivals } from './arrivals.js';

export interface ClientOptions {
  /** Content of the file control.key in the daemon's directory; needed on its unix socket only. */
  readonly key?: string;
  /** How long the daemon may take to answer the greeting, ms. */
  readonly timeoutMs?: number;
  /** If true, a daemon that has gone silent is noticed and the connection is closed: for connections over a network. */
  readonly keepAlive?: boolean;
}

type Params<M extends keyof Control> = AskedOf<Control, M>;
type Answer<M extends keyof Control> = AnswerOf<Control, M>;
/** The parameters without those that name the guest. */
type Rest<M extends keyof Control> = Omit<Params<M>, 'guest' | 'uuid'>;

const GREETING_MS = 10_000;
/** How much waits for a program that does not consume it: events and progress of a move; bytes of a console. */
const MOST_WAITING = 10_000;
const MOST_CONSOLE_BYTES = 4 << 20;
/** Time between two attempts to type at a guest that accepts nothing, ms. */
const RETRY_MS = 20;

/** A move that is under way. */
export interface Move {
  /** Its progress: after each round, and while disks are copied. It ends with the move. */
  readonly progress: AsyncIterableIterator<AnyProgress>;
  /** Resolves when the guest runs at the destination; fails if the guest continues here, or if that is not known. */
  readonly done: Promise<MoveStats>;
  /** Gives the move up. When this resolves, the guest continues here; it fails if it is too late for that. */
  cancel(): Promise<void>;
}

/** A guest's console. */
export interface GuestConsole extends DomainIdentity {
  /** What the guest prints, starting with its latest output so far. It ends with the guest or the connection. */
  readonly output: AsyncIterableIterator<Uint8Array>;
  /** Types bytes; resolves with how many the guest's console has accepted. */
  type(bytes: Uint8Array): Promise<number>;
  /** Types everything, waiting until the guest accepts it. */
  write(text: string | Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** A subscription to all changes of domains. */
export interface Watch {
  /** The domains that existed when the subscription began. */
  readonly domains: readonly WatchedDomain[];
  /**
   * `missed` of an event is the number of events before it that were dropped because they were not consumed in time.
   */
  readonly events: AsyncIterableIterator<DomainEvent>;
  close(): Promise<void>;
}

export class Client {
  private readonly consoles = new Set<{ uuid: string; output: Arrivals<Uint8Array> }>();
  private readonly moves = new Set<{ uuid: string; progress: Arrivals<AnyProgress> }>();
  private readonly watches = new Set<Arrivals<DomainEvent>>();
  /** The host's name. */
  host = '';

  private constructor(private readonly rpc: Rpc) {
    const notices = listener(CONTROL_NOTICES, {
      console: ({ data, uuid }) => {
        // A daemon of version 0.1 does not say which guest the output is from.
        for (const one of this.consoles)
          if (uuid === undefined || one.uuid === uuid) one.output.push(decodeBase64(data));
      },
      progress: ({ uuid, ...progress }) => {
        for (const one of this.moves)
          if (uuid === undefined || one.uuid === uuid) one.progress.push(progress);
      },
      event: (event) => {
        for (const one of this.watches) one.push(event);
      },
    });
    rpc.setHandlers({
      request: answerSigns,
      notice: (method, params) => {
        try {
          notices(method, params);
        } catch (error) {
          // A later daemon may send notices that this version does not know.
          if (!(error instanceof ProtocolError)) throw error;
        }
      },
    });
    rpc.whenClosed(() => {
      for (const { output } of this.consoles) output.end();
      for (const one of this.watches) one.end(new Failure('io', 'the connection to the daemon was closed'));
    });
  }

  /** Sends the greeting to the daemon at the other end of `stream`. If that fails, the stream is closed. */
  static async over(stream: ByteStream, options: ClientOptions = {}): Promise<Client> {
    const rpc = new Rpc(stream, {});
    const client = new Client(rpc);
    try {
      const { key, timeoutMs = GREETING_MS } = options;
      const { name } = await ask(rpc, SESSION, 'hello', { versions: PROTOCOL_VERSIONS, key }, timeoutMs);
      client.host = name;
      if (options.keepAlive === true) keepAlive(rpc);
      return client;
    } catch (error) {
      rpc.destroy();
      throw error;
    }
  }

  /** Any verb, by its name in the table. `timeoutMs` 0 means no limit. Fails with Failure. */
  request<M extends keyof Control>(method: M, params: Params<M>, timeoutMs = 0): Promise<Answer<M>> {
    return ask(this.rpc, CONTROL, method, params, timeoutMs);
  }

  get closed(): boolean {
    return this.rpc.closed;
  }
  /** Calls `listener` once, when the connection has ended. */
  whenClosed(listener: () => void): void {
    this.rpc.whenClosed(listener);
  }
  close(): void {
    this.rpc.close();
  }

  // State.

  info(): Promise<HostInfo> {
    return this.request('info', {});
  }
  list(): Promise<readonly DomainRow[]> {
    return this.request('list', {});
  }
  /** One line of `list`. `guest`, here and below: domain id, name or uuid. */
  domain(guest: string): Promise<DomainRow> {
    return this.request('domain', { guest });
  }
  identity(guest: string): Promise<DomainIdentity> {
    return this.request('identity', { guest });
  }
  config(guest: string): Promise<Answer<'config'>> {
    return this.request('config', { guest });
  }
  points(guest: string): Promise<Answer<'points'>> {
    return this.request('points', { guest });
  }
  dmesg(guest: string): Promise<string> {
    return this.request('dmesg', { guest });
  }
  vcpus(guest?: string): Promise<readonly VcpuRows[]> {
    return this.request('vcpus', { guest });
  }
  disks(guest: string): Promise<readonly DiskRow[]> {
    return this.request('blockList', { guest });
  }
  networks(guest: string): Promise<readonly NetworkRow[]> {
    return this.request('networkList', { guest });
  }

  // The life of a guest.

  /** `config`: the text of an xl.cfg. `where`: its file's name for messages, and what paths in it are relative to. */
  create(
    config: string,
    where: { readonly file?: string; readonly directory: string; readonly paused?: boolean },
  ): Promise<CreatedRow> {
    return this.request('create', { config, file: 'guest.cfg', ...where });
  }
  async pause(guest: string): Promise<void> {
    await this.request('pause', { guest });
  }
  async unpause(guest: string): Promise<void> {
    await this.request('unpause', { guest });
  }
  async shutdown(guest: string, options: Rest<'shutdown'> = {}): Promise<void> {
    await this.request('shutdown', { guest, ...options });
  }
  async reboot(guest: string, options: Rest<'reboot'> = {}): Promise<void> {
    await this.request('reboot', { guest, ...options });
  }
  async destroy(guest: string): Promise<void> {
    await this.request('destroy', { guest });
  }
  async rename(guest: string, name: string): Promise<void> {
    await this.request('rename', { guest, name });
  }
  /** `path`: on the daemon's host. `keep`: the guest continues. */
  save(guest: string, path: string, keep = false): Promise<Answer<'save'>> {
    return this.request('save', { guest, path, keep });
  }
  restore(path: string, paused = false): Promise<DomainRow> {
    return this.request('restore', { path, paused });
  }

  /** Starts to move a guest to `host`, a trusted name or HOST:PORT. */
  async migrate(guest: string, host: string, options: Omit<Rest<'migrate'>, 'host'> = {}): Promise<Move> {
    // The uuid makes sure that all requests about the move mean this guest, even if its name or number is reused
    // meanwhile.
    const { uuid } = await this.identity(guest);
    const progress = new Arrivals<AnyProgress>(MOST_WAITING);
    const one = { uuid, progress };
    this.moves.add(one);
    const done = this.request('migrate', { guest, uuid, host, ...options }).finally(() => {
      this.moves.delete(one);
      progress.end();
    });
    // A caller that consumes the progress first learns of a failure later.
    done.catch(() => {});
    return { progress, done, cancel: () => this.cancelMove(guest, uuid) };
  }
  /** Gives up a move that somebody has begun. */
  async cancelMove(guest: string, uuid?: string): Promise<void> {
    await this.request('cancelMove', { guest, uuid });
  }
  /** Decides a move whose destination is lost for good. */
  async settle(guest: string, keep: boolean): Promise<void> {
    await this.request('settle', { guest, keep });
  }

  // Subscriptions.

  async console(guest: string): Promise<GuestConsole> {
    const identity = await this.identity(guest);
    const { uuid } = identity;
    const asked = { guest, uuid };
    const weigh = (bytes: Uint8Array): number => bytes.length;
    const output = new Arrivals<Uint8Array>(MOST_CONSOLE_BYTES, weigh, () => void close());
    const one = { uuid, output };
    const early = new Arrivals<Uint8Array>(MOST_CONSOLE_BYTES, weigh);
    const before = { uuid, output: early };
    const close = async (): Promise<void> => {
      output.end();
      if (!this.consoles.delete(one) || this.closed) return;
      if ([...this.consoles].some((other) => other.uuid === uuid)) return;
      // If the guest has ended, there are no further notices anyway.
      await this.request('leaveConsole', asked).catch(() => null);
    };
    this.consoles.add(before);
    try {
      const { latest } = await this.request('console', asked);
      output.push(decodeBase64(latest));
      early.end();
      for await (const bytes of early) output.push(bytes);
    } finally {
      this.consoles.delete(before);
    }
    this.consoles.add(one);
    this.request('gone', asked).then(
      () => output.end(),
      () => output.end(),
    );
    const type = (bytes: Uint8Array): Promise<number> =>
      this.request('type', { ...asked, data: encodeBase64(bytes) });
    const write = async (text: string | Uint8Array): Promise<void> => {
      let rest = typeof text === 'string' ? new TextEncoder().encode(text) : text;
      while (rest.length > 0) {
        const taken = await type(rest.subarray(0, TYPED_AT_ONCE));
        rest = rest.subarray(taken);
        if (taken === 0) await new Promise((again) => setTimeout(again, RETRY_MS));
      }
    };
    return { ...identity, output, type, write, close };
  }

  /** Subscribes to all changes of domains from now on. */
  async watch(): Promise<Watch> {
    const events = new Arrivals<DomainEvent>(
      MOST_WAITING,
      () => 1,
      () => void close(),
    );
    const close = async (): Promise<void> => {
      events.end();
      if (!this.watches.delete(events) || this.closed || this.watches.size > 0) return;
      await this.request('leaveEvents', {}).catch(() => null);
    };
    this.watches.add(events);
    try {
      const domains = await this.request('events', {});
      return { domains, events, close };
    } catch (error) {
      this.watches.delete(events);
      throw error;
    }
  }
}

/** Most bytes that are typed in one request. */
const TYPED_AT_ONCE = 4096;
