// npm run soak -- cpu [SEQUENCES]: the differential test of the CPU against the processor, 10 000 000 sequences.
import { spawnSync } from 'node:child_process';

const sequences = process.argv[2] ?? '10000000';
const r = spawnSync(
  process.execPath,
  ['node_modules/vitest/vitest.mjs', 'run', 'test/cpu/differential.test.ts'],
  {
    stdio: 'inherit',
    env: { ...process.env, STILLPOINT_CPU_SEQUENCES: sequences },
  },
);
process.exit(r.status ?? 1);
