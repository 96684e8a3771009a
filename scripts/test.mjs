// Runs all tests; arguments go to vitest. What tests want of Debian is fetched first, into .cache/.
// The last line counts them, so that a run which tested nothing cannot look like a success.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';

const summary = 'node_modules/.cache/test-summary.json';
mkdirSync('node_modules/.cache', { recursive: true });
rmSync(summary, { force: true });
const run = spawnSync(
  process.execPath,
  [
    'node_modules/vitest/vitest.mjs',
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${summary}`,
    ...process.argv.slice(2),
  ],
  { stdio: 'inherit' },
);
let passed = 0;
try {
  const counts = JSON.parse(readFileSync(summary, 'utf8'));
  passed = counts.numPassedTests;
  console.log(`${passed} passed, ${counts.numFailedTests} failed, ${counts.numPendingTests} skipped`);
} catch {
  console.error('no test ran');
}
process.exit(run.status === 0 && passed > 0 ? 0 : 1);
