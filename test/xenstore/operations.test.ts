import { describe, expect, test } from 'vitest';
import * as op from '../../src/xen/xs-wire.js';
import type { Connection } from '../../src/xenstore/server/connection.js';
import type { ServerOptions } from '../../src/xenstore/server/hub.js';
import { XenstoreServer } from '../../src/xenstore/server/server.js';
import { encodeMessage } from '../../src/xenstore/wire/message.js';
import { GuestRing } from './guest-ring.js';

function world(options?: ServerOptions) {
  const server = new XenstoreServer(options);
  const dom0 = server.local();
  const toolstack = server.connect('socket', 0);
  const guest = server.introduce(1);
  server.introduce(2);
  for (const d of [1, 2]) {
    dom0.write(`/local/domain/${d}/x`, String(d));
    for (const at of ['', '/x']) dom0.setPermissions(`/local/domain/${d}${at}`, [`n${d}`]);
  }
  /** Returns the answer to one request; an error by its name. */
  const ask = (c: Connection, type: number, ...args: string[]): string => {
    c.output.clear();
    server.handle(c, { type, reqId: 1, txId: 0, body: args.map((a) => `${a}\0`).join('') });
    const answers = c.output.waiting().messages.filter((m) => m.type !== op.XS_WATCH_EVENT);
    expect(answers.length).toBe(1);
    c.output.clear();
    return answers[0].body.replace(/\0$/, '');
  };
  return { server, dom0, toolstack, guest, ask };
}

describe('the requests about features', () => {
  test('show a domain its own, and the toolstack those of any domain', () => {
    const { toolstack, guest, ask } = world();
    expect(ask(guest, op.XS_GET_FEATURE)).toBe('7');
    expect(ask(toolstack, op.XS_GET_FEATURE, '2')).toBe('7');
    expect(ask(guest, op.XS_GET_FEATURE, '2')).toBe('EACCES');
    expect(ask(toolstack, op.XS_GET_FEATURE, '32752')).toBe('EINVAL');
  });

  test('limit a domain that is yet to come, which then sees only these', () => {
    const { server, toolstack, guest, ask } = world();
    expect(ask(guest, op.XS_SET_FEATURE, '5', '3')).toBe('EACCES');
    expect(ask(toolstack, op.XS_SET_FEATURE, '1', '3')).toBe('EBUSY');
    expect(ask(toolstack, op.XS_SET_FEATURE, '5', '8')).toBe('EINVAL');
    expect(ask(toolstack, op.XS_SET_FEATURE, '5')).toBe('EINVAL');
    expect(ask(toolstack, op.XS_SET_FEATURE, '5', '3')).toBe('OK');
    const late = server.introduce(5);
    expect(ask(late, op.XS_GET_FEATURE)).toBe('3');
    expect(new GuestRing(server, late).get(op.XenstoreDomainInterface.server_features)).toBe(3);
    // Without WATCHDEPTH a third argument of WATCH is one too many.
    expect(ask(late, op.XS_WATCH, 'x', 't', '1')).toBe('EINVAL');
    expect(ask(guest, op.XS_WATCH, 'x', 't', '1')).toBe('OK');
  });
});

describe('the requests about quotas', () => {
  test('are for the toolstack only: names, global values, values of a domain', () => {
    const { toolstack, guest, ask } = world();
    expect(ask(guest, op.XS_GET_QUOTA)).toBe('EACCES');
    expect(ask(guest, op.XS_SET_QUOTA, 'nodes', '1')).toBe('EACCES');
    const names = ask(toolstack, op.XS_GET_QUOTA).split(' ');
    expect(names).toContain('nodes');
    for (const name of names) expect(Number(ask(toolstack, op.XS_GET_QUOTA, name))).toBeGreaterThan(0);
    expect(ask(toolstack, op.XS_SET_QUOTA, '1', 'watches', '1')).toBe('OK');
    expect(ask(toolstack, op.XS_GET_QUOTA, '1', 'watches')).toBe('1');
    expect(ask(toolstack, op.XS_GET_QUOTA, '2', 'watches')).toBe('128');
    expect(ask(toolstack, op.XS_SET_QUOTA, 'watches', '-1')).toBe('EINVAL');
    expect(ask(toolstack, op.XS_SET_QUOTA, 'nonsense', '1')).toBe('EINVAL');
    expect(ask(toolstack, op.XS_GET_QUOTA, 'nonsense')).toBe('EINVAL');
  });

  /**
   * Sets a limit to a small value and repeats a request until it is refused. Returns how many were accepted, and the
   * error.
   */
  const reached = (quota: string, value: number, request: (i: number) => [number, ...string[]]) => {
    const { toolstack, guest, ask } = world();
    ask(toolstack, op.XS_SET_QUOTA, '1', quota, String(value));
    for (let i = 0; i < 100; i++) {
      const [type, ...args] = request(i);
      const answer = ask(guest, type, ...args);
      if (/^E[A-Z0-9]+$/.test(answer)) return [i, answer];
    }
    return [100, ''];
  };

  test('stop a domain at its number of nodes, watches, transactions and permissions, and at sizes and path lengths', () => {
    expect(reached('nodes', 10, (i) => [op.XS_MKDIR, `d${i}`])).toEqual([8, 'ENOSPC']);
    expect(reached('watches', 5, (i) => [op.XS_WATCH, 'x', `t${i}`])).toEqual([6, 'E2BIG']);
    expect(reached('transactions', 3, () => [op.XS_TRANSACTION_START, ''])).toEqual([4, 'ENOSPC']);
    const many = (i: number): string[] => ['n1', ...Array.from({ length: i }, () => 'r2')];
    expect(reached('permissions', 3, (i) => [op.XS_SET_PERMS, 'x', ...many(i)])).toEqual([3, 'ENOSPC']);
    expect(reached('node-size', 60, (i) => [op.XS_WRITE, 'y', 'v'.repeat(i)])[1]).toBe('ENOSPC');
    expect(reached('path-max', 5, (i) => [op.XS_READ, 'p'.repeat(i + 1)]).slice(1)).toEqual(['ENOENT']);
    const { toolstack, guest, ask } = world();
    ask(toolstack, op.XS_SET_QUOTA, '1', 'path-max', '30');
    expect([ask(guest, op.XS_MKDIR, 'p'.repeat(30)), ask(guest, op.XS_MKDIR, 'p'.repeat(31))]).toEqual([
      'OK',
      'EINVAL',
    ]);
  });

  test('on memory stops a domain that fills its nodes', () => {
    const value = 'v'.repeat(1000);
    expect(reached('memory', 20_000, (i) => [op.XS_WRITE, `n${i}`, value])[1]).toBe('ENOMEM');
  });

  test('on the nodes that a transaction reads make it fail, and nothing of it is applied', () => {
    const { server, toolstack, guest, ask, dom0 } = world();
    ask(toolstack, op.XS_SET_QUOTA, '1', 'transaction-nodes', '4');
    const txId = Number(ask(guest, op.XS_TRANSACTION_START, ''));
    const inside = (type: number, body: string): string => {
      guest.output.clear();
      server.handle(guest, { type, reqId: 1, txId, body });
      return guest.output.waiting().messages[0].body;
    };
    const answers = Array.from({ length: 6 }, (_, i) => inside(op.XS_WRITE, `t${i}\0`));
    expect(answers).toContain('ENOSPC\0');
    expect(inside(op.XS_TRANSACTION_END, 'T\0')).toBe('ENOMEM\0');
    expect(dom0.list('/local/domain/1')).toEqual(['x']);
  });
});

describe('SET_TARGET', () => {
  test('gives a domain the rights of another, until that one is released; no domain may request it itself', () => {
    const { server, toolstack, guest, ask } = world();
    const other = '/local/domain/2/x';
    expect(ask(guest, op.XS_READ, other)).toBe('EACCES');
    expect(ask(guest, op.XS_SET_TARGET, '1', '2')).toBe('EACCES');
    expect(ask(toolstack, op.XS_SET_TARGET, '1', '2')).toBe('OK');
    expect(ask(guest, op.XS_READ, other)).toBe('2');
    expect(ask(server.domain(2)!, op.XS_READ, '/local/domain/1/x')).toBe('EACCES');
    expect(ask(toolstack, op.XS_RELEASE, '2')).toBe('OK');
    server.introduce(2);
    server.local().write(other, 'new');
    server.local().setPermissions(other, ['n2']);
    expect(ask(guest, op.XS_READ, other)).toBe('EACCES');
  });
});

describe('INTRODUCE and RELEASE', () => {
  test('are reported to those who watch the special names, with a depth including the domain', () => {
    const { server, toolstack, ask } = world();
    const watcher = server.connect('socket', 0);
    const watches = [
      ['@introduceDomain', 'any'],
      ['@introduceDomain', 'which', '1'],
      ['@releaseDomain', 'any'],
      ['@releaseDomain', 'which', '1'],
      ['@releaseDomain/9', 'nine'],
    ];
    for (const args of watches) expect(ask(watcher, op.XS_WATCH, ...args)).toBe('OK');
    watcher.output.clear();
    ask(toolstack, op.XS_INTRODUCE, '9', '5', '7');
    ask(toolstack, op.XS_RELEASE, '9');
    const told = watcher.output.waiting().messages.map((m) => m.body.split('\0').slice(0, 2).join(' '));
    expect(told.sort()).toEqual([
      '@introduceDomain any',
      '@introduceDomain/9 which',
      '@releaseDomain any',
      '@releaseDomain/9 nine',
      '@releaseDomain/9 which',
    ]);
  });

  test('make the host attach the ring, and undo the introduction if it cannot', () => {
    const rings: number[][] = [];
    const { server, toolstack, ask } = world({
      onIntroduce(connection, mfn, port) {
        rings.push([connection.actor.domid, mfn, port]);
        return mfn === 0 ? 22 : 0;
      },
    });
    expect(ask(toolstack, op.XS_INTRODUCE, '9', '1234', '7')).toBe('OK');
    expect(ask(toolstack, op.XS_INTRODUCE, '10', '0', '8')).toBe('EINVAL');
    expect(rings).toEqual([
      [9, 1234, 7],
      [10, 0, 8],
    ]);
    expect([server.isIntroduced(9), server.isIntroduced(10)]).toEqual([true, false]);
    expect(ask(toolstack, op.XS_IS_DOMAIN_INTRODUCED, '9')).toBe('T');
    expect(ask(toolstack, op.XS_RESUME, '9')).toBe('OK');
    expect(ask(toolstack, op.XS_RESUME, '10')).toBe('ENOENT');
  });
});

describe('RESET_WATCHES', () => {
  test('drops a domain’s watches and open transactions, and those of nobody else', () => {
    const { dom0, server, toolstack, guest, ask } = world();
    ask(guest, op.XS_WATCH, 'x', 't');
    ask(toolstack, op.XS_WATCH, '/local/domain/1/x', 't');
    ask(guest, op.XS_TRANSACTION_START, '');
    expect(ask(guest, op.XS_RESET_WATCHES, '')).toBe('OK');
    expect([guest.watches.length, guest.transactions.size, toolstack.watches.length]).toEqual([0, 0, 1]);
    expect(server.store.account(1)).toMatchObject({ watches: 0, transactions: 0 });
    guest.output.clear();
    toolstack.output.clear();
    dom0.write('/local/domain/1/x', 'changed');
    expect([guest.output.length, toolstack.output.length]).toEqual([0, 1]);
  });
});

describe('the protocol’s limits', () => {
  test('on paths: 3072 characters absolute, 2048 relative, only certain characters, no empty part', () => {
    const { toolstack, ask } = world();
    const part = `/${'a'.repeat(255)}`;
    const longest = part.repeat(12);
    expect(longest.length).toBe(op.XENSTORE_ABS_PATH_MAX);
    expect(ask(toolstack, op.XS_MKDIR, longest)).toBe('OK');
    expect(ask(toolstack, op.XS_MKDIR, `${longest}a`)).toBe('EINVAL');
    expect(ask(toolstack, op.XS_MKDIR, 'r'.repeat(2048))).toBe('OK');
    expect(ask(toolstack, op.XS_MKDIR, 'r'.repeat(2049))).toBe('EINVAL');
    for (const bad of ['', '/a//b', '/a/', '/a b', '/ä', '/a.b', '//'])
      expect([bad, ask(toolstack, op.XS_MKDIR, bad)]).toEqual([bad, 'EINVAL']);
    expect(ask(toolstack, op.XS_MKDIR, '/A-z_0@9')).toBe('OK');
  });

  test('on answers: a list of children above 4096 bytes is E2BIG, and can be read in parts', () => {
    const { dom0, toolstack, ask, server } = world();
    const names = Array.from({ length: 700 }, (_, i) => `child-${i}`);
    for (const name of names) dom0.mkdir(`/many/${name}`);
    expect(ask(toolstack, op.XS_DIRECTORY, '/many')).toBe('E2BIG');
    let list = '';
    for (let parts = 0; !list.endsWith('\0\0'); parts++) {
      expect(parts).toBeLessThan(5);
      server.handle(toolstack, {
        type: op.XS_DIRECTORY_PART,
        reqId: 1,
        txId: 0,
        body: `/many\0${list.length}\0`,
      });
      const { body } = toolstack.output.waiting().messages[0];
      expect(body.length).toBeLessThanOrEqual(op.XENSTORE_PAYLOAD_MAX);
      toolstack.output.clear();
      list += body.slice(body.indexOf('\0') + 1);
    }
    expect(list.split('\0').slice(0, -2)).toEqual(names);
  });
});

describe("a limit on the rate of a domain's writes", () => {
  test('stops a domain that has used up its burst, loses nothing, and lets it continue in time; others are not affected', () => {
    let now = 0;
    const due: { at: number; action: () => void }[] = [];
    const { server, dom0 } = world({
      writeRate: {
        now: () => now,
        after: (ms, action) => void due.push({ at: now + ms, action }),
      },
    });
    const ring = new GuestRing(server, server.domain(1)!);
    const other = new GuestRing(server, server.domain(2)!);
    let sent = 0;
    let answered = 0;
    const run = (): void => {
      // 30 of them are on the ring together.
      for (let i = 0; i < 30; i++) {
        const body = `x\0${String(++sent).padStart(7, '0')}`;
        ring.put(encodeMessage({ type: op.XS_WRITE, reqId: sent, txId: 0, body }));
        ring.ring.pump();
        answered += ring.hear().messages.length;
      }
    };
    run();
    expect(answered).toBe(11);
    expect(dom0.read('/local/domain/1/x')).toBe('0000011');
    for (let i = 0; i < 5; i++) expect(other.ask(op.XS_READ, 'x\0')[0].body).toBe('2');
    // One second later it has made 200 more changes, plus or minus the burst.
    while (now < 1000) {
      now++;
      for (const timer of due.splice(0)) {
        if (timer.at > now) due.push(timer);
        else timer.action();
      }
      answered += ring.hear().messages.length;
      if (sent === answered) run();
    }
    expect(answered).toBeGreaterThan(190);
    expect(answered).toBeLessThan(225);
    for (let i = 0; i < 1000; i++) dom0.write('/free', String(i));
  });
});
