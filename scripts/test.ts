// npm test: runs all tests; arguments go to vitest. Debian's files for the tests are downloaded first, into .cache/.
// Without Debian's packages, the tests that need them are skipped with a message; CI=true makes that an error.
import { spawnSync } from 'node:child_process';
import { NoPackages } from './lib/debian.js';
import { ensureGuests } from './lib/guests.js';

try {
  await ensureGuests();
} catch (e) {
  if (!(e instanceof NoPackages) || process.env.CI) throw e;
  console.warn(`stillpoint: ${e.message}`);
}
const r = spawnSync(process.execPath, ['node_modules/vitest/vitest.mjs', 'run', ...process.argv.slice(2)], {
  stdio: 'inherit',
});
process.exit(r.status ?? 1);
