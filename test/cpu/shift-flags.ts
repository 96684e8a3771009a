/**
 * Which flags a shift leaves undefined depends on its count, and a count of zero changes none; iced, which knows only
 * the form, cannot say (SDM volume 2, "SAL/SAR/SHL/SHR", "RCL/RCR/ROL/ROR", "SHLD").
 */
import * as iced from '../../src/x86/iced.js';
import type { Form } from './forms.js';

const { RflagsBits } = iced;

export interface FlagEffect {
  /** Flags that are always set, cleared or computed. */
  readonly defined: number;
  readonly undefined: number;
}

/** `count`: the value of CL, where it is known. */
export function refineFlags(
  form: Form,
  immediates: readonly (readonly number[])[],
  count: number | undefined,
  prefixes: readonly number[],
): FlagEffect {
  const plain = { defined: form.flagsDefined, undefined: form.flagsUndefined };
  const m = form.mnemonic;
  if (/^(cmps|scas)/.test(m) && prefixes.some((p) => p === 0xf2 || p === 0xf3))
    return { ...plain, defined: 0 };
  const rotate = /^r[oc][lr]$/.test(m);
  const double = /^sh[lr]d$/.test(m);
  if (!rotate && !double && !/^(sh|sa)[lr]$/.test(m)) return plain;
  const last = form.operands[form.operands.length - 1];
  const given = last.kind === 'imm8_const_1' ? 1 : last.place === 'imm' ? immediates[0][0] : count;
  const own = rotate
    ? RflagsBits.OF | RflagsBits.CF
    : RflagsBits.OF | RflagsBits.SF | RflagsBits.ZF | RflagsBits.AF | RflagsBits.CF | RflagsBits.PF;
  const size = form.name.includes('rm8') ? 8 : form.size;
  const auxiliary = rotate ? 0 : RflagsBits.AF;
  const carry = /^(shl|shr|sal)$/.test(m) && size < 32 ? RflagsBits.CF : 0;
  if (given === undefined) return { defined: 0, undefined: RflagsBits.OF | auxiliary | carry };
  const masked = given & (size === 64 ? 63 : 31);
  if (masked === 0) return { defined: 0, undefined: 0 };
  let open = auxiliary | (masked > 1 ? RflagsBits.OF : 0);
  if (masked >= size) open |= carry;
  return { defined: own & ~open, undefined: open };
}
