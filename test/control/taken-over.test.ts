import { execFileSync, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { compiled } from '../../scripts/lib/root.js';
import type { DomainRow } from '../../src/protocol/control.js';
import { TestHost, until } from '../migration/hosts.js';
import { programKernel } from '../support/program-kernel.js';

const DIST = fileURLToPath(new URL('../../dist', import.meta.url));
const TAKEN_OVER = compiled('test/control/taken-over.ts').href;

/** A host with its own runner; `restart` starts a new daemon over the files that the last one left. */
class OneHost {
  readonly root = mkdtempSync(join(tmpdir(), 'stillpoint-taken-'));
  readonly host: TestHost;
  constructor(port: number, config: object) {
    execFileSync('chmod', ['711', this.root]);
    mkdirSync(join(this.root, 'A'));
    writeFileSync(join(this.root, 'A.json'), JSON.stringify({ guestFolders: [this.root], ...config }));
    this.host = new TestHost('A', join(this.root, 'A'), port, join(this.root, 'A.json'), [
      '--plain-loopback',
      '--i-know',
    ]);
  }
  create(name: string, more = ''): Promise<DomainRow> {
    const config = `name = "${name}"\n${more}\n`;
    return this.host.ask('create', { config, file: 'guest.cfg', directory: this.root });
  }
  async restart(whileDown: () => void = () => {}): Promise<void> {
    await this.host.kill();
    whileDown();
    await this.host.start();
  }
  log(): string {
    return readFileSync(join(this.host.dir, 'daemon.log'), 'utf8');
  }
  async clear(): Promise<void> {
    for (const row of await this.host.list())
      await this.host.ask('destroy', { guest: String(row.domid) }).catch((error: Error) => {
        // The process ended by itself meanwhile.
        if (!/there is no domain/.test(error.message)) throw error;
      });
  }
  async close(): Promise<void> {
    await this.clear().catch(() => {});
    if (this.host.process?.exitCode === null) await this.host.kill();
    rmSync(this.root, { recursive: true, force: true });
  }
}

const states = async (host: TestHost): Promise<Record<string, string>> =>
  Object.fromEntries((await host.list()).map((row) => [row.name, row.state]));
const RUNS = expect.stringMatching(/^(r-|-b)----$/);
const alive = (pid: number): boolean =>
  existsSync(`/proc/${pid}/stat`) && !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));

describe('a guest process that was taken over', () => {
  let one: OneHost;
  beforeAll(async () => {
    one = new OneHost(18_100, { runner: TAKEN_OVER });
    await one.host.start();
  });
  afterAll(() => one?.close());
  afterEach(() => one.clear());

  it('sends invalid messages, which the daemon logs and ignores', async () => {
    await one.create('good');
    await one.create('bad', 'evil = "notices"');
    await until('a note of it', () => /says nonsense/.test(one.log()) || undefined);
    expect(await states(one.host)).toEqual({ good: RUNS, bad: RUNS });
    // The log lines are limited in rate.
    expect(one.log().match(/says nonsense/g)!.length).toBeLessThan(20);
  });

  it('sends answers of wrong types and sizes, which harm only itself', async () => {
    await one.create('good');
    await one.create('bad', 'evil = "types"');
    expect(await states(one.host)).toEqual({ good: RUNS, bad: '------' });
    for (const verb of ['points', 'blockList'] as const)
      await expect(one.host.ask(verb, { guest: 'bad' })).rejects.toThrow(
        /the process of domain \d+: the answer to/,
      );
    expect((await one.host.ask('dmesg', { guest: 'bad' })).length).toBeLessThan(1 << 20);
    await one.host.ask('pause', { guest: 'bad' });
  });

  it('leaves no child process behind', async () => {
    const { pid } = await one.create('bad', 'evil = "child"');
    const children = (): string[] =>
      readdirSync('/proc').filter((p) => {
        try {
          return /left-behind/.test(readFileSync(`/proc/${p}/cmdline`, 'latin1'));
        } catch {
          return false;
        }
      });
    await until('a child', () => children().length > 0 || undefined);
    await one.host.ask('destroy', { guest: 'bad' });
    expect(alive(pid)).toBe(false);
    expect(children()).toEqual([]);
  });

  it('ends with output whose control characters reach no terminal', async () => {
    await one.create('bad', 'evil = "stopped"');
    await until('its end', () => /guest ended/.test(one.log()) || undefined);
    const line = one
      .log()
      .split('\n')
      .find((l) => /guest ended/.test(l))!;
    expect(line).toContain('red');
    expect(line).not.toMatch(/[^\x20-\x7e]/);
    expect(JSON.parse(line).details).toBe('\x1b[31mred\u202e');
  });

  it('puts links, pipes and devices in place of its files, which nobody follows or waits for', async () => {
    for (const [name, put] of [
      ['link', (path: string) => symlinkSync('/dev/zero', path)],
      ['secret', (path: string) => symlinkSync('/etc/hostname', path)],
      ['pipe', (path: string) => execFileSync('mkfifo', [path])],
      ['folder', (path: string) => mkdirSync(path)],
    ] as const) {
      const { domid, pid } = await one.create(name);
      const guest = join(one.host.dir, 'guests', String(domid));
      for (const file of ['exit.json', 'owner.json']) put(join(guest, file));
      const secret = readFileSync('/etc/hostname', 'utf8').trim();
      process.kill(pid, 'SIGKILL');
      await until(`the end of ${name}`, async () => (await one.host.list()).length === 0 || undefined);
      expect(one.log()).not.toContain(`died ${secret}`);
    }
  });
});

describe('a daemon that restarts', () => {
  let one: OneHost;
  beforeAll(async () => {
    one = new OneHost(18_110, { runner: TAKEN_OVER });
    await one.host.start();
  });
  afterAll(() => one?.close());
  afterEach(() => one.clear());

  it('reads the end of a long log, and truncates it', async () => {
    const { domid, pid } = await one.create('long');
    const log = join(one.host.dir, 'logs', `${domid}.log`);
    await one.restart(() => {
      truncateSync(log, 3 * 2 ** 30);
      process.kill(pid, 'SIGKILL');
    });
    expect(await one.host.list()).toEqual([]);
    const other = await one.create('other');
    const cut = join(one.host.dir, 'logs', `${other.domid}.log`);
    truncateSync(cut, 2 ** 30);
    await until('a shorter log', () => readFileSync(cut).length < 1 << 20 || undefined);
  });

  it('serves all other guests while one process hangs, and adopts that guest when its process answers', async () => {
    const hung = await one.create('hung');
    await one.create('good');
    process.kill(hung.pid, 'SIGSTOP');
    await one.restart();
    expect(await states(one.host)).toEqual({ good: RUNS, hung: '------' });
    expect((await one.create('new')).name).toBe('new');
    process.kill(hung.pid, 'SIGCONT');
    await until('the other', async () => /^(r-|-b)/.test((await states(one.host)).hung) || undefined);
    // A guest whose process never answers can still be destroyed.
    process.kill(hung.pid, 'SIGSTOP');
    await one.restart();
    await one.host.ask('destroy', { guest: 'hung' });
    expect(alive(hung.pid)).toBe(false);
  });

  it('sets aside files that it cannot read, by their names, and serves all other guests', async () => {
    const lost = await one.create('lost');
    await one.create('good');
    const { dir } = one.host;
    mkdirSync(join(dir, 'identity/trusted'), { recursive: true });
    const id = '00000000-0000-4000-8000-000000000000';
    const damaged: [string, string][] = [
      ['daemon.pid', ''],
      ['domids.json', '{"next":"x"}'],
      [`state/${lost.domid}.json`, '{"domid":'],
      [`handovers/out-${id}.json`, 'null'],
      ['identity/trusted/B.json', '{"name":"B"}'],
    ];
    await one.restart(() => {
      for (const [file, text] of damaged) writeFileSync(join(dir, file), text);
    });
    expect(await states(one.host)).toEqual({ good: RUNS });
    expect((await one.create('new')).domid).not.toBe(lost.domid);
    for (const [file, text] of damaged.slice(0, 4)) {
      expect(readFileSync(join(dir, `${file}.damaged`), 'utf8')).toBe(text);
      expect(one.log()).toContain(file);
    }
    // The files of the process itself are not touched.
    expect(alive(lost.pid)).toBe(true);
    expect(existsSync(join(dir, 'guests', String(lost.domid)))).toBe(true);
    process.kill(lost.pid, 'SIGKILL');
    for (const name of readdirSync(join(dir, 'state')))
      if (name.includes('damaged')) unlinkSync(join(dir, 'state', name));
  });
});

it('a guest alone: all the lines that it can write, and then zeros, harm nobody', async () => {
  const one = new OneHost(18_120, {});
  try {
    const kernel = join(one.root, 'kernel');
    const lines = `
      mov r12d, 6000
    more:
      mov eax, 18
      xor edi, edi
      mov esi, 1024
      lea rdx, [zeros]
      syscall
      dec r12d
      jnz more
      lea rsi, [said]
      call print
    wait:
      xor edi, edi
      xor esi, esi
      mov eax, 29
      syscall
      jmp wait
    said: ascii "written\\n"
    zero 1
    zeros: zero 1024
    `;
    writeFileSync(kernel, programKernel(lines));
    await one.host.start();
    const { domid } = await one.create('loud', `kernel = "${kernel}"\nmemory = 8`);
    await one.host.consoleOf('loud', '', /written/);
    const text = await one.host.ask('dmesg', { guest: 'loud' });
    expect(text).toMatch(/^[\x20-\x7e\n]+$/);
    expect(text.length).toBeGreaterThan(1 << 16);
    expect(readFileSync(join(one.host.dir, 'logs', `${domid}.log`)).length).toBeLessThan(8 << 20);
    expect(await states(one.host)).toEqual({ loud: RUNS });
  } finally {
    await one.close();
  }
}, 60_000);

it('a guest process that cannot be confined starts only with the option that allows it', () => {
  const bare = mkdtempSync(join(tmpdir(), 'stillpoint-bare-'));
  try {
    // The same program without koffi.
    for (const room of ['guest-process', 'os', 'protocol'])
      cpSync(join(DIST, room), join(bare, 'dist', room), { recursive: true });
    mkdirSync(join(bare, 'node_modules'));
    symlinkSync(join(DIST, '../node_modules/valibot'), join(bare, 'node_modules/valibot'));
    writeFileSync(join(bare, 'package.json'), '{"type":"module"}');
    const launch = (unconfined: boolean): { status: number | null; said: string } => {
      const told = { runner: '', files: null, limits: {}, unconfined };
      const args = [join(bare, 'dist/guest-process/guest-launcher.js'), JSON.stringify(told)];
      const { status, stderr } = spawnSync(process.execPath, args, { cwd: bare, encoding: 'utf8' });
      return { status, said: stderr };
    };
    expect(launch(false)).toMatchObject({
      status: 1,
      said: expect.stringMatching(/koffi.*--unconfined starts/),
    });
    expect(launch(true)).toMatchObject({
      said: expect.stringMatching(/koffi.*runs all the same/),
    });
  } finally {
    rmSync(bare, { recursive: true });
  }
});
