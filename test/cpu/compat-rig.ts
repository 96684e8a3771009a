/** Runs the processor and the machine side by side in compatibility mode; the invariant is the same as in rig.ts. */
import * as iced from '../../src/x86/iced.js';
import { differences, normalise, same } from './compare.js';
import { compatSequence } from './compat-generate.js';
import { BLOCK, CODE, RESULT_BYTES } from './layout.js';
import { type Rig, windowOf } from './rig.js';
import { type LaidOut, layOut, type Step } from './sequence.js';

/** The number of sequences that share one native call: their code has to fit into 64 KiB. */
export const COMPAT_BATCH = 250;

export interface CompatTrial {
  readonly steps: readonly Step[];
  readonly block: Uint8Array;
  readonly bits: 16 | 32;
  /** The base of the code segment. */
  readonly base: number;
  readonly window: Uint8Array;
}

/** The registers of compatibility mode, and their low halves. */
function clearUpper(result: Uint8Array): void {
  for (let i = 0; i < 8; i++) result.fill(0, 8 * i + 4, 8 * i + 8);
  result.fill(0, 64, 128);
  result.fill(0, BLOCK.fxsave + 160 + 128, BLOCK.fxsave + 416);
}

/** Runs trials that share a data window. Returns the differences of each, empty if there are none. */
export function runCompat(rig: Rig, trials: readonly CompatTrial[]): string[][] {
  let at = CODE;
  const placed = trials.map((trial) => {
    const laidOut = layOut(trial.steps, at);
    const end = at + laidOut.bytes.length;
    const jump = rig.native.endCompat(trial.bits);
    rig.native.code.set(laidOut.bytes, at - CODE);
    rig.native.code.set(jump, end - CODE);
    // A sequence may read code through cs, including what follows its own: so both sides have the same bytes there.
    rig.guest.putCode(at, Uint8Array.from([...laidOut.bytes, ...jump]));
    const block = trial.block.slice();
    new DataView(block.buffer).setBigUint64(BLOCK.rip, BigInt(at - trial.base), true);
    const starts = laidOut.starts.map((s) => s - trial.base);
    at = end + jump.length;
    return { block, end: end - trial.base, laidOut: { bytes: laidOut.bytes, starts } satisfies LaidOut };
  });
  const blocks = new Uint8Array(placed.length * BLOCK.bytes);
  placed.forEach((p, i) => void blocks.set(p.block, i * BLOCK.bytes));
  const { window } = trials[0];
  const native = rig.native.run(blocks, window);
  return placed.map((p, i) => {
    const { steps } = trials[i];
    const theirs = native.subarray(i * RESULT_BYTES, (i + 1) * RESULT_BYTES);
    const ours = rig.guest.run(p.block, window, p.end);
    for (const result of [theirs, ours]) {
      normalise(result, steps, p.laidOut);
      clearUpper(result);
    }
    return same(theirs, ours, steps, p.laidOut) ? [] : differences(theirs, ours);
  });
}

export const compatTrial = (
  seed: number,
  index: number,
): CompatTrial & { readonly names: readonly string[] } => ({
  ...compatSequence((Math.imul(seed, 0x9e3779b1) + Math.imul(index, 0x85ebca6b)) >>> 0),
  window: windowOf(seed, index - (index % COMPAT_BATCH)),
});

/** Describes a failing trial for people, without the steps that do not matter. */
export function explainCompat(rig: Rig, trial: CompatTrial): string {
  let best = trial;
  for (let i = best.steps.length - 1; i >= 0; i--) {
    const smaller = { ...best, steps: best.steps.filter((_, k) => k !== i) };
    if (smaller.steps.length > 0 && runCompat(rig, [smaller])[0].length > 0) best = smaller;
  }
  const { bytes } = layOut(best.steps, CODE);
  const decoder = new iced.Decoder(best.bits, bytes, 0);
  decoder.ip = BigInt(CODE - best.base);
  const formatter = new iced.Formatter(iced.FormatterSyntax.Nasm);
  const view = new DataView(best.block.buffer);
  const selectors = Array.from({ length: 6 }, (_, i) =>
    view.getUint16(BLOCK.selectors + 2 * i, true).toString(16),
  );
  const lines = [`cs es ss ds fs gs ${selectors.join(' ')}, ${best.bits} bits`];
  while (decoder.canDecode) {
    const start = decoder.position;
    const ins = decoder.decode();
    const raw = Buffer.from(bytes.subarray(start, decoder.position)).toString('hex');
    lines.push(`    ${ins.ip.toString(16)}  ${raw.padEnd(24)} ${formatter.format(ins)}`);
    ins.free();
  }
  for (let i = 0; i < 8; i++) lines.push(`  with ${i} ${view.getBigUint64(8 * i, true).toString(16)}`);
  lines.push(`  with flags ${view.getBigUint64(BLOCK.rflags, true).toString(16)}`);
  return [...lines, ...runCompat(rig, [best])[0].slice(0, 12)].join('\n');
}
