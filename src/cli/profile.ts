/**
 * What `run --profile` prints: shares of the tiers, exits of translated code by cause, cost of translation, hot
 * regions.
 */
import type { WasmEngine } from '../engine/engines.js';

const HOT_REGIONS = 20;

export function profileText(machine: WasmEngine): string {
  const profile = machine.profile(HOT_REGIONS);
  if (profile === undefined) return '';
  let retired = 0;
  for (const v of machine.vcpus) retired += v.retired;
  const share = (n: number): string => `${((100 * n) / Math.max(1, retired)).toFixed(2)} %`;
  const lines = [
    `${retired} instructions, ${share(profile.instructions)} of them in translated code`,
    `${profile.regions} regions translated in ${profile.modules} modules of ${profile.bytes} bytes together, ` +
      `${profile.dropped} dropped; translation took ${Math.round(profile.milliseconds)} ms`,
    'translated code was left for:',
    ...Object.entries(profile.exits).map(([cause, count]) => `  ${cause}: ${count}`),
    'most instructions:',
  ];
  const row = (cells: readonly string[]): string =>
    `${cells[0].padEnd(20)}${cells[1].padStart(7)}${cells[2].padStart(13)}${cells[3].padStart(15)}${cells[4].padStart(9)}`;
  lines.push(row(['address', 'blocks', 'entries', 'instructions', 'share']));
  for (const r of profile.hot)
    lines.push(
      row([
        `0x${BigInt.asUintN(64, r.va).toString(16)}`,
        `${r.blocks}`,
        `${r.entries}`,
        `${r.instructions}`,
        share(r.instructions),
      ]),
    );
  return `${lines.join('\n')}\n`;
}
