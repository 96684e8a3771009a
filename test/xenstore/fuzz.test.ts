import { describe, expect, test } from 'vitest';
import { RecordError } from '../../src/records/fields.js';
import { LinearMemory } from '../../src/xen/memory.js';
import {
  XenstoreDomainInterface as Page,
  XENSTORE_RECONNECT,
  XS_CONTROL,
  XS_READ,
  XS_SET_QUOTA,
  XS_WRITE,
} from '../../src/xen/xs-wire.js';
import type { Connection } from '../../src/xenstore/server/connection.js';
import { XenstoreServer } from '../../src/xenstore/server/server.js';
import { restoreState } from '../../src/xenstore/state/restore.js';
import { saveState } from '../../src/xenstore/state/save.js';
import { GuestRing } from './guest-ring.js';

/** xorshift32, which is fast enough for one million messages. */
class Random {
  constructor(private state: number) {}
  next(): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x;
    return x >>> 0;
  }
  below(n: number): number {
    return this.next() % n;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.next() % list.length];
  }
}

const PATHS = [
  '/',
  '/a',
  '/a/b',
  '/a/b/c',
  'x',
  'x/y',
  'data',
  '/local/domain/1/x',
  '@releaseDomain',
  '/secret',
  '',
];
const WORDS = [
  't',
  'n0',
  'n1',
  'r2',
  'b1',
  '0',
  '1',
  '2',
  'T',
  'F',
  'quota',
  'help',
  'nodes',
  '-1',
  '65536',
  '99999999999',
];

/** A message that is often nearly valid: type, transaction and payload are each valid, unusual or noise. */
function body(r: Random): string {
  const kind = r.below(16);
  let text = kind < 12 ? `${r.pick(PATHS)}\0` : '';
  for (let n = r.below(4); n > 0; n--) text += r.pick(WORDS) + (r.below(8) === 0 ? '' : '\0');
  if (kind === 15) for (let n = r.below(40); n > 0; n--) text += String.fromCharCode(r.below(256));
  if (kind === 14) text += 'p'.repeat(r.below(4096));
  return text.slice(0, 4096);
}

function message(r: Random, out: Uint8Array): number {
  const text = body(r);
  const view = new DataView(out.buffer);
  view.setUint32(0, r.below(64) === 0 ? r.next() : r.below(28), true);
  view.setUint32(4, r.next(), true);
  view.setUint32(8, r.below(3) === 0 ? r.below(6) : r.below(40) === 0 ? r.next() : 0, true);
  view.setUint32(12, text.length, true);
  for (let i = 0; i < text.length; i++) out[16 + i] = text.charCodeAt(i);
  return 16 + text.length;
}

/** Checks that the server is bounded: what its domains hold is within their limits and counted correctly. */
function sound(server: XenstoreServer): void {
  const { accounts, tree } = server.store;
  for (const account of accounts.byDomid.values()) {
    const { nodes, memory } = account;
    if (account.domid !== 0) {
      expect(nodes).toBeLessThanOrEqual(accounts.limit(account.domid, 'nodes'));
      expect(account.watches).toBeLessThanOrEqual(accounts.limit(account.domid, 'watches') + 1);
      expect(account.transactions).toBeLessThanOrEqual(accounts.limit(account.domid, 'transactions') + 1);
      expect(memory).toBeLessThan(20_000_000);
    }
    accounts.recount(tree);
    expect([account.domid, account.nodes, account.memory]).toEqual([account.domid, nodes, memory]);
  }
  for (const c of server.connections) expect(c.output.bytes).toBeLessThanOrEqual(16 << 20);
}

/** Checks that a well-behaved client is not affected. */
function healthy(guest: GuestRing, round: number): void {
  const told = guest.ask(XS_WRITE, `health\0${round}`).concat(guest.ask(XS_READ, 'health\0'));
  expect(told.filter((m) => m.type === XS_READ).map((m) => m.body)).toEqual([String(round)]);
}

function world() {
  const server = new XenstoreServer();
  const dom0 = server.local();
  for (const d of [1, 2, 3]) {
    dom0.mkdir(`/local/domain/${d}`);
    dom0.setPermissions(`/local/domain/${d}`, [`n${d}`, 'r0']);
  }
  dom0.write('/a/b', '');
  dom0.setPermissions('/a', ['n0', 'b1', 'b2']);
  const guest = new GuestRing(server, server.introduce(3));
  return { server, dom0, guest };
}

describe('random and mutated bytes', () => {
  test('600 000 messages to sockets and domains neither crash, hang nor fill the server; others continue', () => {
    const r = new Random(0x51155);
    const { server, guest } = world();
    const clients: Connection[] = [];
    const connect = (i: number): Connection =>
      i === 0 ? server.connect('socket', 0) : (server.domain(i) ?? server.introduce(i));
    const bytes = new Uint8Array(16 + 4096);
    let cut = 0;
    for (let n = 0; n < 600_000; n++) {
      // The toolstack's socket is used rarely, because it may release the others.
      const i = r.below(32) === 0 ? 0 : 1 + r.below(2);
      let c = clients[i];
      if (c === undefined || c.state !== 'open') {
        cut++;
        if (c !== undefined && i > 0 && server.domain(i) === c) server.introduce(i);
        c = connect(i);
        clients[i] = c;
      }
      const length = message(r, bytes);
      // The toolstack may change limits; here they stay, so that they can be checked.
      if (i === 0 && (bytes[0] === XS_SET_QUOTA || bytes[0] === XS_CONTROL)) bytes[0] = XS_READ;
      // Sometimes a byte is changed, a piece is lost, or the length is wrong.
      if (r.below(8) === 0) bytes[i === 0 ? 4 + r.below(length - 4) : r.below(length)] = r.next();
      const sent = r.below(50) === 0 ? r.below(length) : length;
      if (sent > 0) {
        const split = r.below(sent);
        server.receive(c, bytes, server.receive(c, bytes, 0, split) === split ? split : sent, sent);
      }
      server.settle();
      if (r.below(4) !== 0) c.output.clear();
      if (n % 20_000 === 0) {
        sound(server);
        // The toolstack may release domain 3.
        if (server.domain(3) === guest.connection) healthy(guest, n);
      }
    }
    sound(server);
    expect(cut).toBeGreaterThan(100);
  }, 120_000);

  test('400 000 states of a ring neither crash nor hang the server; another ring continues', () => {
    const r = new Random(0xc0ffee);
    const { server, guest } = world();
    const hostile = new GuestRing(server, server.introduce(1));
    const bytes = new Uint8Array(16 + 4096);
    const fields = [
      Page.req_cons,
      Page.req_prod,
      Page.rsp_cons,
      Page.rsp_prod,
      Page.connection,
      Page.error,
      Page.server_features,
    ];
    let failed = 0;
    for (let n = 0; n < 400_000; n++) {
      const kind = r.below(8);
      if (kind < 5) hostile.put(bytes.subarray(0, message(r, bytes)));
      else if (kind === 5)
        hostile.set(
          r.pick(fields),
          r.below(3) === 0 ? r.next() : hostile.get(r.pick(fields)) + r.below(2000),
        );
      else if (kind === 6) hostile.mem.setU8(8192 + r.below(4096), r.next());
      hostile.ring.pump();
      if (r.below(2) === 0) hostile.take(r.below(1024));
      if (hostile.connection.state === 'failed') {
        failed++;
        for (const field of fields.slice(0, 4)) hostile.set(field, 0);
        hostile.set(Page.connection, XENSTORE_RECONNECT);
        hostile.ring.pump();
      }
      if (n % 20_000 === 0) {
        sound(server);
        healthy(guest, n);
      }
    }
    sound(server);
    expect(failed).toBeGreaterThan(1000);
  }, 120_000);

  test('5 000 mutated states are restored or refused as an invalid stream, and nothing else', () => {
    const r = new Random(0xbeef);
    const { server, dom0, guest } = world();
    guest.ask(XS_READ, '/a/b\0');
    for (const c of [server.connect('socket', 0), guest.connection]) {
      const bytes = new Uint8Array(16 + 4096);
      for (let n = 0; n < 300; n++) server.receive(c, bytes, 0, message(r, bytes));
    }
    dom0.begin();
    const good = saveState(server);
    let refused = 0;
    for (let n = 0; n < 5_000; n++) {
      const bytes = good.slice();
      for (let k = 1 + r.below(4); k > 0; k--)
        bytes[r.below(bytes.length)] = r.below(4) === 0 ? 255 : r.next();
      const cut = r.below(10) === 0 ? bytes.subarray(0, r.below(bytes.length)) : bytes;
      try {
        const next = new XenstoreServer();
        restoreState(next, cut);
        next.settle();
        saveState(next);
      } catch (error) {
        expect(error).toBeInstanceOf(RecordError);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(1000);
  }, 120_000);

  test("memory around a ring is never written outside the ring's page", () => {
    const r = new Random(0x7777);
    const { server } = world();
    const mem = new LinearMemory(new ArrayBuffer(4 * 4096));
    mem.u8.fill(0xa5, 0, 8192);
    mem.u8.fill(0xa5, 8192 + Page.sizeof);
    const ring = new GuestRing(server, server.introduce(1), mem);
    const bytes = new Uint8Array(16 + 4096);
    for (let n = 0; n < 20_000; n++) {
      ring.put(bytes.subarray(0, message(r, bytes)));
      if (r.below(3) === 0)
        ring.set(r.pick([Page.req_prod, Page.rsp_cons, Page.rsp_prod, Page.req_cons]), r.next());
      ring.set(Page.connection, r.below(5) === 0 ? 1 : 0);
      ring.ring.pump();
    }
    const outside = [...mem.u8.subarray(0, 8192), ...mem.u8.subarray(8192 + Page.sizeof)];
    expect(outside.every((b) => b === 0xa5)).toBe(true);
  });
});
