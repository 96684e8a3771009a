/**
 * Tests every instruction that iced knows: what the machine's CPUID does not offer raises #UD, and what the comparison
 * with the processor leaves out does what the manuals say (SDM volume 2; AMD's manual, volume 3).
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { Exit } from '../../src/engine/engine.js';
import { type Bare, CODE, DATA, openBare } from './bare.js';
import { encodings, withoutEncoding } from './encodings.js';
import { executedForms } from './executed.js';
import { BASELINE } from './forms.js';
import { whyLeftOut } from './left-out.js';

const UD = 6;

let bare: Bare;
beforeAll(async () => {
  bare = await openBare();
});

/** Registers on which the memory operands of encodings.ts are based; they point to data. */
function start(): void {
  const { cpu } = bare;
  for (let i = 0; i < 16; i++) cpu.setReg(i, DATA + 0x800);
  cpu.rflags = 0x202;
}

describe('the list of instructions', () => {
  it('has bytes for all instructions except those that no 64-bit guest can execute', () => {
    const unreachable =
      /rel(8|16|32)_16|^VEX_KNC_|^Bnd|^(Call|Jmp)_rm16$|^Retnw|^Xchg_r64_RAX$|^F(stenv|stcw|eni|disi|clex|init|setpm|save|stsw)|^(Rdudbg|Wrudbg|Ud0|Montmul_64|Pcommit)$|rel16$/;
    expect(withoutEncoding().filter((name) => !unreachable.test(name))).toEqual([]);
    expect(encodings().length).toBeGreaterThan(7000);
  });
});

describe('an instruction that CPUID does not offer', () => {
  it('raises #UD, or is a hint if it was one on earlier processors', () => {
    const wrong: string[] = [];
    let refused = 0;
    for (const { name, bytes, feature } of encodings()) {
      if (feature.split('+').every((f) => BASELINE.has(f)) || whyLeftOut(name) !== undefined) continue;
      start();
      const exit = bare.run(bytes);
      if (exit === Exit.exception && bare.cpu.exitVector === UD && bare.cpu.rip === CODE) refused++;
      else wrong.push(`${name} (${feature}): ${Exit[exit]}, vector ${bare.cpu.exitVector}`);
    }
    expect(wrong).toEqual([]);
    expect(refused).toBeGreaterThan(5000);
  });
});

/** What the instructions that are left out of the comparison do. */
const EXPECTED: readonly (readonly [RegExp, (name: string, bytes: Uint8Array) => void])[] = [
  [/^Syscall$/, (_, bytes) => leaves(bytes, Exit.syscall, bytes.length)],
  [/^Int_imm8$/, () => raises([0xcd, 0x80], 0x80, true)],
  [/^Int1$/, (_, bytes) => raises(bytes, 1, false)],
  [/^(Sysret|Sysexit|Swapgs|Rdmsr|Wrmsr|Rdpmc|Wbnoinvd)/, (_, bytes) => leaves(bytes, Exit.privileged, 0)],
  [
    /^(Iret|Retf|Call_m16|Jmp_m16|Mov_Sreg|Pop[wq]_[FG]S|L[sfg]s_|Lar_|Lsl_|Verr_|Verw_|Sgdt|Sidt|Sldt|Str_|Smsw|Sysenter)/,
    (_, bytes) => leaves(bytes, Exit.descriptor, 0),
  ],
  [/^Cpuid$/, answersCpuid],
  [/^Rdtsc$/, readsTime],
  [/^Bswap_r16$/, clears16],
  [/^([TL]zcnt)_/, findsBit],
  [/^(Fneni|Fndisi|Fnsetpm|Prefetch|Cldemote|Rdssp|Endbr)/, (_, bytes) => idles(bytes)],
];

function leaves(bytes: ArrayLike<number>, exit: Exit, behind: number): void {
  expect(Exit[bare.run(bytes)]).toBe(Exit[exit]);
  expect(bare.cpu.rip).toBe(CODE + behind);
  expect(bare.cpu.exitLength).toBe(bytes.length);
}

function raises(bytes: ArrayLike<number>, vector: number, software: boolean): void {
  leaves(bytes, Exit.exception, bytes.length);
  expect([bare.cpu.exitVector, bare.cpu.exitErrorCode, bare.cpu.exitSoftware]).toEqual([vector, 0, software]);
}

function completes(bytes: Uint8Array): void {
  expect(Exit[bare.run(bytes)]).toBe(Exit[Exit.limit]);
  expect(bare.cpu.rip).toBe(CODE + bytes.length);
}

const registers = (): bigint[] => Array.from({ length: 16 }, (_, i) => bare.cpu.regBig(i));

function idles(bytes: Uint8Array): void {
  const before = registers();
  completes(bytes);
  expect(registers()).toEqual(before);
}

function answersCpuid(_: string, bytes: Uint8Array): void {
  bare.cpu.setReg(0, 0);
  completes(bytes);
  expect([0, 3, 1, 2].map((i) => bare.cpu.regBig(i))).toEqual([1n, 0x756e_6547n, 0x6c65_746en, 0x4965_6e69n]);
}

function readsTime(_: string, bytes: Uint8Array): void {
  completes(bytes);
  expect([bare.cpu.regBig(0), bare.cpu.regBig(2)]).toEqual([0n, 0n]);
}

/** The operand has 16 bits: processors return zero. */
function clears16(_: string, bytes: Uint8Array): void {
  completes(bytes);
  expect(registers().filter((v) => v === BigInt(DATA))).toHaveLength(1);
}

function findsBit(name: string, bytes: Uint8Array): void {
  const { cpu, data, machine } = bare;
  if (name.endsWith('mem')) machine.mem.setBig(data + 0x800, 0x48n);
  else for (let i = 0; i < 16; i++) cpu.setRegBig(i, 0x48n);
  completes(bytes);
  const bit = name.startsWith('T') ? 3n : 6n;
  expect(registers().filter((v) => (v & 0xffffn) === bit)).toHaveLength(1);
}

describe('an instruction that is not compared with the processor', () => {
  it('does what the manuals say', () => {
    const found = encodings().filter(({ name }) => whyLeftOut(name) !== undefined);
    const executed = new Set(executedForms());
    for (const { name, bytes } of found.filter((e) => executed.has(e.name))) {
      const check = EXPECTED.find(([names]) => names.test(name))?.[1];
      expect(check, `nothing is known of ${name}`).toBeDefined();
      start();
      try {
        check?.(name, bytes);
      } catch (error) {
        throw new Error(`${name}: ${String(error)}`);
      }
    }
  });
});
