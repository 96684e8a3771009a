// npm run lint: checks formatting, lint rules, and the direction of dependencies. The build has checked the types
// before.
import { spawnSync } from 'node:child_process';
import { ROOT } from './lib/root.js';

process.chdir(ROOT);
let failed = false;
const step = (name: string, file: string, ...args: string[]): void => {
  const { status } = spawnSync(process.execPath, [file, ...args], { stdio: 'inherit' });
  if (status === 0) return;
  console.error(`lint: ${name} failed`);
  failed = true;
};
step('format and rules', 'node_modules/@biomejs/biome/bin/biome', 'check', '.');
step(
  'layers',
  'node_modules/dependency-cruiser/bin/dependency-cruise.mjs',
  // The tool looks into packages only if the first import that it finds is no TypeScript source.
  'scripts/build.mjs',
  'src',
  '--config',
  '.dependency-cruiser.cjs',
);
process.exit(failed ? 1 : 0);
