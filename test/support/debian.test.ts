import { expect, test, vi } from 'vitest';
import { NoPackages } from '../../scripts/lib/debian.js';
import { orSkipped } from './debian.js';

test('tests whose packages are missing are skipped with a message, and fail where CI is set', async () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
  const missing = () => Promise.reject(new NoPackages('no apt-get here'));
  expect(await orSkipped('disks', missing(), false)).toBeUndefined();
  expect(warn.mock.calls).toEqual([['stillpoint: not tested: disks: no apt-get here']]);
  await expect(orSkipped('disks', missing(), true)).rejects.toThrow('no apt-get here');
  await expect(orSkipped('disks', Promise.reject(new Error('a fault')), false)).rejects.toThrow('a fault');
  warn.mockRestore();
});
