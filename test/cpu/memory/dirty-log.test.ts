/**
 * Tests the dirty log: it has every frame that the guest, or the host on its behalf, writes, whatever was written
 * before.
 */
import { beforeEach, describe, expect, test } from 'vitest';
import { PAGE } from '../../../src/engine/engine.js';
import type { Machine } from '../machine.js';
import { createMachine } from '../machine.js';
import { A, ALL, D, go, mfnBits, ran, Tables } from './tables.js';

const CODE = 0x400000;
const DATA = 0x7f00_1234_5000;
const PAGES = 40;
const FRAMES = 1027;
const [RAX, RCX, RSP, RDI] = [0, 1, 4, 7];

let machine: Machine;
let tables: Tables;
let root: number;
let code: ReadonlyMap<string, number>;
/** The frames of the pages at DATA. */
let data: number[];

beforeEach(async () => {
  machine = await createMachine(FRAMES, 1 << 20, 2);
  tables = new Tables(machine);
  root = tables.take();
  code = tables.program(
    root,
    CODE,
    `
    read:  mov rax, [rdi]
    write: mov [rdi], rax
    byte:  mov byte [rdi], 1
    add:   add dword [rdi], 1
    push:  push rax
    vector: movups [rdi], xmm0
    state: fxsave [rdi]
    fill:  rep stosq
    cmpx:  cmpxchg [rdi], rcx
    `,
  );
  data = Array.from({ length: PAGES }, (_, i) => {
    const frame = tables.take();
    tables.map(root, DATA + i * PAGE, frame);
    return frame;
  });
  for (const cpu of machine.vcpus) {
    cpu.cr3Kernel = cpu.cr3User = machine.ram.mfnOf(root);
    cpu.userMode = true;
    cpu.setReg(RDI, DATA);
  }
  machine.tables.forget();
});

function dirty(first?: number, count?: number): number[] {
  const bits = new Uint8Array(Math.ceil(FRAMES / 8));
  const n = machine.dirty.read(bits, first, count);
  const frames = Array.from({ length: FRAMES }, (_, f) => f).filter(
    (f) => (bits[f >> 3] & (1 << (f & 7))) !== 0,
  );
  expect(frames.length).toBe(n);
  return frames;
}

const run = (label: string, page = 0, vcpu = 0): void => {
  const cpu = machine.vcpus[vcpu];
  cpu.setReg(RDI, DATA + page * PAGE);
  cpu.setReg(RSP, DATA + page * PAGE + 64);
  cpu.setReg(RCX, 4);
  expect(go(machine, cpu, 1, code.get(label))).toEqual(ran);
};

const tablesOf = (va: number): number[] => {
  const frames = [root];
  let table = root;
  for (let level = 4; level > 1; level--) {
    table = machine.ram.frameOf(
      Number((machine.mem.getBig(tables.slot(table, va, level)) >> 12n) & 0xff_ffffn),
    );
    frames.push(table);
  }
  return frames;
};

/** Runs the writers once before the log starts, so that accessed and dirty bits are set and translations are cached. */
const warm = (pages: number): void => {
  for (let page = 0; page < pages; page++) run('write', page);
  for (let page = 0; page < pages; page++) run('write', page, 1);
};

describe('a frame is in the log', () => {
  test.each(['write', 'byte', 'add', 'push', 'vector', 'state', 'fill', 'cmpx'])(
    'after the guest has done %s',
    (label) => {
      run(label);
      run('write', 1);
      machine.dirty.start();
      run(label);
      expect(dirty()).toEqual([data[0]]);
      expect(dirty()).toEqual([]);
      run(label);
      run(label);
      expect(dirty()).toEqual([data[0]]);
    },
  );

  test('that another vCPU wrote; or two frames, if two vCPUs wrote one each', () => {
    warm(3);
    machine.dirty.start();
    run('write', 1, 1);
    expect(dirty()).toEqual([data[1]]);
    run('write', 1, 0);
    run('write', 2, 1);
    expect(dirty()).toEqual([data[1], data[2]]);
  });

  test('together with the next one, if a store lies in both', () => {
    warm(2);
    machine.dirty.start();
    const cpu = machine.vcpus[0];
    cpu.setReg(RDI, DATA + PAGE - 3);
    expect(go(machine, cpu, 1, code.get('write'))).toEqual(ran);
    expect(dirty()).toEqual([data[0], data[1]]);
  });

  test('together with all others that a string instruction writes', () => {
    warm(PAGES);
    machine.dirty.start();
    const cpu = machine.vcpus[0];
    cpu.setReg(RDI, DATA + PAGE + 8);
    cpu.setReg(RCX, (20 * PAGE) / 8);
    expect(go(machine, cpu, 1, code.get('fill'))).toEqual(ran);
    expect(dirty()).toEqual(data.slice(1, 22));
  });

  test('of a page table in which a walk sets accessed or dirty bits', () => {
    warm(1);
    const entry = tables.entry(root, DATA + 5 * PAGE);
    const l1 = tablesOf(DATA)[3];
    machine.dirty.start();
    run('read', 5);
    expect(machine.mem.getBig(entry)).toBe(mfnBits(data[5]) | ALL | A);
    expect(dirty()).toEqual([l1]);
    run('read', 5);
    expect(dirty()).toEqual([]);
    run('write', 5);
    expect(machine.mem.getBig(entry)).toBe(mfnBits(data[5]) | ALL | A | D);
    expect(dirty()).toEqual([l1, data[5]].sort((a, b) => a - b));
  });

  test('of a page table at each level, when a page is reached for the first time', () => {
    const va = 0x1234_5678_9000;
    const frame = tables.take();
    tables.map(root, va, frame);
    warm(1);
    machine.dirty.start();
    const cpu = machine.vcpus[0];
    cpu.setReg(RDI, va);
    // The root's entry is new as well, so its accessed bit is also set.
    expect(go(machine, cpu, 1, code.get('write'))).toEqual(ran);
    expect(dirty()).toEqual([...tablesOf(va), frame].sort((a, b) => a - b));
  });

  test('after the host has announced a write to it, or asked for its address for writing', () => {
    warm(1);
    machine.dirty.start();
    machine.touch(tables.linear(data[7]) + 100);
    expect(dirty()).toEqual([data[7]]);
    const linear = machine.translate(0, DATA + 8, 1);
    expect(linear).toBe(tables.linear(data[0]) + 8);
    expect(dirty()).toEqual([data[0]]);
    expect(machine.translate(0, DATA + 8, 0)).toBe(linear);
    expect(dirty()).toEqual([]);
  });

  test('that holds decoded code, when the guest writes beside that code', () => {
    const frame = machine.ram.frameOf(
      Number((machine.mem.getBig(tables.entry(root, CODE)) >> 12n) & 0xff_ffffn),
    );
    tables.map(root, DATA, frame);
    const cpu = machine.vcpus[0];
    cpu.setReg(RDI, DATA + 2048);
    expect(go(machine, cpu, 1, code.get('write'))).toEqual(ran);
    for (let i = 0; i < 2; i++) {
      machine.dirty.start();
      cpu.setReg(RDI, DATA + 2048);
      expect(go(machine, cpu, 1, code.get('write'))).toEqual(ran);
      expect(dirty()).toEqual([frame]);
      expect(go(machine, cpu, 1, code.get('write'))).toEqual(ran);
      expect(dirty()).toEqual([frame]);
    }
  });
});

test('whose translation was evicted from the TLB, when it is written again', () => {
  const neighbour = DATA + 2 ** 22;
  const frame = tables.take();
  tables.map(root, neighbour, frame);
  warm(1);
  const cpu = machine.vcpus[0];
  const at = (va: number): void => {
    cpu.setReg(RDI, va);
    expect(go(machine, cpu, 1, code.get('write'))).toEqual(ran);
  };
  at(neighbour);
  machine.dirty.start();
  at(DATA);
  at(neighbour);
  expect(dirty()).toEqual([data[0], frame]);
  at(DATA);
  expect(dirty()).toEqual([data[0]]);
});

test('a guest that only reads leaves the log empty', () => {
  warm(PAGES);
  machine.dirty.start();
  for (let page = 0; page < PAGES; page++) run('read', page);
  expect(dirty()).toEqual([]);
});

test('a store that faults does not log its page', () => {
  warm(2);
  machine.mem.setBig(tables.entry(root, DATA), 0n);
  machine.tables.forget();
  machine.dirty.start();
  const cpu = machine.vcpus[0];
  cpu.setReg(RDI, DATA);
  expect(go(machine, cpu, 1, code.get('write')).exit).not.toBe(ran.exit);
  expect(dirty()).toEqual([]);
});

test('ranges are read and cleared independently', () => {
  warm(PAGES);
  for (const [first, count] of [
    [0, FRAMES],
    [data[3], 1],
    [data[3], 2],
    [data[3] + 1, 6],
    [data[0] - 1, PAGES + 2],
    [data[5], 0],
    [FRAMES - 3, 3],
    [0, data[9]],
    [data[11], FRAMES - data[11]],
  ]) {
    machine.dirty.start();
    for (let page = 0; page < PAGES; page++) run('write', page);
    const inside = data.filter((f) => f >= first && f < first + count);
    expect(dirty(first, count)).toEqual(inside);
    expect(dirty(first, count)).toEqual([]);
    expect(dirty()).toEqual(data.filter((f) => !inside.includes(f)));
  }
});

test('a range that is read between two writes misses neither', () => {
  warm(4);
  machine.dirty.start();
  run('write', 1);
  run('write', 2);
  expect(dirty(data[1], 1)).toEqual([data[1]]);
  run('write', 1);
  run('write', 2);
  expect(dirty(data[1], 1)).toEqual([data[1]]);
  expect(dirty()).toEqual([data[2]]);
});

test('bits that are already set in `into` stay set', () => {
  warm(2);
  machine.dirty.start();
  run('write', 0);
  const bits = new Uint8Array(Math.ceil(FRAMES / 8)).fill(0x55);
  const before = bits.slice();
  machine.dirty.read(bits);
  before[data[0] >> 3] |= 1 << (data[0] & 7);
  expect(bits).toEqual(before);
});

test('the log can be restarted; reading it while it is stopped, or for frames that do not exist, is an error', () => {
  const bits = new Uint8Array(Math.ceil(FRAMES / 8));
  expect(() => machine.dirty.read(bits)).toThrow('the dirty log is not running');
  machine.dirty.start();
  run('write', 0);
  machine.dirty.start();
  expect(dirty()).toEqual([]);
  expect(() => machine.dirty.read(bits, 1, FRAMES)).toThrow(`frames 1 to ${FRAMES + 1} of ${FRAMES}`);
  expect(() => machine.dirty.read(bits, -1, 2)).toThrow(RangeError);
  expect(() => machine.dirty.read(new Uint8Array(1))).toThrow('1 bytes for them');
  machine.dirty.stop();
  expect(() => machine.dirty.read(bits)).toThrow('the dirty log is not running');
});

test('with random writers and readers, what the log does not report has not changed', () => {
  warm(PAGES);
  let seed = 99;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  machine.dirty.start();
  // A copy that is updated only by the log, as in a migration.
  const size = FRAMES * PAGE;
  const copy = machine.mem.u8.slice(machine.ram.base, machine.ram.base + size);
  const cpu = machine.vcpus[0];
  for (let round = 0; round < 60; round++) {
    for (let i = random(40); i > 0; i--) {
      const label = ['write', 'byte', 'add', 'push', 'vector', 'fill', 'read'][random(7)];
      const page = random(PAGES - 1);
      cpu.setReg(RAX, random(2 ** 31));
      if (random(10) === 0) {
        const entry = tables.entry(root, DATA + page * PAGE);
        machine.touch(entry);
        machine.mem.setBig(entry, mfnBits(data[page]) | ALL);
      }
      if (random(20) === 0) machine.tables.forget();
      run(label, page, random(2));
    }
    const bits = new Uint8Array(Math.ceil(FRAMES / 8));
    machine.dirty.read(bits);
    for (let f = 0; f < FRAMES; f++) {
      if ((bits[f >> 3] & (1 << (f & 7))) === 0) continue;
      copy.set(machine.mem.bytes(tables.linear(f), PAGE), f * PAGE);
    }
    expect(Buffer.compare(copy, machine.mem.bytes(machine.ram.base, size))).toBe(0);
  }
});
