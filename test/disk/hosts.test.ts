import { renameSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { guestFiles, moveToAndFro } from '../e2e/moving-guests.js';
import { type TestHost, TwoHosts } from '../migration/hosts.js';
import { E2fsprogs } from './e2fsprogs.js';

const TIMEOUT_MS = 500_000;

describe.skipIf(guestFiles === undefined)('GRUB, with its own driver for Xen disks', () => {
  let hosts: TwoHosts;
  let tools: E2fsprogs;
  beforeAll(async () => {
    tools = await E2fsprogs.fetch();
    hosts = await TwoHosts.open(17_600, { runner: undefined });
  });
  afterAll(() => hosts?.close());
  afterEach(() => hosts.clear());

  /** An ext4 file system with one file in it. */
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
  /** What GRUB finds in the file of a disk. */
  const reads = async (at: TestHost, guest: string, dev: string, expected: string): Promise<void> => {
    const mark = `mark${++asked}`;
    await at.consoleOf(
      guest,
      `\necho ${mark}\ncat (xen/${dev})/said\n`,
      new RegExp(`echo ${mark}[^]*${mark}[^]*${expected}`),
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
    const rows = await at.ask<{ vdev: string; devid: number; link: string; backend: string }[]>('blockList', {
      guest: 'grub',
    });
    expect(rows.map((r) => [r.vdev, r.devid])).toEqual([
      ['xvda', 51712],
      ['hdc', 5632],
    ]);
    expect(rows[0].link).toContain(one);
    expect(rows[0].backend).toMatch(/^\/local\/domain\/0\/backend\/vbd\/4\d\d\/51712$/);
    // GRUB looks for disks when it starts; this one has no front end and goes at once.
    await at.ask('blockDetach', { guest: 'grub', which: 'hdc' });
    await reads(at, 'grub', 'xvda', 'the-first-disk');
    const points = await at.ask<{ name: string; inner: string; outer: string }[]>('points', {
      guest: 'grub',
    });
    expect(points.find((p) => p.name === 'vbd 51712: link')).toMatchObject({
      inner: 'xvda (51712), 16384 sectors of 512, w',
      outer: `${one}, 16384 sectors`,
    });
  });

  it('stays where it is when its disk cannot be had on the other host, and goes on reading', {
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
});
