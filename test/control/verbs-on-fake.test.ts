/**
 * Tests the verbs on hosts of the tests' own platform: all that the daemons know of disks, clocks and outer values is
 * what the platform says. Nothing here needs root, disk files or a network; daemons and verbs run in this process.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CommanderError } from 'commander';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeProgram } from '../../src/cli/program.js';
import type { DomainRow } from '../../src/protocol/control.js';
import { until } from '../migration/hosts.js';
import { FakeHost, openBoth } from './fake-host.js';
import { knownGuestsTable, type Result, Verbs, verbTable } from './verb-table.js';

let last: Promise<unknown> = Promise.resolve();

/** Runs a verb in this process, after those before it, and collects its output. */
function run(...args: string[]): Promise<Result> {
  const result = last.then(async (): Promise<Result> => {
    const printed = { stdout: '', stderr: '' };
    const streams = ['stdout', 'stderr'] as const;
    const before = streams.map((name) => process[name].write);
    for (const name of streams)
      process[name].write = ((chunk: string | Uint8Array) => {
        printed[name] += Buffer.from(chunk as string).toString();
        return true;
      }) as typeof process.stdout.write;
    process.exitCode = undefined;
    let status: number | null;
    try {
      const program = makeProgram((error) => {
        throw error;
      });
      await program.parseAsync(['node', 'stillpoint', ...args]);
      status = Number(process.exitCode ?? 0);
    } catch (error) {
      if (!(error instanceof CommanderError)) throw error;
      status = error.exitCode === 0 ? 0 : 2;
    } finally {
      process.exitCode = undefined;
      streams.forEach((name, i) => {
        process[name].write = before[i];
      });
    }
    return { status, out: printed.stdout, err: printed.stderr };
  });
  last = result.catch(() => undefined);
  return result;
}

describe('verbs on a platform that is not the standalone one', () => {
  const root = mkdtempSync(join(tmpdir(), 'stillpoint-fake-'));
  const a = new FakeHost(root, 'A', {
    firstDomid: 5,
    xenVersion: '4.14.1',
    guestMemoryMib: 64,
    memoryMib: 80,
  });
  const b = new FakeHost(root, 'B', { firstDomid: 400, guestMemoryMib: 32 });
  const verbs = new Verbs(() => ({ root, a, b }), run);
  const { at, json, create } = verbs;

  beforeAll(() => openBoth(a, b));
  afterAll(async () => {
    for (const host of [a, b]) await host.close();
    rmSync(root, { recursive: true, force: true });
  });

  verbTable(verbs);
  knownGuestsTable(verbs);

  it("a guest gets the platform's outer values, and its name is in the platform's xenstore", async () => {
    const { name, domid } = await create();
    expect(a.store.domains.get(domid)).toMatchObject({
      name,
      storePort: 1000 + domid,
      consolePort: 2000 + domid,
      storeRingRef: 0xfa_0000 + domid,
      consoleRingRef: 0xfb_0000 + domid,
    });
    expect(await json<{ pretended: string[] }>('a', 'info')).toMatchObject({
      cpu_model: 'a processor of the tests',
      pretended: ['cpu_model', 'tsc_khz', 'uptime_s', 'wall_clock', 'xen_version', 'next_domid_after'],
    });
    await at('a', 'destroy', name);
    expect(a.store.domains.has(domid)).toBe(false);
  });

  it('a guest that a host has no room for is refused, also in a move, and reboots where it is', async () => {
    const large = await at('a', 'create', '--overcommit', verbs.config('frames = 16640').file);
    expect(large.err).toContain('a guest may have 64 MiB here (guestMemoryMib); this one wants 65 MiB');
    expect(large.status).toBe(14);
    const { name, domid } = await create('frames = 10240');
    const second = verbs.config('frames = 10496');
    const refused = await at('a', 'create', second.file);
    expect(refused.err).toMatch(
      /may have 80 MiB together \(memoryMib\), and have 40 MiB; this one wants 41 MiB/,
    );
    expect(refused.status).toBe(14);
    await json('a', 'create', '--overcommit', second.file);
    await json('a', 'destroy', second.name);
    const moved = await at('a', 'migrate', name, 'B');
    expect(moved.err).toMatch(/a guest may have 32 MiB here.*the guest goes on here/);
    expect(moved.status).toBe(7);
    await json('a', 'create', '--overcommit', second.file);
    await json('a', 'reboot', name);
    const again = await until('it runs again', async () =>
      (await json<DomainRow[]>('a', 'list')).find((row) => row.name === name && row.domid !== domid),
    );
    expect(again.memoryMib).toBe(40);
    for (const one of [name, second.name]) await json('a', 'destroy', one);
  });

  it('moves a guest into a new process on the same host', async () => {
    const { name, domid, uuid, pid } = await create();
    await json('a', 'autostart', name, 'on');
    const said = 'said before the move\n';
    await a.ask('type', { guest: name, data: Buffer.from(said).toString('base64') });
    const moved = await at('a', 'migrate', '--json', name, 'localhost');
    expect(moved.status, moved.err).toBe(0);
    const stats = JSON.parse(moved.out) as { destination: string; domid: number };
    expect(stats.destination).toBe('localhost');
    const [row] = await json<DomainRow[]>('a', 'list');
    expect(row).toMatchObject({ name, uuid, domid: stats.domid });
    expect([row.domid, row.pid]).not.toEqual([domid, pid]);
    expect([...a.store.domains.keys()]).toEqual([row.domid]);
    expect(await json('a', 'list', '--all')).toMatchObject({
      domains: [{ name }],
      defined: [{ name, domid: row.domid, autostart: { order: 1000, delayS: 0 } }],
    });
    const [point] = await json<{ moves: number }[]>('a', 'points', name);
    expect(point.moves).toBe(1);
    // Its console moves with it: who looks sees what was before, and so does its log.
    const { latest } = await a.ask('console', { guest: name });
    expect(Buffer.from(latest, 'base64').toString()).toContain(said);
    const log = join(a.dir, 'guests', String(row.domid), 'console.log');
    await until('it is in the log', () => readFileSync(log, 'utf8').includes(said));
    await json('a', 'undefine', name);
    await json('a', 'destroy', name);
  });

  it('disks are what the platform says: attached, refused, listed, copied with a migrating guest, detached', async () => {
    const { name, domid } = await create();
    const refused = await at('a', 'block-attach', name, '/srv/disk.img,raw,xvdb,w');
    expect(refused).toMatchObject({ status: 11, out: '' });
    expect(refused.err).toContain('/srv/disk.img is no disk in memory');
    await json('a', 'block-attach', name, '/memory/one,raw,xvda,w');
    expect([...a.store.devices]).toEqual([`${domid}/vbd/51712`]);
    const row = { vdev: 'xvda', link: `memory: written by ${name}` };
    expect(await json('a', 'block-list', name)).toMatchObject([row]);
    const moved = await at('a', 'migrate', '--json', '--copy-storage', name, 'B');
    expect(moved.status, moved.err).toBe(0);
    // The disk is in the memory of the process on B: only the move can have brought it there.
    expect(await json('b', 'block-list', name)).toMatchObject([row]);
    expect([a.store.devices.size, b.store.devices.size]).toEqual([1, 1]);
    await json('b', 'block-detach', name, 'xvda');
    expect(await json('b', 'block-list', name)).toEqual([]);
    expect(b.store.devices.size).toBe(0);
    await at('b', 'destroy', name);
  });
});
