/**
 * Tests page tables that change while translations of them are cached: before a flush the old or the new entry may be
 * used, after it only the new one (SDM volume 3, 4.10.4).
 */
import { beforeEach, describe, expect, test } from 'vitest';
import { ALL_VCPUS, PAGE } from '../../../src/engine/engine.js';
import type { Machine } from '../machine.js';
import { createMachine } from '../machine.js';
import {
  A,
  ALL,
  D,
  FETCH,
  fault,
  go,
  mfnBits,
  NOT_PRESENT,
  NX,
  P,
  PROTECTION,
  RW,
  ran,
  Tables,
  US,
  USER,
  WRITE,
} from './tables.js';

const CODE = 0x400000;
const VA = 0x7f00_1234_5000;
const RAX = 0;
const RDI = 7;

let machine: Machine;
let tables: Tables;
let root: number;
let code: ReadonlyMap<string, number>;
/** The entry for VA, and two frames for it. */
let entry: number;
let first: number;
let second: number;

/** An address with the same slot as VA in every TLB. */
const NEIGHBOUR = VA + 2 ** 22;

beforeEach(async () => {
  machine = await createMachine(4096, 1 << 20, 2);
  tables = new Tables(machine);
  root = tables.take();
  code = tables.program(root, CODE, 'read: mov rax, [rdi]\nwrite: mov [rdi], rax\nnext: jmp rdi\n');
  for (const cpu of machine.vcpus) {
    cpu.cr3Kernel = cpu.cr3User = machine.ram.mfnOf(root);
    cpu.userMode = true;
    cpu.setReg(RDI, VA);
  }
  first = tables.take();
  second = tables.take();
  machine.mem.setBig(tables.linear(first), 1n);
  machine.mem.setBig(tables.linear(second), 2n);
  entry = tables.map(root, VA, first);
});

const read = (vcpu = 0): number => {
  const cpu = machine.vcpus[vcpu];
  expect(go(machine, cpu, 1, code.get('read'))).toEqual(ran);
  return cpu.reg(RAX);
};
const write = (value: number, vcpu = 0): void => {
  const cpu = machine.vcpus[vcpu];
  cpu.setReg(RAX, value);
  expect(go(machine, cpu, 1, code.get('write'))).toEqual(ran);
};
const set = (frame: number, bits = ALL): void => tables.set(entry, mfnBits(frame) | bits);

const FLUSHES = {
  'invlpg of the page': () => machine.tables.flush(1, VA),
  'invlpg of another byte of the page': () => machine.tables.flush(1, VA + 0xfff),
  'invlpg on all vCPUs': () => machine.tables.flush(ALL_VCPUS, VA + 8),
  'a flush': () => machine.tables.flush(1),
  'a flush on all vCPUs': () => machine.tables.flush(ALL_VCPUS),
  'a whole round of generations': () => {
    for (let i = 0; i < 0x1800; i++) machine.tables.forget();
  },
};

describe.each(Object.entries(FLUSHES))('after %s', (_, flush) => {
  test('a guest reads and writes the new frame, although it had read and written the old one', () => {
    expect(read()).toBe(1);
    write(11);
    set(second);
    expect([11, 2]).toContain(read());
    flush();
    expect(read()).toBe(2);
    write(22);
    expect(machine.mem.getBig(tables.linear(first))).toBe(11n);
    expect(machine.mem.getBig(tables.linear(second))).toBe(22n);
  });

  test('a page that was made absent faults for every access', () => {
    read();
    write(1);
    machine.mem.setBig(tables.linear(first), 0x9090_9090_9090_9090n);
    machine.touch(tables.linear(first));
    expect(go(machine, machine.vcpus[0], 1, VA)).toEqual(ran);
    tables.set(entry, 0n);
    flush();
    const cpu = machine.vcpus[0];
    expect(go(machine, cpu, 1, code.get('read'))).toEqual(fault(USER | NOT_PRESENT, VA));
    expect(go(machine, cpu, 1, code.get('write'))).toEqual(fault(USER | WRITE | NOT_PRESENT, VA));
    expect(go(machine, cpu, 1, VA)).toEqual(fault(USER | FETCH | NOT_PRESENT, VA));
    cpu.setReg(RDI, VA);
    expect(go(machine, cpu, 2, code.get('next'))).toEqual(fault(USER | FETCH | NOT_PRESENT, VA));
  });

  test('a page that became read-only, not executable or supervisor-only is so', () => {
    const cpu = machine.vcpus[0];
    write(5);
    machine.mem.setBig(tables.linear(first), 0x9090_9090_9090_9090n);
    machine.touch(tables.linear(first));
    expect(go(machine, cpu, 1, VA)).toEqual(ran);
    set(first, P | US | NX);
    flush();
    expect(go(machine, cpu, 1, code.get('write'))).toEqual(fault(USER | WRITE | PROTECTION, VA));
    expect(go(machine, cpu, 1, VA)).toEqual(fault(USER | FETCH | PROTECTION, VA));
    expect(go(machine, cpu, 1, code.get('read'))).toEqual(ran);
    set(first, P | RW);
    flush();
    expect(go(machine, cpu, 1, code.get('read'))).toEqual(fault(USER | PROTECTION, VA));
  });

  test('accessed and dirty bits that were cleared are set again', () => {
    write(5);
    expect(machine.mem.getBig(entry)).toBe(mfnBits(first) | ALL | A | D);
    set(first);
    flush();
    read();
    expect(machine.mem.getBig(entry)).toBe(mfnBits(first) | ALL | A);
    write(6);
    expect(machine.mem.getBig(entry)).toBe(mfnBits(first) | ALL | A | D);
  });

  test('code in the new frame runs, also from the middle of a chain of jumps', () => {
    const cpu = machine.vcpus[0];
    // This is inc rax, then a jump to it: five bytes, one block that is linked to itself.
    const loop = Uint8Array.of(0x48, 0xff, 0xc0, 0xeb, 0xfb);
    const back = Uint8Array.of(0x48, 0xff, 0xc8, 0xeb, 0xfb);
    machine.mem.u8.set(loop, tables.linear(first));
    machine.mem.u8.set(back, tables.linear(second));
    cpu.setReg(RAX, 0);
    expect(go(machine, cpu, 200, VA)).toEqual(ran);
    expect(cpu.reg(RAX)).toBe(100);
    set(second);
    flush();
    expect(go(machine, cpu, 100)).toEqual(ran);
    expect(cpu.reg(RAX)).toBe(50);
  });

  test('translations that others had evicted from the TLB are gone, too', () => {
    const cpu = machine.vcpus[0];
    const others = Array.from({ length: 12 }, (_, i) => VA + (i + 1) * 2 ** 22);
    for (const va of others) tables.mapNew(root, va);
    for (const pushedBy of [0, 1, 7, 8, 12]) {
      set(first);
      machine.tables.forget();
      machine.mem.setBig(tables.linear(first), 1n);
      machine.mem.setBig(tables.linear(second), 2n);
      expect(read()).toBe(1);
      write(1);
      for (const va of others.slice(0, pushedBy)) {
        cpu.setReg(RDI, va);
        read();
        write(9);
      }
      cpu.setReg(RDI, VA);
      set(second);
      flush();
      expect(read()).toBe(2);
      write(3);
      expect(machine.mem.getBig(tables.linear(first))).toBe(1n);
      expect(machine.mem.getBig(tables.linear(second))).toBe(3n);
    }
  });

  test('a table that was replaced is no longer used', () => {
    expect(read()).toBe(1);
    write(1);
    const table = tables.take();
    machine.mem.setBig(tables.slot(table, VA, 1), mfnBits(second) | ALL);
    tables.set(tables.entry(root, VA, 2), mfnBits(table) | ALL, 2);
    flush();
    expect(read()).toBe(2);
    tables.set(tables.entry(root, VA, 4), 0n, 4);
    flush();
    expect(go(machine, machine.vcpus[0], 1, code.get('read'))).toEqual(fault(USER, VA));
  });
});

test('additional rights are seen without a flush: faults are never cached', () => {
  const cpu = machine.vcpus[0];
  tables.set(entry, 0n);
  expect(go(machine, cpu, 1, code.get('read'))).toEqual(fault(USER, VA));
  set(first, P | US);
  expect(read()).toBe(1);
  expect(go(machine, cpu, 1, code.get('write'))).toEqual(fault(USER | WRITE | PROTECTION, VA));
  set(first);
  write(3);
  set(first, P | US | NX);
  expect(go(machine, cpu, 1, VA)).toEqual(fault(USER | FETCH | PROTECTION, VA));
  set(first);
  machine.mem.setBig(tables.linear(first), 0x9090n);
  expect(go(machine, cpu, 1, VA)).toEqual(ran);
});

test('a flush on one vCPU keeps the translations of another, whose own flush removes them', () => {
  for (const vcpu of [0, 1]) {
    expect(read(vcpu)).toBe(1);
    write(1, vcpu);
  }
  set(second);
  machine.tables.flush(1);
  machine.tables.flush(1, VA);
  expect(read(0)).toBe(2);
  expect([1, 2]).toContain(read(1));
  machine.tables.flush(2);
  expect(read(1)).toBe(2);
  set(first);
  machine.tables.flush(ALL_VCPUS, VA);
  expect([read(0), read(1)]).toEqual([1, 1]);
});

test('invlpg of one page keeps the translation of a neighbour right', () => {
  const cpu = machine.vcpus[0];
  const other = tables.mapNew(root, NEIGHBOUR);
  machine.mem.setBig(other, 7n);
  for (const va of [VA, NEIGHBOUR, VA, NEIGHBOUR]) {
    cpu.setReg(RDI, va);
    expect(read()).toBe(va === VA ? 1 : 7);
  }
  set(second);
  machine.tables.flush(1, NEIGHBOUR);
  machine.tables.flush(1, VA);
  expect(read()).toBe(7);
  cpu.setReg(RDI, VA);
  expect(read()).toBe(2);
});

describe.each([
  { name: '2 MiB', level: 2, base: 1024, step: 5 * PAGE },
  { name: '1 GiB', level: 3, base: 0, step: 3 * PAGE },
])('a page of $name', ({ level, base, step }) => {
  const BIG = 0x7e00_4000_0000;

  test('is flushed as a whole by invlpg of any of its bytes', () => {
    const cpu = machine.vcpus[0];
    const at = tables.map(root, BIG, base, ALL, level);
    const target = tables.linear(base) + 700 * PAGE * (level - 2) + step;
    const va = BIG + 700 * PAGE * (level - 2) + step;
    machine.mem.setBig(target, 55n);
    cpu.setReg(RDI, va);
    expect(read()).toBe(55);
    write(56);
    tables.set(at, 0n, level);
    machine.tables.flush(1, BIG + 2 ** (level === 2 ? 21 : 30) - 1);
    expect(go(machine, cpu, 1, code.get('read'))).toEqual(fault(USER, va));
    expect(go(machine, cpu, 1, code.get('write'))).toEqual(fault(USER | WRITE, va));
  });

  test('may be split into small pages', () => {
    const cpu = machine.vcpus[0];
    const at = tables.map(root, BIG, base, ALL, level);
    cpu.setReg(RDI, BIG + step);
    machine.mem.setBig(tables.linear(base) + step, 55n);
    expect(read()).toBe(55);
    tables.set(at, 0n, level);
    tables.map(root, BIG + step, second);
    machine.tables.flush(1, BIG);
    expect(read()).toBe(2);
  });
});

describe("the guest's two modes", () => {
  test('have their own tables, and switch without a flush', () => {
    const cpu = machine.vcpus[0];
    const kernelRoot = tables.take();
    tables.program(kernelRoot, CODE, 'read: mov rax, [rdi]\nwrite: mov [rdi], rax\n');
    tables.map(kernelRoot, VA, second);
    cpu.cr3Kernel = machine.ram.mfnOf(kernelRoot);
    machine.tables.forget();
    for (let i = 0; i < 4; i++) {
      cpu.userMode = i % 2 === 0;
      expect(read()).toBe(cpu.userMode ? 1 : 2);
    }
  });

  test('do not share pages of the kernel', () => {
    const cpu = machine.vcpus[0];
    const kernelRoot = tables.take();
    tables.program(kernelRoot, CODE, 'read: mov rax, [rdi]\nwrite: mov [rdi], rax\n');
    tables.map(kernelRoot, VA, first);
    cpu.cr3Kernel = machine.ram.mfnOf(kernelRoot);
    tables.set(entry, 0n);
    cpu.userMode = false;
    machine.tables.forget();
    expect(read()).toBe(1);
    write(9);
    machine.mem.setBig(tables.linear(first), 0x9090n);
    machine.touch(tables.linear(first));
    expect(go(machine, cpu, 1, VA)).toEqual(ran);
    cpu.userMode = true;
    expect(go(machine, cpu, 1, code.get('read'))).toEqual(fault(USER, VA));
    expect(go(machine, cpu, 1, code.get('write'))).toEqual(fault(USER | WRITE, VA));
    expect(go(machine, cpu, 1, VA)).toEqual(fault(USER | FETCH, VA));
  });

  test('both lose a page by one invlpg', () => {
    const cpu = machine.vcpus[0];
    for (const user of [true, false]) {
      cpu.userMode = user;
      expect(read()).toBe(1);
    }
    set(second);
    machine.tables.flush(1, VA);
    for (const user of [true, false]) {
      cpu.userMode = user;
      expect(read()).toBe(2);
    }
  });

  test('change their top tables with a flush', () => {
    const cpu = machine.vcpus[0];
    expect(read()).toBe(1);
    const other = tables.take();
    tables.program(other, CODE, 'read: mov rax, [rdi]\nwrite: mov [rdi], rax\n');
    tables.map(other, VA, second);
    cpu.cr3User = machine.ram.mfnOf(other);
    machine.tables.forget();
    expect(read()).toBe(2);
    cpu.cr3User = machine.ram.mfnOf(root);
    machine.tables.forget();
    expect(read()).toBe(1);
  });
});

test('the guest edits its own tables, and its next flush makes that visible', () => {
  const cpu = machine.vcpus[0];
  const window = VA + 16 * PAGE;
  const l1 = Math.floor((entry - machine.ram.base) / PAGE);
  tables.map(root, window, l1);
  expect(read()).toBe(1);
  cpu.setReg(RDI, window + (entry % PAGE));
  cpu.setRegBig(RAX, mfnBits(second) | ALL);
  expect(go(machine, cpu, 1, code.get('write'))).toEqual(ran);
  cpu.setReg(RDI, VA);
  machine.tables.flush(1, VA);
  expect(read()).toBe(2);
});
