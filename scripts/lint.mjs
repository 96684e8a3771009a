// Formatter, linter, type check, and the direction of dependencies.
import { spawnSync } from 'node:child_process';

let failed = false;
const step = (name, file, ...args) => {
  const r = spawnSync(process.execPath, [file, ...args], { stdio: 'inherit' });
  if (r.status !== 0) {
    console.error(`lint: ${name} failed`);
    failed = true;
  }
};
step('format and rules', 'node_modules/@biomejs/biome/bin/biome', 'check', '.');
step('types', 'node_modules/typescript/bin/tsc', '-p', 'tsconfig.json');
step(
  'layers',
  'node_modules/dependency-cruiser/bin/dependency-cruise.mjs',
  'src',
  '--config',
  '.dependency-cruiser.cjs',
);
process.exit(failed ? 1 : 0);
