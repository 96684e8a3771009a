import { expect, test } from 'vitest';
import { readGuestConfig } from './guest-config.js';

const read = (more: string) =>
  readGuestConfig(`name = "g"\nkernel = "k/vmlinuz"\n${more}`, 'g.cfg', '/guests');

test('files of a guest are found next to where the command was given, and a uuid is made', () => {
  const config = read('ramdisk = "/r.gz"\nmemory = 64');
  expect(config).toMatchObject({ kernel: '/guests/k/vmlinuz', ramdisk: '/r.gz', memoryKib: 65536, vcpus: 1 });
  expect(config.uuid).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  expect(read('').ramdisk).toBe('');
});

test.each([
  ["disk = [ '/d,raw,xvda' ]", 'disk'],
  ["vif = [ '' ]", 'vif'],
  ['memory = 64\nmaxmem = 128', 'maxmem'],
  ['maxvcpus = 2', 'maxvcpus'],
])('%j is understood and refused with its place', (setting, name) => {
  expect(() => read(setting)).toThrow(new RegExp(`^g.cfg:[34]:1: ${name} .*not supported`));
});
