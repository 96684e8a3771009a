/**
 * A client of any xenstored, Xen's or this package's, over its unix socket or another stream of bytes.
 *
 *     const xs = await XenstoreClient.connect();
 *     const name = await xs.read('/local/domain/3/name');
 *     for await (const path of xs.watch('/local/domain')) console.log('changed:', path);
 *
 * Invariant: every request settles: with its answer, with XenstoreError (`code` is the protocol's name of the error),
 * or with ECONNRESET when the connection ends. Text is UTF-8; byte arrays are passed unchanged.
 */
import { connect, type Socket } from 'node:net';
import {
  XS_CONTROL,
  XS_ERROR,
  XS_GET_DOMAIN_PATH,
  XS_GET_FEATURE,
  XS_GET_QUOTA,
  XS_INTRODUCE,
  XS_IS_DOMAIN_INTRODUCED,
  XS_RELEASE,
  XS_RESUME,
  XS_SET_FEATURE,
  XS_SET_QUOTA,
  XS_SET_TARGET,
  XS_TRANSACTION_END,
  XS_TRANSACTION_START,
  XS_UNWATCH,
  XS_WATCH,
  XS_WATCH_EVENT,
} from '../xen/xs-wire.js';
import { split, strings, type Value, XenstoreView } from './client-view.js';
import { XenstoreError } from './core/errno.js';
import { textFromOctets } from './core/octets.js';
import { encodeMessage, type Message } from './wire/message.js';
import { MessageParser } from './wire/parser.js';

export { type Value, XenstoreError, XenstoreView };

export interface ConnectOptions {
  /** Path of the socket. The default is $XENSTORED_PATH, or else /var/run/xenstored/socket. */
  readonly path?: string;
}

export interface WatchOptions {
  /** How many levels below the path are watched; all by default. Servers before Xen 4.21 refuse a depth with EINVAL. */
  readonly depth?: number;
  /** Ends the watch. */
  readonly signal?: AbortSignal;
}

export interface TransactionOptions {
  /** How often the transaction is repeated after conflicts; 100 by default. */
  readonly retries?: number;
}

/** What carries the bytes of a connection. It keeps their order. */
export interface ByteChannel {
  write(bytes: Uint8Array): void;
  /** Called once. `ended` is called when no more bytes can come or go. */
  listen(received: (bytes: Uint8Array) => void, ended: (error: Error) => void): void;
  /** Resolves when what was written has left and the connection has ended. */
  close(): Promise<void>;
  /** Ends the connection at once. */
  destroy(): void;
}

class SocketChannel implements ByteChannel {
  constructor(private readonly socket: Socket) {}
  write(bytes: Uint8Array): void {
    this.socket.write(bytes);
  }
  listen(received: (bytes: Uint8Array) => void, ended: (error: Error) => void): void {
    this.socket.on('data', received);
    this.socket.on('error', ended);
    this.socket.on('close', () =>
      ended(Object.assign(new Error('xenstore: the connection has ended'), { code: 'ECONNRESET' })),
    );
  }
  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.socket.destroyed) resolve();
      else this.socket.once('close', () => resolve()).end();
    });
  }
  destroy(): void {
    this.socket.destroy();
  }
}

interface Waiting {
  readonly what: string;
  resolve(body: string): void;
  reject(error: Error): void;
}

export class XenstoreClient extends XenstoreView {
  private readonly parser = new MessageParser();
  private readonly waiting = new Map<number, Waiting>();
  private readonly watches = new Map<string, (path: string) => void>();
  private readonly ends = new Set<() => void>();
  private nextRequest = 1;
  private nextToken = 1;
  private closed: Error | undefined;

  private constructor(private readonly channel: ByteChannel) {
    super((type, body, what) => this.request(type, body, what));
    channel.listen(
      (bytes) => this.receive(bytes),
      (error) => this.end(error),
    );
  }

  static over(channel: ByteChannel): XenstoreClient {
    return new XenstoreClient(channel);
  }

  static connect(options: ConnectOptions = {}): Promise<XenstoreClient> {
    const path = options.path ?? process.env['XENSTORED_PATH'] ?? '/var/run/xenstored/socket';
    return new Promise((resolve, reject) => {
      const socket = connect(path);
      socket.once('error', reject);
      socket.once('connect', () => {
        socket.off('error', reject);
        resolve(new XenstoreClient(new SocketChannel(socket)));
      });
    });
  }

  /**
   * Yields the paths that change at or below `path`, and `path` itself once at the start. A path that changes again
   * before it was taken is yielded once. The loop ends with `break`, with `signal`, or with the connection.
   */
  async *watch(path: string, options: WatchOptions = {}): AsyncGenerator<string, void, void> {
    const token = `w${this.nextToken++}`;
    const changed = new Set<string>();
    let wake = (): void => {};
    const end = (): void => wake();
    const aborted = (): boolean => options.signal?.aborted === true;
    this.watches.set(token, (event) => {
      changed.add(event);
      wake();
    });
    this.ends.add(end);
    options.signal?.addEventListener('abort', end);
    try {
      const depth = options.depth === undefined ? [] : [String(options.depth)];
      await this.request(XS_WATCH, strings(path, token, ...depth), `watch ${path}`);
      while (!aborted()) {
        for (const event of changed) {
          changed.delete(event);
          yield event;
          if (aborted()) return;
        }
        if (this.closed !== undefined) throw this.closed;
        await new Promise<void>((resolve) => {
          wake = resolve;
          if (changed.size > 0 || this.closed !== undefined || aborted()) resolve();
        });
      }
    } finally {
      this.watches.delete(token);
      this.ends.delete(end);
      options.signal?.removeEventListener('abort', end);
      if (this.closed === undefined)
        await this.request(XS_UNWATCH, strings(path, token), `unwatch ${path}`).catch(() => {});
    }
  }

  /**
   * Runs `body` in a transaction and commits it. If the commit conflicts with another client's change, `body` runs
   * again with current values. An exception in `body` aborts the transaction. Rejects with EAGAIN after too many
   * conflicts.
   */
  async transaction<T>(
    body: (view: XenstoreView) => Promise<T>,
    options: TransactionOptions = {},
  ): Promise<T> {
    for (let left = options.retries ?? 100; ; left--) {
      const id = Number(split(await this.request(XS_TRANSACTION_START, '\0', 'start a transaction'))[0]);
      let result: T;
      try {
        result = await body(new XenstoreView((type, text, what) => this.request(type, text, what, id)));
      } catch (error) {
        await this.request(XS_TRANSACTION_END, 'F\0', 'abort', id).catch(() => {});
        throw error;
      }
      try {
        await this.request(XS_TRANSACTION_END, 'T\0', 'commit', id);
        return result;
      } catch (error) {
        if (!(error instanceof XenstoreError) || error.code !== 'EAGAIN' || left <= 0) throw error;
      }
    }
  }

  /** A domain's home in the tree: /local/domain/N. */
  async domainPath(domid: number): Promise<string> {
    return split(await this.request(XS_GET_DOMAIN_PATH, strings(String(domid)), 'domain path'))[0];
  }

  async isIntroduced(domid: number): Promise<boolean> {
    return (await this.request(XS_IS_DOMAIN_INTRODUCED, strings(String(domid)), 'is introduced')) === 'T\0';
  }

  /** Tells the server to serve a domain's ring: `mfn` is the machine frame of its page, `port` its event channel. */
  async introduce(domid: number, mfn: number, port: number): Promise<void> {
    await this.request(XS_INTRODUCE, strings(`${domid}`, `${mfn}`, `${port}`), `introduce ${domid}`);
  }

  async release(domid: number): Promise<void> {
    await this.request(XS_RELEASE, strings(String(domid)), `release ${domid}`);
  }

  /** Tells the server that the domain runs again after it was suspended. */
  async resume(domid: number): Promise<void> {
    await this.request(XS_RESUME, strings(String(domid)), `resume ${domid}`);
  }

  /**
   * The server features that a domain is shown, as bits of XENSTORE_SERVER_FEATURE_*. Servers before Xen 4.20 answer
   * ENOSYS.
   */
  async getFeatures(domid: number): Promise<number> {
    const text = await this.request(XS_GET_FEATURE, strings(`${domid}`), `features of ${domid}`);
    return Number(split(text)[0]);
  }

  /** Sets the features that a domain is shown. This is only possible before the domain is introduced. */
  async setFeatures(domid: number, features: number): Promise<void> {
    await this.request(XS_SET_FEATURE, strings(`${domid}`, `${features}`), `set features of ${domid}`);
  }

  /** The names that getQuota and setQuota accept. These requests exist since Xen 4.20. */
  async quotaNames(): Promise<string[]> {
    return split(await this.request(XS_GET_QUOTA, '', 'names of quotas'))[0].split(' ');
  }

  /**
   * The limit of one domain, or without `domid` the limit of all domains without one of their own. 0 means no limit.
   */
  async getQuota(name: string, domid?: number): Promise<number> {
    const of = domid === undefined ? [] : [String(domid)];
    return Number(split(await this.request(XS_GET_QUOTA, strings(...of, name), `quota ${name}`))[0]);
  }

  async setQuota(name: string, value: number, domid?: number): Promise<void> {
    const of = domid === undefined ? [] : [String(domid)];
    await this.request(XS_SET_QUOTA, strings(...of, name, String(value)), `set quota ${name}`);
  }

  /** Gives `domid` all rights of the domain `target`. */
  async setTarget(domid: number, target: number): Promise<void> {
    await this.request(XS_SET_TARGET, strings(`${domid}`, `${target}`), `set target of ${domid}`);
  }

  /** Sends a command to the server, as xenstore-control does, and resolves with the answer. */
  async control(command: string, ...args: readonly string[]): Promise<string> {
    return (await this.request(XS_CONTROL, strings(command, ...args), `control ${command}`)).replace(
      /\0$/,
      '',
    );
  }

  /** Closes the connection. The server then drops its watches and open transactions. */
  close(): Promise<void> {
    return this.channel.close();
  }

  private request(type: number, body: string, what: string, txId = 0): Promise<string> {
    if (this.closed !== undefined) return Promise.reject(this.closed);
    if (body.length > 4096) return Promise.reject(new XenstoreError('E2BIG', what));
    return new Promise((resolve, reject) => {
      const reqId = this.nextRequest;
      this.nextRequest = (reqId + 1) >>> 0;
      this.waiting.set(reqId, { what, resolve, reject });
      this.channel.write(encodeMessage({ type, reqId, txId, body }));
    });
  }

  private receive(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length; ) {
      const state = this.parser.push(chunk, at, chunk.length);
      at = this.parser.consumed;
      if (state.kind === 'message') this.take(state.message);
      else if (state.kind === 'failed') {
        this.end(new Error(`xenstore: the server announced a reply of ${state.length} bytes`));
        this.channel.destroy();
        return;
      }
    }
  }

  private take(m: Message): void {
    if (m.type === XS_WATCH_EVENT) {
      const [path, token] = split(m.body);
      this.watches.get(token)?.(textFromOctets(path));
      return;
    }
    const waiting = this.waiting.get(m.reqId);
    if (waiting === undefined) return;
    this.waiting.delete(m.reqId);
    if (m.type === XS_ERROR) waiting.reject(new XenstoreError(m.body.replace(/\0$/, ''), waiting.what));
    else waiting.resolve(m.body);
  }

  private end(error: Error): void {
    if (this.closed !== undefined) return;
    this.closed = error;
    for (const { reject } of this.waiting.values()) reject(error);
    this.waiting.clear();
    for (const end of this.ends) end();
  }
}
