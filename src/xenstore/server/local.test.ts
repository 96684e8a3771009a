import { describe, expect, test } from 'vitest';
import { XenstoreServer } from './server.js';

const fails = (code: string) => expect.objectContaining({ code });

describe('the client within the process', () => {
  test('a value that was written is read back, text and bytes', () => {
    const dom0 = new XenstoreServer().local();
    dom0.write('/a/b', 'grün');
    expect(dom0.read('/a/b')).toBe('grün');
    expect(dom0.readBytes('/a/b')).toEqual(new TextEncoder().encode('grün'));
    dom0.write('/a/raw', new Uint8Array([0, 255, 128]));
    expect(dom0.readBytes('/a/raw')).toEqual(new Uint8Array([0, 255, 128]));
    expect(dom0.read('/a')).toBe('');
    expect(dom0.list('/a')).toEqual(['b', 'raw']);
    expect(dom0.tryRead('/nothing')).toBeUndefined();
    expect(() => dom0.read('/nothing')).toThrow(fails('ENOENT'));
  });

  test('a domain reads and writes its own nodes by relative paths, and not those of others', () => {
    const server = new XenstoreServer();
    const dom0 = server.local();
    dom0.mkdir('/local/domain/5');
    dom0.setPermissions('/local/domain/5', ['n5', 'r0']);
    dom0.write('/secret', 'x');
    const guest = server.local(5);
    guest.write('data/x', '1');
    expect(dom0.read('/local/domain/5/data/x')).toBe('1');
    expect(dom0.getPermissions('/local/domain/5/data/x')).toEqual(['n5', 'r0']);
    expect(() => guest.read('/secret')).toThrow(fails('EACCES'));
    expect(() => guest.read('/missing')).toThrow(fails('EACCES'));
    expect(() => guest.write('/elsewhere', '1')).toThrow(fails('EACCES'));
  });

  test('a transaction becomes visible as a whole or not at all', () => {
    const server = new XenstoreServer();
    const dom0 = server.local();
    const t = dom0.begin();
    t.write('/a/b', '1');
    expect(dom0.exists('/a')).toBe(false);
    expect(t.commit()).toBe(true);
    expect(dom0.read('/a/b')).toBe('1');
    expect(() =>
      dom0.transact((v) => {
        v.write('/a/b', '2');
        throw new Error('changed my mind');
      }),
    ).toThrow('changed my mind');
    expect(dom0.read('/a/b')).toBe('1');
  });

  test('of two transactions that read and write the same node, the second fails', () => {
    const dom0 = new XenstoreServer().local();
    dom0.write('/n', '1');
    const [a, b] = [dom0.begin(), dom0.begin()];
    a.write('/n', String(Number(a.read('/n')) + 1));
    b.write('/n', String(Number(b.read('/n')) + 1));
    expect(a.commit()).toBe(true);
    expect(b.commit()).toBe(false);
    expect(dom0.read('/n')).toBe('2');
  });

  test('transactions on different parts of the tree both commit', () => {
    const dom0 = new XenstoreServer().local();
    dom0.write('/a/x', '');
    dom0.write('/b/x', '');
    const [a, b] = [dom0.begin(), dom0.begin()];
    a.write('/a/x', '1');
    a.write('/a/new', '1');
    b.write('/b/x', '2');
    b.remove('/b/x');
    b.write('/b/x/y', '3');
    expect([a.commit(), b.commit()]).toEqual([true, true]);
    expect([dom0.read('/a/x'), dom0.read('/a/new'), dom0.read('/b/x/y')]).toEqual(['1', '1', '3']);
  });

  test('a watch fires once at the start, then for changes at and below its path', () => {
    const dom0 = new XenstoreServer().local();
    const seen: string[] = [];
    const watch = dom0.watch('/a', (path) => seen.push(path));
    dom0.write('/a/b/c', '1');
    dom0.write('/ab', '1');
    dom0.remove('/a/b');
    dom0.transact((t) => {
      t.write('/a/1', '');
      t.write('/a/2', '');
      expect(seen.length).toBe(3);
    });
    watch.stop();
    dom0.write('/a/b', '2');
    expect(seen).toEqual(['/a', '/a/b/c', '/a/b', '/a/1', '/a/2']);
  });

  test('a watch with a relative path reports relative paths, and one with a depth goes no deeper', () => {
    const server = new XenstoreServer();
    server.local().mkdir('/local/domain/3');
    server.local().setPermissions('/local/domain/3', ['n3']);
    const guest = server.local(3);
    const seen: string[] = [];
    guest.watch('device', (path) => seen.push(path), 1);
    guest.write('device/vif', '');
    guest.write('device/vif/0', '');
    expect(seen).toEqual(['device', 'device/vif']);
  });

  test("a watch's callback may write, and events keep the order of the changes", () => {
    const dom0 = new XenstoreServer().local();
    const seen: string[] = [];
    dom0.watch('/a', (path) => {
      seen.push(path);
      if (path === '/a/1') dom0.write('/a/2', '');
    });
    dom0.write('/a/1', '');
    expect(seen).toEqual(['/a', '/a/1', '/a/2']);
  });

  test('introduction and release of domains are reported to those who watch for them', () => {
    const server = new XenstoreServer();
    const dom0 = server.local();
    const seen: string[] = [];
    dom0.watch('@introduceDomain', (path) => seen.push(path));
    dom0.watch('@releaseDomain', (path) => seen.push(path));
    dom0.watch('@releaseDomain/7', (path) => seen.push(path));
    seen.length = 0;
    server.introduce(7);
    server.settle();
    dom0.write('/local/domain/7/x', '1');
    dom0.setPermissions('/local/domain/7', ['n7']);
    server.release(7);
    server.settle();
    expect(seen).toEqual(['@introduceDomain', '@releaseDomain', '@releaseDomain/7']);
    expect(dom0.exists('/local/domain/7')).toBe(false);
  });

  test('a new domain does not inherit the permissions of an earlier one with its id', () => {
    const server = new XenstoreServer();
    const dom0 = server.local();
    server.introduce(4);
    dom0.write('/shared', 'x');
    dom0.setPermissions('/shared', ['n0', 'r4']);
    expect(server.local(4).read('/shared')).toBe('x');
    server.release(4);
    dom0.write('/other', '');
    server.introduce(4);
    expect(() => server.local(4).read('/shared')).toThrow(fails('EACCES'));
    dom0.write('/shared', 'y');
    expect(() => server.local(4).read('/shared')).toThrow(fails('EACCES'));
    expect(dom0.getPermissions('/shared')).toEqual(['n0', 'r4']);
    dom0.setPermissions('/shared', ['n0', 'r4']);
    expect(server.local(4).read('/shared')).toBe('y');
  });

  test('a removed node and its children are reported to those who watched exactly these', () => {
    const dom0 = new XenstoreServer().local();
    dom0.write('/a/b/c', '');
    const seen: string[] = [];
    for (const path of ['/a', '/a/b', '/a/b/c']) dom0.watch(path, (event) => seen.push(`${path}:${event}`));
    seen.length = 0;
    dom0.remove('/a/b');
    expect(seen).toEqual(['/a/b/c:/a/b/c', '/a:/a/b', '/a/b:/a/b']);
  });
});
