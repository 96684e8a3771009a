import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import koffi from 'koffi';
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest';
import { fetchDebian } from '../../scripts/lib/debian.js';
import { XenstoreClient } from '../../src/xenstore/client.js';
import type { XenstoreServer } from '../../src/xenstore/server/server.js';
import type { SocketServer } from '../../src/xenstore/socket/socket-server.js';
import type { restoreState } from '../../src/xenstore/state/restore.js';
import type { saveState } from '../../src/xenstore/state/save.js';
import { orSkipped } from '../support/debian.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const LIB = 'usr/lib/x86_64-linux-gnu';

/** Debian's own clients, unpacked; undefined where they are not available. */
const debian = await orSkipped(
  "xenstore's real clients",
  fetchDebian(['xenstore-utils', 'libxenstore4', 'libxentoolcore1']),
);

let dir: string;
let daemon: ChildProcess | undefined;

async function start(...more: string[]): Promise<void> {
  if (!existsSync(MAIN)) throw new Error('dist/ is not built: npm run build');
  const child = spawn(process.execPath, [MAIN, 'xenstored', '--socket', join(dir, 'socket'), ...more], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  daemon = child;
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.once('exit', (code) => reject(new Error(`xenstored ended with ${code}`)));
  });
}

/** Ends the daemon with `signal`. Returns its exit code, or the signal. */
async function stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | string | null> {
  const child = daemon!;
  daemon = undefined;
  const ended = new Promise<number | string | null>((resolve) => {
    child.once('exit', (code, by) => resolve(by ?? code));
  });
  child.kill(signal);
  return ended;
}

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'xenstored-'));
});
afterEach(async () => {
  if (daemon !== undefined) await stop('SIGKILL');
  rmSync(dir, { recursive: true });
});
afterAll(() => daemon?.kill('SIGKILL'));

const connect = (): Promise<XenstoreClient> => XenstoreClient.connect({ path: join(dir, 'socket') });

const environment = () => ({
  ...process.env,
  XENSTORED_PATH: join(dir, 'socket'),
  LD_LIBRARY_PATH: join(debian!, LIB),
});
/** Runs one of Debian's clients: xenstore-NAME ARGS. */
const xs = (name: string, ...args: string[]) =>
  execFileSync(join(debian!, 'usr/bin', `xenstore-${name}`), args, { encoding: 'utf8', env: environment() });
const status = (name: string, ...args: string[]) =>
  spawnSync(join(debian!, 'usr/bin', `xenstore-${name}`), args, { env: environment() }).status;

describe.skipIf(debian === undefined)("Debian's unmodified clients", () => {
  test('write, read, list, test, remove and show permissions', async () => {
    await start();
    xs('write', '/a/b', 'hello', '/a/c', 'two words');
    expect(xs('read', '/a/b')).toBe('hello\n');
    expect(xs('read', '-p', '/a/c')).toBe('/a/c: two words\n');
    expect(xs('list', '/a')).toBe('b\nc\n');
    expect([status('exists', '/a/b'), status('exists', '/a/x')]).toEqual([0, 1]);
    xs('chmod', '/a/b', 'n0', 'r3', 'b7');
    xs('chmod', '-r', '/a', 'r5');
    expect(xs('ls', '-fp', '/a')).toBe('/a/b = "hello"   (r5)\n/a/c = "two words"   (r5)\n');
    xs('chmod', '/a/b', 'n0', 'r3', 'b7');
    expect(xs('ls', '-fp')).toBe(
      '/tool = ""   (n0)\n/tool/xenstored = ""   (n0)\n/a = ""   (r5)\n/a/b = "hello"   (n0,r3,b7)\n/a/c = "two words"   (r5)\n',
    );
    xs('write', 'relative', 'x');
    expect(xs('read', '/local/domain/0/relative')).toBe('x\n');
    xs('rm', '/a/b');
    expect(status('read', '/a/b')).toBe(1);
    xs('rm', '-t', '/local/domain/0/relative');
    expect(xs('ls', '-f')).toBe('/tool = ""\n/tool/xenstored = ""\n/a = ""\n/a/c = "two words"\n');
  });

  test('list a folder with more names than one reply holds', async () => {
    await start();
    const client = await connect();
    const names = Array.from({ length: 1200 }, (_, i) => `name-${i}`);
    await Promise.all(names.map((name) => client.write(`/many/${name}`, 'x')));
    expect(xs('list', '/many').trimEnd().split('\n')).toEqual(names);
    expect(await client.list('/many')).toEqual(names);
    await client.close();
  });

  test('wait for a change with a watch', async () => {
    await start();
    const watch = spawn(join(debian!, 'usr/bin/xenstore-watch'), ['-n', '3', '/w'], { env: environment() });
    let seen = '';
    const first = new Promise<void>((resolve) => {
      watch.stdout.on('data', (chunk) => {
        seen += chunk;
        resolve();
      });
    });
    const ended = new Promise<number | null>((resolve) => watch.once('close', resolve));
    await first;
    xs('write', '/elsewhere', '1');
    xs('write', '/w/x', '1');
    xs('rm', '/w');
    expect(await ended).toBe(0);
    expect(seen).toBe('/w\n/w/x\n/w\n');
  });

  test('of two handles of libxenstore with conflicting transactions one commits and the other gets EAGAIN', async () => {
    await start();
    const toolcore = koffi.load(join(debian!, LIB, 'libxentoolcore.so.1'), { global: true });
    const lib = koffi.load(join(debian!, LIB, 'libxenstore.so.4'));
    const open = lib.func('void *xs_open(unsigned long flags)');
    const close = lib.func('void xs_close(void *h)');
    const begin = lib.func('unsigned int xs_transaction_start(void *h)');
    const end = lib.func('bool xs_transaction_end(void *h, unsigned int t, bool abort)');
    const read = lib.func(
      'void *xs_read(void *h, unsigned int t, const char *path, _Out_ unsigned int *len)',
    );
    const write = lib.func(
      'bool xs_write(void *h, unsigned int t, const char *path, const char *data, unsigned int len)',
    );
    process.env['XENSTORED_PATH'] = join(dir, 'socket');
    koffi.load('libc.so.6').func('int setenv(const char *name, const char *value, int overwrite)')(
      'XENSTORED_PATH',
      join(dir, 'socket'),
      1,
    );
    xs('write', '/counter', '7');
    const [one, two] = [open(0), open(0)];
    const text = (h: unknown, t: number): string => {
      const length = [0];
      return koffi.decode(read(h, t, '/counter', length), 'char', length[0]) as string;
    };
    const [t1, t2] = [begin(one), begin(two)];
    expect([text(one, t1), text(two, t2)]).toEqual(['7', '7']);
    expect([write(one, t1, '/counter', '8', 1), write(two, t2, '/counter', '9', 1)]).toEqual([true, true]);
    expect(text(two, t2)).toBe('9');
    expect(end(one, t1, false)).toBe(true);
    expect(end(two, t2, false)).toBe(false);
    expect(koffi.errno()).toBe(11);
    expect(xs('read', '/counter')).toBe('8\n');
    const again = begin(two);
    write(two, again, '/counter', '9', 1);
    expect(end(two, again, true)).toBe(true);
    expect(xs('read', '/counter')).toBe('8\n');
    close(one);
    close(two);
    expect(toolcore).toBeDefined();
  });
});

describe('the daemon', () => {
  test('ends cleanly on SIGTERM, removes its socket, and has its tree again after a restart', async () => {
    await start('--state', join(dir, 'state'));
    const client = await connect();
    await client.write('/kept/x', 'yes');
    await client.setPermissions('/kept/x', ['n0', 'r7']);
    expect(await stop()).toBe(0);
    expect(existsSync(join(dir, 'socket'))).toBe(false);
    await expect(client.read('/kept/x')).rejects.toMatchObject({ code: 'ECONNRESET' });
    await start('--state', join(dir, 'state'));
    const next = await connect();
    expect(await next.read('/kept/x')).toBe('yes');
    expect(await next.getPermissions('/kept/x')).toEqual(['n0', 'r7']);
    await next.close();
  });

  test('loses nothing that it acknowledged before a SIGKILL, and applies no transaction by half', async () => {
    const acknowledged = new Map<string, number>();
    let sent = 0;
    for (let round = 0; round < 6; round++) {
      await start('--state', join(dir, 'state'));
      const clients = await Promise.all([connect(), connect(), connect()]);
      for (const [path, value] of acknowledged)
        expect(Number(await clients[0].read(path))).toBeGreaterThanOrEqual(value);
      if (round > 0) expect(await clients[0].read('/pair/one')).toBe(await clients[0].read('/pair/two'));
      let running = true;
      const write = async (client: XenstoreClient, own: number): Promise<void> => {
        while (running) {
          const value = ++sent;
          const path = `/load/${own}/${value % 50}`;
          await client.write(path, String(value));
          acknowledged.set(path, value);
          if (value % 5 === 0 && own === 0)
            await client.transaction(async (t) => {
              await t.write('/pair/one', String(value));
              await t.write('/pair/two', String(value));
            });
        }
      };
      const load = clients.flatMap((client, own) =>
        [0, 1, 2, 3].map(() => write(client, own).catch(() => {})),
      );
      // After so many more acknowledged writes it is killed, whatever it is doing.
      const until = sent + 300 + round * 137;
      while (sent < until) await new Promise((resolve) => setImmediate(resolve));
      expect(await stop('SIGKILL')).toBe('SIGKILL');
      running = false;
      await Promise.all(load);
    }
    expect(acknowledged.size).toBeGreaterThan(100);
  });

  test('takes over the socket of a dead daemon, and leaves that of a living one alone', async () => {
    await start();
    const living = daemon!;
    daemon = undefined;
    await expect(start()).rejects.toThrow('xenstored ended with 1');
    daemon = living;
    await stop('SIGKILL');
    expect(existsSync(join(dir, 'socket'))).toBe(true);
    await start();
    const client = await connect();
    expect(await client.list('/')).toEqual(['tool']);
    await client.close();
  });
});

describe('the package', () => {
  test('has the client and the server for other programs, as docs/xenstore.md says', async () => {
    const from = async (...more: string[]): Promise<Record<string, unknown>> =>
      import(['stillpoint', 'xenstore', ...more].join('/'));
    const { XenstoreServer: Server } = (await from('server')) as { XenstoreServer: typeof XenstoreServer };
    const { SocketServer: Sockets } = (await from('socket')) as { SocketServer: typeof SocketServer };
    const { XenstoreClient: Client } = (await from()) as { XenstoreClient: typeof XenstoreClient };
    const server = new Server();
    const sockets = await Sockets.listen(server, join(dir, 'socket'));
    const xs = await Client.connect({ path: join(dir, 'socket') });
    await xs.write('/a', 'x');
    const { saveState: save } = (await from('save')) as { saveState: typeof saveState };
    const { restoreState: restore } = (await from('restore')) as { restoreState: typeof restoreState };
    const next = new Server();
    restore(next, save(server));
    expect(next.local().read('/a')).toBe('x');
    expect((await from('ring'))['RingTransport']).toBeTypeOf('function');
    await xs.close();
    await sockets.close();
  });
});
