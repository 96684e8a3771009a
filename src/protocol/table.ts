/**
 * How messages are declared, and what is made of a declaration: the types of those who send and take the messages, the
 * check of what arrives, and the page for people (docs/protocol.md).
 *
 * A table is an object with a message under each name. A request is held against its table with no tolerance: a verb or
 * a field that the table does not declare is refused by name. Of answers and notices the fields that the table does not
 * declare are left out, so that a later version of the other side may say more.
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
  /** The codes of failure that belong to it; `usage`, `io` and `internal` may always come. */
  readonly errors: readonly FailureCode[];
}
export type Requests = Readonly<Record<string, Request>>;

/** What is said and not answered. */
export interface Notice {
  /** When it is said, in a sentence. */
  readonly about: string;
  readonly params: v.GenericSchema;
}
export type Notices = Readonly<Record<string, Notice>>;

/** What a certificate may be trusted for: to move guests here, or to use every verb. */
export type Right = 'move' | 'control';

/** One direction of the protocol. */
export interface Direction {
  readonly title: string;
  /** For people: whole sentences, one a line. */
  readonly words: readonly string[];
  readonly from: string;
  readonly to: string;
  /** What the sender has to be trusted for, where that is a question. */
  readonly right?: Right;
  readonly requests: Requests;
  readonly notices: Notices;
}

/** Declares a request. It takes the fields in `params` and no others. */
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

/** What who takes a request is given, its defaults filled in. */
export type ParamsOf<T extends Requests, M extends keyof T> = v.InferOutput<T[M]['params']>;
/** What who makes a request says. */
export type AskedOf<T extends Requests, M extends keyof T> = v.InferInput<T[M]['params']>;
/** What who made a request is given. */
export type AnswerOf<T extends Requests, M extends keyof T> = v.InferOutput<T[M]['answer']>;
/** What who takes a request answers. */
export type AnsweredOf<T extends Requests, M extends keyof T> = v.InferInput<T[M]['answer']>;
export type NoticeOf<T extends Notices, M extends keyof T> = v.InferOutput<T[M]['params']>;
export type NoticedOf<T extends Notices, M extends keyof T> = v.InferInput<T[M]['params']>;

/** One function for each request of a table: one that is missing, or has other types, does not compile. */
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

/** Characters of a name that is not in a table. */
const MAX_NAME = 64;
const unknownName = (what: string, method: string): string =>
  `unknown ${what} ${printable(method, MAX_NAME)}`;

/** Takes requests by their names: each is held against `table` before its handler sees it. Fails with 'usage'. */
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

/** Takes notices by their names. Throws ProtocolError, which names notice and field. */
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

/** Makes a request of a table. Fails with what the other side answered, or with `code` where its answer is none. */
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

/** Says a notice of a table. */
export function say<T extends Notices, M extends keyof T & string>(
  rpc: Rpc,
  _table: T,
  method: M,
  params: NoticedOf<T, M>,
): void {
  rpc.notice(method, Object(params));
}
