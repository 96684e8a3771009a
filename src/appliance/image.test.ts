import { spawnSync } from 'node:child_process';
import { lstatSync, mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { type ApplianceParts, applianceInitrd, VERSION_FILE } from './image.js';
import { MODULES, PROGRAM } from './init.js';

const dir = mkdtempSync(join(tmpdir(), 'stillpoint-image-'));
afterAll(() => rmSync(dir, { recursive: true }));

const PARTS: ApplianceParts = {
  version: { stillpoint: '1.2.3', kernel: '6.1.0-9-cloud-amd64', node: '24.0.0' },
  image: Buffer.from('image'),
  modules: [
    { file: 'loop.ko', data: Buffer.from('one') },
    { file: 'squashfs.ko', data: Buffer.from('two') },
    { file: 'xen-privcmd.ko', data: Buffer.from('three') },
  ],
};
const unpacks = process.getuid?.() === 0 && spawnSync('cpio', ['--version']).status === 0;

test('the same parts give the same bytes', () => {
  expect(Buffer.compare(applianceInitrd(PARTS), applianceInitrd(PARTS))).toBe(0);
});

test.runIf(unpacks)('an unpacked initramfs has what the first program looks for', () => {
  const { status } = spawnSync('cpio', ['-idm', '--quiet'], { cwd: dir, input: applianceInitrd(PARTS) });
  expect(status).toBe(0);
  const text = (path: string) => readFileSync(join(dir, path), 'utf8');
  expect(JSON.parse(text(VERSION_FILE))).toEqual(PARTS.version);
  expect(text(MODULES)).toBe(
    '/modules/loop.ko\n/modules/squashfs.ko\n/modules/xen-privcmd.ko unrestricted=1\n',
  );
  expect(text('/modules/squashfs.ko')).toBe('two');
  expect(text('/stillpoint.squashfs')).toBe('image');
  expect(text(PROGRAM).split('\n')[0]).toBe('/stillpoint/bin/node');
  for (const name of ['poweroff', 'reboot', 'halt'])
    expect(readlinkSync(join(dir, 'sbin', name))).toBe('../init');
  expect(readlinkSync(join(dir, 'lib64'))).toBe('stillpoint/lib64');
  expect(lstatSync(join(dir, 'init')).mode & 0o777).toBe(0o755);
  expect(lstatSync(join(dir, 'dev/console')).isCharacterDevice()).toBe(true);
});
