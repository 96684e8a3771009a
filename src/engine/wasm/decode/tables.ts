/** The mnemonics that the integer decoder knows, and the operation of each. The numbers are those of core/ops.ts. */
import * as iced from '../../../x86/iced.js';
import { G, Op } from '../core/ops.js';

const { Mnemonic: M } = iced;
// Types: the namespace of a module has no index signature.
const byName = M as unknown as Record<string, number>;

const numbered = (first: number, names: string): [number, number][] =>
  names.split(' ').map((name, i) => [byName[name], first + i]);

/** Instructions with two operands: register or memory, then register, immediate or memory. */
export const TWO_OPERANDS = new Map<number, number>([
  ...numbered(G.ADD, 'Add Or Adc Sbb And Sub Xor Cmp Test'),
  ...numbered(G.ROL, 'Rol Ror Rcl Rcr Shl Shr Sal Sar'),
  ...numbered(G.BT, 'Bt Bts Btr Btc Bsf Bsr'),
  ...numbered(G.CMPXCHG, 'Cmpxchg Xadd'),
]);
export const isShift = (kind: number): boolean => kind >= G.ROL && kind <= G.SAR;
export const isBitTest = (kind: number): boolean => kind >= G.BT && kind <= G.BTC;

/** Instructions with one operand: register or memory. */
export const ONE_OPERAND = new Map<number, number>([
  ...numbered(G.INC, 'Inc Dec Neg Not'),
  ...numbered(G.MUL, 'Mul Imul Div Idiv'),
]);

/** Instructions without operands, with log2 of the operand size. */
export const NO_OPERAND = new Map<number, readonly [number, number]>([
  [M.Pushfq, [G.PUSHF, 3]],
  [M.Pushf, [G.PUSHF, 1]],
  [M.Lahf, [G.LAHF, 0]],
  [M.Sahf, [G.SAHF, 0]],
  [M.Clc, [G.CLC, 0]],
  [M.Stc, [G.STC, 0]],
  [M.Cmc, [G.CMC, 0]],
  [M.Cld, [G.CLD, 0]],
  [M.Std, [G.STD, 0]],
  [M.Cbw, [G.CONVERT, 1]],
  [M.Cwde, [G.CONVERT, 2]],
  [M.Cdqe, [G.CONVERT, 3]],
  [M.Cwd, [G.SPREAD, 1]],
  [M.Cdq, [G.SPREAD, 2]],
  [M.Cqo, [G.SPREAD, 3]],
  [M.Rdtsc, [G.RDTSC, 0]],
  [M.Cpuid, [G.CPUID, 0]],
  [M.Popfq, [G.POPF, 3]],
  [M.Popf, [G.POPF, 1]],
]);

export const STRINGS = new Map<number, readonly [number, number]>(
  ['Movs', 'Stos', 'Lods', 'Scas', 'Cmps'].flatMap((name, kind) =>
    ['b', 'w', 'd', 'q'].map(
      (size, log) => [byName[name + size], [G.MOVS + kind, log]] as [number, readonly [number, number]],
    ),
  ),
);

const CONDITIONS = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'];
const byCondition = (prefix: string): Map<number, number> =>
  new Map(CONDITIONS.map((c, i) => [byName[prefix + c], i]));
export const JCC = byCondition('J');
export const SETCC = byCondition('Set');
export const CMOVCC = byCondition('Cmov');
export const LOOPS = new Map<number, number>([
  [M.Jrcxz, 0],
  [M.Jecxz, 0],
  ...numbered(1, 'Loop Loope Loopne'),
]);

const set = (names: string): ReadonlySet<number> => new Set(names.split(' ').map((name) => byName[name]));
/** Instructions that do nothing: hints, fences, and opcodes reserved as hints. */
export const NOPS = set(
  'Nop Pause Endbr64 Endbr32 Rdsspd Rdsspq Prefetchw Prefetchwt1 Prefetch Prefetchnta Prefetcht0 Prefetcht1 ' +
    'Prefetcht2 Prefetchit0 Prefetchit1 Mfence Lfence Sfence Reservednop Cldemote',
);
/** Instructions that raise #GP at CPL 3. Xen emulates or reflects them. */
export const PRIVILEGED = set(
  'Hlt Cli Sti In Out Insb Insw Insd Outsb Outsw Outsd Rdmsr Wrmsr Clts Lmsw Invd Wbinvd Invlpg Lgdt Lidt Lldt ' +
    'Ltr Swapgs Sysexit Sysret Sysretq Sysexitq Rdpmc',
);
/** Instructions that need descriptor tables, or show what Xen keeps to itself. */
export const DESCRIPTOR = set(
  'Iret Iretd Iretq Retf Lar Lsl Verr Verw Sgdt Sidt Sldt Str Smsw Lss Lfs Lgs Sysenter',
);

/** Specialised operations by generic kind, form and size. Their names in Op are `KIND_FORMsize`. */
export function specialised(kind: number, form: string, bits: number): number | undefined {
  // Types: the namespace of a module has no index signature.
  return (Op as unknown as Record<string, number>)[`${G[kind]}_${form}${bits}`];
}
