import { renameSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { guestFiles, moveToAndFro } from '../e2e/moving-guests.js';
import { type TestHost, TwoHosts, until } from '../migration/hosts.js';
import { testPort } from '../support/ports.js';
import { E2fsprogs } from './e2fsprogs.js';
import { makeRootFileSystem } from './root-file-system.js';

const TIMEOUT_MS = 500_000;

describe.skipIf(guestFiles === undefined)('GRUB, with its own driver for Xen disks', () => {
  let hosts: TwoHosts;
  let tools: E2fsprogs;
  beforeAll(async () => {
    tools = await E2fsprogs.fetch();
    hosts = await TwoHosts.open(testPort(17_600), { runner: undefined });
  });
  afterAll(() => hosts?.close());
  afterEach(() => hosts.clear());

  /** An ext4 file system that contains one file. */
  const disk = (name: string, says: string): string => {
    const path = join(hosts.root, name);
    const file = join(hosts.root, `${name}.txt`);
    writeFileSync(path, '');
    truncateSync(path, 8 * 1024 * 1024);
    writeFileSync(file, `${says}\n`);
    tools.run('mke2fs', '-q', '-F', '-t', 'ext4', path);
    tools.run('debugfs', '-w', '-R', `write ${file} said`, path);
    return path;
  };
  const boot = async (name: string, disks: readonly string[]): Promise<void> => {
    const list = disks.map((d) => `'${d}'`).join(', ');
    const config = `name = "${name}"\nkernel = "${guestFiles!.grub}"\nmemory = 64\ndisk = [${list}]\n`;
    await hosts.a.ask('create', { config, file: `${name}.cfg`, directory: hosts.root });
    await hosts.a.consoleOf(name, '', /grub> /, 200);
  };
  let asked = 0;
  /** Returns what GRUB reads from the file on a disk. */
  const reads = async (at: TestHost, guest: string, dev: string, expected: string): Promise<void> => {
    const mark = `mark${++asked}`;
    await at.consoleOf(
      guest,
      `\necho ${mark}\ncat (xen/${dev})/said\n`,
      new RegExp(`echo ${mark}[\\s\\S]*${mark}[\\s\\S]*${expected}`),
      200,
    );
  };

  it('reads a file before and after moves; the disk is locked by the host that has the guest', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const one = disk('one.img', 'the-first-disk');
    const two = disk('two.img', 'the-second-disk');
    await boot('grub', [`${one},raw,xvda,w`]);
    await reads(hosts.a, 'grub', 'xvda', 'the-first-disk');
    await expect(boot('thief', [`${one},raw,xvda,w`])).rejects.toThrow(
      `disk ${one}: another guest, here or on another host, has it open`,
    );
    const { at } = await moveToAndFro(hosts, 'grub', 3);
    expect(at.name).toBe('B');
    await reads(at, 'grub', 'xvda', 'the-first-disk');
    await expect(boot('thief', [`${one},raw,xvda,w`])).rejects.toThrow('has it open');

    expect(await at.ask('blockAttach', { guest: 'grub', spec: `${two},raw,hdc,r` })).toEqual({
      devid: 5632,
      vdev: 'hdc',
    });
    await expect(at.ask('blockAttach', { guest: 'grub', spec: `${two},raw,hdc,r` })).rejects.toThrow(
      'has a disk hdc',
    );
    const rows = await at.ask('blockList', {
      guest: 'grub',
    });
    expect(rows.map((r) => [r.vdev, r.devid])).toEqual([
      ['xvda', 51712],
      ['hdc', 5632],
    ]);
    expect(rows[0].link).toContain(one);
    expect(rows[0].backend).toMatch(/^\/local\/domain\/0\/backend\/vbd\/4\d\d\/51712$/);
    // GRUB looks for disks when it starts; this one has no front end, so it is detached at once.
    await at.ask('blockDetach', { guest: 'grub', which: 'hdc' });
    await reads(at, 'grub', 'xvda', 'the-first-disk');
    const points = await at.ask('points', {
      guest: 'grub',
    });
    expect(points.find((p) => p.name === 'vbd 51712: link')).toMatchObject({
      inner: 'xvda (51712), 16384 sectors of 512, w',
      outer: `${one}, 16384 sectors`,
    });
  });

  it('stays where it is if the other host cannot open its disk, and goes on reading', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const one = disk('gone.img', 'still-there');
    await boot('grub', [`${one},raw,xvda,w`]);
    await reads(hosts.a, 'grub', 'xvda', 'still-there');
    renameSync(one, `${one}.elsewhere`);
    await expect(hosts.a.ask('migrate', { guest: 'grub', host: 'B' })).rejects.toThrow('gone.img');
    await reads(hosts.a, 'grub', 'xvda', 'still-there');
    renameSync(`${one}.elsewhere`, one);
    await hosts.a.ask('migrate', { guest: 'grub', host: 'B' });
    await reads(hosts.b, 'grub', 'xvda', 'still-there');
  });

  it('boots Debian from the disk to a login, which continues on another host', {
    timeout: 3 * TIMEOUT_MS,
  }, async () => {
    const image = join(hosts.root, 'root.img');
    await makeRootFileSystem(tools, hosts.root, image);
    const config = `name = "root"\nkernel = "${guestFiles!.grub}"\nmemory = 192\ndisk = ['${image},raw,xvda,w']\n`;
    const { a, b } = hosts;
    await a.ask('create', { config, file: 'root.cfg', directory: hosts.root });
    await a.consoleOf('root', '', /grub> /, 200);
    await a.consoleOf(
      'root',
      '\nlinux (xen/xvda)/boot/vmlinuz console=hvc0 quiet\n',
      /quiet[\s\S]*grub> *$/,
      200,
    );
    await a.consoleOf('root', 'initrd (xen/xvda)/boot/initrd\n', /boot\/initrd[\s\S]*grub> *$/, 200);
    await a.consoleOf('root', 'boot\n', /login: /, 1000);
    await a.consoleOf('root', 'root\n', /root[\s\S]*# /, 200);
    await a.consoleOf(
      'root',
      'echo on-the-$((40+2))-disk >/kept; sync; cat /proc/mounts\n',
      /xvda \/ ext4 rw/,
      100,
    );
    await a.ask('migrate', { guest: 'root', host: 'B' });
    await b.consoleOf('root', 'cat /kept\n', /on-the-42-disk/, 100);
    await b.consoleOf('root', 'poweroff\n', /poweroff/, 100);
    await until('it has ended', async () => ((await b.list()).length === 0 ? true : undefined), 200);
    tools.run('e2fsck', '-fn', image);
  });
});
