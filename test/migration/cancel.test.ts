/** Tests moves that their user cancels: the guest is where the message says. */
import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { TwoHosts, until } from './hosts.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

describe('a move that its user cancels', () => {
  let hosts: TwoHosts;
  beforeAll(async () => {
    hosts = await TwoHosts.open(18_600);
  });
  afterAll(() => hosts?.close());
  afterEach(() => hosts.clear());

  /** Starts the move of a guest and holds it at `step`. */
  async function moving(step: string) {
    const { name } = await hosts.guest();
    hosts.gate(step);
    const child = spawn(process.execPath, [MAIN, 'migrate', '--dir', hosts.a.dir, name, 'B']);
    const said = { err: '', status: undefined as number | null | undefined };
    child.stderr.on('data', (data) => (said.err += data));
    child.on('close', (status) => (said.status = status));
    await hosts.reached(step);
    return { name, child, said };
  }
  const ended = (said: { status: number | null | undefined }) =>
    until('migrate ends', () => (said.status === undefined ? undefined : { status: said.status }));
  const stillHere = async (name: string): Promise<void> => {
    expect((await hosts.settled(name)).on).toBe('A');
    await until('one guest process', () => hosts.processes().length === 1 || undefined);
    expect(hosts.violations()).toEqual([]);
  };
  const interrupt = (child: ChildProcess): boolean => child.kill('SIGINT');

  it('by migrate-cancel: the guest goes on where it was', async () => {
    const { name, said } = await moving('construct');
    const cancel = spawn(process.execPath, [MAIN, 'migrate-cancel', '--dir', hosts.a.dir, name]);
    let out = '';
    cancel.stdout.on('data', (data) => (out += data));
    expect(await new Promise((done) => cancel.on('close', done))).toBe(0);
    expect(out).toBe(`${name} goes on here\n`);
    hosts.openGate('construct');
    expect((await ended(said)).status).toBe(7);
    expect(said.err).toContain('cancelled; the guest goes on here');
    await stillHere(name);
    await expect(hosts.a.ask('cancelMove', { guest: name })).rejects.toThrow('is not moving');
  });

  it('by Ctrl-C: the guest goes on where it was', async () => {
    const { name, child, said } = await moving('construct');
    interrupt(child);
    expect((await ended(said)).status).toBe(7);
    expect(said.err).toMatch(/cancelling the move.*cancelled; the guest goes on here/s);
    hosts.openGate('construct');
    await stillHere(name);
  });

  it('by Ctrl-C when it is too late: a message says so, and a second Ctrl-C leaves the move to itself', async () => {
    const { name, child, said } = await moving('attach');
    interrupt(child);
    await until('it is too late', () => /too late to cancel: B was offered/.test(said.err) || undefined);
    interrupt(child);
    expect((await ended(said)).status).toBe(8);
    expect(said.err).toContain('left to itself in the background');
    hosts.openGate('attach');
    expect((await hosts.settled(name)).on).toBe('B');
    expect(hosts.violations()).toEqual([]);
  });

  it('by destroying the guest: the move ends and so does the guest', async () => {
    const { name, said } = await moving('construct');
    await hosts.a.ask('destroy', { guest: name });
    hosts.openGate('construct');
    await ended(said);
    expect(said.err).toContain('cancelled');
    await until('no guest process', () => hosts.processes().length === 0 || undefined);
    await until(
      'nobody knows it any more',
      async () => [...(await hosts.a.list()), ...(await hosts.b.list())].length === 0 || undefined,
    );
  });

  it('by destroying the arriving domain: the guest goes on where it was', async () => {
    const { name, said } = await moving('restore-state');
    const gone = hosts.b.ask('destroy', { guest: name });
    await until('it is refused', () => /"to":"none"/.test(hosts.b.log()) || undefined);
    hosts.openGate('restore-state');
    await gone;
    expect((await ended(said)).status).toBe(7);
    expect(said.err).toContain('the destination refused: it was destroyed while it arrived');
    await stillHere(name);
  });
});
