// npm run soak -- scenarios [MOVES]: the scenarios of docs/scenarios.md with 100 moves under load (D3) and MOVES (1000)
// back and forth (D8, S1).
import { soakTests } from './lib/soaked.js';

const moves = process.argv[2] ?? '1000';
soakTests(
  ['test/scenarios'],
  { STILLPOINT_SCENARIO_MOVES: moves, STILLPOINT_SCENARIO_LOADED_MOVES: '100' },
  (title) => Number(/(\d+) moves/.exec(title)?.[1] ?? 1),
  // They share one guest: after a failure, the following ones would only wait for it until their time limits.
  ['--bail=1'],
);
