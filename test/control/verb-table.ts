/**
 * What is true of verbs on any platform: results, exit statuses, messages. One table of tests serves hosts on the
 * machine as it is, where verbs run as programs (verbs.test.ts), and hosts on the tests' own platform
 * (verbs-on-fake.test.ts). The guests are fake ones.
 */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { AskDaemon } from '../../scripts/lib/raw-daemon.js';
import { inRoot } from '../../scripts/lib/root.js';
import type { DomainRow } from '../../src/protocol/control.js';
import { until } from '../migration/hosts.js';

/** A file that exists and is no saved guest. */
export const MAIN = inRoot('dist/cli/main.js');

export interface Result {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

interface VerbHost {
  readonly dir: string;
  readonly ask: AskDaemon;
  list(): Promise<readonly DomainRow[]>;
}

/** Two hosts that trust one another to move guests. A may also be controlled by itself, as host A. */
export interface VerbHosts {
  /** The directory for the tests' files. */
  readonly root: string;
  readonly a: VerbHost;
  readonly b: VerbHost;
}

/** Runs a verb, or any other command of the command line. */
export type RunVerb = (...args: string[]) => Promise<Result>;

/** What the tests of verbs share; `hosts` is called while a test runs. */
export class Verbs {
  private guests = 0;

  constructor(
    readonly hosts: () => VerbHosts,
    readonly run: RunVerb,
  ) {}

  readonly at = (host: 'a' | 'b', verb: string, ...args: string[]): Promise<Result> =>
    this.run(verb, '--dir', this.hosts()[host].dir, ...args);
  readonly json = async <T>(host: 'a' | 'b', verb: string, ...args: string[]): Promise<T> => {
    const { status, out, err } = await this.at(host, verb, '--json', ...args);
    expect({ status, err }).toEqual({ status: 0, err: '' });
    return JSON.parse(out) as T;
  };
  /** Writes the configuration file of a new guest. Returns its name and the file. */
  readonly config = (...lines: string[]): { name: string; file: string } => {
    const name = `verb${++this.guests}`;
    const file = join(this.hosts().root, `${name}.cfg`);
    writeFileSync(file, [`name = "${name}"`, ...lines, ''].join('\n'));
    return { name, file };
  };
  readonly create = async (...lines: string[]): Promise<DomainRow> =>
    this.json<DomainRow>('a', 'create', this.config(...lines).file);
}

/** Defines the tests of the table. */
export function verbTable({ hosts, run, at, json, config, create }: Verbs): void {
  it('reports by its exit status what went wrong', async () => {
    const { name } = await create();
    const broken = config('this is no setting').file;
    const cases: [number, RegExp, Promise<Result>][] = [
      [10, /no daemon runs in .*nowhere/, run('list', '--dir', join(hosts().root, 'nowhere'))],
      [3, /there is no domain nobody on A/, at('a', 'pause', 'nobody')],
      [3, /there is no domain nobody on A/, at('a', 'migrate', 'nobody', 'B')],
      [3, /there is no domain nobody on A/, at('a', 'console', 'nobody')],
      [4, /has the name/, at('a', 'create', join(hosts().root, `${name}.cfg`))],
      [2, /cfg:2/, at('a', 'create', broken)],
      [12, /ENOENT/, at('a', 'create', join(hosts().root, 'none.cfg'))],
      [11, /no host C is trusted here/, at('a', 'migrate', name, 'C')],
      [2, /on-timeout.*cancel, force/, at('a', 'migrate', '--on-timeout', 'perhaps', name, 'B')],
      [2, /clock.*elapse, freeze/, at('a', 'migrate', '--clock', 'melt', name, 'B')],
      [5, /is not moving|waits to be settled/, at('a', 'settle', '--keep', name)],
      [9, /byte \d+/, at('a', 'restore', MAIN)],
      [11, /not allowed here/, at('b', 'list', '--on', 'A')],
    ];
    for (const [status, words, result] of cases) {
      const found = await result;
      expect(found.err).toMatch(words);
      expect(found.status, found.err).toBe(status);
      expect(found.out).toBe('');
    }
    const asJson = await at('a', 'pause', '--json', 'nobody');
    expect(JSON.parse(asJson.out).error.code).toBe('no-such-guest');
    await at('a', 'destroy', name);
  });

  it('refuses invalid numbers in every option, and names the option', async () => {
    const wrong = [
      ['migrate', '--timeout', 'abc', 'g', 'B'],
      ['migrate', '--max-downtime', '', 'g', 'B'],
      ['migrate', '--max-rounds', '1.5', 'g', 'B'],
      ['migrate', '--bandwidth', '1e9', 'g', 'B'],
      ['shutdown', '--timeout', '-5', 'g'],
      ['reboot', '--timeout', '99999999999', 'g'],
      ['top', '--delay', '0', 'g'],
      ['top', '--iterations', 'all'],
    ];
    for (const [verb, option, value, ...rest] of wrong as [string, string, string, ...string[]][]) {
      const { status, out, err } = await at('a', verb, option, value, ...rest);
      expect(err).toMatch(
        new RegExp(`^error: option '.*${option}.*' argument '${value}' is invalid.*expected`),
      );
      expect(err).not.toMatch(/^ +at /m);
      expect([status, out]).toEqual([2, '']);
    }
    for (const args of [['destroy'], ['lisst'], ['list', '--fast'], ['domid', 'a', 'b']])
      expect(await run(...args)).toMatchObject({ status: 2, out: '' });
    const asked = hosts().a.ask('shutdown', { guest: 'g', timeoutS: 1e12 });
    await expect(asked).rejects.toThrow(/there is no domain g|timeoutS: must be a number/);
  });

  it('takes digits as a domain id, whatever guests are called', async () => {
    const { name, domid } = await create();
    expect((await at('a', 'destroy', String(domid + 500))).status).toBe(3);
    expect((await at('a', 'rename', name, String(domid + 500))).status).toBe(2);
    expect((await at('a', 'create', config('name = "3"').file)).status).toBe(2);
    expect(await json<DomainRow[]>('a', 'list', String(domid))).toMatchObject([{ name }]);
    await at('a', 'destroy', name);
  });

  it('lists and names guests, in tables and in JSON', async () => {
    const row = await create();
    expect(row.state).toMatch(/^[rb]-----$/);
    const table = await at('a', 'list');
    expect(table.out.split('\n')[0]).toMatch(/^Name +ID +Mem VCPUs\tState\tTime\(s\)$/);
    expect(table.out).toContain(row.name);
    expect((await at('a', 'domid', row.name)).out).toBe(`${row.domid}\n`);
    expect((await at('a', 'domname', String(row.domid))).out).toBe(`${row.name}\n`);
    expect(await json<DomainRow[]>('a', 'list')).toHaveLength(1);
    expect((await json<DomainRow[]>('a', 'uptime', row.name))[0].uptimeSeconds).toBeGreaterThan(0);
    expect((await json<{ vcpus: unknown[] }[]>('a', 'vcpu-list'))[0].vcpus).toHaveLength(1);
    expect(await json<{ host: string }>('a', 'info')).toMatchObject({
      host: 'A',
      xen_version: '4.14.1',
      pretended: expect.arrayContaining(['xen_version']),
    });
    expect((await json<DomainRow[]>('a', 'top', '-i', '1'))[0].name).toBe(row.name);
    expect((await at('a', 'dmesg', row.name)).out).toMatch(/^\(XEN\) fake guest/);
    const [point] = await json<{ name: string; outer: string; moves: number }[]>('a', 'points', row.name);
    expect(point).toMatchObject({ name: 'domain id', outer: String(row.domid), pretended: true, moves: 0 });
    expect((await at('a', 'points', row.name)).out).toContain(` ${row.domid} (pretended) `);
    expect((await at('a', 'info')).out).toMatch(/^xen_version +: 4\.14\.1 \(pretended\)$/m);
    expect((await at('a', 'list', '--on', 'A')).out).toContain(row.name);
    await at('a', 'destroy', row.name);
    expect(await json<DomainRow[]>('a', 'list')).toEqual([]);
  });

  it('pauses, renames, saves, restores and moves', async () => {
    const { name } = await create();
    await json('a', 'pause', name);
    expect((await json<DomainRow[]>('a', 'list', name))[0].state).toBe('--p---');
    await json('a', 'unpause', name);
    for (const taken of ['3', 'a\nb', '7a1c1ad0-5e57-4c1b-9e0a-0123456789ab'])
      expect((await at('a', 'rename', name, taken)).status, taken).toBe(2);
    await json('a', 'rename', name, 'other');
    expect((await at('a', 'domid', name)).status).toBe(3);
    const image = join(hosts().root, 'other.img');
    const saved = await json<{ bytes: number }>('a', 'save', 'other', image);
    expect(saved.bytes).toBe(statSync(image).size);
    expect(statSync(image).mode & 0o777).toBe(0o600);
    expect(await json<DomainRow[]>('a', 'list')).toEqual([]);
    expect(await json<DomainRow>('a', 'restore', image)).toMatchObject({ name: 'other' });
    const moved = await at(
      'a',
      'migrate',
      '--json',
      '--max-downtime',
      '500',
      '--clock',
      'freeze',
      'other',
      'B',
    );
    expect(moved.status, moved.err).toBe(0);
    const stats = JSON.parse(moved.out);
    expect(stats).toMatchObject({ name: 'other', destination: 'B', stopReason: 'downtime' });
    expect(Object.keys(stats.parts)).toEqual([
      'stopMs',
      'lastPagesMs',
      'stateMs',
      'handoverMs',
      'attachMs',
      'recordMs',
      'firstInstructionMs',
    ]);
    // The progress of the move goes to standard error.
    expect(moved.err).toMatch(/round 1: \d+ pages, \d+ MB\/s, dirty \d+ \(\d+\/s\), expected downtime/);
    expect((await json<DomainRow[]>('b', 'list'))[0].name).toBe('other');
    await at('b', 'destroy', 'other');
  });

  it('prints one line of JSON for each verb', async () => {
    const { name, domid } = await create();
    const named = { name, domid };
    expect(await json('a', 'domid', name)).toMatchObject(named);
    expect(await json('a', 'domname', String(domid))).toMatchObject(named);
    expect(await json<string[]>('a', 'dmesg', name)).toContain(`(XEN) fake guest ${name}`);
    expect(await json('a', 'block-list', name)).toEqual([]);
    expect(await json('a', 'network-list', name)).toEqual([]);
    const settle = await at('a', 'settle', '--json', '--keep', name);
    expect(JSON.parse(settle.out)).toMatchObject({ error: { code: 'bad-state' } });
    await json('a', 'destroy', name);
    expect(JSON.parse((await at('a', 'console', '--json', name)).out)).toMatchObject({
      error: { code: 'no-such-guest' },
    });
  });

  it('refuses requests for a guest that is being built, with the reason', async () => {
    const { name, file } = config();
    const made = json<DomainRow>('a', 'create', file);
    const answer = await until('it is known', () =>
      hosts()
        .a.ask('pause', { guest: name })
        .then(
          () => 'paused',
          (error: Error) => (error.message.includes('there is no domain') ? undefined : error.message),
        ),
    );
    expect(answer).toBe(`domain ${name} is being built`);
    await made;
    await at('a', 'destroy', name);
  });
}

/** Defines the tests of what is known of guests that do not run. Each verb is a program on the machine as it is: these run once. */
export function knownGuestsTable({ hosts, at, json, config, create }: Verbs): void {
  it('defines guests, starts them, lists those that do not run, and forgets them', async () => {
    const uuid = '7a1c1ad0-5e57-4c1b-9e0a-00000000dead';
    const { name, file } = config(`uuid = "${uuid}"`);
    expect(await json('a', 'define', file)).toMatchObject({ name, uuid, kept: 'defined', autostart: null });
    expect(await json<DomainRow[]>('a', 'list')).toEqual([]);
    const table = await at('a', 'list', '--all');
    expect(table.out).toMatch(
      new RegExp(`^${name} +- +\\d+ +1     ------  +0\\.0  not started with its host$`, 'm'),
    );
    const other = config(`name = "${name}"`, 'uuid = "7a1c1ad0-5e57-4c1b-9e0a-00000000beef"').file;
    for (const verb of ['define', 'create']) {
      const taken = await at('a', verb, other);
      expect(taken.err).toMatch(/another guest is defined as/);
      expect(taken.status).toBe(4);
    }
    expect((await at('a', 'autostart', name, 'on', '--order', '2', '--delay', '30')).out).toBe(
      `${name}: started with its host, order 2, after 30 s\n`,
    );
    const started = await json<DomainRow>('a', 'start', name);
    expect(started).toMatchObject({ name, uuid });
    expect((await at('a', 'start', name)).err).toMatch(/cannot be started: it runs/);
    expect(await json('a', 'list', '--all', name)).toMatchObject({
      domains: [{ domid: started.domid }],
      defined: [{ name, domid: started.domid, autostart: { order: 2, delayS: 30 }, pending: false }],
    });
    // What is defined goes with the guest.
    expect((await at('a', 'migrate', name, 'B')).status).toBe(0);
    expect(await json('a', 'list', '--all')).toEqual({ domains: [], defined: [] });
    await at('b', 'destroy', name);
    expect(await json('b', 'list', '--all')).toMatchObject({
      domains: [],
      defined: [{ name, kept: 'defined', domid: null, autostart: { order: 2, delayS: 30 } }],
    });
    // In a file it is not started, and does not lose it.
    await json('b', 'start', name);
    const image = join(hosts().root, `${name}.img`);
    await json('b', 'save', name, image);
    expect((await at('b', 'start', name)).err).toContain(`is in the file ${image}; restore it`);
    await json('b', 'restore', image);
    await json('b', 'rename', name, `${name}x`);
    await at('b', 'destroy', `${name}x`);
    expect(await json('b', 'list', '--all')).toMatchObject({ defined: [{ name: `${name}x` }] });
    await json('b', 'undefine', `${name}x`);
    expect(await json('b', 'list', '--all')).toEqual({ domains: [], defined: [] });
    expect((await at('b', 'undefine', name)).status).toBe(3);
    expect((await at('b', 'autostart', name, 'perhaps')).status).toBe(2);
  });

  it('writes the core of a guest, and keeps core and console of one that crashes', async () => {
    const { name, domid, uuid } = await create('onCrash = "coredump-restart"');
    const core = join(hosts().root, 'core');
    expect(await json('a', 'dump-core', name, core)).toEqual({
      guest: name,
      path: core,
      bytes: 100_009 + name.length,
    });
    expect(readFileSync(core).subarray(0, 8).toString()).toBe('core of ');
    expect(statSync(core).mode & 0o777).toBe(0o600);
    expect((await json<DomainRow[]>('a', 'list', name))[0].state).toMatch(/^[rb]-----$/);
    for (const text of ['hello\n', 'crash\n'])
      await hosts().a.ask('type', { guest: name, data: Buffer.from(text).toString('base64') });
    const again = await until('it runs again', async () => {
      const [row] = await json<DomainRow[]>('a', 'list');
      return row?.name === name && row.domid !== domid && row.state !== '----c-' ? row : undefined;
    });
    expect(again.uuid).toBe(uuid);
    const [kept] = await json<{ directory: string; coreBytes: number }[]>('a', 'crashes', name);
    expect(kept).toMatchObject({ domid, uuid, exit: { reason: 'crash', details: 'told to' } });
    expect(statSync(join(kept.directory, 'core')).size).toBe(kept.coreBytes);
    expect(readFileSync(join(kept.directory, 'console.log'), 'utf8')).toContain('hello');
    expect((await at('a', 'crashes')).out).toContain('told to');
    await at('a', 'destroy', name);
  });

  it('keeps what was known of a guest that crashed, and starts it', async () => {
    const { name, uuid, domid } = await create();
    await hosts().a.ask('type', { guest: name, data: Buffer.from('crash\n').toString('base64') });
    await until('it is gone', async () =>
      (await json<DomainRow[]>('a', 'list')).length === 0 ? true : undefined,
    );
    expect((await at('a', 'list', '--all')).out).toMatch(new RegExp(`^${name} .*----c- .*crashed`, 'm'));
    expect(await json<unknown[]>('a', 'crashes', name)).toMatchObject([{ domid, uuid, coreBytes: 0 }]);
    expect(await json('a', 'start', name)).toMatchObject({ name, uuid });
    // It is one that `create` has made, as before.
    expect(await json('a', 'list', '--all')).toMatchObject({ defined: [] });
    await at('a', 'destroy', name);
  });
}
