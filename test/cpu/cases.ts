/**
 * Cases in which the processor and the machine once differed, or nearly so: each is a sentence, the bytes, and the
 * state that they start from. They run before anything random.
 */
import * as iced from '../../src/x86/iced.js';
import { makeWindow } from './generate.js';
import { BLOCK, DATA, FS_BASE, WRITABLE_BYTES } from './layout.js';
import { plainBlock } from './minimise.js';
import { USER_END } from './operands.js';
import type { Trial } from './rig.js';
import type { Step } from './sequence.js';

const REGISTERS = 'rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15'.split(' ');

export interface Case {
  /** What the guest observes. */
  readonly name: string;
  /** Machine code in hexadecimal. */
  readonly code: string;
  /**
   * Initial values of rax to r15, rflags, fcw, fsw, ftw, mxcsr, st0 to st7 (80 bits), xmm0 to xmm15. The rest is zero.
   */
  readonly start?: Readonly<Record<string, bigint | number>>;
  /** Initial 64-bit values by address. */
  readonly memory?: Readonly<Record<number, bigint>>;
  /** Status flags (in iced's numbering) that are undefined by the manuals, beyond those in iced's table. */
  readonly open?: number;
}

const DENORMALS_ARE_ZERO = 0x1fc0;
/** A denormal double, and two denormal floats. */
const TINY = 0x0000_0001_8000_0003n;
/** An address in an absent page. */
const ABSENT = DATA - 8;

export const CASES: readonly Case[] = [
  {
    name: 'min of zero and a denormal gives zero while denormals are zeros',
    code: '0f5dc1 f20f5dd3',
    start: { mxcsr: DENORMALS_ARE_ZERO, xmm1: TINY, xmm3: TINY },
  },
  {
    name: 'max gives the sign of the denormal that it took for zero',
    code: '0f5fc1 660f5fd3',
    start: { mxcsr: DENORMALS_ARE_ZERO, xmm1: 0x8000_0001n, xmm3: 0x8000_0000_0000_0001n },
  },
  {
    name: 'conversions take denormals for zeros and flag nothing',
    code: 'f30f5ac1 f20f5ad3 f2480f2cc3 660f5be1',
    start: { mxcsr: DENORMALS_ARE_ZERO | 0x6000, xmm1: TINY, xmm3: TINY },
  },
  {
    name: 'the root of a negative denormal is minus zero while denormals are zeros',
    code: 'f30f51c1',
    start: { mxcsr: DENORMALS_ARE_ZERO, xmm1: 0x8000_0001n },
  },
  {
    name: 'a comparison of denormals finds them equal while they are zeros',
    code: '0f2ec1',
    start: { mxcsr: DENORMALS_ARE_ZERO, xmm0: 3n, xmm1: 0x8000_0001n },
  },
  {
    name: 'fld of a denormal float does not mind DAZ',
    code: 'd90425 00000070 dd1c25 08000070'.replaceAll(' ', ''),
    start: { mxcsr: DENORMALS_ARE_ZERO },
    memory: { [DATA]: 1n },
  },
  { name: 'ldmxcsr takes DAZ', code: '0fae1425 00000070', memory: { [DATA]: 0x9fc0n } },
  {
    name: 'ldmxcsr refuses a bit that no processor has',
    code: '0fae1425 00000070',
    memory: { [DATA]: 0x4_1f80n },
  },
  {
    name: 'ldmxcsr refuses misaligned SSE mode, which CPUID does not offer',
    code: '0fae1425 00000070',
    memory: { [DATA]: 0x2_3be7n },
  },
  {
    name: 'C1 is the lowest bit of the quotient of fprem when its underflow is not masked',
    code: 'd9f8',
    start: { fcw: 0xf46, ftw: 0xff, st0: 0x8001_c000_0000_0000_0001n, st1: 0x4000_0000_0000n << 16n },
  },
  {
    name: 'C1 is the lowest bit of the quotient of fprem1 when its underflow is not masked',
    code: 'd9f5',
    start: {
      fcw: 0x1b63,
      ftw: 0xff,
      st0: 0x8001_c000_0000_0000_0000n,
      st1: 0x8001_c000_0000_0000_0001n,
    },
  },
  {
    name: 'a pending x87 exception comes before the page fault of the next operand',
    code: 'df1c25 00000070 dd1c25 f8ffff6f',
    start: { fcw: 0x37e },
  },
  {
    name: 'a pending x87 exception comes before a bad address of an MMX operand',
    code: 'df1c25 00000070 480fef03'.replace('480fef03', '0fef03'),
    start: { fcw: 0x37e, rbx: 1n << 63n },
  },
  {
    name: 'fnstsw does not wait for a pending exception, and faults as a store does',
    code: 'df1c25 00000070 dd3c25 f8ffff6f',
    start: { fcw: 0x37e },
  },
  { name: 'clflush faults as a load of a byte does', code: '0fae3b', start: { rbx: BigInt(ABSENT) } },
  {
    name: 'clflush of a bad address is a general protection fault',
    code: '0fae3b',
    start: { rbx: 1n << 63n },
  },
  {
    name: 'an access that runs out of the lower half is refused before its first page is looked at',
    code: '0f1003',
    start: { rbx: USER_END - 8n },
  },
  {
    name: 'a store of ten bytes that runs out of the lower half is refused for its first page',
    code: 'df33',
    start: { rbx: USER_END - 8n },
  },
  {
    name: 'a load of ten bytes that runs out of the lower half is refused for its first page',
    code: 'db2b',
    start: { rbx: USER_END - 8n },
  },
  {
    name: 'a store of an x87 image that runs out of the lower half is refused for its first page',
    code: 'dd33',
    start: { rbx: USER_END - 8n },
  },
  {
    name: 'a load of an x87 image that runs out of the lower half is refused for its first page',
    code: 'dd23',
    start: { rbx: USER_END - 8n },
  },
  {
    name: 'a load of ten bytes whose first eight run out of the lower half is refused for that',
    code: 'db2b',
    start: { rbx: USER_END - 3n },
  },
  {
    name: 'a store of ten bytes whose first eight run out of the lower half is refused for that',
    code: 'db3b',
    start: { rbx: USER_END - 7n },
  },
  {
    name: 'a load of an x87 environment whose first word runs out of the lower half is refused for that',
    code: 'd923',
    start: { rbx: USER_END - 3n },
  },
  {
    name: 'a store of an x87 environment of 16 bits is refused for its first page from its second word on',
    code: '66d933',
    start: { rbx: USER_END - 2n },
  },
  {
    name: 'fxsave that runs out of the lower half is refused for that',
    code: '0fae03',
    start: { rbx: USER_END - 16n },
  },
  {
    name: 'a read that ends at the last byte of the lower half is a page fault',
    code: '488b03',
    start: { rbx: USER_END - 8n },
  },
  {
    name: 'an image with a pending bit that its masks do not bear out is put right',
    code: '0fae0c25 00040070 dfe0',
    memory: { [DATA + 0x400]: 0xba91_037fn, [DATA + 0x418]: 0x1f80n },
  },
  {
    name: 'shld of 16 bits by more than 16 brings the operand in again',
    code: '660fa4c80f 660facd10f',
    start: { rax: 0x1234n, rcx: 0x8765n, rdx: 0xabcdn },
  },
  {
    name: 'a failed cmpxchg of 32 bits leaves the upper half of its target',
    code: '0fb1d1',
    start: { rax: 1n, rcx: 0x1_0000_0002n, rdx: 7n },
  },
  {
    name: 'a conditional move of 32 bits that does not happen clears the upper half',
    code: '0f44c1',
    start: { rax: 0xffff_ffff_ffff_ffffn, rflags: 0x202n },
  },
  {
    name: 'bts with a negative bit number reaches below its operand',
    code: '480fab0c25 00100070',
    start: { rcx: BigInt.asUintN(64, -4097n) },
  },
  {
    name: 'cmpxchg16b that is not aligned is a general protection fault, whatever it holds',
    code: '480fc70c25 08000070',
  },
  {
    name: 'rep movsb downwards stops at the fault with its registers where it stopped',
    code: 'fd f3a4',
    start: { rcx: 16n, rsi: BigInt(DATA + 0x100), rdi: BigInt(DATA + 7) },
  },
  {
    name: 'repne scasw with a 32-bit address size counts in ecx',
    code: '67f266af',
    start: { rcx: 0xffff_ffff_0000_0003n, rdi: 0xdead_0000_0000_0000n + BigInt(DATA), rax: 1n },
  },
  { name: 'popf that sets TF makes a single step of the next instruction', code: '6802030000 9d 90 90' },
  {
    name: 'popf of 16 bits sets TF as well, and no more than it may',
    code: '6668ffff 669d 90 90',
  },
  {
    name: 'enter that faults at its last level leaves rsp and rbp',
    code: 'c8000802',
    start: { rsp: BigInt(DATA + 8), rbp: BigInt(DATA + 0x100) },
  },
  {
    name: 'a division whose quotient does not fit is a divide error',
    code: '48f7f9',
    start: { rax: 0n, rdx: 1n << 63n, rcx: BigInt.asUintN(64, -1n) },
  },
  {
    name: 'an unmasked inexact result is #XM, with flags in MXCSR and no result',
    code: 'f30f5ec1',
    start: { mxcsr: 0x0f80, xmm0: 0x3f80_0000n, xmm1: 0x4040_0000n },
  },
  {
    name: 'pop of a segment-relative operand uses rsp as it is after',
    code: '648f0424',
    start: { rsp: BigInt(DATA - FS_BASE + 0x100) },
  },
];

const { RflagsBits } = iced;
const ALL_STATUS =
  RflagsBits.OF | RflagsBits.SF | RflagsBits.ZF | RflagsBits.AF | RflagsBits.CF | RflagsBits.PF;

/** The case in the form that the comparison runs: one instruction a step, with undefined flags by iced's table. */
export function trialOf(c: Case): Trial {
  const bytes = Uint8Array.from(Buffer.from(c.code.replaceAll(' ', ''), 'hex'));
  const decoder = new iced.Decoder(64, bytes, 0);
  const steps: Step[] = [];
  while (decoder.canDecode) {
    const at = Number(decoder.ip);
    const ins = decoder.decode();
    if (ins.code === iced.Code.INVALID) throw new Error(`"${c.name}": bad code at byte ${at}`);
    steps.push({
      parts: [{ bytes: [...bytes.subarray(at, at + ins.length)] }],
      flagsRead: 0,
      flagsDefined: (ins.rflagsWritten | ins.rflagsCleared | ins.rflagsSet) & ALL_STATUS,
      flagsUndefined: ins.rflagsUndefined | (c.open ?? 0),
      skips: 0,
    });
    ins.free();
  }
  decoder.free();
  const block = plainBlock();
  const view = new DataView(block.buffer);
  for (const [name, value] of Object.entries(c.start ?? {})) setStart(view, name, BigInt(value));
  const window = new Uint8Array(makeWindow(0).length);
  const words = new DataView(window.buffer);
  for (const [at, value] of Object.entries(c.memory ?? {}))
    words.setBigUint64(Number(at) - DATA, value, true);
  return { steps, block, window: window.subarray(0, Math.max(WRITABLE_BYTES, window.length)) };
}

function setStart(view: DataView, name: string, value: bigint): void {
  const fx = BLOCK.fxsave;
  const wide = (at: number): void => {
    view.setBigUint64(at, BigInt.asUintN(64, value), true);
    if (value >> 64n !== 0n) view.setBigUint64(at + 8, value >> 64n, true);
  };
  const number = Number(name.replace(/^\D+/, ''));
  if (REGISTERS.includes(name)) wide(8 * REGISTERS.indexOf(name));
  else if (name === 'rflags') wide(BLOCK.rflags);
  else if (name === 'fcw') view.setUint16(fx, Number(value), true);
  else if (name === 'fsw') view.setUint16(fx + 2, Number(value), true);
  else if (name === 'ftw') view.setUint8(fx + 4, Number(value));
  else if (name === 'mxcsr') view.setUint32(fx + 24, Number(value), true);
  else if (/^st\d$/.test(name)) wide(fx + 32 + 16 * number);
  else if (/^xmm\d+$/.test(name)) wide(fx + 160 + 16 * number);
  else throw new Error(`no register is called ${name}`);
}
