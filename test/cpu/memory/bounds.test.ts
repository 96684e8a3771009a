/**
 * A guest reaches its frames and nothing else of the linear memory, whatever its page tables contain: the engine's own
 * state is in front of the frames, and the frames may extend to the end of 32-bit addresses.
 */
import { expect, test } from 'vitest';
import { Exit, PAGE } from '../../../src/engine/engine.js';
import {
  ARENA,
  FP_DESCRIPTORS,
  MAX_VCPUS,
  VCPU_BASE,
  VCPU_STRIDE,
} from '../../../src/engine/wasm/core/layout.js';
import type { Machine } from '../machine.js';
import { createMachine } from '../machine.js';
import {
  ALL,
  FETCH,
  fault,
  go,
  mfnBits,
  PROTECTION,
  PS,
  RESERVED,
  ran,
  rawFrame,
  Tables,
  USER,
  WRITE,
} from './tables.js';

const CODE = 0x400000;
const VA = 0x7f00_1234_5000;
const [RAX, RCX, RSI, RDI] = [0, 1, 6, 7];
const SOURCE = `
  read:   mov rax, [rdi]
  write:  mov [rdi], rax
  change: add [rdi], rax
  vector: movups [rdi], xmm0
  state:  fxsave [rdi]
  fill:   rep stosq
  copy:   rep movsb
  push:   push rax
`;

function begin(machine: Machine) {
  const tables = new Tables(machine);
  const root = tables.take();
  const code = tables.program(root, CODE, SOURCE);
  const cpu = machine.vcpus[0];
  cpu.cr3Kernel = cpu.cr3User = machine.ram.mfnOf(root);
  cpu.userMode = true;
  machine.tables.forget(1);
  return { tables, root, code, cpu };
}

test('an entry that names no frame is refused, at every level and however its number would wrap', async () => {
  const machine = await createMachine(1024, 1 << 20);
  const { tables, root, code, cpu } = begin(machine);
  const base = BigInt(machine.ram.map.firstMfn);
  const frames = BigInt(machine.ram.frames);
  const engine = BigInt(machine.ram.base / PAGE);
  const wrong = [0n, 1n, base - 1n, base + frames, base + frames + 1n, base - engine, 2n ** 40n - 1n];
  for (const bits of [20n, 32n, 36n, 39n]) {
    // Without their upper bits, these numbers name a frame, the engine, or memory just outside.
    for (const low of [0n, base, base + 1n, base + frames - 1n, base - engine, base - 1n, 2n ** 20n - engine])
      wrong.push(((low & (2n ** bits - 1n)) | (1n << bits)) & (2n ** 40n - 1n));
  }
  const isFrame = (mfn: bigint): boolean => mfn >= base && mfn < base + frames;
  const entries = [1, 2, 3, 4].map((level) => tables.entry(root, VA, level));
  tables.map(root, VA, tables.take());
  cpu.setReg(RDI, VA);
  let tried = 0;
  for (const [i, at] of entries.entries()) {
    const before = machine.mem.getBig(at);
    for (const mfn of wrong) {
      if (isFrame(mfn)) continue;
      for (const large of i === 1 || i === 2 ? [0n, PS] : [0n]) {
        const frame = large === 0n ? mfn : (mfn >> BigInt(9 * i)) << BigInt(9 * i);
        if (isFrame(frame + ((BigInt(VA) >> 12n) & (2n ** BigInt(9 * i) - 1n)))) continue;
        machine.mem.setBig(at, rawFrame(frame) | ALL | large);
        machine.tables.forget(1);
        const code1 = USER | RESERVED | PROTECTION;
        expect(go(machine, cpu, 1, code.get('read'))).toEqual(fault(code1, VA));
        expect(go(machine, cpu, 1, code.get('write'))).toEqual(fault(code1 | WRITE, VA));
        expect(go(machine, cpu, 1, VA)).toEqual(fault(code1 | FETCH, VA));
        expect(machine.translate(0, VA, 1)).toBe(-1);
        tried++;
      }
    }
    machine.mem.setBig(at, before);
  }
  expect(tried).toBeGreaterThan(100);
  machine.tables.forget(1);
  expect(go(machine, cpu, 1, code.get('write'))).toEqual(ran);
});

test('invalid machine frames and addresses have no linear address', async () => {
  const machine = await createMachine(64, 1 << 20);
  expect(machine.ram.address(machine.ram.map.firstMfn - 1)).toBe(-1);
  expect(machine.ram.address(machine.ram.map.endMfn)).toBe(-1);
  expect(machine.ram.address(machine.ram.mfnOf(63))).toBe(machine.ram.base + 63 * PAGE);
  begin(machine);
  expect(machine.translate(0, 0x8000_0000_0000, 0)).toBe(-1);
});

test('page tables of random bits lead to no byte outside the frames', async () => {
  const frames = 96;
  const machine = await createMachine(frames, 1 << 20, 2);
  const { tables, code, cpu } = begin(machine);
  let seed = 4;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  const randomEntry = (): bigint => {
    const near = [0, 1, frames - 1, frames, -1][random(15)] ?? random(frames);
    const mfn =
      BigInt(machine.ram.map.firstMfn + near) + (random(12) === 0 ? 1n << BigInt(20 + random(20)) : 0n);
    return rawFrame(mfn) | (random(8) === 0 ? BigInt(random(8)) : ALL) | (random(12) === 0 ? PS : 0n);
  };
  const pool = Array.from(
    { length: 48 },
    () => new Uint8Array(BigUint64Array.from({ length: 512 }, randomEntry).buffer),
  );
  // Everything of the engine's that a run of the first vCPU has no reason to change.
  const { mem } = machine;
  const dirtyEnd = machine.ram.base - (machine.ram.base % PAGE === 0 ? 1 : 0);
  const kept = (): Buffer =>
    Buffer.concat(
      [
        [0x1000, VCPU_BASE],
        [VCPU_BASE + VCPU_STRIDE, VCPU_BASE + MAX_VCPUS * VCPU_STRIDE],
        [FP_DESCRIPTORS + 0x10000, ARENA],
        [dirtyEnd, machine.ram.base],
      ].map(([from, to]) => mem.bytes(from, to - from)),
    );
  const before = kept();
  // Root, tables and code of the program are the first frames, and stores can hit them as well.
  const own = mem.bytes(machine.ram.base, 8 * PAGE).slice();
  const names = [...code.keys()];
  let faults = 0;
  let done = 0;
  for (let round = 0; round < 40; round++) {
    for (let f = 8; f < frames; f++) mem.u8.set(pool[random(pool.length)], tables.linear(f));
    const top = pool[random(pool.length)].subarray(8);
    for (let i = 0; i < 100; i++) {
      for (let f = 0; f < 8; f++) machine.touch(tables.linear(f));
      mem.u8.set(own, machine.ram.base);
      mem.u8.set(top, machine.ram.base + 8);
      machine.tables.forget(1);
      const slot = 1 + random(511);
      const low = random(2 ** 27) * PAGE + (random(3) === 0 ? PAGE - 4 : random(PAGE));
      const va = (slot >= 256 ? slot - 512 : slot) * 2 ** 39 + low;
      cpu.setReg(RDI, va);
      cpu.setReg(RSI, va + 13 * PAGE + 5);
      cpu.setReg(4, va);
      cpu.setReg(RCX, 1200);
      const rip = random(10) === 0 ? va : code.get(names[random(names.length)]);
      if (go(machine, cpu, 1, rip).exit === Exit.exception) faults++;
      else done++;
    }
    expect(Buffer.compare(kept(), before)).toBe(0);
  }
  expect(faults).toBeGreaterThan(200);
  expect(done).toBeGreaterThan(200);
});

test('the last frame of a machine of the greatest size is like any other, up to its last byte', async () => {
  const small = await createMachine(1, 1 << 20);
  // The engine's tables, 13 bytes for each frame, are in front of the frames.
  const most = Math.floor((2 ** 32 - small.ram.base - PAGE) / (PAGE + 13));
  const machine = await createMachine(most, 1 << 20);
  expect(2 ** 32 - machine.ram.linearOf(most)).toBeLessThan(2 ** 20);
  await expect(createMachine(most + 4096, 1 << 20)).rejects.toThrow('do not fit');
  const { tables, root, code, cpu } = begin(machine);
  const last = most - 1;
  tables.map(root, VA, last);
  const following = tables.mapNew(root, VA + PAGE);
  const end = tables.linear(last) + PAGE;
  cpu.setReg(RDI, VA + PAGE - 8);
  cpu.setRegBig(RAX, 0x1122_3344_5566_7788n);
  expect(go(machine, cpu, 1, code.get('write'))).toEqual(ran);
  expect(machine.mem.getBig(end - 8)).toBe(0x1122_3344_5566_7788n);
  expect(go(machine, cpu, 1, code.get('read'))).toEqual(ran);
  expect(cpu.regBig(RAX)).toBe(0x1122_3344_5566_7788n);
  // A store across the end: its rest goes to the page that the tables name, not to the following memory.
  cpu.setReg(RDI, VA + PAGE - 3);
  expect(go(machine, cpu, 1, code.get('write'))).toEqual(ran);
  expect(machine.mem.getU32(following)).toBe(0x2233_4455);
  expect(machine.mem.getU8(following + 4)).toBe(0x11);
  cpu.setReg(RAX, 0);
  expect(go(machine, cpu, 1, code.get('read'))).toEqual(ran);
  expect(cpu.regBig(RAX)).toBe(0x1122_3344_5566_7788n);
  cpu.setReg(RDI, VA + 8);
  cpu.setReg(RCX, 2 * PAGE);
  cpu.setReg(RSI, VA);
  machine.mem.setBig(tables.entry(root, VA + PAGE), 0n);
  machine.tables.forget(1);
  expect(go(machine, cpu, 1, code.get('copy'))).toEqual(fault(USER | WRITE, VA + PAGE));
  expect(cpu.reg(RCX)).toBe(PAGE + 8);
  cpu.setReg(RDI, VA + PAGE - 16);
  cpu.setReg(RCX, 2);
  expect(go(machine, cpu, 1, code.get('fill'))).toEqual(ran);
  expect(machine.ram.address(machine.ram.mfnOf(last))).toBe(end - PAGE);
  // A 2 MiB page whose last frames do not exist.
  const big = 0x7e00_0000_0000;
  const first = Math.floor(last / 512) * 512;
  machine.mem.setBig(tables.entry(root, big, 2), mfnBits(first) | ALL | PS);
  cpu.setReg(RDI, big + (last - first) * PAGE);
  expect(go(machine, cpu, 1, code.get('read'))).toEqual(ran);
  if (last - first < 511) {
    cpu.setReg(RDI, big + (last - first + 1) * PAGE);
    expect(go(machine, cpu, 1, code.get('write'))).toEqual(
      fault(USER | WRITE | RESERVED | PROTECTION, big + (last - first + 1) * PAGE),
    );
    cpu.setReg(RDI, big + (last - first + 1) * PAGE - 4);
    expect(go(machine, cpu, 1, code.get('read'))).toEqual(
      fault(USER | RESERVED | PROTECTION, big + (last - first + 1) * PAGE),
    );
  }
});

test('addresses wrap at the end of the address space, page by page', async () => {
  const machine = await createMachine(256, 1 << 20);
  const { tables, root, code, cpu } = begin(machine);
  const top = tables.mapNew(root, -PAGE);
  const bottom = tables.mapNew(root, 0);
  cpu.setReg(RDI, -3);
  cpu.setRegBig(RAX, 0x1122_3344_5566_7788n);
  expect(go(machine, cpu, 1, code.get('write'))).toEqual(ran);
  expect(machine.mem.getU8(top + PAGE - 3)).toBe(0x88);
  expect(machine.mem.getU32(bottom)).toBe(0x2233_4455);
  machine.mem.setBig(tables.entry(root, 0), 0n);
  machine.tables.forget(1);
  expect(go(machine, cpu, 1, code.get('write'))).toEqual(fault(USER | WRITE, 0));
});
