/**
 * Tests that translated code computes scalar doubles as core/fp does: results, MXCSR, flags and faults, for boundary
 * operands and for every setting of MXCSR. (The differential test shows that core/fp does what the processor does.)
 */

import { expect, test } from 'vitest';
import { Exit, PAGE } from '../../../src/engine/engine.js';
import { encodeVcpuStates } from '../../../src/engine/vcpu-state.js';
import { AddressSpace } from '../address-space.js';
import type { Machine, Vcpu } from '../machine.js';
import { createMachine } from '../machine.js';

const CODE = 0x40_0000;
const DATA = 0x50_0000;
const FRAMES = 16;
const STRIDE = 128;
const RBX = 3;

/**
 * The bytes before ModRM: addition, subtraction, multiplication, division, square root, min, max, comparisons,
 * conversions.
 */
const OPERATIONS = [
  ...[0x58, 0x5c, 0x59, 0x5e, 0x51, 0x5d, 0x5f].map((code) => [0xf2, 0x0f, code]),
  ...[0x2e, 0x2f].map((code) => [0x66, 0x0f, code]),
  ...[0x2a, 0x2c].flatMap((code) => [
    [0xf2, 0x0f, code],
    [0xf2, 0x48, 0x0f, code],
  ]),
];
/** Operands xmm0 (or eax) and xmm1 (or ecx), or the second operand in memory. */
const OPERANDS = [[0xc1], [0x43, 16]];
const LOADS = [
  [0x0f, 0xae, 0x13], // ldmxcsr [rbx]
  [0xf2, 0x0f, 0x10, 0x43, 8], // movsd xmm0, [rbx+8]
  [0xf2, 0x0f, 0x10, 0x4b, 16], // movsd xmm1, [rbx+16]
  [0x48, 0x8b, 0x4b, 16], // mov rcx, [rbx+16]
].flat();
/** setcc [rbx + 64 + cc], for every condition. */
const CONDITIONS = Array.from({ length: 16 }, (_, cc) => [0x0f, 0x90 + cc, 0x43, 64 + cc]).flat();
const INT3 = 0xcc;

const PROGRAMS = OPERATIONS.flatMap((operation) =>
  OPERANDS.map((operands) => [...LOADS, ...operation, ...operands, ...CONDITIONS, INT3]),
);

const bits = (value: number): bigint => new BigInt64Array(new Float64Array([value]).buffer)[0];
const VALUES = [
  ...[
    0,
    -0,
    1,
    -1.5,
    3,
    0.1,
    1e300,
    -1e-300,
    2 ** -1022,
    2 ** 1023,
    Number.MAX_VALUE,
    Number.POSITIVE_INFINITY,
  ],
  ...[2 ** 31, 2 ** 31 - 0.5, -(2 ** 31), -(2 ** 31) - 1, 2 ** 53 + 2, 2 ** 62, 2 ** 63, -(2 ** 63), 2.5],
].map(bits);
/** Denormals, NaNs, and integers for the conversions. */
const PATTERNS = [
  1n,
  0xf_ffff_ffff_ffffn,
  0x7ff8_0000_0000_0001n,
  0x7ff0_0000_0000_0001n,
  -1n,
  2n ** 53n + 1n,
];
const ALL = [...VALUES, ...PATTERNS];

/** MXCSR at power-on; with each relevant sticky flag; each rounding mode; FTZ; DAZ; with unmasked exceptions. */
const MODES = [
  0x1f80, 0x1fa0, 0x1fbf, 0x3fa0, 0x5fa0, 0x7fa0, 0x9fa0, 0x1fe0, 0x0fa0, 0x1f20, 0x1e20, 0x1820,
];

interface Subject {
  readonly machine: Machine;
  readonly cpu: Vcpu;
  readonly data: number;
}

async function open(tier: 'interpreter' | 'translate'): Promise<Subject> {
  const machine = await createMachine(FRAMES, undefined, 1, tier);
  const space = new AddressSpace(machine);
  for (let page = 0; page * PAGE < PROGRAMS.length * STRIDE; page++) {
    const at = space.mapNew(CODE + page * PAGE, { write: false, execute: true });
    const each = PAGE / STRIDE;
    PROGRAMS.slice(page * each, (page + 1) * each).forEach((p, i) => {
      machine.mem.u8.set(p, at + i * STRIDE);
    });
  }
  const data = space.mapNew(DATA, { write: true, execute: false });
  const [cpu] = machine.vcpus;
  cpu.cr3Kernel = space.root;
  cpu.cr3User = space.root;
  cpu.userMode = true;
  cpu.cs = 0x33;
  cpu.ss = 0x2b;
  return { machine, cpu, data };
}

function run({ machine, cpu, data }: Subject, program: number, mode: number, a: bigint, b: bigint): string {
  machine.mem.u8.fill(0, data, data + PAGE);
  machine.mem.setU32(data, mode);
  machine.mem.setBig(data + 8, BigInt.asUintN(64, a));
  machine.mem.setBig(data + 16, BigInt.asUintN(64, b));
  for (let i = 0; i < 16; i++) cpu.setReg(i, i);
  cpu.setReg(RBX, DATA);
  cpu.rip = CODE + program * STRIDE;
  const exit = machine.run(0, 1000);
  const seen = [encodeVcpuStates(machine.save()), machine.mem.u8.subarray(data, data + 96)].map((part) =>
    Buffer.from(part).toString('hex'),
  );
  return [Exit[exit], cpu.exitVector, ...seen].join(' ');
}

test('scalar doubles, translated and not translated', { timeout: 120_000 }, async () => {
  const [one, other] = await Promise.all([open('interpreter'), open('translate')]);
  const wrong: string[] = [];
  for (let program = 0; program < PROGRAMS.length; program++) {
    for (const mode of MODES) {
      for (const [i, a] of ALL.entries()) {
        // All pairs of values run with the default mode; in other modes each value runs with some others.
        const others = mode === 0x1fa0 ? ALL : ALL.filter((_, k) => (k + i) % 5 === 0);
        for (const b of others) {
          if (run(one, program, mode, a, b) !== run(other, program, mode, a, b))
            wrong.push(
              `program ${program} mode ${mode.toString(16)} of ${a.toString(16)} and ${b.toString(16)}`,
            );
        }
      }
    }
  }
  expect(wrong.slice(0, 20)).toEqual([]);
  expect(other.machine.translation.regions).toBeGreaterThanOrEqual(PROGRAMS.length);
});
