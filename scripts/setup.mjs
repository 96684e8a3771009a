// @ts-check
// Everything a fresh clone needs before anything of it can run: packages and a build. Plain JavaScript that uses nothing
// outside Node itself, because it runs before any package is there. `--quiet` leaves standard output to whoever runs it.
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
    // Exactly what the lock file says, or nothing.
    execFileSync('npm', ['ci', '--no-audit', '--no-fund'], { stdio });
  }
  execFileSync(process.execPath, ['scripts/build.mjs'], { stdio });
} catch {
  // What has failed has said why.
  process.exit(1);
}
