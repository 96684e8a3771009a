/** Tests alignment checks, which AC and CR0.AM enable, against the manual alone (SDM volume 3, 6.15, interrupt 17). */
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { assemble } from '../../src/asm/assembler.js';
import { Exit } from '../../src/engine/engine.js';
import { type Bare, CODE, DATA, openBare } from './bare.js';

const AC = 17;
const PF = 14;
const AC_FLAG = 0x4_0000;
const AM = 0x4_0000;

let bare: Bare;
beforeAll(async () => {
  bare = await openBare();
});
beforeEach(() => {
  const { cpu } = bare;
  cpu.userMode = true;
  cpu.cr0 |= AM;
  for (let i = 0; i < 16; i++) cpu.setReg(i, 0);
  cpu.setReg(3, DATA);
  cpu.setReg(4, DATA + 0x800);
  cpu.rflags = 0x202 | AC_FLAG;
});

/** Returns the vector of the exception that stops the source, or undefined. */
function run(source: string): number | undefined {
  const exit = bare.run(assemble(source, BigInt(CODE), {}).bytes, 3);
  return exit === Exit.exception ? bare.cpu.exitVector : undefined;
}

describe('a misaligned operand', () => {
  it.each([
    ['mov ax, [rbx+1]', AC],
    ['mov eax, [rbx+2]', AC],
    ['mov rax, [rbx+4]', AC],
    ['mov [rbx+4], rax', AC],
    ['add dword [rbx+1], 1', AC],
    ['xchg [rbx+4], rax', AC],
    ['cmpxchg8b [rbx+4]', AC],
    ['mov al, [rbx+1]', undefined],
    ['mov rax, [rbx+8]', undefined],
    ['lea rax, [rbx+1]', undefined],
    ['prefetchnta [rbx+1]', undefined],
    ['lea rsp, [rbx+0x101]\npush rax', AC],
    ['lea rsi, [rbx+1]\nmov rdi, rbx\nmovsd', AC],
    ['lea rsi, [rbx+1]\nmov edi, 16\nadd rdi, rbx', undefined],
  ])('%s', (source, vector) => {
    expect(run(source)).toBe(vector);
  });

  it('of a repeated string instruction faults at its first element', () => {
    expect(run('lea rdi, [rbx+2]\nmov ecx, 4\nrep stosq')).toBe(AC);
    expect([bare.cpu.reg(1), bare.cpu.reg(7)]).toEqual([4, DATA + 2]);
  });

  it("is also found in the guest's kernel, which runs at CPL 3", () => {
    bare.cpu.userMode = false;
    expect(run('mov rax, [rbx+1]')).toBe(AC);
  });

  it('in an absent page is a page fault', () => {
    expect(run('mov rax, [rbx+0x1001]')).toBe(PF);
  });

  it('pushes an error code of zero and changes nothing', () => {
    bare.cpu.setReg(0, 5);
    expect(run('add [rbx+1], eax')).toBe(AC);
    expect(bare.cpu.exitErrorCode).toBe(0);
    expect(bare.machine.mem.getU32(bare.data + 1)).toBe(0);
  });
});

describe('alignment is not checked', () => {
  it('if AC is clear', () => {
    bare.cpu.rflags = 0x202;
    expect(run('mov rax, [rbx+1]')).toBeUndefined();
  });
  it('if AM is clear', () => {
    bare.cpu.cr0 &= ~AM;
    expect(run('mov rax, [rbx+1]')).toBeUndefined();
  });
  it('after popf has cleared AC', () => {
    expect(run('push 2\npopfq\nmov rax, [rbx+1]')).toBeUndefined();
  });
});
