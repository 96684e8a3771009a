// npm run soak -- guests [MOVES]: GRUB; Linux friendly and wild, with 1 and 4 processors, idle and busy (with a program
// that writes memory faster than the link carries it). Each is moved MOVES times (20) back and forth between unlike
// hosts, the busy ones over a link of 20 MB/s, half of them under `force` and half under `cancel`. After each guest,
// the verdict of its observer is printed.
import { soakTests } from './lib/soaked.js';

const moves = process.argv[2] ?? '20';
soakTests(['--config', 'soak/vitest.config.ts', 'soak/guests.soak.ts'], { STILLPOINT_MOVES: moves }, () =>
  Number(moves),
);
