// npm run soak -- disk [MOVES]: Debian's guest writes and verifies files on two disks during so many moves (100); then
// a hostile front end makes 1 000 000 random requests. Seed: STILLPOINT_DISK_SEED.
import { spawnSync } from 'node:child_process';
import { soaked } from './lib/soaked.js';

const HOSTILE = 1_000_000;
const moves = Number(process.argv[2] ?? 100);
const seed = process.env.STILLPOINT_DISK_SEED ?? String(1 + (Date.now() % 1e9));
console.log(`soak disk: ${moves} moves, seed ${seed}`);

/** Runs one test file. Returns 0, or 1 if it failed. */
function run(file: string): number {
  const env = {
    ...process.env,
    STILLPOINT_DISK_MOVES: String(moves),
    STILLPOINT_DISK_HOSTILE: String(HOSTILE),
    STILLPOINT_DISK_SEED: seed,
  };
  const args = ['node_modules/vitest/vitest.mjs', 'run', file];
  return spawnSync(process.execPath, args, { stdio: 'inherit', env }).status === 0 ? 0 : 1;
}
soaked([
  {
    property: 'what a Linux writes to raw and qcow2 through moves is right, its file systems clean',
    cases: moves,
    failures: run('test/disk/linux.test.ts'),
  },
  {
    property: 'a hostile block front end harms nobody',
    cases: HOSTILE,
    failures: run('src/devices/vbd/hostile.test.ts'),
  },
]);
