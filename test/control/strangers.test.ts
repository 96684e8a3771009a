/**
 * Tests connections that are not yet authenticated, those of a peer that is no longer trusted, and too many at once.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { compiled } from '../../scripts/lib/root.js';
import { type Identity, initIdentity, loadIdentity, trust } from '../../src/transport/identity.js';
import { TestHost, until } from '../migration/hosts.js';
import { Line } from './line.js';

const PORT = 17_880;
const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const FAKE = compiled('test/migration/fake-guest.ts').href;
/** How many descriptors the daemon may still open beyond those that it has. */
const SPARE = 4;

describe('a daemon with connections from strangers', () => {
  let root: string;
  let host: TestHost;
  let mallory: Identity;
  let to: { port: number; certificate: string };
  let open: net.Socket[] = [];

  beforeAll(async () => {
    root = mkdtempSync(join(tmpdir(), 'stillpoint-strangers-'));
    chmodSync(root, 0o711);
    const config = join(root, 'host.json');
    writeFileSync(config, JSON.stringify({ runner: FAKE, greetingS: 0.5 }));
    const dir = join(root, 'S');
    const { certificate } = await initIdentity(dir);
    host = new TestHost('S', dir, PORT, config);
    mallory = await initIdentity(join(root, 'M'));
    trust(dir, 'M', mallory.certificate, '', ['move']);
    to = { port: PORT, certificate };
    await host.start();
  });
  afterEach(async () => {
    for (const socket of open) socket.destroy();
    open = [];
    expect(host.process!.exitCode).toBe(null);
    expect(await host.list()).toEqual([]);
  });
  afterAll(async () => {
    await host?.kill();
    rmSync(root, { recursive: true, force: true });
  });

  const knock = (): net.Socket => {
    const socket = net.connect(PORT, '127.0.0.1');
    socket.on('error', () => {});
    socket.resume();
    open.push(socket);
    return socket;
  };
  const gone = (sockets: readonly net.Socket[]): Promise<unknown> =>
    until('connections are closed', () => sockets.every((s) => s.destroyed) || undefined);
  const greeted = async (): Promise<Line> => {
    const line = await Line.open(to, mallory);
    open.push(line.socket);
    line.say({ id: 1, do: 'hello', with: { versions: [1] } });
    expect((await line.answer(1)).ok).toMatchObject({ version: 1 });
    return line;
  };

  it.skipIf(process.getuid?.() !== 0)(
    'does not listen as root for all users of this machine, unless two options ask for it',
    () => {
      const args = [MAIN, 'host', '--dir', join(root, 'P'), '--listen', '127.0.0.1:0', '--plain-loopback'];
      const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 20_000 });
      expect([status, stderr]).toEqual([2, expect.stringContaining('--i-know')]);
    },
  );

  it('closes connections that are silent before, during or after TLS; one that has greeted stays', async () => {
    const peer = await greeted();
    const silent = knock();
    const slow = knock();
    // The beginning of a handshake: a record that announces 512 bytes, then one byte at a time.
    slow.write(Buffer.of(0x16, 0x03, 0x01, 0x02, 0x00, 0x01));
    const drip = setInterval(() => slow.write(Buffer.of(0)), 50);
    const mute = await Line.open(to, mallory);
    await gone([silent, slow, mute.socket]);
    clearInterval(drip);
    expect(mute.text).toBe('');
    peer.say({ id: 2, do: 'ping', with: {} });
    expect((await peer.answer(2)).ok).toBe(null);
  });

  it('continues when it has no free descriptors', async () => {
    const peer = await greeted();
    const pid = host.process!.pid!;
    const limit = (most: number | string): void =>
      void execFileSync('prlimit', ['--pid', String(pid), `--nofile=${most}:`]);
    limit(readdirSync(`/proc/${pid}/fd`).length + SPARE);
    const many = Array.from({ length: 200 }, knock);
    const local = Array.from({ length: 50 }, () => {
      const socket = net.connect({ path: join(host.dir, 'control.sock') });
      socket.on('error', () => {});
      open.push(socket);
      return socket;
    });
    await gone(many);
    peer.say({ id: 3, do: 'ping', with: {} });
    expect((await peer.answer(3)).ok).toBe(null);
    for (const socket of local) socket.destroy();
    await until('it answers again', () =>
      host.list().then(
        () => true,
        () => undefined,
      ),
    );
    limit(1024);
  });

  it('opens one guest for one hand-over, however many requests come for it at once', async () => {
    const line = await greeted();
    const handover = randomUUID();
    for (let i = 0; i < 40; i++) {
      const opening = {
        handover,
        versions: [1, 2],
        name: `m${randomUUID()}`,
        uuid: randomUUID(),
        vcpus: 1,
        memoryKib: 8192,
        key: 'ab'.repeat(32),
      };
      line.say({ id: 100 + i, do: 'moveOpen', with: opening });
    }
    const answers = await Promise.all(Array.from({ length: 40 }, (_, i) => line.answer(100 + i)));
    expect(answers.filter(({ error }) => error === undefined).length).toBe(1);
    expect(host.files('guests').length).toBe(1);
    line.socket.destroy();
    await until('its guest is gone', () => host.files('guests').length === 0 || undefined);
  });

  it('ends the connections of a host at once when that host is no longer trusted', async () => {
    const stranger = await initIdentity(join(root, 'N'));
    trust(host.dir, 'N', stranger.certificate, '', ['move']);
    const other = await Line.open(to, stranger);
    open.push(other.socket);
    other.say({ id: 1, do: 'hello', with: { versions: [1] } });
    await other.answer(1);
    const line = await greeted();
    const verb = (...args: string[]) =>
      spawnSync(process.execPath, [MAIN, 'host', ...args, '--dir', host.dir], { encoding: 'utf8' });
    expect(verb('untrust', 'nobody').status).toBe(2);
    expect(verb('untrust', '../identity').status).toBe(2);
    expect(verb('untrust', 'M').stdout).toBe('M is trusted no longer\n');
    await line.ended();
    expect(verb('trusted').stdout).toMatch(/^N /);
    const again = await Line.open(to, mallory);
    again.say({ id: 1, do: 'hello', with: { versions: [1] } });
    await again.ended();
    expect(again.text).toBe('');
    // A change of the file alone is enough: it is noticed with the next message.
    rmSync(join(host.dir, 'identity', 'trusted', 'N.json'));
    other.say({ id: 2, do: 'clock', with: {} });
    await other.ended();
    expect(loadIdentity(host.dir)).toBeDefined();
  });
});
