import { defineConfig } from 'vitest/config';

/** Tests of the processor that hold in every tier, whichever is asked for: all but those that choose tiers themselves. */
const processor = ['test/cpu/*.test.ts', 'test/cpu/memory/*.test.ts'];
const ownTiers = ['test/cpu/differential.test.ts', 'test/cpu/known-forms.test.ts'];
const inTier = (tier: string) => ({
  extends: true as const,
  test: { name: tier, include: processor, exclude: ownTiers, env: { STILLPOINT_TIER: tier } },
});

export default defineConfig({
  test: {
    // These limits find what hangs. What computes needs many times longer on a machine that is busy, and a tier that is
    // slow has the time that it needs in the soaks.
    testTimeout: process.env.STILLPOINT_LONG === undefined ? 300_000 : 1_800_000,
    hookTimeout: 300_000,
    // Already a module, of two megabytes: Node imports it as it is.
    server: { deps: { external: [/[/]x86[/]generated[/]/] } },
    pool: 'forks',
    maxWorkers: 2,
    projects: [
      { extends: true, test: { name: 'all', include: ['src/**/*.test.ts', 'test/**/*.test.ts'] } },
      inTier('interpreter'),
      inTier('translate'),
    ],
  },
});
