/**
 * Random conversations of several clients with a server, for property tests. There are few paths, tokens, transactions
 * and domains, so that clients interfere with one another.
 */
import fc from 'fast-check';
import * as op from '../../src/xen/xs-wire.js';
import { bytesFromOctets } from '../../src/xenstore/core/octets.js';
import type { Connection } from '../../src/xenstore/server/connection.js';
import type { XenstoreServer } from '../../src/xenstore/server/server.js';
import { encodeMessage } from '../../src/xenstore/wire/message.js';

/** Client 0 is the toolstack's socket; 1 and 2 are the rings of domains 1 and 2. */
export const CLIENTS = 3;

const names = ['a', 'b', 'c', 'dd'];
export const path = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .array(fc.constantFrom(...names), { minLength: 1, maxLength: 3 })
      .map((p) => `/${p.join('/')}`),
  },
  {
    weight: 4,
    arbitrary: fc.array(fc.constantFrom(...names), { minLength: 1, maxLength: 3 }).map((p) => p.join('/')),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(fc.constantFrom(0, 1, 2), fc.constantFrom('', '/a', '/a/b', '/c'))
      .map(([d, rest]) => `/local/domain/${d}${rest}`),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '/',
      '@introduceDomain',
      '@releaseDomain',
      '@releaseDomain/1',
      '',
      '//',
      '/a/',
      '/a//b',
      '/ä',
    ),
  },
);
const value = fc.oneof(
  fc.constantFrom('', '1', 'two', '\0', 'x\0y\xff'),
  fc.nat(400).map((n) => 'v'.repeat(n)),
);
const permissions = fc.array(
  fc.tuple(fc.constantFrom('n', 'r', 'w', 'b'), fc.constantFrom(0, 1, 2, 3)).map(([l, d]) => `${l}${d}`),
  { minLength: 0, maxLength: 3 },
);
const token = fc.constantFrom('t', 'u', 'v w', '');
const domid = fc.constantFrom('0', '1', '2', '3', '32752');
const strings = (...parts: string[]): string => parts.map((p) => `${p}\0`).join('');

/** Type and payload of one request. */
export const request: fc.Arbitrary<readonly [number, string]> = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(path, value).map(([p, v]) => [op.XS_WRITE, `${p}\0${v}`] as const) },
  { weight: 5, arbitrary: path.map((p) => [op.XS_READ, strings(p)] as const) },
  { weight: 3, arbitrary: path.map((p) => [op.XS_DIRECTORY, strings(p)] as const) },
  { weight: 2, arbitrary: path.map((p) => [op.XS_MKDIR, strings(p)] as const) },
  { weight: 3, arbitrary: path.map((p) => [op.XS_RM, strings(p)] as const) },
  { weight: 2, arbitrary: path.map((p) => [op.XS_GET_PERMS, strings(p)] as const) },
  {
    weight: 4,
    arbitrary: fc.tuple(path, permissions).map(([p, l]) => [op.XS_SET_PERMS, strings(p, ...l)] as const),
  },
  { weight: 4, arbitrary: fc.tuple(path, token).map(([p, t]) => [op.XS_WATCH, strings(p, t)] as const) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(path, token, fc.constantFrom('0', '1', '2', '-1'))
      .map((a) => [op.XS_WATCH, strings(...a)] as const),
  },
  { weight: 1, arbitrary: fc.tuple(path, token).map(([p, t]) => [op.XS_UNWATCH, strings(p, t)] as const) },
  { weight: 4, arbitrary: fc.constant([op.XS_TRANSACTION_START, '\0'] as const) },
  {
    weight: 3,
    arbitrary: fc.constantFrom('T', 'T', 'F', 'X').map((e) => [op.XS_TRANSACTION_END, strings(e)] as const),
  },
  { weight: 1, arbitrary: fc.constant([op.XS_RESET_WATCHES, '\0'] as const) },
  {
    weight: 1,
    arbitrary: fc
      .tuple(path, fc.constantFrom('0', '2', '9'))
      .map(([p, o]) => [op.XS_DIRECTORY_PART, strings(p, o)] as const),
  },
  { weight: 1, arbitrary: domid.map((d) => [op.XS_INTRODUCE, strings(d, '5', '7')] as const) },
  {
    weight: 1,
    arbitrary: fc.constantFrom('0', '2', '2', '3').map((d) => [op.XS_RELEASE, strings(d)] as const),
  },
  { weight: 1, arbitrary: domid.map((d) => [op.XS_GET_DOMAIN_PATH, strings(d)] as const) },
  { weight: 1, arbitrary: domid.map((d) => [op.XS_IS_DOMAIN_INTRODUCED, strings(d)] as const) },
  {
    weight: 1,
    arbitrary: fc.tuple(domid, domid).map(([d, t]) => [op.XS_SET_TARGET, strings(d, t)] as const),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(
        fc.constantFrom('nodes', 'watches', 'transactions', 'transaction-nodes', 'node-size', 'outstanding'),
        fc.constantFrom('2', '5', '30', '0'),
      )
      .map((q) => [op.XS_SET_QUOTA, strings(...q)] as const),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom('quota', 'help', 'check').map((c) => [op.XS_CONTROL, strings(c)] as const),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom('1', '2').map((d) => [op.XS_CONTROL, strings('quota', d)] as const),
  },
  { weight: 1, arbitrary: fc.tuple(fc.nat(40), value) },
);

/** One request of a client; `transaction` is an id that may or may not be open. */
export interface Say {
  readonly client: number;
  readonly transaction: number;
  readonly request: readonly [number, string];
}

const anything: fc.Arbitrary<Say> = fc.record({
  client: fc.nat(CLIENTS - 1),
  transaction: fc.constantFrom(0, 0, 0, 1, 1, 2, 3),
  request,
});
const start: fc.Arbitrary<Say> = fc.record({
  client: fc.nat(CLIENTS - 1),
  transaction: fc.constant(0),
  request: fc.constant([op.XS_TRANSACTION_START, '\0'] as const),
});
/** Requests for which transactions are meant, on nodes that all clients may use. */
const inside: fc.Arbitrary<Say> = fc.record({
  client: fc.nat(CLIENTS - 1),
  transaction: fc.constantFrom(0, 1, 1, 2, 3),
  request: fc
    .tuple(
      fc.constantFrom(op.XS_WRITE, op.XS_WRITE, op.XS_RM, op.XS_READ, op.XS_DIRECTORY),
      fc.constantFrom('/a', '/a/b', '/a/c', '/a/c/d', '/a/b/a', 'x', 'x/y'),
      fc.constantFrom('', '1', '2'),
    )
    .map(([type, p, v]) => [type, type === op.XS_WRITE ? `${p}\0${v}` : strings(p)] as const),
});

export const say: fc.Arbitrary<Say> = fc.oneof(
  { weight: 5, arbitrary: anything },
  { weight: 1, arbitrary: start },
  { weight: 4, arbitrary: inside },
);

export const bytesOf = (s: Say, reqId: number): Uint8Array =>
  encodeMessage({ type: s.request[0], reqId, txId: s.transaction, body: s.request[1] });

/** The three clients of a new server, with some nodes that they share. */
export function newClients(server: XenstoreServer): Connection[] {
  const dom0 = server.local();
  const clients = [server.connect('socket', 0), server.introduce(1), server.introduce(2)];
  for (const d of [1, 2]) {
    dom0.mkdir(`/local/domain/${d}`);
    dom0.setPermissions(`/local/domain/${d}`, [`n${d}`, 'r0']);
  }
  dom0.write('/a/b', 'shared');
  dom0.setPermissions('/a', ['n0', 'b1', 'r2']);
  dom0.setPermissions('/a/b', ['r0', 'w1']);
  dom0.close();
  return clients;
}

export const octets = bytesFromOctets;
