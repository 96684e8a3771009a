import {
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { LocalView } from '../server/local.js';
import { XenstoreServer } from '../server/server.js';
import { Journal } from './journal.js';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'xenstore-journal-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

const dump = (view: LocalView, at = '/'): string =>
  `${at}=${view.read(at)}(${view.getPermissions(at)})[${view
    .list(at)
    .map((name) => dump(view, at === '/' ? `/${name}` : `${at}/${name}`))
    .join()}]`;

/** The tree that a server would find if it started with a copy of the files as they are now. */
function reread(crash: (copy: string) => void = () => {}): string {
  const copy = mkdtempSync(join(tmpdir(), 'xenstore-copy-'));
  try {
    cpSync(dir, copy, { recursive: true });
    crash(copy);
    const server = new XenstoreServer();
    new Journal(server, join(copy, 'state')).close();
    return dump(server.local());
  } finally {
    rmSync(copy, { recursive: true });
  }
}

/** Every kind of change, in steps that are committed one by one. */
function* story(server: XenstoreServer): Generator<void> {
  const dom0 = server.local();
  for (let i = 0; i < 30; i++) {
    dom0.write(`/a/${i % 7}/${i}`, 'v'.repeat(i * 10));
    yield;
    dom0.write(`/a/${i % 5}`, String(i));
    dom0.setPermissions(`/a/${i % 5}`, ['n0', `r${(i % 3) + 4}`]);
    yield;
    dom0.transact((t) => {
      t.write('/pair/one', String(i));
      t.remove('/pair/one');
      t.write('/pair/one', String(i));
      t.write('/pair/two', String(i));
      if (i % 4 === 0) t.remove('/a');
      t.write(`/b/${i}/x/y`, '');
    });
    yield;
    if (i % 6 === 0) dom0.remove('/b/0/x');
    if (i % 10 === 5) {
      server.introduce(4);
      server.release(4);
    }
    yield;
  }
}

describe('the journal', () => {
  test('restores what was committed, after every commit and through every fold', () => {
    const server = new XenstoreServer();
    const journal = new Journal(server, join(dir, 'state'), 3000);
    for (const _ of story(server)) {
      journal.commit();
      expect(reread()).toBe(dump(server.local()));
    }
    expect(readdirSync(dir).length).toBe(2);
    journal.close();
    expect(reread()).toBe(dump(server.local()));
  });

  test('restores the tree of some commit when it is cut at any byte, as by a kill during a write', () => {
    const server = new XenstoreServer();
    const journal = new Journal(server, join(dir, 'state'), 1 << 20);
    const trees = [dump(server.local())];
    for (const _ of story(server)) {
      if (server.store.accounts.byDomid.has(4) && trees.length > 24) break;
      journal.commit();
      trees.push(dump(server.local()));
    }
    const name = readdirSync(dir).find((f) => f.includes('.journal.'))!;
    const size = statSync(join(dir, name)).size;
    let reached = 0;
    for (let cut = 0; cut <= size; cut += 13) {
      const found = trees.indexOf(reread((copy) => truncateSync(join(copy, name), cut)));
      expect(found).toBeGreaterThanOrEqual(reached);
      reached = found;
    }
    expect(trees.indexOf(reread())).toBe(trees.length - 1);
  });

  test('stops before a damaged byte', () => {
    const server = new XenstoreServer();
    const journal = new Journal(server, join(dir, 'state'));
    const dom0 = server.local();
    dom0.write('/first', '1');
    journal.commit();
    const whole = dump(dom0);
    dom0.write('/second', '2');
    journal.commit();
    const damaged = reread((copy) => {
      const file = join(copy, readdirSync(copy).find((f) => f.includes('.journal.'))!);
      const bytes = readFileSync(file);
      bytes[bytes.length - 1] ^= 1;
      writeFileSync(file, bytes);
    });
    expect(damaged).toBe(whole);
  });

  test('has the old pair of files after a crash between a new snapshot and its rename', () => {
    const server = new XenstoreServer();
    const journal = new Journal(server, join(dir, 'state'));
    server.local().write('/x', '1');
    journal.commit();
    const tree = reread((copy) => {
      writeFileSync(join(copy, 'state.new'), 'half a snap');
      writeFileSync(join(copy, 'state.journal.99'), '');
    });
    expect(tree).toBe(dump(server.local()));
  });

  test('keeps limits, domains and the rights that permissions give', () => {
    const server = new XenstoreServer();
    const journal = new Journal(server, join(dir, 'state'));
    const dom0 = server.local();
    const tools = server.connect('socket', 0);
    server.handle(tools, { type: 26, reqId: 1, txId: 0, body: 'watches\x0033\0' });
    server.introduce(4);
    dom0.write('/x', '');
    dom0.setPermissions('/x', ['n0', 'r4']);
    dom0.write('/y', '');
    dom0.setPermissions('/y', ['n0', 'r5']);
    journal.commit();
    server.release(4);
    journal.commit();
    const next = new XenstoreServer();
    const again = new Journal(next, join(dir, 'state'));
    expect(next.store.accounts.quotas.watches).toBe(33);
    expect(next.local(4).exists('/x')).toBe(false);
    expect(next.local(5).exists('/y')).toBe(true);
    again.close();
  });
});
