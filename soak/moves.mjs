// npm run soak -- moves [MOVES]: GRUB; Linux friendly and wild, with 1 and 4 processors, idle and busy (a memory writer
// that writes faster than the link carries); each moved MOVES times (20) to and fro between unlike hosts, the busy ones
// over a link of 20 MB/s, half of them under `force` and half under `cancel`. After each guest: what its observer saw.
import { spawnSync } from 'node:child_process';

const r = spawnSync(
  process.execPath,
  ['node_modules/vitest/vitest.mjs', 'run', '--config', 'soak/vitest.config.ts', 'soak/moves.soak.ts'],
  { stdio: 'inherit', env: { ...process.env, STILLPOINT_MOVES: process.argv[2] ?? '20' } },
);
process.exit(r.status ?? 1);
