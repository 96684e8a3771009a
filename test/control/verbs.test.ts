/**
 * Tests the verbs as a shell sees them: results, exit statuses, messages. The guests are fake ones; the rest is real.
 */
import { spawn } from 'node:child_process';
import { chownSync, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { DomainRow } from '../../src/protocol/control.js';
import { initIdentity, loadIdentity, trust } from '../../src/transport/identity.js';
import { TestHost, TwoHosts, until } from '../migration/hosts.js';
import { testPort } from '../support/ports.js';
import { MAIN, type Result, Verbs, verbTable } from './verb-table.js';

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

/** The result of a verb whose progress goes to standard error. */
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
  const verbs = new Verbs(() => hosts, run);
  const { at, json, config, create } = verbs;

  beforeAll(async () => {
    hosts = await TwoHosts.open(testPort(17_500));
    trust(hosts.a.dir, 'A', loadIdentity(hosts.a.dir)!.certificate, `127.0.0.1:${hosts.a.port}`, ['control']);
  });
  afterAll(() => hosts?.close());
  afterEach(() => hosts.clear());

  verbTable(verbs);

  it('has help for each verb, with its arguments and --json', async () => {
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

  it('ends silently when its reader closes the pipe', async () => {
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

  it('continues with the guest that was meant, when its name has become that of another', async () => {
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

  it('prints the points repeatedly under --watch, also past the end of the guest', async () => {
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

  it('sends at most at the rate of --bandwidth', async () => {
    const { name } = await create('frames = 2048');
    const { rounds } = resultOf(await at('a', 'migrate', '--json', '--bandwidth', '20', name, 'B'));
    expect(rounds[0].sent).toBeGreaterThan(1000);
    expect(rounds[0].mbPerSecond).toBeLessThan(21);
    await at('b', 'destroy', name);
  });

  it('ends a daemon that cannot listen, and leaves no socket behind', async () => {
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
    'runs as an unprivileged user, with the same confinement of guests',
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

  it('gives up a move that takes too long if asked to, and the guest goes on', async () => {
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

  it('asks a guest to shut down or reboot, and reports a guest that does not react', async () => {
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

  it('logs how the process of a guest ended', async () => {
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

  it('shows what happens to a guest whose process died: on_crash', async () => {
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

  it('runs each guest in its own process, without any right that it does not need', async () => {
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
