/** Tests guests whose disk's server hangs while they are moved: they stay alive, and are where the message says. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { smallKernelElf } from '../../src/demo/small-kernel.js';
import { SilentNbd } from '../disk/silent-nbd.js';
import { TwoHosts, until } from './hosts.js';

const qemu = spawnSync('qemu-nbd', ['--version']).status === 0;

describe('a guest whose disk is behind a server that hangs', () => {
  let hosts: TwoHosts;
  const server = new SilentNbd();
  beforeAll(async () => {
    await server.listen();
    // B gives up soon; A never gives up because of a time limit.
    hosts = await TwoHosts.open(18_640, { runner: undefined }, (_root, name) => ({
      moveAnswerS: name === 'B' ? 3 : 60,
    }));
    writeFileSync(join(hosts.root, 'kernel'), smallKernelElf());
  });
  afterAll(async () => {
    await hosts?.close();
    await server.close();
  });
  afterEach(async () => {
    server.answer();
    await hosts.clear();
  });

  const create = (disk: string) =>
    hosts.a.ask('create', {
      config: `name = "small"\nkernel = "${join(hosts.root, 'kernel')}"\nmemory = 8\nextra = "interval_ms=10"\ndisk = ['${disk}']\n`,
      file: 'small.cfg',
      directory: hosts.root,
    });
  const migrate = (): Promise<string> =>
    hosts.a.ask('migrate', { guest: 'small', host: 'B' }).then(
      () => 'moved',
      (error: Error) => error.message,
    );

  /** On a busy machine a move may take more than one attempt; each that fails leaves the guest where it was. */
  const moves = (): Promise<string> =>
    until(
      'it moves',
      async () => {
        const said = await migrate();
        if (said !== 'moved') expect(said).toMatch(/goes on here$/);
        return said === 'moved' ? said : undefined;
      },
      120,
    );

  it('goes on at the source while the destination cannot reach the server, and migrates when it can', async () => {
    const { pid } = await create(`vdev=xvda,format=raw,target=nbd://127.0.0.1:${server.port}/`);
    server.answering = false;
    expect(await migrate()).toMatch(/goes on here$/);
    const { on, row } = await hosts.settled('small');
    expect([on, row.pid]).toEqual(['A', pid]);
    server.answer();
    await moves();
    expect((await hosts.settled('small')).on).toBe('B');
  });

  it.skipIf(!qemu)('stays alive when its own qemu-nbd hangs', async () => {
    const image = join(hosts.root, 'disk.qcow2');
    execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', image, '1M']);
    const { pid } = await create(`vdev=xvda,format=qcow2,target=${image}`);
    const child = await until('its qemu-nbd runs', () => childOf(pid));
    process.kill(child, 'SIGSTOP');
    // It holds nothing that is not in the image: it can be killed, and the guest migrates.
    await moves();
    expect((await hosts.settled('small')).on).toBe('B');
  });
});

/** The qemu-nbd process of a guest. */
function childOf(pid: number): number | undefined {
  for (const one of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const stat = readFileSync(`/proc/${one}/stat`, 'latin1');
      const [, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (stat.includes('(qemu-nbd)') && Number(parent) === pid) return Number(one);
    } catch {
      // The process ended meanwhile.
    }
  }
  return undefined;
}
