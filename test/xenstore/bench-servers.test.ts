/** Tests that the servers that the xenstore bench starts touch nothing of this machine except their own folder. */
import { expect, test } from 'vitest';
import { oxenstoredConfig } from '../../bench/lib/xenstore-servers.js';

test('oxenstored, which renames and removes its logs, writes them to its own folder', () => {
  const files = [...oxenstoredConfig('/DIR').matchAll(/^[\w-]+ = (\/.*)$/gm)].map((match) => match[1]!);
  expect(files.length).toBeGreaterThan(4);
  expect(files.filter((file) => !/^\/(DIR|proc\/xen)\//.test(file))).toEqual([]);
});
