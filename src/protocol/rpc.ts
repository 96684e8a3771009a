/**
 * Requests, answers and notices over one byte stream, both ways: one JSON value a line.
 *
 *     {"id":1,"do":"list","with":{}}       a request
 *     {"id":1,"ok":[...]}                  its answer, or {"id":1,"error":{"code":"...","message":"..."}}
 *     {"do":"console","with":{...}}        a notice, not answered
 *
 * Invariant: a peer cannot make us hold more than a line of MAX_LINE_BYTES, nor have more than MAX_PENDING requests
 * worked on at once, nor more than MAX_UNSENT_BYTES of answers that it does not take; we send no line that it would
 * not take; when the stream ends every pending request fails, once.
 */
import * as v from 'valibot';
import { describeError, Failure, type FailureCode, isFailureCode } from './failure.js';
import { parseJson } from './json.js';

export const MAX_LINE_BYTES = 4 << 20;
const MAX_PENDING = 256;
/** When the other side reads nothing, notices beyond this are dropped; with answers beyond it, it is cut off. */
const MAX_UNSENT_BYTES = 16 << 20;
/** What one side says is taken at this rate: of who says more, nothing is read until the time is over. */
const RATE_MS = 100;
const MAX_LINES_AT_ONCE = 4000;
const MAX_BYTES_AT_ONCE = 32 << 20;
/** Characters of an error's message. */
const MAX_MESSAGE = 64 << 10;

/** What lines go over. A Duplex of Node's is one. */
export interface ByteStream {
  on(event: 'data', listener: (bytes: Uint8Array) => void): unknown;
  /** 'end': nothing more comes. 'close': it is gone, whoever closed it. */
  on(event: 'end' | 'close', listener: () => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  write(bytes: Uint8Array): unknown;
  /** Bytes that were written and that the other side has not taken. */
  readonly writableLength: number;
  /** No 'data' until `resume`. */
  pause(): unknown;
  resume(): unknown;
  /** Ends it when all that was written has gone. */
  end(): unknown;
  /** Ends it now. */
  destroy(): unknown;
}

export type Params = Readonly<Record<string, unknown>>;

export interface RpcHandlers {
  request?(method: string, params: Params): unknown;
  notice?(method: string, params: Params): void;
  /** Once, when nothing more can come; it may be before whoever made `rpc` has got it. */
  closed?(rpc: Rpc): void;
}

/** What a connection needs of a clock; src/os/clock.ts has more of one. */
export interface RpcClock {
  monotonicMs(): number;
  after(ms: number, what: () => void): { cancel(): void };
  /** Again and again; keeps no process from ending. */
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
/** What is no UTF-8 becomes U+FFFD, and a byte order mark stays what it is: no JSON. */
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
  /** It was we who cut it: the other side lived then. */
  cutHere = false;
  private readonly pending = new Map<number, Pending>();
  private readonly closing: (() => void)[] = [];
  private nextId = 1;
  private serving = 0;
  private parts: Uint8Array[] = [];
  private held = 0;
  /** Since when, and how much, was taken; see RATE_MS. */
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

  /** Bytes that were written and that the other side has not taken. */
  get unsent(): number {
    return this.stream.writableLength;
  }

  /** Calls `listener` once, when nothing more can come; at once where that is so already. */
  whenClosed(listener: () => void): void {
    if (this.closed) listener();
    else this.closing.push(listener);
  }

  /** Others take over what arrives. */
  setHandlers(handlers: RpcHandlers): void {
    this.handlers = handlers;
  }

  /** Fails with what the other side answered, or 'io' when the stream ends; after `timeoutMs` with 'timed-out'. */
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

  /** False for what is longer than the other side takes; nothing is sent of it. */
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

  /** What a notice does may fail; then nothing more is heard of who sent it. */
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
