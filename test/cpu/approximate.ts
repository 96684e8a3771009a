/**
 * Instructions whose results no manual defines to the last bit: x87 functions and the reciprocals of SSE. They get
 * operands from a range for which an error bound is known, and are the last of their sequence.
 */
import type { Form } from './forms.js';
import { IMAGE_SLOTS } from './operands.js';
import type { Part, Step } from './sequence.js';
import type { Random } from './values.js';

export const APPROXIMATE: ReadonlyMap<string, NonNullable<Step['approximate']>> = new Map([
  ...(['fsin', 'fcos', 'fsincos', 'fptan', 'fpatan', 'f2xm1', 'fyl2x', 'fyl2xp1'] as const).map(
    (m) => [m, 'x87'] as const,
  ),
  ...(['rcpps', 'rcpss', 'rsqrtps', 'rsqrtss'] as const).map((m) => [m, 'sse'] as const),
]);

/** Doubles in the image area within the range of these functions: between -0.28 and 0.28, and between 1/8 and 3. */
const TINY = IMAGE_SLOTS.angle.slice(0, 4);
const MODEST = IMAGE_SLOTS.angle.slice(4);

const fld = (address: number): Part => ({
  bytes: [
    0xdd,
    0x04,
    0x25,
    address & 0xff,
    (address >> 8) & 0xff,
    (address >> 16) & 0xff,
    (address >>> 24) & 0xff,
  ],
});

/** Loads operands in range; where any operand has a defined kind of result, it may leave the present ones. */
export function approximateSetup(r: Random, form: Form, setup: Part[]): Step['approximate'] {
  const kind = APPROXIMATE.get(form.mnemonic);
  if (kind === 'sse') return kind;
  const anything = !/^(f2xm1|fyl2xp1)$/.test(form.mnemonic) && r.chance(25);
  if (anything) return 'x87 of any size';
  // Frees two registers with ffree st(6), ffree st(7), so that a stack overflow does not hide the function.
  setup.push({ bytes: [0xdd, 0xc6, 0xdd, 0xc7] });
  const both = /^(fpatan|fyl2x|fyl2xp1)$/.test(form.mnemonic);
  if (both) setup.push(fld(r.pick(MODEST)));
  const tiny = /^(f2xm1|fyl2xp1)$/.test(form.mnemonic) || (form.mnemonic !== 'fyl2x' && r.chance(50));
  setup.push(fld(r.pick(tiny ? TINY : MODEST)));
  return kind;
}
