/**
 * How messages are declared, and what follows from a declaration: the types for sender and receiver, the check of
 * what arrives, and a page of documentation (docs/protocol.md).
 *
 * A table is an object with a message under each name. Requests are checked strictly: an error names a verb or a
 * field that the table does not declare. In answers and notices, undeclared fields are removed, so that a later
 * version of the other side may send more.
 */
import type * as v from 'valibot';
import { check, ProtocolError } from './check.js';
import { checked } from './checked.js';
import { Failure, type FailureCode } from './failure.js';
import { printable } from './printable.js';
import type { Rpc } from './rpc.js';
import { exactly, fields } from './shapes.js';

/** A request and its answer. */
export interface Request {
  /** What it does, in a sentence. */
  readonly about: string;
  readonly params: v.GenericSchema;
  readonly answer: v.GenericSchema;
  /** The error codes that are specific to it; `usage`, `io` and `internal` are always possible. */
  readonly errors: readonly FailureCode[];
}
export type Requests = Readonly<Record<string, Request>>;

/** A message that is not answered. */
export interface Notice {
  /** When it is sent, in a sentence. */
  readonly about: string;
  readonly params: v.GenericSchema;
}
export type Notices = Readonly<Record<string, Notice>>;

/** What a certificate may be trusted for: to move guests here, or to use every verb. */
export type Right = 'move' | 'control';

/** One direction of the protocol. */
export interface Direction {
  readonly title: string;
  /** Description: whole sentences, one per line. */
  readonly words: readonly string[];
  readonly from: string;
  readonly to: string;
  /** The right that the sender needs, if rights are checked. */
  readonly right?: Right;
  readonly requests: Requests;
  readonly notices: Notices;
}

/** Declares a request. It accepts the fields in `params` and no others. */
export function request<const P extends v.ObjectEntries, const A extends v.GenericSchema>(
  about: string,
  declared: { readonly params: P; readonly answer: A; readonly errors?: readonly FailureCode[] },
) {
  const { params, answer, errors = [] } = declared;
  return { about, params: exactly(params), answer, errors };
}

/** The same of a request that takes fields of later versions too, and leaves them out. */
export function openRequest<const P extends v.ObjectEntries, const A extends v.GenericSchema>(
  about: string,
  declared: { readonly params: P; readonly answer: A; readonly errors?: readonly FailureCode[] },
) {
  const { params, answer, errors = [] } = declared;
  return { about, params: fields(params), answer, errors };
}

/** Declares a notice. */
export const notice = <const S extends v.GenericSchema>(about: string, params: S) => ({ about, params });

/** The parameters that a handler receives, with defaults filled in. */
export type ParamsOf<T extends Requests, M extends keyof T> = v.InferOutput<T[M]['params']>;
/** The parameters that the sender of a request gives. */
export type AskedOf<T extends Requests, M extends keyof T> = v.InferInput<T[M]['params']>;
/** The answer that the sender of a request receives. */
export type AnswerOf<T extends Requests, M extends keyof T> = v.InferOutput<T[M]['answer']>;
/** The answer that a handler returns. */
export type AnsweredOf<T extends Requests, M extends keyof T> = v.InferInput<T[M]['answer']>;
export type NoticeOf<T extends Notices, M extends keyof T> = v.InferOutput<T[M]['params']>;
export type NoticedOf<T extends Notices, M extends keyof T> = v.InferInput<T[M]['params']>;

/** One function for each request of a table; a missing one, or one with other types, does not compile. */
export type Handlers<T extends Requests, C extends readonly unknown[] = []> = {
  readonly [M in keyof T]: (
    params: ParamsOf<T, M>,
    ...context: C
  ) => AnsweredOf<T, M> | Promise<AnsweredOf<T, M>>;
};
/** The same for notices. */
export type Listeners<T extends Notices, C extends readonly unknown[] = []> = {
  readonly [M in keyof T]: (params: NoticeOf<T, M>, ...context: C) => void;
};

/** How many characters of an unknown name an error quotes. */
const MAX_NAME = 64;
const unknownName = (what: string, method: string): string =>
  `unknown ${what} ${printable(method, MAX_NAME)}`;

/** Dispatches requests by name: each is checked against `table` before its handler is called. Fails with 'usage'. */
export function dispatcher<T extends Requests, C extends readonly unknown[] = []>(
  table: T,
  handlers: Handlers<T, C>,
): (method: string, params: unknown, ...context: C) => unknown {
  const call = <M extends keyof T & string>(method: M, params: unknown, context: C): unknown =>
    handlers[method](checked<T[M]['params']>(table[method].params, params, method), ...context);
  return (method, params, ...context) => {
    if (!Object.hasOwn(table, method)) throw new Failure('usage', unknownName('request', method));
    return call(method, params, context);
  };
}

/** Dispatches notices by name. Throws ProtocolError, which names the notice and the field. */
export function listener<T extends Notices, C extends readonly unknown[] = []>(
  table: T,
  listeners: Listeners<T, C>,
): (method: string, params: unknown, ...context: C) => void {
  const call = <M extends keyof T & string>(method: M, params: unknown, context: C): void =>
    listeners[method](check<T[M]['params']>(table[method].params, params, `notice ${method}`), ...context);
  return (method, params, ...context) => {
    if (!Object.hasOwn(table, method)) throw new ProtocolError(unknownName('notice', method));
    call(method, params, context);
  };
}

/**
 * Sends a request of a table. Fails with the error that the other side answered, or with `code` if its answer does
 * not match the table.
 */
export async function ask<T extends Requests, M extends keyof T & string>(
  rpc: Rpc,
  table: T,
  method: M,
  params: AskedOf<T, M>,
  timeoutMs = 0,
  code: FailureCode = 'io',
): Promise<AnswerOf<T, M>> {
  const answer = await rpc.request(method, Object(params), timeoutMs);
  return checked<T[M]['answer']>(table[method].answer, answer, `the answer to ${method}`, code);
}

/** Sends a notice of a table. */
export function say<T extends Notices, M extends keyof T & string>(
  rpc: Rpc,
  _table: T,
  method: M,
  params: NoticedOf<T, M>,
): void {
  rpc.notice(method, Object(params));
}
