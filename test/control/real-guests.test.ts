/** Tests the verbs with real guests: what `xl` would show of them, and what a saved file keeps. */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { DomainRow } from '../../src/protocol/control.js';
import { TwoHosts } from '../migration/hosts.js';
import { testPort } from '../support/ports.js';
import { programKernel } from '../support/program-kernel.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

describe('verbs with a running guest', () => {
  let hosts: TwoHosts;
  let kernel: string;
  beforeAll(async () => {
    hosts = await TwoHosts.open(testPort(17_560), { runner: undefined });
    kernel = join(hosts.root, 'forever');
    writeFileSync(kernel, programKernel('stay: jmp stay'));
  });
  afterAll(() => hosts?.close());
  afterEach(() => hosts.clear());

  const at = (verb: string, ...args: string[]) =>
    new Promise<{ status: number | null; out: string; err: string }>((done) => {
      const child = spawn(process.execPath, [MAIN, verb, '--dir', hosts.a.dir, ...args]);
      let [out, err] = ['', ''];
      child.stdout.on('data', (d) => (out += d));
      child.stderr.on('data', (d) => (err += d));
      child.on('close', (status) => done({ status, out, err }));
    });
  const config = (name: string, ...lines: string[]): string => {
    const file = join(hosts.root, `${name}.cfg`);
    writeFileSync(file, [`name = "${name}"`, ...lines, ''].join('\n'));
    return file;
  };
  const list = async (name: string) =>
    JSON.parse((await at('list', '--json', name)).out)[0] as DomainRow | undefined;

  it("lists a guest's current memory and vCPUs under its current name, before and after a save", async () => {
    const file = config(
      'old',
      `kernel = "${kernel}"`,
      'memory = 130',
      'maxmem = 160',
      'vcpus = 1',
      'maxvcpus = 3',
      'cpus = "all"',
      'memory = 130',
    );
    const made = await at('create', file);
    expect(made).toMatchObject({ status: 0, out: expect.stringMatching(/^old: domain \d+\n$/) });
    expect(made.err).toBe(
      `stillpoint: ${file}:3:1: memory is set again further down: this one does not count\n` +
        `stillpoint: ${file}:7:1: cpus has no effect here: the host's Linux chooses the processors\n`,
    );
    expect(await list('old')).toMatchObject({ memoryMib: 130, vcpus: 1 });
    expect((await at('rename', 'old', 'new')).status).toBe(0);
    const image = join(hosts.root, 'image');
    expect((await at('save', 'new', image)).status).toBe(0);
    expect(await at('restore', image)).toMatchObject({
      status: 0,
      out: expect.stringMatching(/^new: domain/),
    });
    expect(await list('new')).toMatchObject({ name: 'new', memoryMib: 130, vcpus: 1 });
  });

  it('refuses a file that is no kernel, by its name', async () => {
    const bad = join(hosts.root, 'bad-kernel');
    writeFileSync(bad, 'no kernel at all');
    const { status, err } = await at('create', config('bad', `kernel = "${bad}"`));
    expect(err).toMatch(/^stillpoint: kernel \/.*\/bad-kernel: neither an ELF file nor a bzImage/);
    expect(status).toBe(2);
  });

  it('refuses an image that is in use, also while the guest runs', async () => {
    const image = join(hosts.root, 'disk.img');
    writeFileSync(image, new Uint8Array(4096));
    const file = config('disks', `kernel = "${kernel}"`, 'memory = 32', `disk = ["${image},raw,xvda,w"]`);
    expect((await at('create', file)).status).toBe(0);
    const { status, err } = await at('block-attach', 'disks', `${image},raw,xvdb,w`);
    expect(err).toMatch(/disk xvdb: xvda has the same image, and one of both may be written to/);
    expect(status).toBe(5);
  });
});
