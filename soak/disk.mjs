// npm run soak -- disk [MOVES]: Debian's guest writes and checks files on two disks through so many moves (100), then
// a hostile front end makes 1 000 000 random requests. Seed: STILLPOINT_DISK_SEED.
import { spawnSync } from 'node:child_process';

const env = {
  ...process.env,
  STILLPOINT_DISK_MOVES: process.argv[2] ?? '100',
  STILLPOINT_DISK_HOSTILE: '1000000',
  STILLPOINT_DISK_SEED: process.env.STILLPOINT_DISK_SEED ?? String(1 + (Date.now() % 1e9)),
};
console.log(`soak disk: ${env.STILLPOINT_DISK_MOVES} moves, seed ${env.STILLPOINT_DISK_SEED}`);
const r = spawnSync(
  process.execPath,
  ['node_modules/vitest/vitest.mjs', 'run', 'test/disk/linux.test.ts', 'src/devices/vbd/hostile.test.ts'],
  { stdio: 'inherit', env },
);
process.exit(r.status ?? 1);
