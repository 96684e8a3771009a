import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { smallKernelElf } from '../../src/demo/small-kernel.js';
import { TwoHosts } from '../migration/hosts.js';

describe('a small guest whose disks are copied when it migrates', () => {
  let hosts: TwoHosts;
  let full = false;
  const folder = (name: string): string => join(hosts.root, `images-${name}`);
  beforeAll(async () => {
    hosts = await TwoHosts.open(17_670, { runner: undefined }, (root, name) => ({
      images: { '/srv/images': join(root, `images-${name}`) },
    }));
    for (const name of ['A', 'B']) {
      mkdirSync(folder(name));
      chmodSync(folder(name), 0o711);
    }
    writeFileSync(join(hosts.root, 'kernel'), smallKernelElf());
  });
  afterEach(() => hosts.clear());
  afterAll(async () => {
    if (full) spawnSync('umount', ['-l', folder('B')]);
    await hosts?.close();
  });

  /** Creates a guest with a disk of these contents. */
  const create = async (name: string, contents: Buffer): Promise<string> => {
    const image = join(folder('A'), `${name}.img`);
    writeFileSync(image, contents, { mode: 0o600 });
    const config = `name = "${name}"\nkernel = "${join(hosts.root, 'kernel')}"\nmemory = 8\ndisk = ['/srv/images/${name}.img,raw,xvda,w']\n`;
    await hosts.a.ask('create', { config, file: `${name}.cfg`, directory: hosts.root });
    return image;
  };

  it('finds them on the other host byte for byte, also if they end within a sector', async () => {
    const contents = Buffer.from(Array.from({ length: 70_001 }, (_, i) => (i * 7919) >>> 3));
    const image = await create('odd', contents);
    await hosts.a.ask('migrate', { guest: 'odd', host: 'B', copyStorage: true });
    expect((await hosts.settled('odd')).on).toBe('B');
    expect(readFileSync(join(folder('B'), 'odd.img')).equals(contents)).toBe(true);
    expect(readFileSync(`${image}.moved`).equals(contents)).toBe(true);
    expect(readdirSync(folder('B'))).toEqual(['odd.img']);
    expect(statSync(join(folder('B'), 'odd.img'))).toMatchObject({ uid: process.getuid?.() });
  });

  it.skipIf(process.getuid?.() !== 0)(
    'stays with its disks if the other host has no space, and a message says so',
    async ({ skip }) => {
      full =
        spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=256k,mode=711', 'none', folder('B')]).status === 0;
      skip(!full, 'no file system can be mounted here');
      const contents = Buffer.alloc(4 << 20, 'full');
      const image = await create('full', contents);
      await expect(hosts.a.ask('migrate', { guest: 'full', host: 'B', copyStorage: true })).rejects.toThrow(
        /the destination refused: .*the disk that comes cannot be kept here: .*ENOSPC, no space left on device; the guest goes on here/,
      );
      expect((await hosts.settled('full')).on).toBe('A');
      expect(readdirSync(folder('B'))).toEqual([]);
      expect(readFileSync(image).equals(contents)).toBe(true);
    },
  );
});
