/** The verbs as a shell sees them: results, exit statuses, error texts. The guests are fake ones; the rest is real. */
import { spawn } from 'node:child_process';
import { chownSync, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { initIdentity, loadIdentity, trust } from '../../src/control/transport/identity.js';
import type { DomainRow } from '../../src/protocol/control.js';
import { TestHost, TwoHosts, until } from '../migration/hosts.js';
import { testPort } from '../support/ports.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

interface Result {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

function run(...args: string[]): Promise<Result> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [MAIN, ...args]);
    let [out, err] = ['', ''];
    child.stdout.on('data', (d) => (out += d));
    child.stderr.on('data', (d) => (err += d));
    child.stdin.end();
    child.on('close', (status) => done({ status, out, err }));
  });
}

/** Of a verb whose progress goes to the other stream. */
function resultOf({ status, out, err }: Result) {
  expect(status, err).toBe(0);
  return JSON.parse(out);
}

const VERBS = [
  'create',
  'list',
  'info',
  'console',
  'pause',
  'unpause',
  'shutdown',
  'reboot',
  'destroy',
  'rename',
  'save',
  'restore',
  'migrate',
  'dmesg',
  'uptime',
  'vcpu-list',
  'domid',
  'domname',
  'top',
  'points',
];

describe('the command line', () => {
  let hosts: TwoHosts;
  const at = (host: 'a' | 'b', verb: string, ...args: string[]): Promise<Result> =>
    run(verb, '--dir', hosts[host].dir, ...args);
  const json = async <T>(host: 'a' | 'b', verb: string, ...args: string[]): Promise<T> => {
    const { status, out, err } = await at(host, verb, '--json', ...args);
    expect({ status, err }).toEqual({ status: 0, err: '' });
    return JSON.parse(out) as T;
  };
  let guests = 0;
  /** A configuration file of a new guest, and its name. */
  const config = (...lines: string[]): { name: string; file: string } => {
    const name = `verb${++guests}`;
    const file = join(hosts.root, `${name}.cfg`);
    writeFileSync(file, [`name = "${name}"`, ...lines, ''].join('\n'));
    return { name, file };
  };
  const create = async (...lines: string[]): Promise<DomainRow> =>
    json<DomainRow>('a', 'create', config(...lines).file);

  beforeAll(async () => {
    hosts = await TwoHosts.open(testPort(17_500));
    trust(hosts.a.dir, 'A', loadIdentity(hosts.a.dir)!.certificate, `127.0.0.1:${hosts.a.port}`, ['control']);
  });
  afterAll(() => hosts?.close());
  afterEach(() => hosts.clear());

  it('has help for each verb, with what it takes and --json', async () => {
    const all = await run('--help');
    expect(all.status).toBe(0);
    const program = new Command('stillpoint');
    for (const verb of VERBS) {
      expect(all.out).toMatch(new RegExp(`^ +${verb}\\b`, 'm'));
      const { register } = (await import(`../../src/cli/commands/${verb}.ts`)) as {
        register(p: Command): void;
      };
      register(program);
      const help = program.commands.at(-1)!.helpInformation();
      expect(help).toMatch(/^Usage: stillpoint [a-z-]+ \[options\]/);
      expect(help).toContain('--json');
      expect(help).toContain('--on <host>');
    }
    const one = await run('migrate', '--help');
    expect(one.status).toBe(0);
    expect(one.out).toContain('--on-timeout');
  });

  it('completes verbs and options in a shell', async () => {
    const { out } = await run('completion', 'bash');
    const script = `${out}\nCOMP_WORDS=(stillpoint mig) COMP_CWORD=1; _stillpoint; echo "\${COMPREPLY[@]}"
      COMP_WORDS=(stillpoint migrate --max) COMP_CWORD=2; _stillpoint; echo "\${COMPREPLY[@]}"`;
    const shell = spawn('bash', ['-c', script]);
    let text = '';
    shell.stdout.on('data', (d) => (text += d));
    await new Promise((done) => shell.on('close', done));
    expect(text.trim().split('\n')).toEqual(['migrate migrate-cancel', '--max-downtime --max-rounds']);
    expect(await run('completion', 'fish')).toMatchObject({ status: 2 });
  });

  it('says by its exit status what went wrong', async () => {
    const { name } = await create();
    const broken = config('this is no setting').file;
    const cases: [number, RegExp, Promise<Result>][] = [
      [10, /no daemon runs in .*nowhere/, run('list', '--dir', join(hosts.root, 'nowhere'))],
      [3, /there is no domain nobody on A/, at('a', 'pause', 'nobody')],
      [3, /there is no domain nobody on A/, at('a', 'migrate', 'nobody', 'B')],
      [3, /there is no domain nobody on A/, at('a', 'console', 'nobody')],
      [4, /has the name/, at('a', 'create', join(hosts.root, `${name}.cfg`))],
      [2, /cfg:2/, at('a', 'create', broken)],
      [12, /ENOENT/, at('a', 'create', join(hosts.root, 'none.cfg'))],
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

  it('takes no number that is none, in any option, and says which', async () => {
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
    const asked = hosts.a.ask('shutdown', { guest: 'g', timeoutS: 1e12 });
    await expect(asked).rejects.toThrow(/there is no domain g|timeoutS: must be a number/);
  });

  it('ends without a word when its reader has enough', async () => {
    const { name } = await create();
    const child = spawn(process.execPath, [MAIN, 'points', '--watch', '--dir', hosts.a.dir, name]);
    let err = '';
    child.stderr.on('data', (d) => (err += d));
    const ended = new Promise((done) => child.on('close', (status) => done(status)));
    await new Promise((done) => child.stdout.once('data', done));
    child.stdout.destroy();
    expect(await ended).toBe(141);
    expect(err).toBe('');
    await at('a', 'destroy', name);
  });

  it('goes on with the guest that was meant, when its name has become that of another', async () => {
    const first = await create();
    const said = spawn(process.execPath, [
      MAIN,
      'points',
      '--watch',
      '--json',
      '--dir',
      hosts.a.dir,
      first.name,
    ]);
    let out = '';
    let err = '';
    said.stdout.on('data', (d) => (out += d));
    said.stderr.on('data', (d) => (err += d));
    const ended = new Promise((done) => said.on('close', done));
    await until('it is printed', () => out.includes('\n') || undefined);
    await json('a', 'rename', first.name, 'another');
    const file = join(hosts.root, `${first.name}.cfg`);
    const second = await json<DomainRow>('a', 'create', file);
    const seen = out.length;
    await until('it is printed again', () => out.slice(seen).split('\n').length > 2 || undefined);
    await at('a', 'destroy', 'another');
    expect(await ended).toBe(3);
    expect(err).toMatch(new RegExp(`there is no domain ${first.name} on A`));
    const rows = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(rows.pop()).toMatchObject({ error: { code: 'no-such-guest' } });
    const shown = rows.map(([point]) => point.outer);
    expect(new Set(shown)).toEqual(new Set([String(first.domid)]));
    await at('a', 'destroy', String(second.domid));
  });

  it('takes digits for a domain id, whatever guests are called', async () => {
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
    const image = join(hosts.root, 'other.img');
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
    // The progress of the move goes to the other stream.
    expect(moved.err).toMatch(/round 1: \d+ pages, \d+ MB\/s, dirty \d+ \(\d+\/s\), expected downtime/);
    expect((await json<DomainRow[]>('b', 'list'))[0].name).toBe('other');
    await at('b', 'destroy', 'other');
  });

  it('gives one JSON value a line for each verb', async () => {
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

  it('prints the points again and again under --watch, also across the end of the guest', async () => {
    const { name, domid } = await create();
    const child = spawn(process.execPath, [
      ...[MAIN, 'points', '--dir', hosts.a.dir, '--watch', '--json', name],
    ]);
    let [out, err] = ['', ''];
    child.stdout.on('data', (d) => (out += d));
    child.stderr.on('data', (d) => (err += d));
    const ended = new Promise((done) => child.on('close', done));
    await until('it is printed twice', () => out.split('\n').length > 2 || undefined);
    for (const line of out.trim().split('\n')) {
      expect(JSON.parse(line)[0]).toMatchObject({ name: 'domain id', outer: String(domid) });
    }
    await at('a', 'destroy', name);
    expect(await ended).toBe(3);
    expect(err).toMatch(new RegExp(`there is no domain ${name} on A`));
  });

  it('sends no faster than --bandwidth allows', async () => {
    const { name } = await create('frames = 2048');
    const { rounds } = resultOf(await at('a', 'migrate', '--json', '--bandwidth', '20', name, 'B'));
    expect(rounds[0].sent).toBeGreaterThan(1000);
    expect(rounds[0].mbPerSecond).toBeLessThan(21);
    await at('b', 'destroy', name);
  });

  it('ends a daemon that cannot listen, and leaves nothing to speak to', async () => {
    const dir = join(hosts.root, 'keyless');
    const { status, err } = await run(
      'host',
      '--name',
      'K',
      '--dir',
      dir,
      '--listen',
      `127.0.0.1:${testPort(17_518)}`,
    );
    expect({ status, err }).toEqual({
      status: 5,
      err: 'stillpoint: this host has no key yet (stillpoint host init)\n',
    });
    expect(existsSync(join(dir, 'control.sock'))).toBe(false);
  });

  it.skipIf(process.getuid?.() !== 0)(
    'runs under a user without privileges, with the same rights for guests',
    async () => {
      const nobody = 65_534;
      const dir = join(hosts.root, 'N');
      await initIdentity(dir);
      for (const path of [dir, ...readdirSync(dir, { recursive: true }).map((p) => join(dir, String(p)))])
        chownSync(path, nobody, nobody);
      const host = new TestHost('N', dir, testPort(17_519), hosts.a.config);
      await host.start(nobody);
      try {
        const file = config().file;
        const made = await run('create', '--dir', dir, '--json', file);
        expect(made.err).toBe('');
        const { pid, name, domid } = JSON.parse(made.out) as DomainRow;
        const status = readFileSync(`/proc/${pid}/status`, 'utf8');
        expect(status).toMatch(/^Uid:\t65534\t65534/m);
        expect(status).toMatch(/^CapEff:\t0+$/m);
        expect(readFileSync(`/proc/${pid}/limits`, 'utf8')).toMatch(/Max data size +\d+ +\d+ +bytes/);
        expect(statSync(join(dir, 'guests', String(domid))).mode & 0o777).toBe(0o700);
        const image = join(dir, 'saved.img');
        expect(await run('save', '--dir', dir, name, image)).toMatchObject({ status: 0 });
        expect(statSync(image)).toMatchObject({ uid: nobody });
        expect(await run('restore', '--dir', dir, image)).toMatchObject({ status: 0 });
        expect(await run('destroy', '--dir', dir, name)).toMatchObject({ status: 0 });
      } finally {
        await host.kill();
      }
    },
  );

  it('gives up a move that takes too long when it is told to, and the guest goes on', async () => {
    const { name } = await create('frames = 2048', 'ticksPerTurn = 400');
    const options = ['--bandwidth', '1', '--max-downtime', '1', '--on-timeout', 'cancel'];
    const rounds = await at('a', 'migrate', ...options, '--max-rounds', '1', name, 'B');
    expect(rounds).toMatchObject({ status: 7 });
    expect(rounds.err).toMatch(/1 rounds were not enough: \d+ pages are left.*goes on here/s);
    const time = await at('a', 'migrate', ...options, '--timeout', '0.1', name, 'B');
    expect(time.err).toMatch(/not done within 0.1 s.*goes on here/s);
    expect((await json<DomainRow[]>('a', 'list', name))[0].state).toMatch(/^[rb]/);
    await at('a', 'destroy', name);
  });

  it('asks a guest to shut down or reboot, and says when it does not answer', async () => {
    const deaf = await create('wild = 1');
    const asked = await at('a', 'shutdown', '--timeout', '1', deaf.name);
    expect(asked.status).toBe(6);
    expect(asked.err).toMatch(/did not take the request to shut down within 1 s.*destroy ends it/s);
    await at('a', 'destroy', deaf.name);
    const polite = await create();
    await json('a', 'reboot', '--wait', polite.name);
    const again = await until('it is back', async () =>
      (await hosts.a.list()).find(
        (row) => row.name === polite.name && row.domid !== polite.domid && /^[rb]/.test(row.state),
      ),
    );
    expect(again.domid).toBeGreaterThan(polite.domid);
    await json('a', 'shutdown', '--wait', polite.name);
    expect(await json<DomainRow[]>('a', 'list')).toEqual([]);
  });

  it('takes no request for a guest that is being built, and says so', async () => {
    const { name, file } = config();
    const made = json<DomainRow>('a', 'create', file);
    const answer = await until('it is known', () =>
      hosts.a.ask('pause', { guest: name }).then(
        () => 'paused',
        (error: Error) => (error.message.includes('there is no domain') ? undefined : error.message),
      ),
    );
    expect(answer).toBe(`domain ${name} is being built`);
    await made;
    await at('a', 'destroy', name);
  });

  it('says in its log how the process of a guest ended', async () => {
    const [destroyed, killed, faulted] = [
      await create(),
      await create('onCrash = "preserve"'),
      await create('onCrash = "preserve"'),
    ];
    const how = (pid: number) =>
      until(`the end of ${pid} in the log`, () =>
        hosts.a
          .log()
          .split('\n')
          .filter((line) => line.includes('"process ended"'))
          .map((line) => JSON.parse(line) as { pid: number; how: string })
          .find((line) => line.pid === pid),
      ).then((line) => line.how);
    await at('a', 'destroy', destroyed.name);
    process.kill(killed.pid, 'SIGKILL');
    process.kill(faulted.pid, 'SIGSEGV');
    expect(await how(destroyed.pid)).toBe('ended with exit code 0');
    expect(await how(killed.pid)).toMatch(/^was killed \(SIGKILL\) by/);
    expect(await how(faulted.pid)).toBe('was ended by SIGSEGV');
    for (const { name } of [killed, faulted]) await at('a', 'destroy', name);
  });

  it('shows what a guest whose process died left to do: on_crash', async () => {
    const restarted = await create('onCrash = "restart"');
    const kept = await create('onCrash = "preserve"');
    for (const { pid } of [restarted, kept]) process.kill(pid, 'SIGKILL');
    const again = await until('it is back', async () =>
      (await hosts.a.list()).find((row) => row.name === restarted.name && row.pid !== restarted.pid),
    );
    expect(again.domid).not.toBe(restarted.domid);
    expect((await json<DomainRow[]>('a', 'list', kept.name))[0].state).toBe('----c-');
    for (const { name } of [restarted, kept]) await at('a', 'destroy', name);
  });

  it('runs each guest in a process of its own, with no right that it does not need', async () => {
    const [one, two] = [await create(), await create()];
    const status = (pid: number): string => readFileSync(`/proc/${pid}/status`, 'utf8');
    const limits = readFileSync(`/proc/${one.pid}/limits`, 'utf8');
    expect(limits).toMatch(/Max data size +\d+ +\d+ +bytes/);
    expect(limits).toMatch(/Max core file size +0 +0 /);
    expect(readFileSync(`/proc/${one.pid}/environ`, 'utf8')).not.toMatch(/^PATH=|\0HOME=/);
    const guest = join(hosts.a.dir, 'guests', String(one.domid));
    expect(statSync(guest).mode & 0o777).toBe(0o700);
    if (process.getuid?.() === 0) {
      const uid = (pid: number): string => /^Uid:\t(\d+)/m.exec(status(pid))![1];
      expect(Number(uid(one.pid))).toBeGreaterThan(0);
      expect(uid(one.pid)).not.toBe(uid(two.pid));
      expect(statSync(guest).uid).toBe(Number(uid(one.pid)));
      expect(status(one.pid)).toMatch(/^Groups:\s*$/m);
      expect(status(one.pid)).toMatch(/^CapEff:\t0+$/m);
    }
    for (const { name } of [one, two]) await at('a', 'destroy', name);
  });
});
