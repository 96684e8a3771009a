/**
 * Tests the loading of a top table, as by MOV to CR3: nothing of the old table is used afterwards, whatever
 * translations the machine keeps of a half that both tables have in common.
 */
import { beforeEach, describe, expect, test } from 'vitest';
import type { Machine } from '../machine.js';
import { createMachine } from '../machine.js';
import { ALL, fault, go, mfnBits, NOT_PRESENT, ran, Tables, USER } from './tables.js';

const UPPER_CODE = -0x8000_0000;
const UPPER = UPPER_CODE + 0x10_0000;
const LOWER = 0x7f00_1234_5000;
const LOWER_CODE = 0x40_0000;
const RAX = 0;
const RDI = 7;

let machine: Machine;
let tables: Tables;
/** Two top tables with the same upper half. */
let one: number;
let other: number;
let code: ReadonlyMap<string, number>;
/** The entry for UPPER. */
let upper: number;

const PROGRAM = 'read: mov rax, [rdi]\nnext: jmp rdi\n';

/** Returns a new frame that begins with `value`. */
function page(value: bigint): number {
  const frame = tables.take();
  machine.mem.setBig(tables.linear(frame), value);
  return frame;
}

beforeEach(async () => {
  machine = await createMachine(4096, 1 << 20, 2);
  tables = new Tables(machine);
  one = tables.take();
  other = tables.take();
  code = tables.program(one, UPPER_CODE, PROGRAM);
  upper = tables.map(one, UPPER, page(1n));
  const { mem } = machine;
  mem.u8.copyWithin(tables.linear(other) + 2048, tables.linear(one) + 2048, tables.linear(one) + 4096);
  tables.map(one, LOWER, page(11n));
  tables.map(other, LOWER, page(22n));
  for (const cpu of machine.vcpus) {
    cpu.cr3Kernel = machine.ram.mfnOf(one);
    cpu.cr3User = 0;
    cpu.userMode = false;
  }
});

const read = (va: number): number => {
  const cpu = machine.vcpus[0];
  cpu.setReg(RDI, va);
  expect(go(machine, cpu, 1, code.get('read'))).toEqual(ran);
  return cpu.reg(RAX);
};
/** Makes the entry for UPPER name another frame. */
function change(value: bigint): void {
  tables.set(upper, mfnBits(page(value)) | ALL);
}
const load = (root: number, user = false): void => machine.tables.loadRoot(0, user, machine.ram.mfnOf(root));

describe('the kernel', () => {
  test('sees the lower half of the new table, back and forth', () => {
    expect(read(LOWER)).toBe(11);
    for (let i = 0; i < 3; i++) {
      load(other);
      expect(read(LOWER)).toBe(22);
      expect(read(UPPER)).toBe(1);
      load(one);
      expect(read(LOWER)).toBe(11);
    }
  });

  test('faults in the lower half of a table that has none', () => {
    read(LOWER);
    tables.machine.mem.setBig(tables.slot(other, LOWER, 4), 0n);
    load(other);
    const cpu = machine.vcpus[0];
    cpu.setReg(RDI, LOWER);
    expect(go(machine, cpu, 1, code.get('read'))).toEqual(fault(NOT_PRESENT, LOWER));
  });

  test('sees another upper half where the new table has one', () => {
    expect(read(UPPER)).toBe(1);
    const third = tables.take();
    tables.program(third, UPPER_CODE, PROGRAM);
    tables.map(third, UPPER, page(3n));
    load(third);
    expect(read(UPPER)).toBe(3);
    load(one);
    expect(read(UPPER)).toBe(1);
  });

  test('sees nothing outdated in a half that it keeps, once the host has announced that tables changed', () => {
    load(other);
    load(one);
    expect(read(UPPER)).toBe(1);
    change(4n);
    load(other);
    expect(read(UPPER)).toBe(4);
    change(5n);
    // Loading the same table again flushes as well.
    load(other);
    expect(read(UPPER)).toBe(5);
  });

  test('runs the code of the new table in the lower half', () => {
    tables.program(one, LOWER_CODE, 'mov eax, 1\nhere: jmp here\n');
    tables.program(other, LOWER_CODE, 'mov eax, 2\nhere: jmp here\n');
    const cpu = machine.vcpus[0];
    const run = (): number => {
      cpu.setReg(RDI, LOWER_CODE);
      expect(go(machine, cpu, 3, code.get('next'))).toEqual(ran);
      return cpu.reg(RAX);
    };
    for (let i = 0; i < 3; i++) {
      expect(run()).toBe(1);
      load(other);
      expect(run()).toBe(2);
      load(one);
    }
  });
});

describe('a flush of outdated translations', () => {
  test('removes the changed pages, on the vCPU that flushes and only there', () => {
    read(UPPER);
    const second = machine.vcpus[1];
    second.setReg(RDI, UPPER);
    expect(go(machine, second, 1, code.get('read'))).toEqual(ran);
    change(2n);
    machine.tables.flush(1);
    expect(read(UPPER)).toBe(2);
    machine.tables.flush(2);
    expect(go(machine, second, 1, code.get('read'))).toEqual(ran);
    expect(second.reg(RAX)).toBe(2);
  });

  test.each([1, 255, 256, 257, 1000])('removes all of %i changed pages', (count) => {
    const at = Array.from({ length: count }, (_, i) => UPPER + 0x10_0000 + 4096 * i);
    const before = page(100n);
    const after = page(200n);
    const entries = at.map((va) => tables.map(one, va, before));
    for (const va of at) expect(read(va)).toBe(100);
    for (const entry of entries) {
      tables.set(entry, mfnBits(after) | ALL);
    }
    machine.tables.flush(1);
    for (const va of at) expect(read(va)).toBe(200);
  });

  test('removes code that was jumped to', () => {
    const va = UPPER + 0x40_0000;
    tables.program(one, va, 'mov eax, 2\nhere: jmp here\n');
    const after = machine.mem.getBig(tables.entry(one, va));
    tables.program(one, va, 'mov eax, 1\nhere: jmp here\n');
    const cpu = machine.vcpus[0];
    const run = (): number => {
      cpu.setReg(RDI, va);
      expect(go(machine, cpu, 3, code.get('next'))).toEqual(ran);
      return cpu.reg(RAX);
    };
    expect(run()).toBe(1);
    tables.set(tables.entry(one, va), after);
    machine.tables.flush(1);
    expect(run()).toBe(2);
  });
});

test('user mode sees its new top table, and the kernel keeps its translations', () => {
  const cpu = machine.vcpus[0];
  const first = tables.take();
  const second = tables.take();
  for (const [root, value] of [
    [first, 7],
    [second, 8],
  ]) {
    tables.program(root, LOWER_CODE, `mov eax, ${value}\nhere: jmp here\n`);
    tables.map(root, LOWER, page(BigInt(value)));
  }
  expect(read(UPPER)).toBe(1);
  for (let i = 0; i < 3; i++)
    for (const [root, value] of [
      [first, 7],
      [second, 8],
    ]) {
      load(root, true);
      cpu.userMode = true;
      expect(go(machine, cpu, 2, LOWER_CODE)).toEqual(ran);
      expect(cpu.reg(RAX)).toBe(value);
      cpu.userMode = false;
      expect(read(UPPER)).toBe(1);
    }
  load(one, true);
  cpu.userMode = true;
  expect(go(machine, cpu, 1, LOWER_CODE + 0x1000)).toEqual(
    fault(NOT_PRESENT | USER | 16, LOWER_CODE + 0x1000),
  );
});
