// npm run soak -- tiers [--moved-in] [TIER...]: the processor's tests, and Debian's kernel with a workload and two
// moves, in each of the tiers (interpreter, translate, stress, normal), whichever tier a test would use by itself. The
// kernel also boots in its tier, which takes up to half an hour where each block is a module that waits for the
// compiler; with --moved-in it boots in the normal tier and is moved into the other.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { messageOf } from '../scripts/lib/errors.js';
import { ensureGuests } from '../scripts/lib/guests.js';
import type { Tier } from '../src/engine/engines.js';
import { openSingleHost } from '../src/host/standalone/single-host.js';
import { LinuxGuest } from '../test/support/linux-guest.js';
import { type SoakRow, soaked } from './lib/soaked.js';

const movedIn = process.argv.includes('--moved-in');
const asked = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const TIERS: readonly Tier[] = ['interpreter', 'translate', 'stress', 'normal'];
const tiers = asked.length > 0 ? TIERS.filter((tier) => asked.includes(tier)) : TIERS;
const PATIENCE_SECONDS = 1800;
const NUMBERS = 5000;
const STEPS = 20_000;
const files = await ensureGuests();

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
const numbers = Array.from({ length: NUMBERS }, (_, i) => `${i + 1}\n`).join('');
let sum = 0;
for (let i = 1; i <= STEPS; i++) sum += i / (i * i + 0.5);

/** Commands for the guest's shell, and what each prints. */
const WORK: readonly (readonly [command: string, says: string])[] = [
  [`seq 1 ${NUMBERS} | sha256sum`, `${sha256(numbers)}  -`],
  [`seq 1 ${NUMBERS} | gzip | gunzip | sha256sum`, `${sha256(numbers)}  -`],
  [
    `awk 'BEGIN { for (i = 1; i <= ${STEPS}; i++) s += i / (i * i + 0.5); printf "%.15g\\n", s }'`,
    String(Number(sum.toPrecision(15))),
  ],
  [`for i in 1 2 3 4 5 6 7 8; do (seq 1 ${NUMBERS} | md5sum) & done | sort -u | wc -l; wait`, '1'],
];

async function linux(tier: Tier): Promise<number> {
  const first = movedIn ? 'normal' : tier;
  const guest = await LinuxGuest.boot(`soak-${tier}`, files, openSingleHost('one'), { tier: first });
  let failures = 0;
  try {
    await guest.until(/guest# /, PATIENCE_SECONDS);
    // In a slow tier the kernel complains about a processor that lags, in the middle of the commands' output.
    await guest.command('dmesg -n 1', PATIENCE_SECONDS);
    // Where tens of thousands of blocks are translated and each runs few times, optimising them would take all the
    // time.
    if (tier === 'translate' || tier === 'stress') setFlagsFromString('--no-wasm-tier-up');
    if (movedIn) await guest.moveTo(openSingleHost('the next'), { tier });
    const before = guest.moves;
    for (const [command, wanted] of WORK) {
      const said = (await guest.command(command, PATIENCE_SECONDS)).trim();
      if (said !== wanted) {
        failures++;
        console.log(`${tier}: ${command}: ${said} instead of ${wanted}`);
      }
      if (guest.moves < before + 2) await guest.moveTo(openSingleHost('another'));
    }
  } catch (error) {
    failures++;
    console.log(`${tier}: ${messageOf(error)}`);
  }
  await guest.end();
  setFlagsFromString('--wasm-tier-up');
  return failures;
}

const rows: SoakRow[] = [];
for (const tier of tiers) {
  const began = performance.now();
  const said = spawnSync(
    process.execPath,
    ['node_modules/vitest/vitest.mjs', 'run', '--project', 'all', 'test/cpu', '--exclude', '**/translate/**'],
    {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, STILLPOINT_TIER: tier, STILLPOINT_LONG: '1' },
    },
  );
  rows.push({ property: `the processor's tests, ${tier}`, cases: 1, failures: said.status === 0 ? 0 : 1 });
  rows.push({
    property: `Linux ${movedIn ? 'comes, ' : 'boots, '}works and moves, ${tier}`,
    cases: WORK.length,
    failures: await linux(tier),
  });
  console.log(`${tier}: ${((performance.now() - began) / 1000).toFixed(0)} s`);
}
soaked(rows);
