// @ts-check
// Makes everything that a fresh clone needs before anything in it can run: packages and a build. This is plain
// JavaScript that uses nothing outside Node itself, because it runs before any package is installed. With `--quiet`,
// standard output is left to the caller.
import { execFileSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
/** @type {import('node:child_process').StdioOptions} */
const stdio = process.argv.includes('--quiet') ? ['ignore', 2, 2] : 'inherit';
const installed = 'node_modules/.package-lock.json';
try {
  if (!existsSync(installed) || statSync(installed).mtimeMs < statSync('package-lock.json').mtimeMs) {
    console.error('stillpoint: installing packages');
    // Installs exactly what the lock file says, or nothing.
    execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { stdio });
  }
  execFileSync(process.execPath, ['scripts/build.mjs'], { stdio });
} catch {
  // Whatever failed has printed the reason.
  process.exit(1);
}
