/** Tests programs that use daemons: two real daemons and a small guest, used only through stillpoint/client. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'stillpoint/client';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type DaemonHost, startDaemon } from '../../scripts/lib/daemons.js';
import { compiled } from '../../scripts/lib/root.js';
import { Arrivals } from '../../src/client/arrivals.js';
import { Client } from '../../src/client/client.js';
import { smallKernelElf } from '../../src/demo/small-kernel.js';
import { Failure } from '../../src/protocol/failure.js';
import { until } from '../migration/hosts.js';

describe('a program that uses daemons', () => {
  const root = mkdtempSync(join(tmpdir(), 'stillpoint-client-'));
  let hosts: DaemonHost[] = [];
  let a: Client;
  let b: Client;

  beforeAll(async () => {
    writeFileSync(join(root, 'kernel'), smallKernelElf());
    hosts = await Promise.all(['A', 'B'].map((name) => startDaemon(root, name, {})));
    [a, b] = await Promise.all(hosts.map(({ dir }) => connect({ directory: dir })));
  });
  afterEach(async () => {
    for (const client of [a, b]) for (const { uuid } of await client.list()) await client.destroy(uuid);
  });
  afterAll(() => {
    for (const client of [a, b]) client?.close();
    for (const { child } of hosts) child.kill('SIGKILL');
    rmSync(root, { recursive: true, force: true });
  });

  const create = (name: string, paused = false) =>
    a.create(`name = "${name}"\nkernel = "kernel"\nmemory = 8\nextra = "interval_ms=10"\n`, {
      directory: root,
      paused,
    });
  const run = (...args: string[]): Promise<{ status: number | null; out: string; err: string }> =>
    new Promise((done) => {
      const child = spawn(process.execPath, args);
      let [out, err] = ['', ''];
      child.stdout.on('data', (d) => (out += d));
      child.stderr.on('data', (d) => (err += d));
      child.on('close', (status) => done({ status, out, err }));
    });

  it('creates a guest, lists it, pauses it, renames it, saves it and restores it', async () => {
    const made = await create('one', true);
    expect(made).toMatchObject({ name: 'one', memoryMib: 8, state: '--p---' });
    expect(await a.identity('one')).toEqual({ domid: made.domid, name: 'one', uuid: made.uuid });
    await a.unpause(made.uuid);
    await a.pause('one');
    await a.rename('one', 'two');
    expect(await a.config('two')).toMatchObject({ name: 'two', vcpus: 1, maxMemoryKib: 8192 });
    expect((await a.points('two')).length).toBeGreaterThan(5);
    expect(await a.vcpus('two')).toMatchObject([{ name: 'two', vcpus: [{ id: 0 }] }]);
    expect(await a.disks('two')).toEqual([]);
    const file = join(root, 'two.img');
    expect((await a.save('two', file)).bytes).toBeGreaterThan(4096);
    expect(await a.list()).toEqual([]);
    expect(await a.restore(file)).toMatchObject({ name: 'two', uuid: made.uuid });
    expect((await a.info()).domains).toBe(1);
    expect(a.host).toBe('A');
  });

  it('gets errors with a code and a message that names the field', async () => {
    await expect(a.domain('nobody')).rejects.toMatchObject({ name: 'Failure', code: 'no-such-guest' });
    // Requests that the types forbid, as a program without types sends them.
    const loose = a as unknown as { request(method: string, params: object): Promise<unknown> };
    await expect(loose.request('list', { guest: 'x' })).rejects.toThrow(
      'list: guest: there is no such field',
    );
    await expect(loose.request('migrate', { guest: 'x', host: 'B', maxRounds: 'all' })).rejects.toThrow(
      'migrate: maxRounds: must be a number',
    );
    await expect(connect({ directory: join(root, 'nowhere') })).rejects.toMatchObject({ code: 'no-daemon' });
    await expect(connect({ socket: join(hosts[0].dir, 'control.sock') })).rejects.toMatchObject({
      code: 'not-trusted',
    });
  });

  it("reads and writes a console until the guest ends, and gets an event for each step of the guest's life", async () => {
    const watch = await a.watch();
    expect(watch.domains).toEqual([]);
    const { uuid } = await create('talks');
    const attached = await a.console('talks');
    let text = '';
    const reading = (async () => {
      for await (const bytes of attached.output) text += Buffer.from(bytes).toString('latin1');
    })();
    await until('it prints', () => text.length > 100 || undefined);
    await a.pause(uuid);
    await a.unpause(uuid);
    await attached.write('q');
    await reading;
    const seen: string[] = [];
    for await (const { change, name, reason } of watch.events) {
      expect(name).toBe('talks');
      seen.push(reason === undefined ? change : `${change}: ${reason}`);
      if (change === 'gone') break;
    }
    expect(seen).toEqual(['building', 'live', 'paused', 'unpaused', 'ended: poweroff', 'gone: destroyed']);
    await watch.close();
  });

  it('moves a guest with progress, and cancels a move', async () => {
    const { uuid } = await create('goes');
    const to = `127.0.0.1:${hosts[1].port}`;
    const watch = await a.watch();
    const slow = await a.migrate('goes', to, { bandwidthMBs: 0.1, maxDowntimeMs: 0 });
    for await (const { change } of watch.events) if (change === 'moving') break;
    await slow.cancel();
    await expect(slow.done).rejects.toMatchObject({ code: 'move-failed' });
    expect(await a.domain('goes')).toMatchObject({ uuid, moving: false });
    const move = await a.migrate('goes', to);
    const steps = [];
    for await (const step of move.progress) steps.push(step);
    const stats = await move.done;
    expect(steps.length).toBe(stats.rounds.length);
    expect(stats.downtimeMs).toBeGreaterThan(0);
    expect(await b.list()).toMatchObject([{ uuid }]);
  });

  it('has an example, which moves a guest', async () => {
    const { uuid } = await create('shown');
    const example = compiled('examples/move-a-guest.ts').pathname;
    const { status, out, err } = await run(example, hosts[0].dir, 'shown', `127.0.0.1:${hosts[1].port}`);
    expect({ status, err }).toEqual({ status: 0, err: '' });
    expect(out).toMatch(/^round 1: \d+ pages sent/);
    expect(out).toMatch(/shown lives on .* as domain \d+; it stood still for [\d.]+ ms\n$/);
    expect(await b.list()).toMatchObject([{ uuid }]);
    const late = await run(example, hosts[0].dir, 'shown', `127.0.0.1:${hosts[1].port}`);
    expect(late).toMatchObject({ status: 1, err: expect.stringMatching(/^no-such-guest: /) });
  });

  it('notices a daemon that sends invalid answers, or closes the connection', async () => {
    let answer: unknown;
    const server = net.createServer((socket) => {
      socket.on('data', (bytes) => {
        for (const line of bytes.toString('utf8').trim().split('\n')) {
          const { id, do: method } = JSON.parse(line);
          if (method === 'hello') socket.write(`{"id":${id},"ok":{"version":1,"name":"X"}}\n`);
          else if (method === 'list') socket.write(`${JSON.stringify({ id, ok: answer })}\n`);
          else socket.destroy();
        }
      });
    });
    const path = join(root, 'nonsense.sock');
    await new Promise<void>((done) => server.listen(path, done));
    const client = await connect({ socket: path });
    for (answer of [null, 7, {}, [null], [{ domid: 'x' }]])
      await expect(client.list()).rejects.toThrow(/^the answer to list: /);
    await expect(client.info()).rejects.toMatchObject({ code: 'io' });
    expect(client.closed).toBe(true);
    server.close();
  });

  it('connects over any byte stream', async () => {
    const socket = net.connect({ host: '127.0.0.1', port: hosts[1].port });
    await new Promise((done) => socket.once('connect', done));
    const client = await Client.over(socket, { keepAlive: true });
    expect(client.host).toBe('B');
    expect(await client.list()).toEqual([]);
    client.close();
  });
});

it('drops the oldest events that nobody takes, and counts them', async () => {
  const arrivals = new Arrivals<number>(3);
  for (const n of [1, 2, 3, 4, 5]) arrivals.push(n);
  arrivals.end(new Failure('io', 'over'));
  expect(arrivals.missed).toBe(2);
  const taken: number[] = [];
  await expect(
    (async () => {
      for await (const n of arrivals) taken.push(n);
    })(),
  ).rejects.toThrow('over');
  expect(taken).toEqual([3, 4, 5]);
});
