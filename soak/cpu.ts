// npm run soak -- cpu [SEQUENCES]: the differential test of the CPU against the processor with 10 000 000 sequences,
// and a fifth as many of compatibility mode.
import { soakTests } from './lib/soaked.js';

const sequences = process.argv[2] ?? '10000000';
soakTests(
  ['test/cpu/differential.test.ts'],
  { STILLPOINT_CPU_SEQUENCES: sequences, STILLPOINT_CPU_COMPAT: String(Number(sequences) / 5) },
  (title) => (/random/.test(title) ? Number(sequences) : 1),
);
