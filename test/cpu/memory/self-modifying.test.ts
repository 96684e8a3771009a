/**
 * Tests code that changes: whoever stores to it, the next execution uses the new code. A processor guarantees that at
 * once for its own stores, through any alias (SDM volume 3, 8.1.3 and 11.6 require less; processors do this). The host
 * announces its stores with touch().
 */

import { beforeEach, describe, expect, test } from 'vitest';
import { assemble } from '../../../src/asm/assembler.js';
import { Exit, PAGE } from '../../../src/engine/engine.js';
import { encodeVcpuStates } from '../../../src/engine/vcpu-state.js';
import type { Machine, Vcpu } from '../machine.js';
import { createMachine, TAKES_LARGE_PROGRAMS } from '../machine.js';
import { ALL, fault, go, mfnBits, NX, P, RW, ran, Tables, US, USER } from './tables.js';

const CODE = 0x400000;
/** An alias of CODE's two pages. */
const ALIAS = 0x7f00_1234_5000;
const DATA = 0x600000;
const [RAX, RCX, RDX, RSI, RDI] = [0, 1, 2, 6, 7];
/** inc eax, dec eax. */
const INC = 0xffc0;
const DEC = 0xffc8;

let machine: Machine;
let tables: Tables;
let root: number;
let cpu: Vcpu;
let frames: number[];
let data: number;

beforeEach(async () => {
  machine = await createMachine(2048, 1 << 20, 2);
  tables = new Tables(machine);
  root = tables.take();
  frames = [tables.take(), tables.take()];
  for (const [i, frame] of frames.entries()) {
    tables.map(root, CODE + i * PAGE, frame);
    tables.map(root, ALIAS + i * PAGE, frame);
  }
  data = tables.mapNew(root, DATA);
  for (const v of machine.vcpus) {
    v.cr3Kernel = v.cr3User = machine.ram.mfnOf(root);
    v.userMode = true;
  }
  cpu = machine.vcpus[0];
  cpu.setReg(4, DATA + 1024);
});

/** Puts a program at an address in the code pages, as the host does. */
function put(source: string, at = CODE): Map<string, number> {
  const { bytes, labels } = assemble(source, BigInt(at));
  poke(at, bytes);
  return new Map([...labels].map(([name, address]) => [name, Number(address)]));
}

function poke(at: number, bytes: Uint8Array): void {
  for (let i = 0; i < bytes.length; i++) {
    const offset = at + i - CODE;
    const linear = tables.linear(frames[Math.floor(offset / PAGE)]) + (offset % PAGE);
    if (i === 0 || offset % PAGE === 0) machine.touch(linear);
    machine.mem.setU8(linear, bytes[i]);
  }
}

/** Runs until `ud2`. */
function runToEnd(rip = CODE): void {
  cpu.rip = rip;
  const exit = machine.run(0, 1_000_000);
  expect([exit, cpu.exitVector]).toEqual([Exit.exception, 6]);
}

describe('a store by the guest to code', () => {
  test('that ran a thousand times is seen by the next execution', () => {
    put(`
      mov ecx, 1000
    again: call work
      dec ecx
      jnz again
      mov byte [work + 1], 0xc8
      call work
      call work
      ud2
    work: inc eax
      ret`);
    runToEnd();
    expect(cpu.reg(RAX)).toBe(998);
  });

  test('to the very next instruction is seen by that instruction', () => {
    const at = put(`
      mov edx, 0xc8ff
    here: mov [next], dx
    next: inc eax
      ud2`);
    cpu.setReg(RAX, 100);
    runToEnd();
    expect(cpu.reg(RAX)).toBe(99);
    // The same again, as the code is decoded now, and in the opposite direction.
    put('next: inc eax', at.get('next'));
    runToEnd();
    expect(cpu.reg(RAX)).toBe(98);
  });

  test.each([
    ['bl', 1],
    ['bx', 2],
    ['ebx', 4],
    ['rbx', 8],
  ] as const)('of %s, ahead in the running block, counts its instructions once', (register, bytes) => {
    const at = put(`
      mov rbx, 0x9090909090909090
      mov [later], ${register}
      nop
    later: ${'nop\n'.repeat(8)}
      ud2`);
    const linear = tables.linear(frames[0]) + (at.get('later')! - CODE);
    // The code is four times inc eax; a part of it alone is no valid instruction.
    machine.touch(linear);
    machine.mem.u8.set([0xff, 0xc0, 0xff, 0xc0, 0xff, 0xc0, 0xff, 0xc0], linear);
    if (bytes === 1) machine.mem.setU8(linear + 1, 0x90);
    runToEnd();
    const nops = Math.max(bytes, 2);
    expect(cpu.reg(RAX)).toBe((8 - nops) / 2);
    expect(cpu.retired).toBe(3 + nops + (8 - nops) / 2);
  });

  test('by an instruction to its own bytes changes its next execution, not this one', () => {
    const at = put(`
    again:
    own:  mov byte [own + 6], 7
      cmp byte [own + 6], 7
      jne bad
      inc eax
      cmp eax, 3
      jne again
      ud2
    bad: hlt`);
    expect(at.get('own')).toBe(CODE);
    cpu.setReg(RAX, 0);
    runToEnd();
    expect(cpu.reg(RAX)).toBe(3);
    expect(machine.mem.getU8(tables.linear(frames[0]) + 6)).toBe(7);
  });

  test('behind the store, in the running block, is seen when it is jumped to', () => {
    put(`
      xor eax, eax
    top: inc eax
      cmp eax, 5
      jae end
      mov byte [top + 1], 0xc0
      jmp top
    end: mov byte [top + 1], 0xc8
      mov eax, 10
      cmp byte [end - 8], 0
      jmp again
    again: mov dword [end], 0x90900b0f
      jmp top`);
    runToEnd();
    expect(cpu.reg(RAX)).toBe(9);
  });

  test('through another address than the code runs at is seen', () => {
    const program = put(`
      call work
      mov byte [rdi], 0xc8
      call work
      call work
      ud2
    align 32
    work: inc eax
      ret`);
    cpu.setReg(RDI, ALIAS + (program.get('work')! - CODE) + 1);
    cpu.setReg(RAX, 50);
    runToEnd();
    expect(cpu.reg(RAX)).toBe(49);
    // The code also runs at the other address, in the same decoded block.
    expect(go(machine, cpu, 1, ALIAS + (program.get('work')! - CODE))).toEqual(ran);
    expect(cpu.reg(RAX)).toBe(48);
    put('inc eax', program.get('work')!);
    expect(go(machine, cpu, 1, ALIAS + (program.get('work')! - CODE))).toEqual(ran);
    expect(cpu.reg(RAX)).toBe(49);
  });

  test.each([
    ['mov', 'mov word [rdi], 0xc8ff'],
    ['xchg', 'mov edx, 0xc8ff\nxchg [rdi], dx'],
    ['cmpxchg', 'push rax\nmov eax, 0xc0ff\nmov edx, 0xc8ff\ncmpxchg [rdi], dx\npop rax'],
    ['xor', 'xor byte [rdi + 1], 8'],
    ['or', 'or byte [rdi + 1], 8'],
    ['add', 'lock add byte [rdi + 1], 8'],
    ['bts', 'bts dword [rdi], 11'],
    ['movups', 'movups xmm0, [rsi]\nmovups [rdi], xmm0'],
    ['movsd', 'movsd xmm0, [rsi]\nmovsd [rdi], xmm0'],
    ['fistp', 'fild qword [rsi]\nfistp qword [rdi]'],
    ['movsb', 'mov ecx, 4\nrep movsb'],
    ['movsq, far', 'lea rdi, [rdi - 2048]\nlea rsi, [rsi - 2048]\nmov ecx, 260\nrep movsq'],
    ['stosw', 'push rax\nmov eax, 0xc8ff\nstosw\npop rax'],
    ['rep stosw', 'push rax\nmov eax, 0xc8ff\nlea rdi, [rdi - 400]\nmov ecx, 201\nrep stosw\npop rax'],
    ['push', 'xchg rsp, rdi\nadd rsp, 8\npush qword [rsi]\nxchg rsp, rdi'],
  ])('by %s is seen', (_, store) => {
    const stack = DATA + PAGE - 64;
    const work = CODE + 0xc00;
    put(
      `
      mov rbx, rdi
      call rbx
      mov rsi, ${DATA + 2560}
      ${store}
      call rbx
      ud2`,
    );
    put(`inc eax\nret\n${'nop\n'.repeat(16)}`, work);
    const patched = assemble(`dec eax\nret\n${'nop\n'.repeat(16)}`, 0n).bytes;
    machine.mem.u8.set(patched, data + 2560);
    cpu.setReg(4, stack);
    cpu.setReg(RDI, work);
    cpu.setReg(RAX, 10);
    runToEnd();
    expect(cpu.reg(RAX)).toBe(10);
  });

  test('by a string instruction to itself: it completes, and what follows is new', () => {
    const at = put(`
      mov eax, 0x90
      lea rdi, [own]
      mov ecx, 64
    own: rep stosb
      ${'inc edx\n'.repeat(31)}
    behind: ud2`);
    cpu.setReg(RDX, 0);
    runToEnd();
    expect(cpu.reg(RDX)).toBe(0);
    expect(cpu.reg(RCX)).toBe(0);
    expect(cpu.rip).toBe(at.get('behind'));
  });

  test('to either part of an instruction in two pages is seen', () => {
    // mov eax, imm32: its opcode and one byte are before the boundary, three bytes behind it.
    put('mov eax, 0x11111111\nud2', CODE + PAGE - 2);
    runToEnd(CODE + PAGE - 2);
    expect(cpu.reg(RAX)).toBe(0x1111_1111);
    const stores = assemble(
      `
      mov byte [rdi], 0x22
      call rsi
      mov byte [rdi + 1], 0x33
      call rsi
      mov word [rdi], 0x5544
      ud2`,
      0n,
    );
    poke(CODE, stores.bytes);
    put('ret', CODE + PAGE + 3);
    cpu.setReg(4, DATA + 64);
    cpu.setReg(RSI, CODE + PAGE - 2);
    cpu.setReg(RDI, CODE + PAGE - 1);
    runToEnd();
    expect(cpu.reg(RAX)).toBe(0x1111_3322);
    expect(go(machine, cpu, 1, CODE + PAGE - 2)).toEqual(ran);
    expect(cpu.reg(RAX)).toBe(0x1111_5544);
    cpu.setReg(RDI, ALIAS + PAGE);
    poke(CODE, assemble('mov byte [rdi + 2], 0x66\nud2', 0n).bytes);
    runToEnd();
    expect(go(machine, cpu, 1, CODE + PAGE - 2)).toEqual(ran);
    expect(cpu.reg(RAX)).toBe(0x6611_5544);
  });

  test('by one vCPU is seen by another', () => {
    put('work: inc eax\nud2\n', CODE);
    const other = machine.vcpus[1];
    for (let i = 0; i < 3; i++) go(machine, other, 10, CODE);
    expect(other.reg(RAX)).toBe(3);
    put('mov word [rdi], 0xc8ff\nud2', CODE + PAGE);
    cpu.setReg(RDI, CODE);
    runToEnd(CODE + PAGE);
    go(machine, other, 10, CODE);
    expect(other.reg(RAX)).toBe(2);
  });

  test('in a frame that had no code when it was first written is seen', () => {
    // The writer has the page in its TLB before it holds code.
    put('write: mov [rdi], dx\nud2', CODE);
    cpu.setReg(RDI, ALIAS + PAGE);
    for (const code of [INC, DEC, INC, DEC, DEC]) {
      cpu.setReg(RDX, ((code & 0xff) << 8) | (code >> 8));
      runToEnd();
      cpu.setReg(RAX, 5);
      put('ud2', CODE + PAGE + 2);
      runToEnd(CODE + PAGE);
      expect(cpu.reg(RAX)).toBe(code === INC ? 6 : 4);
    }
  });

  test('whose translation was evicted before the frame held code is seen', () => {
    const neighbour = ALIAS + PAGE + 2 ** 22;
    tables.mapNew(root, neighbour);
    put('write: mov [rdi], dx\nud2', CODE);
    for (const code of [INC, DEC, INC]) {
      cpu.setReg(RDX, ((code & 0xff) << 8) | (code >> 8));
      for (const va of [ALIAS + PAGE, neighbour]) {
        cpu.setReg(RDI, va);
        runToEnd();
      }
      put('ud2', CODE + PAGE + 2);
      cpu.setReg(RAX, 5);
      runToEnd(CODE + PAGE);
      expect(cpu.reg(RAX)).toBe(code === INC ? 6 : 4);
      // A store beside the code comes first: it must not make later stores to that page go unnoticed.
      cpu.setReg(RDX, 0x9090);
      cpu.setReg(RDI, ALIAS + PAGE + 2048);
      runToEnd();
      cpu.setReg(RDI, ALIAS + PAGE);
      runToEnd();
      runToEnd(CODE + PAGE);
      expect(cpu.reg(RAX)).toBe(code === INC ? 6 : 4);
    }
  });

  test('beside code keeps the code in force', () => {
    put(`
      mov ecx, 500
    again: add dword [counter], 1
      dec ecx
      jnz again
      mov eax, [counter]
      ud2
    align 64
    counter: dd 0`);
    runToEnd();
    expect(cpu.reg(RAX)).toBe(500);
  });
});

describe('a store by the host to code', () => {
  test('is seen by the next run', () => {
    put('inc eax\nud2');
    runToEnd();
    runToEnd();
    expect(cpu.reg(RAX)).toBe(2);
    put('dec eax\nud2');
    runToEnd();
    expect(cpu.reg(RAX)).toBe(1);
  });

  test('at the address that translate() returned for writing is seen', () => {
    put('inc eax\nud2');
    runToEnd();
    const linear = machine.translate(0, ALIAS, 1);
    machine.mem.u8.set([0xff, 0xc8], linear);
    runToEnd();
    expect(cpu.reg(RAX)).toBe(0);
  });

  test('in the second page of an instruction is seen', () => {
    put('mov eax, 0x11111111\nud2', CODE + PAGE - 2);
    runToEnd(CODE + PAGE - 2);
    const linear = tables.linear(frames[1]);
    machine.touch(linear);
    machine.mem.setU8(linear + 1, 0x22);
    runToEnd(CODE + PAGE - 2);
    expect(cpu.reg(RAX)).toBe(0x1122_1111);
  });

  test('in the middle of a loop is seen in its next iteration', () => {
    put('again: inc eax\njmp again');
    cpu.rip = CODE;
    expect(go(machine, cpu, 1001)).toEqual(ran);
    expect(cpu.reg(RAX)).toBe(501);
    const linear = tables.linear(frames[0]);
    machine.touch(linear);
    machine.mem.u8.set([0xff, 0xc8], linear);
    expect(go(machine, cpu, 1000)).toEqual(ran);
    expect(cpu.reg(RAX)).toBe(1);
  });
});

test('an instruction whose second page is mapped to another frame is another instruction', () => {
  const other = tables.take();
  put('mov eax, 0x11111111\nud2', CODE + PAGE - 2);
  machine.mem.u8.set(machine.mem.bytes(tables.linear(frames[1]), 16).slice(), tables.linear(other));
  machine.mem.setU8(tables.linear(other), 0x77);
  runToEnd(CODE + PAGE - 2);
  expect(cpu.reg(RAX)).toBe(0x1111_1111);
  tables.map(root, CODE + PAGE, other);
  machine.tables.flush(1, CODE + PAGE);
  runToEnd(CODE + PAGE - 2);
  expect(cpu.reg(RAX)).toBe(0x1111_7711);
  // Through the alias it is still the old instruction.
  runToEnd(ALIAS + PAGE - 2);
  expect(cpu.reg(RAX)).toBe(0x1111_1111);
  runToEnd(CODE + PAGE - 2);
  expect(cpu.reg(RAX)).toBe(0x1111_7711);
});

test('an instruction in two pages of which the second is absent, or not executable, faults at its first byte there', () => {
  put('mov eax, 0x11111111\nud2', CODE + PAGE - 2);
  const entry = tables.entry(root, CODE + PAGE);
  for (const [bits, code] of [
    [0n, USER | 16],
    [P | RW, USER | 16 | 1],
    [ALL | NX, USER | 16 | 1],
  ] as const) {
    machine.mem.setBig(entry, mfnBits(frames[1]) | bits);
    machine.tables.forget();
    const before = cpu.retired;
    expect(go(machine, cpu, 5, CODE + PAGE - 2)).toEqual(fault(code, CODE + PAGE));
    expect(cpu.rip).toBe(CODE + PAGE - 2);
    expect(cpu.retired).toBe(before);
    machine.mem.setBig(entry, mfnBits(frames[1]) | P | US);
    machine.tables.forget();
    runToEnd(CODE + PAGE - 2);
    expect(cpu.reg(RAX)).toBe(0x1111_1111);
  }
});

test.runIf(TAKES_LARGE_PROGRAMS)(
  'code beyond the size of the cache is decoded again, and stays right',
  async () => {
    const small = await createMachine(2048, 64 << 10);
    const t = new Tables(small);
    const r = t.take();
    const v = small.vcpus[0];
    v.cr3User = machine.ram.mfnOf(r);
    v.userMode = true;
    const pages = 60;
    const steps = Array.from(
      { length: 100 },
      (_, k) => `add rax, ${k}\njmp next${k}\nnext${k}: inc rcx`,
    ).join('\n');
    for (let i = 0; i < pages; i++) {
      const rest = i === pages - 1 ? 'ud2' : `mov rsi, ${CODE + (i + 1) * PAGE}\njmp rsi`;
      t.program(r, CODE + i * PAGE, `${steps}\n${rest}`);
    }
    for (let round = 1; round <= 3; round++) {
      v.setReg(RAX, 0);
      v.setReg(RCX, 0);
      v.rip = CODE;
      expect([small.run(0, 1e6), v.exitVector]).toEqual([Exit.exception, 6]);
      expect([v.reg(RAX), v.reg(RCX)]).toEqual([pages * 4950, pages * 100]);
    }
  },
);

test('with random stores to code the result is that of running one instruction at a time', async () => {
  // Two machines run the same program that patches itself: one without a stop, one stopped after every instruction.
  let seed = 7;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  for (let round = 0; round < 20; round++) {
    const slots = 24;
    const body = Array.from({ length: slots }, (_, i) => {
      const target = random(slots);
      const kinds = [
        `inc eax`,
        `dec eax`,
        `mov word [s${target}], ${random(2) === 0 ? '0xc0ff' : '0xc8ff'}`,
        `xor byte [s${target} + 1], 8`,
        `jmp s${Math.min(slots, i + 1 + random(3))}`,
        `lea rdi, [s${target}]\nstosb`,
      ];
      return `s${i}: ${kinds[random(kinds.length)]}\nalign 16`;
    });
    const source = `mov ebp, 40\ntop: ${body.join('\n')}\ns${slots}: dec ebp\njnz top\nud2`;
    const states: string[] = [];
    for (const step of [1_000_000, 1]) {
      const m = await createMachine(512, 1 << 20);
      const t = new Tables(m);
      const r = t.take();
      const { bytes } = assemble(source, BigInt(CODE));
      m.mem.u8.set(bytes, t.mapNew(r, CODE));
      const v = m.vcpus[0];
      v.cr3User = machine.ram.mfnOf(r);
      v.userMode = true;
      v.rip = CODE;
      let exit = Exit.limit;
      for (let n = 0; n < 200_000 && exit === Exit.limit; n += step) exit = m.run(0, step);
      states.push(
        `${exit} ${Buffer.from(encodeVcpuStates(m.save())).toString('hex')} ${Buffer.from(m.mem.bytes(t.linear(3), PAGE)).toString('hex')}`,
      );
    }
    expect(states[0] === states[1], source).toBe(true);
  }
});
