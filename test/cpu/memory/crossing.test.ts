/**
 * Accesses that cross a page boundary where one page is absent or read-only: the guest gets a page fault at the first
 * byte that it may not access, and nothing else has changed: no byte, register, flag or count. Once the page is
 * present, the same instruction completes.
 */

import { beforeAll, describe, expect, test } from 'vitest';
import { PAGE } from '../../../src/engine/engine.js';
import { encodeVcpuStates } from '../../../src/engine/vcpu-state.js';
import type { Machine } from '../machine.js';
import { createMachine } from '../machine.js';
import { ALL, fault, go, mfnBits, P, PROTECTION, ran, Tables, US, USER, WRITE } from './tables.js';

const CODE = 0x400000;
const EDGE = 0x7f00_1234_5000;
const STACK = 0x7f00_2000_0000;
const [RAX, RCX, RSP, RBP, RSI, RDI] = [0, 1, 4, 5, 6, 7];

interface Case {
  readonly text: string;
  readonly bytes: number;
  /** How the operand is addressed: a register, and the distance of its value from the operand. */
  readonly by?: number;
  readonly away?: number;
  /** The alignment that the operand needs, in bytes. */
  readonly aligned?: number;
  /** The 8 bytes at the operand. */
  readonly value?: bigint;
}

const of = (bytes: number, texts: string, more: Partial<Case> = {}): Case[] =>
  texts.split('\n').flatMap((line) => (line.trim() === '' ? [] : [{ text: line.trim(), bytes, ...more }]));

const READ_MODIFY_WRITE = (size: string, a: string): string =>
  [
    ...['add', 'or', 'adc', 'sbb', 'and', 'sub', 'xor'].flatMap((m) => [
      `${m} [rdi], ${a}`,
      `${m} ${size} [rdi], 3`,
    ]),
    ...['inc', 'dec', 'neg', 'not'].map((m) => `${m} ${size} [rdi]`),
    ...['rol', 'ror', 'rcl', 'rcr', 'shl', 'shr', 'sar'].flatMap((m) => [
      `${m} ${size} [rdi], 3`,
      `${m} ${size} [rdi], cl`,
    ]),
    ...['bts', 'btr', 'btc'].map((m) => `${m} ${size} [rdi], 3`),
    ...['shld', 'shrd'].flatMap((m) => [`${m} [rdi], ${a}, 3`, `${m} [rdi], ${a}, cl`]),
    ...['xadd', 'cmpxchg', 'xchg'].map((m) => `${m} [rdi], ${a}`),
    `lock add [rdi], ${a}`,
    `lock cmpxchg [rdi], ${a}`,
    `mov [rdi], ${a}`,
    `mov ${size} [rdi], 3`,
  ].join('\n');

const STORES: Case[] = [
  ...of(2, READ_MODIFY_WRITE('word', 'ax')),
  ...of(4, READ_MODIFY_WRITE('dword', 'eax')),
  ...of(8, READ_MODIFY_WRITE('qword', 'rax')),
  ...of(
    4,
    'movnti [rdi], eax\nmovss [rdi], xmm1\nmovd [rdi], xmm1\nmovd [rdi], mm1\nfst dword [rdi]\nfistp dword [rdi]\nstmxcsr [rdi]',
  ),
  ...of(
    8,
    `movnti [rdi], rax\nmovsd [rdi], xmm1\nmovlps [rdi], xmm1\nmovhps [rdi], xmm1\nmovhpd [rdi], xmm1
    movq [rdi], mm1\nmovntq [rdi], mm1\nfst qword [rdi]\nfstp qword [rdi]\nfistp qword [rdi]\ncmpxchg8b [rdi]
    lock cmpxchg8b [rdi]\npop qword [rdi]`,
  ),
  ...of(2, 'fnstcw [rdi]\nfnstsw [rdi]\nfistp word [rdi]'),
  ...of(10, 'fstp tword [rdi]\nfbstp [rdi]'),
  ...of(
    16,
    'movups [rdi], xmm1\nmovupd [rdi], xmm1\nmovdqu [rdi], xmm1\ndb 0x66, 0x0f, 0xf7, 0xd3 ; maskmovdqu xmm2, xmm3',
  ),
  ...of(28, 'fnstenv [rdi]'),
  ...of(108, 'fnsave [rdi]'),
  ...of(512, 'fxsave [rdi]', { aligned: 16 }),
  ...of(8, 'push rax\npush 3\npushfq\ncall here\ncall rbx\ndb 0xc8, 8, 0, 0 ; enter 8, 0', {
    by: RSP,
    away: 8,
  }),
  ...of(2, 'push ax\npushf', { by: RSP, away: 2 }),
  ...of(2, 'movsw\nstosw'),
  ...of(4, 'movsd\nstosd'),
  ...of(8, 'movsq\nstosq'),
];

const READS = (size: string, a: string): string =>
  [
    ...[
      'mov',
      'add',
      'adc',
      'sbb',
      'and',
      'or',
      'xor',
      'sub',
      'cmp',
      'bsf',
      'bsr',
      'imul',
      'cmovz',
      'cmovnz',
    ].map((m) => `${m} ${a}, [rdi]`),
    `cmp ${size} [rdi], 3`,
    `cmp [rdi], ${a}`,
    `test [rdi], ${a}`,
    `test ${size} [rdi], 3`,
    `bt ${size} [rdi], 3`,
    `imul ${a}, [rdi], 3`,
    ...['mul', 'imul', 'div', 'idiv'].map((m) => `${m} ${size} [rdi]`),
  ].join('\n');

const LOADS: Case[] = [
  ...of(2, READS('word', 'ax'), { value: 0x7000n }),
  ...of(4, READS('dword', 'eax')),
  ...of(8, READS('qword', 'rax')),
  ...of(2, 'movzx eax, word [rdi]\nmovsx rax, word [rdi]\nfild word [rdi]\nfldcw [rdi]', { value: 0x37fn }),
  ...of(
    4,
    'movsxd rax, dword [rdi]\nmovss xmm1, [rdi]\nfld dword [rdi]\nfild dword [rdi]\ncvtsi2sd xmm1, dword [rdi]',
  ),
  ...of(4, 'ldmxcsr [rdi]', { value: 0x1f80n }),
  ...of(
    8,
    `movsd xmm1, [rdi]\naddsd xmm1, [rdi]\nmovlps xmm1, [rdi]\nmovhps xmm1, [rdi]\nmovq mm1, [rdi]\npaddb mm1, [rdi]
    movq xmm1, [rdi]\nfld qword [rdi]\nfild qword [rdi]\nfadd qword [rdi]\ncomisd xmm1, [rdi]\npush qword [rdi]
    call qword [rdi]\njmp qword [rdi]`,
  ),
  ...of(10, 'fld tword [rdi]\nfbld [rdi]', { value: 0x123456n }),
  ...of(16, 'movups xmm1, [rdi]\nmovupd xmm1, [rdi]\nmovdqu xmm1, [rdi]'),
  ...of(28, 'fldenv [rdi]', { value: 0x37fn }),
  ...of(108, 'frstor [rdi]', { value: 0x37fn }),
  ...of(512, 'fxrstor [rdi]', { aligned: 16, value: 0x37fn }),
  ...of(8, 'pop rax\npopfq\nret', { by: RSP }),
  ...of(2, 'pop ax', { by: RSP }),
  ...of(8, 'leave', { by: RBP }),
  ...of(2, 'lodsw\nmovsw', { by: RSI }),
  ...of(4, 'lodsd\nmovsd', { by: RSI }),
  ...of(8, 'lodsq\nmovsq\ncmpsq', { by: RSI }),
  ...of(2, 'scasw'),
  ...of(4, 'scasd'),
  ...of(8, 'scasq\ncmpsq'),
];

let machine: Machine;
let tables: Tables;
let root: number;
let entries: [number, number];
let frames: [number, number];
let edge: [number, number];
let stack: number;
let next = CODE;

beforeAll(async () => {
  machine = await createMachine(2048, 4 << 20);
  tables = new Tables(machine);
  root = tables.take();
  frames = [tables.take(), tables.take()];
  entries = [tables.map(root, EDGE - PAGE, frames[0]), tables.map(root, EDGE, frames[1])];
  edge = [tables.linear(frames[0]), tables.linear(frames[1])];
  stack = tables.mapNew(root, STACK);
  tables.program(root, CODE - PAGE, 'nop\nhlt');
  const cpu = machine.vcpus[0];
  cpu.cr3Kernel = cpu.cr3User = machine.ram.mfnOf(root);
  cpu.userMode = true;
});

/** The guest's whole state: the saved registers, and the bytes of both pages and of the stack. */
function snapshot(): string {
  return Buffer.concat([
    encodeVcpuStates(machine.save()),
    ...[...edge, stack].map((at) => machine.mem.u8.slice(at, at + PAGE)),
  ]).toString('latin1');
}

function prepare(c: Case, va: number): void {
  const cpu = machine.vcpus[0];
  for (const at of [...edge, stack]) {
    machine.touch(at);
    machine.mem.u8.fill(0, at, at + PAGE);
  }
  cpu.loadFpu(new Uint8Array(512));
  const fpu = new Uint8Array(512);
  const view = new DataView(fpu.buffer);
  view.setUint16(0, 0x37f, true);
  view.setUint8(4, 0xff);
  view.setUint32(24, 0x1f80, true);
  for (let i = 0; i < 8; i++) fpu.set([0, 0, 0, 0, 0, 0, 0, 0xc0 + i, 0, 0x40], 32 + 16 * i);
  for (let i = 0; i < 256; i++) fpu[160 + i] = 0x80 | i;
  cpu.loadFpu(fpu);
  [5, 3, 0, CODE - PAGE, STACK + 256, STACK + 512, STACK + 128, STACK + 640].forEach(
    (v, i) => void cpu.setReg(i, v),
  );
  for (let i = 8; i < 16; i++) cpu.setReg(i, 0x1000 + i);
  cpu.setReg(c.by ?? RDI, va + (c.away ?? 0));
  // Every fault sets RF.
  cpu.rflags = 0x10203;
  const value = c.value ?? BigInt(CODE - PAGE);
  for (let i = 0; i < 8; i++) {
    const at = va + i - EDGE;
    if (at < PAGE)
      machine.mem.setU8(
        at < 0 ? edge[0] + PAGE + at : edge[1] + at,
        Number((value >> BigInt(8 * i)) & 0xffn),
      );
  }
}

function rights(first: bigint, second: bigint): void {
  machine.mem.setBig(entries[0], first === 0n ? 0n : mfnBits(frames[0]) | first);
  machine.mem.setBig(entries[1], second === 0n ? 0n : mfnBits(frames[1]) | second);
  machine.tables.forget();
}

/** How many bytes of an operand may lie before the boundary. */
const cuts = (c: Case): number[] => {
  const step = c.aligned ?? 1;
  return [...new Set([step, Math.floor(c.bytes / 2 / step) * step, c.bytes - step])].filter(
    (n) => n > 0 && n < c.bytes,
  );
};

function check(c: Case, faulting: readonly [bigint, bigint][], access: number): string[] {
  const cpu = machine.vcpus[0];
  const wrong: string[] = [];
  const code = next;
  tables.program(root, (next += PAGE) - PAGE, `${c.text}\nhere: nop`);
  for (const cut of cuts(c)) {
    const va = EDGE - cut;
    for (const [first, second] of faulting) {
      const missing = first === ALL ? second : first;
      prepare(c, va);
      rights(first, second);
      const address = first === ALL ? EDGE : va;
      cpu.rip = code;
      cpu.cr2 = address;
      const before = snapshot();
      const outcome = go(machine, cpu, 1);
      const want = fault(USER | access | (missing === 0n ? 0 : PROTECTION), address);
      if (JSON.stringify(outcome) !== JSON.stringify(want))
        wrong.push(
          `${c.text}, ${cut} before the edge: ${JSON.stringify(outcome)}, not ${JSON.stringify(want)}`,
        );
      if (snapshot() !== before) wrong.push(`${c.text}, ${cut} before the edge: something changed`);
      rights(ALL, ALL);
      const retired = cpu.retired;
      if (go(machine, cpu, 1).exit !== ran.exit || cpu.retired !== retired + 1)
        wrong.push(`${c.text}, ${cut} before the edge: does not complete`);
    }
  }
  return wrong;
}

const bySize = (cases: readonly Case[]): [number, Case[]][] =>
  [...new Set(cases.map((c) => c.bytes))].map((bytes) => [bytes, cases.filter((c) => c.bytes === bytes)]);

describe('a store across two pages changes nothing if either page refuses it', () => {
  const refusals: [bigint, bigint][] = [
    [ALL, 0n],
    [ALL, P | US],
    [0n, ALL],
    [P | US, ALL],
  ];
  test.each(bySize(STORES))('of %i bytes', (_, cases) => {
    expect(cases.flatMap((c) => check(c, refusals, WRITE))).toEqual([]);
  });
});

describe('a load across two pages changes nothing if either page is absent', () => {
  test.each(bySize(LOADS))('of %i bytes', (_, cases) => {
    const absent: [bigint, bigint][] = [
      [ALL, 0n],
      [0n, ALL],
    ];
    expect(cases.flatMap((c) => check(c, absent, 0))).toEqual([]);
  });
});

describe('a string instruction that reaches an absent page', () => {
  const SIZES = [
    ['b', 1],
    ['w', 2],
    ['d', 4],
    ['q', 8],
  ] as const;

  /** Runs with the second page absent; then, from where the fault left it, with the page present. */
  function twice(
    text: string,
    count: number,
    bytes: number,
    down: boolean,
    register: number,
    cut: number,
  ): void {
    const cpu = machine.vcpus[0];
    const code = next;
    tables.program(root, (next += PAGE) - PAGE, `rep ${text}\nnop`);
    const start = down ? EDGE + cut : EDGE - cut;
    const untouched = down ? edge[0] : edge[1];
    prepare({ text, bytes }, EDGE - PAGE / 2);
    for (let i = 0; i < PAGE; i++) machine.mem.setU8(stack + i, i * 7);
    for (const at of edge) machine.mem.u8.fill(0xee, at, at + PAGE);
    // The other operand starts in the middle of the stack's page.
    cpu.setReg(RSI, STACK + 2048);
    cpu.setReg(RDI, STACK + 2048);
    cpu.setReg(register, start);
    cpu.setReg(RCX, count);
    cpu.setRegBig(RAX, 0x1122_3344_5566_7788n);
    cpu.rflags = down ? 0x602 : 0x202;
    rights(down ? 0n : ALL, down ? ALL : 0n);
    cpu.rip = code;
    const outcome = go(machine, cpu, 1);
    // Upwards, the whole elements before the boundary are done; downwards, those behind it.
    const done = down ? Math.floor(cut / bytes) + 1 : Math.floor(cut / bytes);
    const at = start + (down ? -1 : 1) * done * bytes;
    const address = down || at >= EDGE ? at : EDGE;
    expect(outcome).toEqual(fault(USER | (register === RDI ? WRITE : 0), address));
    expect(cpu.rip).toBe(code);
    expect(cpu.reg(RCX)).toBe(count - done);
    expect(cpu.reg(register)).toBe(at);
    expect(machine.mem.u8.subarray(untouched, untouched + PAGE).every((b) => b === 0xee)).toBe(true);
    rights(ALL, ALL);
    expect(go(machine, cpu, 1)).toEqual(ran);
    expect(cpu.reg(RCX)).toBe(0);
    expect(cpu.reg(register)).toBe(start + (down ? -1 : 1) * count * bytes);
    if (register !== RDI) return;
    const other = text.startsWith('movs');
    for (let i = 0; i < count * bytes; i++) {
      const element = Math.floor(i / bytes);
      const offset = i % bytes;
      const sign = down ? -1 : 1;
      const va = start + sign * element * bytes + offset;
      const from = 2048 + sign * element * bytes + offset;
      const want = other ? (from * 7) & 0xff : Number((0x1122_3344_5566_7788n >> BigInt(8 * offset)) & 0xffn);
      const linear = va < EDGE ? edge[0] + PAGE + (va - EDGE) : edge[1] + (va - EDGE);
      expect(machine.mem.getU8(linear)).toBe(want);
    }
  }

  test.each(SIZES)('of size %s stops there, and continues when the page is present', (suffix, bytes) => {
    // Elements begin at the boundary and, if they have several bytes, across it.
    const cuts = bytes === 1 ? [5] : [5 * bytes, 5 * bytes + 1, 6 * bytes - 1];
    for (const down of [false, true]) {
      for (const cut of down ? [5 * bytes] : cuts) {
        twice(`stos${suffix}`, 20, bytes, down, RDI, cut);
        twice(`movs${suffix}`, 20, bytes, down, RDI, cut);
        twice(`movs${suffix}`, 20, bytes, down, RSI, cut);
        twice(`lods${suffix}`, 20, bytes, down, RSI, cut);
      }
    }
  });
});

test('an access that begins in the last canonical page and ends behind it is refused as a whole', () => {
  const cpu = machine.vcpus[0];
  const last = 0x7fff_ffff_f000;
  const linear = tables.mapNew(root, last);
  machine.mem.u8.fill(0xee, linear, linear + PAGE);
  const code = next;
  const at = tables.program(
    root,
    (next += PAGE) - PAGE,
    'mov [rdi], rax\nload: mov rax, [rdi]\nwide: movups [rdi], xmm0\npush: push rax',
  );
  cpu.setReg(RDI, last + PAGE - 4);
  cpu.setReg(RSP, last + PAGE + 4);
  const before = snapshot();
  expect(go(machine, cpu, 1, code)).toMatchObject({ vector: 13, error: 0 });
  expect(go(machine, cpu, 1, at.get('load'))).toMatchObject({ vector: 13, error: 0 });
  expect(go(machine, cpu, 1, at.get('wide'))).toMatchObject({ vector: 13, error: 0 });
  expect(go(machine, cpu, 1, at.get('push'))).toMatchObject({ vector: 12, error: 0 });
  expect(machine.mem.u8.subarray(linear, linear + PAGE).every((b) => b === 0xee)).toBe(true);
  expect(before.length).toBe(snapshot().length);
});
