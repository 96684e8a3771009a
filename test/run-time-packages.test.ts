import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { runTimePackages } from '../scripts/lib/appliance.js';

test('what the appliance takes from node_modules is what dist uses on its machine', () => {
  const packages = runTimePackages(JSON.parse(readFileSync('package-lock.json', 'utf8')));
  for (const name of ['valibot', 'pino', '@peculiar/x509', 'koffi', '@koromix/koffi-linux-x64'])
    expect(packages).toContain(`node_modules/${name}`);
  // Tools are left out, and so is what is for the command line, and builds for other machines.
  for (const name of [
    'typescript',
    'vitest',
    'commander',
    '@koromix/koffi-darwin-arm64',
    '@koromix/koffi-linux-arm64',
  ])
    expect(packages).not.toContain(`node_modules/${name}`);
});

test('a package is looked for where Node looks for it', () => {
  const packages = {
    '': { dependencies: { a: '1' } },
    'node_modules/a': { dependencies: { b: '1', c: '1' } },
    'node_modules/a/node_modules/b': {},
    'node_modules/b': {},
    'node_modules/c': {},
  };
  expect(runTimePackages({ packages })).toEqual([
    'node_modules/a',
    'node_modules/a/node_modules/b',
    'node_modules/c',
  ]);
  expect(() => runTimePackages({ packages: { '': { dependencies: { a: '1' } } } })).toThrow('has no a');
});
