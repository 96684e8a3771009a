/** The exact translation of a few dozen shapes of guest code, as snapshots: `vitest -u` writes the files again. */
import { expect, test } from 'vitest';
import { assemble } from '../../../src/asm/assembler.js';
import { PAGE } from '../../../src/engine/engine.js';
import { Blocks } from '../../../src/engine/wasm/translate/blocks.js';
import { FunctionWriter } from '../../../src/engine/wasm/translate/function.js';
import * as L from '../../../src/engine/wasm/translate/locals.js';
import { formRegion } from '../../../src/engine/wasm/translate/region.js';
import { AddressSpace } from '../address-space.js';
import { createMachine } from '../machine.js';
import { bodyText } from './text.js';

const CODE = 0x40_0000;
const DATA = 0x50_0000;
const [RBX, RSP] = [3, 4];
const REGISTERS = 'rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15'.split(' ');

const LOCALS: string[] = [];
for (const [name, n] of Object.entries(L)) if (!name.endsWith('LOCALS')) LOCALS[n] = name.toLowerCase();
for (let i = 0; i < 16; i++) LOCALS[L.REGISTER_0 + i] = REGISTERS[i];

/** A name, and code that runs to its int3 first, so that its jumps are linked. */
const SHAPES: readonly (readonly [name: string, text: string])[] = [
  ['move 32 bits', 'mov eax, edx'],
  ['move an immediate of 64 bits', 'mov rax, 0x123456789abcdef0'],
  ['write ah', 'mov ah, dl'],
  ['load 64 bits', 'mov rax, [rbx+8]'],
  ['load with index', 'mov eax, [rbx+rcx*4+8]'],
  ['load relative to rip', 'mov rax, [there]\nint3\nthere: dq 5'],
  ['load through fs', 'mov rax, fs:[rbx]'],
  ['load through a 32-bit address', 'mov eax, [ebx]'],
  ['store 8 bits', 'mov [rbx], al'],
  ['store an immediate', 'mov dword [rbx], 7'],
  ['sign extension from memory', 'movsx rax, word [rbx]'],
  ['lea', 'lea rax, [rcx+rdx*8-3]'],
  ['add whose flags nobody wants', 'add eax, edx\nadd eax, ecx'],
  ['add to memory', 'add [rbx], eax'],
  ['add and adc', 'add rax, rdx\nadc rcx, rsi'],
  ['sbb of a register with itself', 'sbb eax, eax'],
  ['xor clears', 'xor eax, eax'],
  ['inc keeps the carry', 'inc ecx'],
  ['neg in memory', 'neg qword [rbx]'],
  ['shift left by 3', 'shl rax, 3'],
  ['shift right by cl', 'shr eax, cl'],
  ['rotate', 'rol eax, 7'],
  ['multiply to 128 bits', 'mul rdx'],
  ['imul of 32 bits', 'imul eax, edx'],
  ['a division is the interpreter\u2019s', 'mov ecx, 3\ndiv ecx'],
  ['bit test', 'bt rax, 13'],
  ['bit scan', 'bsf eax, edx'],
  ['bswap', 'bswap eax'],
  ['xchg with memory', 'xchg [rbx], rax'],
  ['lock cmpxchg', 'lock cmpxchg [rbx], edx'],
  ['lock xadd', 'lock xadd [rbx], edx'],
  ['cmov', 'cmp eax, edx\ncmovl rcx, rsi'],
  ['setcc', 'test eax, eax\nsetne al'],
  ['push and pop', 'push rax\npop rdx'],
  ['leave', 'push rbp\nmov rbp, rsp\nleave'],
  ['compare and branch', 'cmp eax, edx\njb over\nmov ecx, 1\nover: nop'],
  ['a loop', 'mov ecx, 9\nagain: add rax, rdx\ndec ecx\njnz again'],
  [
    'a loop in a loop',
    'mov esi, 3\nouter: mov ecx, 3\ninner: add rax, rcx\ndec ecx\njnz inner\ndec esi\njnz outer',
  ],
  ['call and return', 'mov ecx, 3\nagain: call f\ndec ecx\njnz again\nint3\nf: add eax, 2\nret'],
  ['indirect call', 'lea rdx, [f]\ncall rdx\nint3\nf: ret'],
  ['jump through memory', 'lea rdx, [there]\nmov [rbx], rdx\njmp qword [rbx]\nthere: nop'],
  ['a string operation is the interpreter\u2019s', 'mov rdi, rbx\nmov ecx, 4\nrep stosb'],
  ['vector load and store', 'movdqu xmm1, [rbx]\nmovdqu [rbx+16], xmm1'],
  ['vector arithmetic', 'paddd xmm1, xmm2\npshufd xmm3, xmm1, 27'],
  ['a double', 'addsd xmm0, xmm1'],
];

test.each(SHAPES)('%s', async (name, text) => {
  const machine = await createMachine(32, undefined, 1, 'interpreter');
  const space = new AddressSpace(machine);
  const code = space.mapNew(CODE, { write: false, execute: true });
  space.mapNew(DATA, { write: true, execute: false });
  const [cpu] = machine.vcpus;
  cpu.cr3Kernel = space.root;
  cpu.cr3User = space.root;
  cpu.userMode = true;
  cpu.setReg(RBX, DATA);
  cpu.setReg(RSP, DATA + PAGE);
  cpu.fsBase = 0;
  cpu.rip = CODE;
  machine.tables.forget();
  machine.mem.u8.set(assemble(`${text}\nint3`, BigInt(CODE)).bytes, code);
  machine.run(0, 1000);
  const blocks = new Blocks(machine.memory.buffer, {
    base: machine.ram.base,
    count: machine.ram.frames,
    firstMfn: machine.ram.map.firstMfn,
  });
  const region = formRegion(blocks, cpu.gprs, blocks.find(code), BigInt(CODE));
  if (region === undefined) throw new Error('no region');
  const body = new FunctionWriter(blocks.view, undefined).write(region);
  const file = `./shapes/${name.replaceAll(/[^a-z0-9]+/g, '-')}.txt`;
  await expect(`;; ${text.replaceAll('\n', '\n;; ')}\n${bodyText(body, LOCALS)}`).toMatchFileSnapshot(file);
});
