import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LinearMemory } from '../../src/xen/memory.js';
import {
  XenstoreDomainInterface as Page,
  XENSTORE_CONNECTED,
  XENSTORE_ERROR_NONE,
  XENSTORE_ERROR_PROTO,
  XENSTORE_ERROR_RINGIDX,
  XENSTORE_RECONNECT,
  XS_DIRECTORY,
  XS_ERROR,
  XS_READ,
  XS_TRANSACTION_START,
  XS_WATCH,
  XS_WATCH_EVENT,
  XS_WRITE,
} from '../../src/xen/xs-wire.js';
import { XenstoreServer } from '../../src/xenstore/server/server.js';
import { restoreState } from '../../src/xenstore/state/restore.js';
import { saveState } from '../../src/xenstore/state/save.js';
import { encodeMessage } from '../../src/xenstore/wire/message.js';
import { GuestRing } from './guest-ring.js';

function guest(domid = 1, server = new XenstoreServer()) {
  const dom0 = server.local();
  dom0.mkdir(`/local/domain/${domid}`);
  dom0.setPermissions(`/local/domain/${domid}`, [`n${domid}`, 'r0']);
  return { server, dom0, ring: new GuestRing(server, server.introduce(domid)) };
}

describe('a ring', () => {
  test('carries requests and answers of every size, also when it wraps, in pieces of any length', () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(1900), { minLength: 1, maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1 }),
        (sizes, pieces) => {
          const { ring } = guest();
          let piece = 0;
          const next = (): number => pieces[piece++ % pieces.length];
          sizes.forEach((size, i) => {
            const value = String.fromCharCode(97 + (i % 26)).repeat(size);
            const bytes = [
              ...encodeMessage({ type: XS_WRITE, reqId: i, txId: 0, body: `v\0${value}` }),
              ...encodeMessage({ type: XS_READ, reqId: i, txId: 0, body: 'v\0' }),
            ];
            let heard = '';
            while (bytes.length > 0) {
              bytes.splice(0, ring.put(Uint8Array.from(bytes.slice(0, next()))));
              ring.ring.pump();
              heard += Buffer.from(ring.take(next())).toString('latin1');
            }
            for (let part = ring.take(next()); part.length > 0; part = ring.take(next())) {
              heard += Buffer.from(part).toString('latin1');
              ring.ring.pump();
            }
            expect(heard.endsWith(value)).toBe(true);
            expect(heard.length).toBe(16 + 3 + 16 + size);
          });
        },
      ),
      { numRuns: 60 },
    );
  });

  test('works from any value of its free-running offsets', () => {
    for (const start of [0, 1, 1023, 0x7fffffff, 0xfffffff0, 0xffffffff]) {
      const { ring } = guest();
      for (const field of [Page.req_cons, Page.req_prod, Page.rsp_cons, Page.rsp_prod])
        ring.set(field, start);
      for (let i = 0; i < 100; i++)
        expect(ring.ask(XS_WRITE, `x\0${i}`).map((m) => m.type)).toEqual([XS_WRITE]);
      expect(ring.ask(XS_READ, 'x\0')[0].body).toBe('99');
    }
  });

  test('shows the features of its domain, and never removes one', () => {
    const { server, ring } = guest();
    expect(ring.get(Page.server_features)).toBe(7);
    server.store.account(2).features = 2;
    const other = guest(2, server);
    expect(other.ring.get(Page.server_features)).toBe(2);
  });

  test('whose answers are not taken is filled and no further, and requests are read only up to its limit', () => {
    const { ring, server } = guest();
    ring.ask(XS_WRITE, `v\0${'v'.repeat(500)}`);
    const asked = encodeMessage({ type: XS_READ, reqId: 1, txId: 0, body: 'v\0' });
    for (let i = 0; i < 200; i++) {
      ring.put(asked);
      ring.ring.pump();
    }
    expect((ring.get(Page.rsp_prod) - ring.get(Page.rsp_cons)) >>> 0).toBe(1024);
    expect(server.store.account(1).outstanding).toBe(20);
    expect(ring.connection.output.bytes).toBeLessThan(20 * 516);
    const before = ring.get(Page.req_cons);
    expect((ring.get(Page.req_prod) - before) >>> 0).toBeGreaterThan(900);
    expect(ring.hear().messages.every((m) => m.body.length === 500)).toBe(true);
    expect(ring.get(Page.req_cons)).toBe(ring.get(Page.req_prod));
    expect(server.store.account(1).outstanding).toBe(0);
  });

  test('with impossible offsets is stopped and shows the error; others continue, and a reconnection repairs it', () => {
    for (const field of [Page.req_prod, Page.rsp_prod]) {
      const { ring, server, dom0 } = guest();
      const other = guest(2, server);
      ring.ask(XS_WATCH, 'x\0t\0');
      ring.set(field, ring.get(field) + 1025);
      dom0.write('/local/domain/1/x', '1');
      ring.ring.pump();
      expect(ring.get(Page.error)).toBe(XENSTORE_ERROR_RINGIDX);
      expect(ring.connection.state).toBe('failed');
      expect(ring.connection.watches).toEqual([]);
      const frozen = ring.get(Page.req_cons);
      ring.ring.pump();
      expect(ring.get(Page.req_cons)).toBe(frozen);
      expect(other.ring.ask(XS_WRITE, 'x\x001')[0].type).toBe(XS_WRITE);

      ring.set(Page.connection, XENSTORE_RECONNECT);
      ring.ring.pump();
      expect(ring.get(Page.connection)).toBe(XENSTORE_CONNECTED);
      expect(ring.get(Page.error)).toBe(XENSTORE_ERROR_NONE);
      expect(ring.ask(XS_READ, 'x\0')[0].body).toBe('1');
    }
  });

  test('that announces a payload above the limit is stopped as a breach of the protocol', () => {
    const { ring } = guest();
    const header = new Uint8Array(16);
    new DataView(header.buffer).setUint32(12, 4097, true);
    ring.put(header);
    ring.ring.pump();
    expect(ring.get(Page.error)).toBe(XENSTORE_ERROR_PROTO);
  });

  test('that reconnects starts again: no half request, no unsent answer, no watch, no transaction', () => {
    const { ring, server } = guest();
    ring.ask(XS_TRANSACTION_START, '\0');
    ring.ask(XS_WATCH, 'x\0t\0');
    ring.put(encodeMessage({ type: XS_READ, reqId: 5, txId: 0, body: 'abc\0' }).subarray(0, 18));
    ring.ring.pump();
    const notified = ring.notified;
    ring.set(Page.connection, XENSTORE_RECONNECT);
    ring.ring.pump();
    expect(ring.get(Page.connection)).toBe(XENSTORE_CONNECTED);
    expect(ring.notified).toBeGreaterThan(notified);
    expect([ring.connection.watches.length, ring.connection.transactions.size]).toEqual([0, 0]);
    expect(server.store.account(1)).toMatchObject({ watches: 0, transactions: 0, outstanding: 0 });
    expect(ring.ask(XS_READ, 'none\0', 0, 9)).toEqual([
      { type: XS_ERROR, reqId: 9, txId: 0, body: 'ENOENT\0' },
    ]);
  });

  test('reports changes by others at once, each once as long as it is not taken', () => {
    const { ring, dom0 } = guest();
    ring.ask(XS_WATCH, 'x\0t\0');
    const before = ring.notified;
    dom0.write('/local/domain/1/x', '1');
    expect(ring.notified).toBe(before + 1);
    expect(ring.hear().messages.map((m) => [m.type, m.body])).toEqual([[XS_WATCH_EVENT, 'x\0t\0']]);
    ring.ask(XS_WRITE, `v\0${'v'.repeat(1000)}`);
    ring.put(encodeMessage({ type: XS_READ, reqId: 1, txId: 0, body: 'v\0' }));
    ring.put(encodeMessage({ type: XS_READ, reqId: 1, txId: 0, body: 'v\0' }));
    ring.ring.pump();
    for (let i = 0; i < 1000; i++) dom0.write('/local/domain/1/x', String(i));
    expect(ring.hear().messages.filter((m) => m.type === XS_WATCH_EVENT).length).toBe(1);
  });

  test('every byte of a request is read once from the shared page', () => {
    const server = new XenstoreServer();
    const mem = new LinearMemory(new ArrayBuffer(4 * 4096));
    const reads = new Map<number, number>();
    const count = (at: number): void => void reads.set(at, (reads.get(at) ?? 0) + 1);
    const counting = new Proxy(mem.u8, {
      get(target, key) {
        if (typeof key === 'string' && /^\d+$/.test(key)) {
          count(Number(key));
          return target[Number(key)];
        }
        if (key === 'subarray')
          return (from: number, to: number) => {
            for (let at = from; at < to; at++) count(at);
            return target.subarray(from, to);
          };
        return Reflect.get(target, key);
      },
    });
    const ring = new GuestRing(
      server,
      server.introduce(1),
      Object.assign(Object.create(mem), { u8: counting }),
    );
    const sent = [encodeMessage({ type: XS_DIRECTORY, reqId: 1, txId: 0, body: '/a/b\0' })];
    sent.push(encodeMessage({ type: XS_WRITE, reqId: 2, txId: 0, body: '/a/b\0value' }));
    for (const piece of [sent[0], sent[1].subarray(0, 7), sent[1].subarray(7, 20), sent[1].subarray(20)]) {
      ring.put(piece);
      ring.ring.pump();
    }
    expect(new Set(reads.values())).toEqual(new Set([1]));
    expect(reads.size).toBe(sent[0].length + sent[1].length);
  });

  test('saved in the middle of a message in both directions continues in another server, and the guest gets no signal', () => {
    const { server, ring, dom0 } = guest();
    dom0.write('/local/domain/1/long', 'x'.repeat(1500));
    const request = encodeMessage({ type: XS_READ, reqId: 77, txId: 0, body: 'long\0' });
    ring.put(request);
    ring.put(request.subarray(0, 19));
    ring.ring.pump();
    const stream = saveState(server);

    const next = new XenstoreServer();
    restoreState(next, stream);
    const there = new GuestRing(next, next.domain(1)!, ring.mem, false);
    expect(there.notified).toBe(0);
    const messages = there.hear().messages;
    there.put(request.subarray(19));
    there.ring.pump();
    messages.push(...there.hear().messages);
    expect(messages.map((m) => [m.type, m.reqId, m.body.length])).toEqual([
      [XS_READ, 77, 1500],
      [XS_READ, 77, 1500],
    ]);
  });
});
