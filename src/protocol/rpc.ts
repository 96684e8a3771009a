/**
 * Requests, answers and notices over one byte stream, in both directions: one JSON value per line.
 *
 *     {"id":1,"do":"list","with":{}}       a request
 *     {"id":1,"ok":[...]}                  its answer, or {"id":1,"error":{"code":"...","message":"..."}}
 *     {"do":"console","with":{...}}        a notice, which is not answered
 *
 * Invariant: a peer cannot make us buffer more than a line of MAX_LINE_BYTES, work on more than MAX_PENDING requests
 * at once, or hold more than MAX_UNSENT_BYTES of answers that it does not read. We send no line that it would not
 * accept. When the stream ends, every pending request fails, once.
 */
import * as v from 'valibot';
import { describeError, Failure, type FailureCode, isFailureCode } from './failure.js';
import { parseJson } from './json.js';

export const MAX_LINE_BYTES = 4 << 20;
const MAX_PENDING = 256;
/**
 * If the other side does not read, notices beyond this limit are dropped; if answers exceed it, the connection is
 * closed.
 */
const MAX_UNSENT_BYTES = 16 << 20;
/**
 * The rate at which messages are read: after MAX_LINES_AT_ONCE lines or MAX_BYTES_AT_ONCE bytes, nothing more is read
 * from that side until RATE_MS have passed.
 */
const RATE_MS = 100;
const MAX_LINES_AT_ONCE = 4000;
const MAX_BYTES_AT_ONCE = 32 << 20;
/** Maximum length of an error's message, characters. */
const MAX_MESSAGE = 64 << 10;

/** The byte stream that carries the lines. Node's Duplex implements it. */
export interface ByteStream {
  on(event: 'data', listener: (bytes: Uint8Array) => void): unknown;
  /** 'end': no more data will come. 'close': the stream is closed, whoever closed it. */
  on(event: 'end' | 'close', listener: () => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  write(bytes: Uint8Array): unknown;
  /** Bytes that were written and that the other side has not read. */
  readonly writableLength: number;
  /** Stops 'data' events until `resume`. */
  pause(): unknown;
  resume(): unknown;
  /** Closes it after everything written has been sent. */
  end(): unknown;
  /** Closes it immediately. */
  destroy(): unknown;
}

export type Params = Readonly<Record<string, unknown>>;

export interface RpcHandlers {
  request?(method: string, params: Params): unknown;
  notice?(method: string, params: Params): void;
  /** Called once, when nothing more can arrive. That may be before the constructor's caller has the `rpc`. */
  closed?(rpc: Rpc): void;
}

/** The part of a clock that a connection needs; src/os/clock.ts has the whole interface. */
export interface RpcClock {
  monotonicMs(): number;
  after(ms: number, what: () => void): { cancel(): void };
  /** Calls `what` repeatedly; it does not keep the process alive. */
  every(ms: number, what: () => void): { cancel(): void };
}

const ownClock: RpcClock = {
  monotonicMs: () => performance.now(),
  after(ms, what) {
    const timer = setTimeout(what, ms);
    return { cancel: () => clearTimeout(timer) };
  },
  every(ms, what) {
    const timer = setInterval(what, ms);
    timer.unref?.();
    return { cancel: () => clearInterval(timer) };
  },
};

interface Pending {
  resolve(value: unknown): void;
  reject(error: Error): void;
  limit: { cancel(): void } | undefined;
}

const anyObject = v.record(v.string(), v.unknown());
/** Any JSON value may come, from somebody who may be no friend: what is no error is one without words. */
const saidError = v.fallback(
  v.object({
    code: v.fallback(v.custom<FailureCode>(isFailureCode), 'internal'),
    message: v.fallback(v.string(), 'an error without words'),
  }),
  { code: 'internal', message: 'an error without words' },
);
/** A line, before it is known whether it is a request, a notice or an answer. */
const anyMessage = v.object({
  id: v.optional(v.unknown()),
  do: v.optional(v.unknown()),
  with: v.optional(v.unknown()),
  ok: v.optional(v.unknown()),
  error: v.optional(v.unknown()),
});
type Message = v.InferOutput<typeof anyMessage>;

function readMessage(line: string): Message | undefined {
  try {
    return v.parse(anyMessage, parseJson(line));
  } catch {
    return undefined;
  }
}

const encoder = new TextEncoder();
/** Invalid UTF-8 becomes U+FFFD, and a byte order mark is kept, so that it is invalid as JSON. */
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export class Rpc {
  closed = false;
  /** This side closed the connection: the other side was still connected then. */
  cutHere = false;
  private readonly pending = new Map<number, Pending>();
  private readonly closing: (() => void)[] = [];
  private nextId = 1;
  private serving = 0;
  private parts: Uint8Array[] = [];
  private held = 0;
  /** When the present interval began, and how much was read in it; see RATE_MS. */
  private since = 0;
  private lines = 0;
  private bytes = 0;

  constructor(
    readonly stream: ByteStream,
    private handlers: RpcHandlers,
    readonly clock: RpcClock = ownClock,
  ) {
    stream.on('data', (chunk) => this.take(chunk));
    stream.on('error', () => this.end());
    stream.on('end', () => this.end());
    stream.on('close', () => this.end());
  }

  /** Bytes that were written and that the other side has not read. */
  get unsent(): number {
    return this.stream.writableLength;
  }

  /** Calls `listener` once when nothing more can arrive; immediately if that is already so. */
  whenClosed(listener: () => void): void {
    if (this.closed) listener();
    else this.closing.push(listener);
  }

  /** Replaces the handlers of what arrives. */
  setHandlers(handlers: RpcHandlers): void {
    this.handlers = handlers;
  }

  /**
   * Sends a request. Fails with the error that the other side answered, with 'io' if the stream ends, and after
   * `timeoutMs` with 'timed-out'.
   */
  request<T = unknown>(method: string, params: object = {}, timeoutMs = 0): Promise<T> {
    if (this.closed) return Promise.reject(new Failure('io', `${method}: the connection is closed`));
    const id = this.nextId++;
    return new Promise<T>((resolve, reject) => {
      const limit =
        timeoutMs === 0
          ? undefined
          : this.clock.after(timeoutMs, () => {
              this.pending.delete(id);
              reject(new Failure('timed-out', `${method}: no answer within ${timeoutMs / 1000} s`));
            });
      this.pending.set(id, { resolve: resolve as (value: unknown) => void, reject, limit });
      if (this.write({ id, do: method, with: params })) return;
      this.pending.delete(id);
      limit?.cancel();
      reject(new Failure('usage', `${method}: more is asked for than one message may have`));
    });
  }

  notice(method: string, params: object = {}): void {
    if (this.closed || this.stream.writableLength > MAX_UNSENT_BYTES) return;
    this.write({ do: method, with: params });
  }

  close(): void {
    this.stream.end();
    this.end();
  }

  destroy(): void {
    if (!this.closed) this.cutHere = true;
    this.stream.destroy();
    this.end();
  }

  /** False if the line is longer than the other side accepts; then nothing is sent. */
  private write(message: object): boolean {
    const line = encoder.encode(`${JSON.stringify(message)}\n`);
    if (line.length > MAX_LINE_BYTES) return false;
    this.stream.write(line);
    return true;
  }

  private answer(id: number, message: object): void {
    if (this.closed) return;
    if (this.stream.writableLength > MAX_UNSENT_BYTES) this.destroy();
    else if (!this.write({ id, ...message }))
      this.write({ id, error: { code: 'internal', message: 'the answer is longer than a message may be' } });
  }

  private end(): void {
    if (this.closed) return;
    this.closed = true;
    for (const { reject, limit } of this.pending.values()) {
      limit?.cancel();
      reject(new Failure('io', 'the connection was closed'));
    }
    this.pending.clear();
    this.handlers.closed?.(this);
    for (const listener of this.closing.splice(0)) listener();
  }

  private take(chunk: Uint8Array): void {
    this.pace(chunk);
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0 && !this.closed; at = chunk.indexOf(10, from)) {
      this.parts.push(chunk.subarray(from, at));
      const line = this.parts.length === 1 ? this.parts[0] : joined(this.parts);
      this.parts = [];
      this.held = 0;
      from = at + 1;
      this.lines++;
      if (line.length > MAX_LINE_BYTES) this.destroy();
      else this.line(decoder.decode(line));
    }
    if (from < chunk.length) {
      this.parts.push(chunk.subarray(from));
      this.held += chunk.length - from;
      if (this.held > MAX_LINE_BYTES) this.destroy();
    }
  }

  private pace(chunk: Uint8Array): void {
    const now = this.clock.monotonicMs();
    if (now - this.since >= RATE_MS) {
      this.since = now;
      this.lines = 0;
      this.bytes = 0;
    }
    this.bytes += chunk.length;
    if (this.lines < MAX_LINES_AT_ONCE && this.bytes < MAX_BYTES_AT_ONCE) return;
    this.stream.pause();
    this.clock.after(RATE_MS - (now - this.since), () => this.stream.resume());
  }

  private line(line: string): void {
    const message = readMessage(line);
    if (message === undefined) {
      this.destroy();
      return;
    }
    const { id, do: method } = message;
    if (typeof method === 'string') {
      const params = v.is(anyObject, message.with) ? message.with : {};
      if (typeof id === 'number') void this.serve(id, method, params);
      else this.noticed(method, params);
    } else if (typeof id === 'number') this.answered(id, message);
  }

  /** The handler of a notice may throw; then the connection to its sender is closed. */
  private noticed(method: string, params: Params): void {
    try {
      this.handlers.notice?.(method, params);
    } catch {
      this.destroy();
    }
  }

  private async serve(id: number, method: string, params: Params): Promise<void> {
    try {
      if (this.serving >= MAX_PENDING) throw new Failure('bad-state', 'too many requests at once');
      this.serving++;
      try {
        if (this.handlers.request === undefined) throw new Failure('usage', 'no requests are taken here');
        const value = await this.handlers.request(method, params);
        this.answer(id, { ok: value ?? null });
      } finally {
        this.serving--;
      }
    } catch (error) {
      const { code, message } = describeError(error);
      this.answer(id, { error: { code, message: message.slice(0, MAX_MESSAGE) } });
    }
  }

  private answered(id: number, message: Message): void {
    const waiting = this.pending.get(id);
    if (waiting === undefined) return;
    this.pending.delete(id);
    waiting.limit?.cancel();
    if (message.error === undefined) waiting.resolve(message.ok);
    else {
      const error = v.parse(saidError, message.error);
      waiting.reject(new Failure(error.code, error.message));
    }
  }
}
