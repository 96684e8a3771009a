/** The verbs of `stillpoint xl` on fake guests: what they do, print and end with. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../migration/hosts.js';
import { testPort } from '../support/ports.js';
import { XlHost } from './xl-host.js';

const FIRST_PORT = 17_900;
const host = new XlHost(testPort(FIRST_PORT));
const { a, b } = host;
const xl = host.xl.bind(host);
const rowOf = async (name: string) => (await a.list()).find((row) => row.name === name);

let made = 0;
async function create(...lines: string[]): Promise<string> {
  const name = `web${++made}`;
  const file = host.file(`${name}.cfg`, [`name = "${name}"`, ...lines, ''].join('\n'));
  expect(await xl(['create', file])).toMatchObject({
    status: 0,
    out: '',
    err: `Parsing config from ${file}\n`,
  });
  return name;
}

beforeAll(() => host.open());
afterAll(() => host.close());

describe('xl makes, ends and moves guests', () => {
  afterEach(async () => {
    for (const one of [a, b])
      for (const { uuid } of await one.list()) await one.ask('destroy', { guest: uuid }).catch(() => null);
  });

  it('create reads the file and assignments, and tells what is wrong by its status', async () => {
    const file = host.file('given.cfg', 'name = "given"\n');
    expect(await xl(['create', '-q', '-p', file, 'name="other"'])).toMatchObject({
      status: 0,
      out: '',
      err: '',
    });
    expect(await rowOf('other')).toMatchObject({ state: '--p---' });
    const again = await xl(['create', '-q', '--defconfig', file, 'name="other"']);
    expect(again).toMatchObject({ status: 3, out: '' });
    expect(again.err).toMatch(/^libxl: error: .*has the name/);
    expect(await xl('create /absent.cfg')).toMatchObject({
      status: 3,
      err: 'Failed to read config file: /absent.cfg: No such file or directory\n',
    });
    expect((await xl('create')).status).toBe(6);
    expect((await xl('create one two')).status).toBe(2);
    expect((await xl(['create', '-qc', file])).status).toBe(0);
    expect(host.consoles).toEqual([(await rowOf('given'))?.uuid]);
  });

  it('destroy ends a guest, and neither domain 0 nor one that is not there', async () => {
    const name = await create();
    expect(await xl(['destroy', name])).toMatchObject({ status: 0, out: '', err: '' });
    expect(await rowOf(name)).toBeUndefined();
    expect((await xl('destroy 0')).err).toMatch(/^Not destroying domain 0; use -f to force\.\n/);
    expect(await xl('destroy Domain-0')).toMatchObject({ status: 1 });
    expect(await xl('destroy 4711')).toMatchObject({ status: 1, out: '' });
  });

  it('shutdown -w waits for the guest, -a asks all of them, and a guest that does not answer is told of', async () => {
    const [one, two] = [await create(), await create()];
    const { domid } = (await rowOf(one))!;
    const asked = await xl(['shutdown', '-w', one]);
    expect(asked).toMatchObject({ status: 0, out: '' });
    expect(asked.err.split('\n').slice(0, 2)).toEqual([
      `Shutting down domain ${domid}`,
      'Waiting for 1 domains',
    ]);
    expect(asked.err).toMatch(
      new RegExp(`\nDomain ${domid} has been (destroyed|shut down, reason code 0)\n$`),
    );
    expect((await xl('shutdown -aww')).status).toBe(0);
    expect(await rowOf(two)).toBeUndefined();
    expect(await xl('shutdown -a')).toMatchObject({ status: 0, out: '', err: '' });
    expect(await xl('shutdown')).toMatchObject({ status: 1, err: 'You must specify -a or a domain id.\n\n' });
    expect(await xl('shutdown 0')).toMatchObject({ status: 1 });
  });

  it('reboot makes it another domain', async () => {
    const name = await create();
    const { domid } = (await rowOf(name))!;
    expect((await xl(['reboot', '-w', String(domid)])).err).toMatch(
      new RegExp(`^Rebooting domain ${domid}\n`),
    );
    await until('it is back', async () => /[rb]/.test((await rowOf(name))?.state ?? '') || undefined);
    expect((await rowOf(name))?.domid).toBeGreaterThan(domid);
  });

  it('save and restore carry a guest through a file; -c and -p leave it', async () => {
    const name = await create();
    const file = join(host.root, `${name}.save`);
    expect(await xl(['save', '-p', name, file])).toMatchObject({ status: 0, out: '' });
    expect((await rowOf(name))?.state).toBe('--p---');
    expect((await xl(['save', name, file])).status).toBe(0);
    expect(await rowOf(name)).toBeUndefined();
    expect(await xl(['restore', '-p', file])).toMatchObject({ status: 0, out: '' });
    expect((await rowOf(name))?.state).toBe('--p---');
    expect(await xl('restore /absent.save')).toMatchObject({
      status: 1,
      err: "Can't open restore file: No such file or directory\n",
    });
    expect((await xl('restore a b c')).status).toBe(1);
    expect((await xl(['restore', host.file('no.save', 'nothing')])).err).toMatch(/^libxl: error: byte \d+/);
  });

  it('migrate moves a guest to a trusted host, with the words of a success on standard error', async () => {
    const name = await create();
    const moved = await xl(['migrate', '--live', name, 'B']);
    expect(moved).toMatchObject({ status: 0, out: '' });
    expect(moved.err).toMatch(/\nMigration successful\.\n$/);
    expect((await b.list()).map((row) => row.name)).toEqual([name]);
    const other = await create();
    const failed = await xl(['migrate', '-p', other, 'nowhere']);
    expect(failed).toMatchObject({ status: 1, out: '' });
    expect(failed.err).toMatch(/\nMigration failed, resuming at sender\.\n$/);
    expect((await rowOf(other))?.state).toMatch(/^[rb]/);
    expect((await xl(['migrate', '-p', '-C', 'some.cfg', other, 'B'])).status).toBe(0);
    expect((await b.list()).find((row) => row.name === other)?.state).toBe('--p---');
  });
});

describe('xl changes what a guest has', () => {
  let name: string;
  beforeAll(async () => {
    name = await create('frames = 1024');
  });

  it('console shows that of the guest that is meant', async () => {
    expect((await xl(['console', '-t', 'pv', name])).status).toBe(0);
    expect(host.consoles.at(-1)).toBe((await rowOf(name))?.uuid);
    expect(await xl(['console', '-t', 'nonsense', name])).toMatchObject({
      status: 1,
      err: 'console type supported are: pv, serial, vuart\n',
    });
    expect((await xl(['console', '-t', 'serial', name])).err).toMatch(/Unable to attach console\n$/);
  });

  it('pause, unpause and rename do what they say, and no word more', async () => {
    expect(await xl(['pause', name])).toMatchObject({ status: 0, out: '', err: '' });
    expect((await rowOf(name))?.state).toBe('--p---');
    expect(await xl(['unpause', name])).toMatchObject({ status: 0, out: '', err: '' });
    expect(await xl(['rename', name, `${name}b`])).toMatchObject({ status: 0, out: '', err: '' });
    name = `${name}b`;
    const refused = await xl(['rename', name, 'a/b']);
    expect(refused).toMatchObject({ status: 1 });
    expect(refused.err).toMatch(new RegExp(`\nCan't rename domain '${name}'\\.\n$`));
  });

  it('mem-set and mem-max hold to each other and to maxmem, and the target is in xenstore', async () => {
    const { domid } = (await rowOf(name))!;
    const node = (path: string) => a.store.written.get(`${domid}/${path}`);
    expect(await xl(['mem-set', name, '3'])).toMatchObject({ status: 0, out: '', err: '' });
    expect(node('memory/target')).toBe('3072');
    expect(await a.ask('config', { guest: name })).toMatchObject({ memoryKib: 3072 });
    expect((await xl(['mem-set', name, '2049k'])).status).toBe(0);
    expect(node('memory/target')).toBe('2048');
    for (const size of ['5m', '4097k', '1t'])
      expect(await xl(['mem-set', name, size])).toMatchObject({
        status: 1,
        err: expect.stringMatching(`\ncannot set domid ${domid} dynamic max memory to : ${size}\n$`),
      });
    expect((await xl(['mem-max', name, '3'])).status).toBe(0);
    expect(node('memory/static-max')).toBe('3072');
    expect((await xl(['mem-set', name, '4'])).status).toBe(1);
    expect((await xl(['mem-max', name, '1'])).err).toMatch(
      `cannot set domid ${domid} static max memory to : 1\n`,
    );
    for (const size of ['much', '3mb', '1.5g', ''])
      expect(await xl(['mem-max', name, size])).toMatchObject({
        status: 1,
        err: `invalid memory size: ${size}\n`,
      });
  });

  it('vcpu-set is checked against the guest and the machine', async () => {
    const { domid } = (await rowOf(name))!;
    expect((await xl(['vcpu-set', name, '1'])).status).toBe(0);
    expect(a.store.written.get(`${domid}/cpu/0/availability`)).toBe('online');
    expect(await xl(['vcpu-set', name, '3'])).toMatchObject({
      status: 1,
      err: 'You are overcommmitting! You have 2 physical CPUs and want 3 vCPUs! Aborting, use --ignore-host to continue\n',
    });
    expect((await xl(['vcpu-set', '--ignore-host', name, '3'])).err).toMatch(
      `\nlibxl_set_vcpuonline failed domid=${domid} max_vcpus=3, rc: -3\n`,
    );
    expect(await xl(['vcpu-set', name, 'many'])).toMatchObject({
      status: 1,
      err: 'Error: Invalid argument.\n',
    });
  });

  it('sysrq writes the key for the guest, and trigger gives it an NMI', async () => {
    const { domid } = (await rowOf(name))!;
    expect(await xl(['sysrq', name, 'h'])).toMatchObject({ status: 0, out: '', err: '' });
    expect(a.store.written.get(`${domid}/control/sysrq`)).toBe('h');
    const long = await xl(['sysrq', name, 'help']);
    expect(long).toMatchObject({ status: 1, err: 'Invalid sysrq.\n\n' });
    expect(long.out).toMatch(/^Usage: xl \[-vtTf\] sysrq <Domain> <letter>\n/);
    expect(await xl(['trigger', name, 'nmi'])).toMatchObject({ status: 0, out: '', err: '' });
    expect((await xl(['trigger', name, 'nmi', '7'])).err).toMatch(/the guest has no vCPU 7/);
    expect((await xl(['trigger', name, 'reset'])).err).toMatch(/Send trigger 'reset' failed/);
    expect(await xl(['trigger', name, 'nonsense'])).toMatchObject({
      status: 1,
      err: 'Invalid trigger "nonsense"\n',
    });
  });

  it('config-update is what the guest reboots with, under its name and uuid', async () => {
    const { domid, uuid } = (await rowOf(name))!;
    const file = host.file('update.cfg', 'name = "called otherwise"\nframes = 768\n');
    const updated = await xl(['config-update', name, file]);
    expect(updated).toMatchObject({ status: 0, out: '' });
    expect(updated.err).toMatch(/^WARNING: xl now has better capability.*\nsetting dom\d+ configuration\n$/);
    await xl(['reboot', name]);
    await until('it is back', async () => ((await rowOf(name))?.domid ?? domid) > domid || undefined);
    expect(await rowOf(name)).toMatchObject({ memoryMib: 3, uuid });
    expect(await xl(['config-update', name, '/absent.cfg'])).toMatchObject({ status: 253 });
    expect((await xl(['config-update', name])).err).toMatch(/\nConfig file not specified\n$/);
  });

  it('disks are plugged in, listed by number, and unplugged', async () => {
    const { domid } = (await rowOf(name))!;
    expect(await xl(['block-attach', name, '/memory/one', 'raw', 'xvdb', 'w'])).toMatchObject({
      status: 0,
      out: '',
      err: '',
    });
    expect((await xl(['block-list', name])).out).toBe(
      `Vdev  BE  handle state evt-ch ring-ref BE-path                       \n51728 0   ${String(domid).padEnd(6)} -1    -1     -1       ${`/local/domain/0/backend/vbd/${domid}/51728`.padEnd(30)}\n`,
    );
    expect((await xl(['block-attach', name, '/srv/other,raw,xvdc,w'])).err).toMatch(
      /\nlibxl_device_disk_add failed\.\n$/,
    );
    expect(await xl(['block-detach', name, 'xvdz'])).toMatchObject({
      status: 1,
      err: 'Error: Device xvdz not connected.\n',
    });
    expect((await xl(['block-detach', '-f', name, '51728'])).status).toBe(0);
    expect((await xl(['block-list', name])).out.split('\n')).toHaveLength(2);
    expect(await xl('block-list absent')).toMatchObject({
      status: 0,
      err: 'absent is an invalid domain identifier\n',
    });
  });

  it('a medium is refused, as by libxl for PV guests', async () => {
    for (const words of [
      ['cd-insert', name, 'xvdd', host.file('some.iso', 'a medium')],
      ['cd-eject', name, 'xvdd'],
    ])
      expect(await xl(words)).toMatchObject({
        status: 1,
        out: '',
        err: expect.stringMatching(/cdrom-insert requires an HVM domain\n$/),
      });
  });
});

describe('xl as a command', () => {
  it('is a verb of the program, and the program itself under its name', async () => {
    const { xlWords } = await import('../../src/cli/commands/xl.js');
    expect(xlWords(['node', '/usr/local/bin/xl', 'list', '-l'])).toEqual(['list', '-l']);
    expect(xlWords(['node', '/usr/local/bin/xl'])).toEqual([]);
    expect(xlWords(['node', '/usr/bin/stillpoint', 'xl', 'create', '-V'])).toEqual(['create', '-V']);
    expect(xlWords(['node', '/usr/bin/stillpoint', 'list', 'xl'])).toBeUndefined();
  });

  it('says so where no daemon runs', async () => {
    const { runXl } = await import('../../src/xl/program.js');
    let err = '';
    const { Failure } = await import('../../src/protocol/failure.js');
    const status = await runXl(['list'], {
      out: () => undefined,
      err: (text) => {
        err += text;
      },
      connect: () => Promise.reject(new Failure('no-daemon', 'no daemon runs in /nowhere')),
      console: async () => undefined,
      machine: (await import('./xl-host.js')).MACHINE,
    });
    expect({ status, err }).toEqual({
      status: 1,
      err: 'no daemon runs in /nowhere\ncannot init xl context\n',
    });
  });

  it('has a page, which names every verb', async () => {
    const page = readFileSync(new URL('../../docs/xl.md', import.meta.url), 'utf8');
    const { VERBS } = await import('../../src/xl/verbs.js');
    for (const { name } of VERBS) expect(page, name).toMatch(new RegExp(`\`${name}[\` ]`));
  });
});
