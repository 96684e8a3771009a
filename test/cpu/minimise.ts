/**
 * Makes a failing sequence small: leaves out steps, then sets registers and memory to ordinary values, as long as the
 * sequence still fails. It prints the remaining sequence as assembly with the values that matter.
 */
import * as iced from '../../src/x86/iced.js';
import { BLOCK, CODE, DATA, STACK, WRITABLE_BYTES } from './layout.js';
import { type Rig, runTrials, type Trial } from './rig.js';
import { layOut, undefinedFlags } from './sequence.js';

const NAMES = 'rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15'.split(' ');

/** Ordinary register values: zeros, an empty x87 stack, all exceptions masked. */
export function plainBlock(): Uint8Array {
  const block = new Uint8Array(BLOCK.bytes);
  const view = new DataView(block.buffer);
  view.setBigUint64(8 * 4, BigInt(STACK), true);
  view.setBigUint64(BLOCK.rflags, 0x202n, true);
  view.setUint16(BLOCK.fxsave, 0x37f, true);
  view.setUint32(BLOCK.fxsave + 24, 0x1f80, true);
  return block;
}

/** The parts of the block that are reset one by one: offset and length. */
const PARTS: readonly (readonly [string, number, number])[] = [
  ...NAMES.map((n, i) => [n, 8 * i, 8] as const),
  ['rflags', BLOCK.rflags, 8],
  ['fcw', BLOCK.fxsave, 2],
  ['fsw', BLOCK.fxsave + 2, 2],
  ['ftw', BLOCK.fxsave + 4, 1],
  ['mxcsr', BLOCK.fxsave + 24, 4],
  ...Array.from({ length: 8 }, (_, i) => [`st${i}`, BLOCK.fxsave + 32 + 16 * i, 10] as const),
  ...Array.from({ length: 16 }, (_, i) => [`xmm${i}`, BLOCK.fxsave + 160 + 16 * i, 16] as const),
];

export function minimise(rig: Rig, failing: Trial): Trial {
  let best = failing;
  const stillFails = (t: Trial): boolean =>
    t.steps.length > 0 && undefinedFlags(t.steps) !== undefined && runTrials(rig, [t])[0].length > 0;
  const attempt = (t: Trial): boolean => {
    if (!stillFails(t)) return false;
    best = t;
    return true;
  };
  for (let i = best.steps.length - 1; i >= 0; i--)
    attempt({ ...best, steps: best.steps.filter((_, k) => k !== i) });
  for (let s = 0; s < best.steps.length; s++) {
    for (let p = best.steps[s].parts.length - 2; p >= 0; p--) {
      const step = { ...best.steps[s], parts: best.steps[s].parts.filter((_, k) => k !== p) };
      attempt({ ...best, steps: best.steps.map((x, k) => (k === s ? step : x)) });
    }
  }
  const plain = plainBlock();
  for (const [, at, length] of PARTS) {
    const block = best.block.slice();
    block.set(plain.subarray(at, at + length), at);
    attempt({ ...best, block });
  }
  for (let size = 0x1000; size >= 8; size /= 2) {
    for (let at = 0; at < WRITABLE_BYTES; at += size) {
      if (!best.window.subarray(at, at + size).some((b) => b !== 0)) continue;
      const window = best.window.slice();
      window.fill(0, at, at + size);
      attempt({ ...best, window });
    }
  }
  return best;
}

/** Describes a failing trial for people: assembly, initial values, differences. */
export function explain(rig: Rig, t: Trial): string {
  const { bytes } = layOut(t.steps, CODE);
  const decoder = new iced.Decoder(64, bytes, 0);
  decoder.ip = BigInt(CODE);
  const formatter = new iced.Formatter(iced.FormatterSyntax.Nasm);
  const lines = [`code ${Buffer.from(bytes).toString('hex')}`];
  while (decoder.canDecode) {
    const ins = decoder.decode();
    const raw = Buffer.from(bytes.subarray(Number(ins.ip) - CODE, Number(ins.nextIP) - CODE)).toString('hex');
    lines.push(`    ${ins.ip.toString(16)}  ${raw.padEnd(24)} ${formatter.format(ins)}`);
  }
  const plain = plainBlock();
  const hex = (b: Uint8Array, at: number, length: number): string =>
    Buffer.from(b.subarray(at, at + length))
      .reverse()
      .toString('hex');
  for (const [name, at, length] of PARTS) {
    if (hex(t.block, at, length) !== hex(plain, at, length))
      lines.push(`  with ${name} ${hex(t.block, at, length)}`);
  }
  for (let at = 0; at < WRITABLE_BYTES; at += 8) {
    const value = hex(t.window, at, 8);
    if (/[^0]/.test(value)) lines.push(`  with memory ${(DATA + at).toString(16)} ${value}`);
    if (lines.length > 80) break;
  }
  return [
    ...lines,
    ...runTrials(rig, [t])[0]
      .slice(0, 30)
      .map((d) => `  ${d}`),
  ].join('\n');
}
