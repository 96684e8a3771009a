/**
 * Makes one step: an instruction form with random operands, and before it the moves that load operands worth testing (a
 * count, a dividend, a valid string address). Steps do not change the sequence's anchor registers.
 */

import { APPROXIMATE, approximateSetup } from './approximate.js';
import { encode, type Instance, type MemoryOperand } from './encode.js';
import type { Form, Operand } from './forms.js';
import { DATA, STACK } from './layout.js';
import { type Anchors, addressFor, load, NOT_CANONICAL, placeFor, refer, slotsOf } from './operands.js';
import { INTEL } from './processor.js';
import type { Part, Step } from './sequence.js';
import { refineFlags } from './shift-flags.js';
import { integer, type Random } from './values.js';

const RSP = 1 << 4;
/** The mnemonics of the string instructions. */
export const STRING = /^(movs|cmps|stos|lods|scas)[bwdq]$/;
const X87_CONDITION = 0x3c00;
const TF = 0x100;
const AC = 0x4_0000;

export interface Draft {
  readonly setup: Part[];
  /** Instructions that follow it. */
  readonly after: Part[];
  prefixes: number[];
  immediates: number[][];
  /** Registers that the setup has loaded. */
  busy: number;
  reg?: number;
  rm?: number;
  memoryForced?: number;
  skips: number;
  /** The count in CL, where it is known. */
  count?: number;
}

/** Makes a step of this form. Undefined: these random choices make no step that can be compared. */
export function makeStep(r: Random, form: Form, anchors: Anchors): Step | undefined {
  const kept = (1 << anchors.pointer) | (1 << anchors.index);
  if ((form.implicitWrites & kept) !== 0) return undefined;
  const d: Draft = { setup: [], after: [], prefixes: [], immediates: [], busy: 0, skips: 0 };
  const approximate = APPROXIMATE.get(form.mnemonic);
  const chosenMemory = wantsMemory(r, form);
  const special = prepare(r, form, anchors, d, chosenMemory);
  if (special === false || (d.busy & kept) !== 0) return undefined;
  let nearness: Step['approximate'];
  if (approximate !== undefined) nearness = approximateSetup(r, form, d.setup);

  const rmOperand = form.operands.find((o) => o.place === 'rm');
  const regOperand = form.operands.find((o) => o.place === 'reg');
  const opcodeOperand = form.operands.find((o) => o.place === 'opcode' || o.place === 'sti');
  const choose = (o: Operand | undefined): number | undefined =>
    o === undefined ? 0 : pickRegister(r, o, kept | RSP);
  const reg = d.reg ?? choose(regOperand);
  const rm = rmOperand !== undefined && !chosenMemory ? (d.rm ?? choose(rmOperand)) : 0;
  const opcodeRegister = choose(opcodeOperand);
  if (reg === undefined || rm === undefined || opcodeRegister === undefined) return undefined;

  // Older Intel processors clear the upper half of the destination even if no bit is set in the source.
  if (/^bs[fr]$/.test(form.mnemonic) && form.size === 32) d.setup.push(clearUpper(reg));
  let memory: MemoryOperand | undefined;
  if (rmOperand !== undefined && chosenMemory) {
    const at = d.memoryForced ?? placeFor(r, form);
    const general = regOperand !== undefined && /^\d/.test(regOperand.bank);
    const reference = refer(r, anchors, at, d.busy | (general && r.chance(80) ? 1 << reg : 0));
    memory = reference.memory;
    d.prefixes.push(...reference.prefixes);
    d.setup.push(...reference.setup);
    if (form.lockable && r.chance(25)) d.prefixes.push(0xf0);
  }
  // This is not done with control registers: AMD processors take the prefix for another register's number.
  if (r.below(400) === 0 && !form.operands.some((o) => o.bank === 'cr')) d.prefixes.push(0xf0);
  const immediates = form.operands.flatMap((o): number[][] => {
    if (o.place === 'imm' || o.place === 'branch') return [d.immediates.shift() ?? immediate(r, o.bytes)];
    if (o.place !== 'moffs') return [];
    const narrow = d.prefixes.includes(0x67);
    return [littleEndian(BigInt(addressFor(r, ['int', 'words', 'f64'], form.memoryBytes)), narrow ? 4 : 8)];
  });
  const instance: Instance = {
    prefixes: d.prefixes,
    rex: idleRex(r, form, memory !== undefined),
    reg,
    rm: memory === undefined ? rm : -1,
    opcodeRegister,
    memory,
    immediates,
  };
  if (encode(form, instance, 0).bytes.length > 15) return undefined;
  const flags = refineFlags(form, immediates, d.count, d.prefixes);
  const savesConditions = form.mnemonic.startsWith('fxsave') ? X87_CONDITION : 0;
  return {
    parts: [
      ...d.setup,
      { form, instance, ...(form.operands[0]?.place === 'branch' ? { skips: d.skips } : {}) },
      ...d.after,
    ],
    flagsRead: form.flagsRead | savesConditions | (form.mnemonic.startsWith('pushf') ? 0x7f : 0),
    flagsDefined: flags.defined,
    flagsUndefined: flags.undefined,
    skips: d.skips,
    ...(nearness === undefined ? {} : { approximate: nearness }),
  };
}

const wantsMemory = (r: Random, form: Form): boolean => {
  const rm = form.operands.find((o) => o.place === 'rm');
  return rm?.memory === true && (!rm.register || r.chance(50));
};

/** Picks a register number for an operand. Undefined: it would overwrite a kept register. */
function pickRegister(r: Random, o: Operand, kept: number): number | undefined {
  switch (o.bank) {
    case 'mm':
    case 'st':
      return r.below(8);
    case 'xmm':
      return r.below(16);
    case 'seg':
      return r.below(6);
    case 'cr':
      return r.pick([0, 2, 3, 4, 8]);
    case 'dr':
      return r.pick([0, 3, 6, 7]);
    default: {
      const n = r.below(16);
      // Numbers 4 to 7 are ah to bh, or spl to dil with a REX prefix; a changed spl still points into the stack page.
      const numbers = o.bank === '8' && n >= 4 && n < 8 ? ((1 << n) | (1 << (n - 4))) & ~RSP : 1 << n;
      return o.written && (numbers & kept) !== 0 ? undefined : n;
    }
  }
}

/** Returns a REX prefix that has no effect, or that only turns ah into spl. */
function idleRex(r: Random, form: Form, memory: boolean): number {
  if (!r.chance(4)) return 0;
  if (memory) return 0x40;
  const ignoring = form.operands.every((o) => o.bank === 'mm' || o.bank === 'st' || o.bank === '');
  return (form.unit === 'mmx' || form.unit === 'x87') && ignoring ? 0x40 | r.below(8) : r.pick([0x40, 0x42]);
}

/** `mov r32, r32` of a register to itself clears its upper half. */
const clearUpper = (n: number): Part => ({
  bytes: [...(n < 8 ? [] : [0x45]), 0x89, 0xc0 | ((n & 7) << 3) | (n & 7)],
});

const littleEndian = (v: bigint, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, i) => Number((v >> BigInt(8 * i)) & 0xffn));
const immediate = (r: Random, bytes: number): number[] => littleEndian(integer(r), bytes);

/** Prepares registers, stack and immediates for the instruction. False: no step is to be made this time. */
function prepare(r: Random, form: Form, anchors: Anchors, d: Draft, memory: boolean): boolean {
  const set = (register: number, value: bigint): void => {
    d.setup.push(load(register, BigInt.asUintN(64, value)));
    d.busy |= 1 << register;
  };
  const m = form.mnemonic;
  if (STRING.test(m) && form.unit === 'integer') return prepareString(r, form, d, set);
  if (/^(bt|bts|btr|btc)$/.test(m) && memory && form.operands[1].place === 'reg') {
    const free = [0, 1, 2, 6, 7].filter((n) => n !== anchors.pointer && n !== anchors.index);
    d.reg = r.pick(free);
    set(d.reg, BigInt(r.pick([r.below(64), r.below(1024) - 512, r.below(8192) - 4096])));
    d.memoryForced = DATA + 0xe00 + r.below(0x600);
    return true;
  }
  if (/^(div|idiv)$/.test(m) && r.chance(75)) {
    const small = BigInt(r.below(3) - (m === 'idiv' ? 1 : 0));
    if (form.size === 0 || form.name.endsWith('rm8'))
      set(0, r.chance(50) ? BigInt(r.below(1 << r.below(16))) : integer(r) & 0x1fffn);
    else set(2, r.chance(60) ? (small < 0n ? -1n : 0n) : small);
    return true;
  }
  if (/_CL$/.test(form.name)) {
    const short = /^sh[lr]d$/.test(m) && form.size === 16;
    if (!short && r.chance(50)) return true;
    d.count = short
      ? r.below(17)
      : r.pick([0, 1, r.below(256), r.below(64), form.size === 0 ? 8 : form.size]);
    if (anchors.pointer === 1 || anchors.index === 1) return false;
    set(1, (integer(r) & ~0xffn) | BigInt(d.count));
    return true;
  }
  if (/^sh[lr]d$/.test(m) && form.size === 16) d.immediates.push([r.below(17) | (r.below(8) << 5)]);
  else if (/^(ro|rc|sh|sa)[lr]/.test(m) && form.operands[1]?.place === 'imm')
    d.immediates.push([r.pick([0, 1, r.below(256), r.below(64), 8, 16, 31, 32, 63])]);
  if (/^cmpxchg/.test(m) && memory && r.chance(55)) return prepareExchange(r, form, d);
  if (m === 'xlatb') set(3, BigInt(DATA + 0xd00 + r.below(0x200)));
  if (/^maskmov/.test(m)) set(7, BigInt(DATA + 0xe00 + r.below(0x400)));
  if (/^loop|^j/.test(m) || m === 'call' || m === 'ret') return prepareBranch(r, form, d, set, memory);
  if (m === 'popf' || m === 'popfq') {
    // AC stays clear: under some hypervisors that run these tests the instruction would repeat for ever. See
    // alignment.test.ts.
    const flags = (r.u32() & 0x7ffa_fe2f & ~(AC | TF)) | (r.chance(20) ? TF : 0);
    // The trap of a single step comes after the next instruction.
    if ((flags & TF) !== 0) d.after.push({ bytes: [0x90] });
    d.setup.push({
      bytes:
        m === 'popf'
          ? [0x66, 0x68, ...littleEndian(BigInt(flags), 2)]
          : [0x68, ...littleEndian(BigInt(flags), 4)],
    });
  }
  if (m === 'enter') {
    // The address is never arbitrary: natively it might be memory of the test itself.
    set(5, BigInt(r.chance(80) ? STACK + 0x100 + 8 * r.below(8) : addressFor(r, ['int'], 8)));
    d.immediates.push(littleEndian(BigInt(r.below(0x80)), 2), [r.chance(60) ? r.below(3) : r.below(64)]);
  }
  if (m === 'leave') set(5, BigInt(STACK - 0x100 + r.below(0x200)));
  if (form.memoryBytes === 512 || slotsOf(form) !== undefined) return memory;
  // With a register operand, processors either ignore this instruction or refuse it.
  if (/_0F0D$/.test(form.name)) return memory && r.chance(40);
  if (/^Reservednop/.test(form.name) || form.opcode[1] === 0x18) return r.chance(40);
  if (form.privileged || /^(ud|int)/.test(m)) return r.chance(25);
  return true;
}

function prepareString(r: Random, form: Form, d: Draft, set: (n: number, v: bigint) => void): boolean {
  const bytes = form.memoryBytes;
  const safe = (): number => DATA + 0xe00 + r.below(0xe80);
  const place = (): number => (r.chance(8) ? addressFor(r, ['int'], bytes) : safe());
  const from = place();
  const near = (): number => from + (r.below(9) - 4) * r.pick([1, bytes]);
  // Which of the two operands of cmps faults first depends on the processor, and may vary.
  const to = form.mnemonic.startsWith('cmps') ? safe() : r.chance(30) ? near() : place();
  const narrow = r.chance(6);
  if (narrow) d.prefixes.push(0x67);
  const count = r.chance(65) ? r.pick([0, 1, 2, r.below(8), r.below(40)]) : undefined;
  // With a count of zero, some Intel processors clear the upper halves nevertheless.
  const wide = narrow && !(INTEL && count === 0);
  const high = (): bigint => (wide ? BigInt(r.u32()) << 32n : 0n);
  set(6, BigInt(from) | high());
  set(7, BigInt(to) | high());
  if (count !== undefined) {
    d.prefixes.push(r.pick([0xf2, 0xf3]));
    set(1, BigInt(count) | high());
  }
  if (r.chance(15)) d.prefixes.push(r.pick([0x26, 0x3e]));
  return true;
}

/** Makes the comparison equal by first loading what the operand holds. */
function prepareExchange(r: Random, form: Form, d: Draft): boolean {
  const bytes = form.memoryBytes;
  let at = addressFor(r, ['int', 'f64'], Math.max(bytes, 8), false);
  if (bytes === 16) at &= ~15;
  if (at >= DATA + 0x3f0 && at < DATA + 0xc00) return false;
  const fetch = (register: number, address: number, wide: boolean): void => {
    d.setup.push({
      bytes: [...(wide ? [0x48] : []), 0x8b, (register << 3) | 4, 0x25, ...littleEndian(BigInt(address), 4)],
    });
  };
  d.memoryForced = at;
  fetch(0, at, bytes >= 8 && form.mnemonic !== 'cmpxchg8b');
  if (form.mnemonic === 'cmpxchg16b') fetch(2, at + 8, true);
  if (form.mnemonic === 'cmpxchg8b') fetch(2, at + 4, false);
  d.busy |= 5;
  return true;
}

function prepareBranch(
  r: Random,
  form: Form,
  d: Draft,
  set: (n: number, v: bigint) => void,
  memory: boolean,
): boolean {
  d.skips = r.below(3);
  if (/^loop/.test(form.mnemonic) && r.chance(80))
    set(1, BigInt(r.below(4)) | (form.addressPrefix ? BigInt(r.u32()) << 32n : 0n));
  if (form.operands[0]?.place === 'branch') {
    d.immediates.push(Array<number>(form.operands[0].bytes).fill(0));
    return true;
  }
  const astray = r.chance(15)
    ? r.pick([BigInt(DATA + 0x1000 + r.below(64)), BigInt(DATA + 0x3000 + r.below(64)), ...NOT_CANONICAL])
    : undefined;
  const address: Part = astray === undefined ? { leaOf: 0, skips: d.skips } : load(0, astray);
  d.setup.push(address);
  d.busy |= 1;
  if (form.mnemonic === 'ret') {
    d.setup.push({ bytes: [0x50] });
    if (form.operands.length > 0) d.immediates.push([r.below(64), 0]);
    return true;
  }
  if (memory) {
    const at = STACK - 0x200 + 8 * r.below(16);
    d.setup.push({ bytes: [0x48, 0x89, 0x04, 0x25, ...littleEndian(BigInt(at), 4)] });
    d.memoryForced = at;
    return true;
  }
  d.rm = 0;
  return true;
}
