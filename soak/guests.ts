// npm run soak -- guests [MOVES]: GRUB; Linux friendly and wild, with 1 and 4 processors, idle and busy (a memory writer
// that writes faster than the link carries); each moved MOVES times (20) to and fro between unlike hosts, the busy ones
// over a link of 20 MB/s, half of them under `force` and half under `cancel`. After each guest: what its observer saw.
import { soakTests } from './lib/soaked.js';

const moves = process.argv[2] ?? '20';
soakTests(['--config', 'soak/vitest.config.ts', 'soak/guests.soak.ts'], { STILLPOINT_MOVES: moves }, () =>
  Number(moves),
);
