import { afterEach, expect, test, vi } from 'vitest';
import { findBootLoader } from './boot-loader.js';

afterEach(() => vi.unstubAllEnvs());

test('the first image of GRUB counts, what the environment names before all', () => {
  vi.stubEnv('STILLPOINT_BOOT_LOADER', '');
  expect(findBootLoader((path) => path.startsWith('/usr/'))).toBe(
    '/usr/local/lib/stillpoint/grub-x86_64-xen.bin',
  );
  expect(findBootLoader((path) => path.startsWith('/usr/lib/grub-xen/'))).toBe(
    '/usr/lib/grub-xen/grub-x86_64-xen.bin',
  );
  expect(findBootLoader(() => true)).toMatch(/\/boot-loader\/grub-x86_64-xen[.]bin$/);
  vi.stubEnv('STILLPOINT_BOOT_LOADER', '/my/grub');
  expect(findBootLoader(() => true)).toBe('/my/grub');
  expect(() => findBootLoader(() => false)).toThrow(
    'STILLPOINT_BOOT_LOADER names /my/grub, which does not exist',
  );
});

test('where there is none, the error says what to install', () => {
  vi.stubEnv('STILLPOINT_BOOT_LOADER', '');
  expect(() => findBootLoader(() => false)).toThrow(
    /"npm run grub" makes it.*the package grub-xen-host has one$/,
  );
});
