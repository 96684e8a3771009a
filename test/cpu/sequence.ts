/**
 * A sequence: steps of a few instructions each, and the registers and memory with which it starts. Steps can be left
 * out one by one (the minimiser does that), so branches name steps, and addresses are assigned last. This file also
 * determines which flags are undefined where; those may neither be compared nor used.
 */
import { encode, type Instance } from './encode.js';
import type { Form } from './forms.js';

/** Raw bytes, or an instruction. `skips`: its branch, or its address operand, leads past so many steps. */
export type Part =
  | { readonly bytes: readonly number[] }
  | { readonly form: Form; readonly instance: Instance; readonly skips?: number }
  | { readonly leaOf: number; readonly skips: number };

export interface Step {
  readonly parts: readonly Part[];
  /** Status flags (iced's RflagsBits) that the step reads, always sets, and leaves undefined. */
  readonly flagsRead: number;
  readonly flagsDefined: number;
  readonly flagsUndefined: number;
  /** The number of steps that its branch may jump over. */
  readonly skips: number;
  /** The step's results differ slightly between processors; such a step is the last. */
  readonly approximate?: 'x87' | 'x87 of any size' | 'sse';
}

/** The name under which a step's instruction is counted, as in encodings.ts. */
export function countedAs(part: Part): string | undefined {
  if (!('form' in part)) return undefined;
  const { form, instance } = part;
  const memory =
    instance.memory !== undefined ||
    form.operands.some((o) => o.place === 'moffs' || o.kind === 'seg_rBX_al');
  return memory ? `${form.name} mem` : form.name;
}

export interface Sequence {
  readonly steps: readonly Step[];
  /** Initial registers: a block as in layout.ts, whose rip is set later. */
  readonly block: Uint8Array;
}

export interface LaidOut {
  readonly bytes: Uint8Array;
  /** The address of each step, and of the end. */
  readonly starts: readonly number[];
}

/** Returns the bytes of the sequence at `address`, without its end. */
export function layOut(steps: readonly Step[], address: number): LaidOut {
  const sizes = steps.map((s) => s.parts.reduce((sum, p) => sum + sizeOf(p), 0));
  const starts = [address];
  for (const size of sizes) starts.push(starts[starts.length - 1] + size);
  const bytes: number[] = [];
  steps.forEach((step, i) => {
    for (const part of step.parts) {
      const at = address + bytes.length;
      const target =
        'skips' in part && part.skips !== undefined ? starts[Math.min(i + 1 + part.skips, steps.length)] : 0;
      if ('bytes' in part) bytes.push(...part.bytes);
      else if ('leaOf' in part) {
        bytes.push(
          0x48 | ((part.leaOf >> 3) << 2),
          0x8d,
          ((part.leaOf & 7) << 3) | 5,
          ...signed(target - (at + 7), 4),
        );
      } else {
        const e = encode(part.form, part.instance, at);
        if (e.branch !== undefined && part.skips !== undefined) {
          const relative = signed(target - (at + e.bytes.length), e.branch.size);
          e.bytes.splice(e.branch.at, e.branch.size, ...relative);
        }
        bytes.push(...e.bytes);
      }
    }
  });
  return { bytes: Uint8Array.from(bytes), starts };
}

function sizeOf(part: Part): number {
  if ('bytes' in part) return part.bytes.length;
  if ('leaOf' in part) return 7;
  return encode(part.form, part.instance, 0).bytes.length;
}

const signed = (value: number, size: number): number[] =>
  Array.from({ length: size }, (_, i) => (value >> (8 * i)) & 0xff);

/** Returns the flags that are undefined before each step and at the end; undefined if a step would use one of them. */
export function undefinedFlags(steps: readonly Step[]): number[] | undefined {
  const arriving = new Array<number>(steps.length + 1).fill(0);
  let now = 0;
  const out: number[] = [];
  for (const [i, s] of steps.entries()) {
    now |= arriving[i];
    if ((s.flagsRead & now) !== 0) return undefined;
    out.push(now);
    if (s.skips > 0) for (let k = 1; k <= s.skips; k++) arriving[Math.min(i + 1 + k, steps.length)] |= now;
    now = (now & ~s.flagsDefined) | s.flagsUndefined;
  }
  out.push(now | arriving[steps.length]);
  return out;
}
