/** Tests hardware breakpoints and other causes of a #DB on the bare machine (SDM volume 3, 17.2 and 17.3). */
import { beforeEach, describe, expect, it } from 'vitest';
import { assemble } from '../../src/asm/assembler.js';
import { Exit } from '../../src/engine/engine.js';
import { type Bare, CODE, DATA, openBare } from './bare.js';

const DB = 1;
const RF = 0x1_0000;
const DR6_BS = 0x4000;
const DR7_OFF = 0x400;

type Kind = 'execution' | 'write' | 'access';
const KINDS: Record<Kind, number> = { execution: 0, write: 1, access: 3 };
const LENGTHS: Record<number, number> = { 1: 0, 2: 1, 4: 3, 8: 2 };

let bare: Bare;
beforeEach(async () => {
  bare = await openBare();
  bare.cpu.rflags = 0x202;
  bare.cpu.setReg(3, DATA);
  bare.cpu.setReg(4, DATA + 0x800);
  bare.cpu.setDr(6, 0xffff_0ff0);
  bare.cpu.setDr(7, DR7_OFF);
});

/** Sets breakpoint `i` and its local enable bit. */
function breakOn(i: number, address: number, kind: Kind, length = 1): void {
  const { cpu } = bare;
  cpu.setDr(i, address);
  cpu.setDr(
    7,
    cpu.dr(7) | (1 << (2 * i)) | (KINDS[kind] << (16 + 4 * i)) | (LENGTHS[length] << (18 + 4 * i)),
  );
}

/** Runs the source from CODE on. Returns the offset at which a #DB stopped it and the low bits of DR6, or undefined. */
function run(source: string, budget = 20): { at: number; hits: number } | undefined {
  return stopped(bare.run(assemble(source, BigInt(CODE), { DATA }).bytes, budget));
}
const goOn = (budget = 20): ReturnType<typeof run> => stopped(bare.machine.run(0, budget));
function stopped(exit: Exit): ReturnType<typeof run> {
  if (exit === Exit.limit) return undefined;
  expect([Exit[exit], bare.cpu.exitVector, bare.cpu.exitSoftware]).toEqual(['exception', DB, false]);
  return { at: bare.cpu.rip - CODE, hits: bare.cpu.dr(6) & 0xffff & ~0x0ff0 };
}

describe('a breakpoint on an instruction', () => {
  it('stops before the instruction, and lets it run with RF set', () => {
    breakOn(2, CODE + 1, 'execution');
    expect(run('nop\ninc rax\ninc rax', 3)).toEqual({ at: 1, hits: 4 });
    expect(bare.cpu.reg(0)).toBe(0);
    expect(bare.cpu.rflags & RF).toBe(0);
    bare.cpu.rflags |= RF;
    expect(goOn(2)).toBeUndefined();
    expect(bare.cpu.reg(0)).toBe(2);
    expect(bare.cpu.rflags & RF).toBe(0);
  });

  it('stops each time that the guest reaches it', () => {
    breakOn(0, CODE, 'execution');
    bare.cpu.rflags |= RF;
    expect(run('again: nop\njmp again')).toEqual({ at: 0, hits: 1 });
    bare.cpu.rflags |= RF;
    expect(goOn()).toEqual({ at: 0, hits: 1 });
  });

  it('does nothing if it is not enabled', () => {
    bare.cpu.setDr(0, CODE);
    expect(run('nop\nnop', 2)).toBeUndefined();
  });

  it('counts only the instructions that ran', () => {
    breakOn(0, CODE + 3, 'execution');
    const before = bare.cpu.retired;
    expect(run('nop\nnop\nnop\nnop')).toEqual({ at: 3, hits: 1 });
    expect(bare.cpu.retired - before).toBe(3);
  });
});

describe('a breakpoint on data', () => {
  it('stops after the instruction that writes the data', () => {
    breakOn(1, DATA + 8, 'write', 8);
    expect(run('mov rax, [rbx+8]\nmov dword [rbx+12], 7\nnop')).toEqual({ at: 11, hits: 2 });
    expect(bare.machine.mem.getU32(bare.data + 12)).toBe(7);
  });

  it('also stops after a read if it is set for that', () => {
    breakOn(3, DATA + 8, 'access', 4);
    expect(run('mov al, [rbx+7]\nmov al, [rbx+11]\nnop')).toEqual({ at: 6, hits: 8 });
  });

  it.each([
    ['a byte before it', 'mov byte [rbx+15], 1', false],
    ['its first byte', 'mov byte [rbx+16], 1', true],
    ['its last byte', 'mov byte [rbx+19], 1', true],
    ['a byte after it', 'mov byte [rbx+20], 1', false],
    ['eight bytes across its start', 'mov [rbx+13], rax', true],
    ['sixteen bytes around it', 'movups [rbx+8], xmm0', true],
    ['the push of a call', 'lea rsp, [rbx+24]\ncall next\nnext: nop', true],
    ['an x87 store', 'fninit\nfld1\nfstp qword [rbx+16]', true],
    ['an exchange that compares unequal', 'mov eax, 5\nlock cmpxchg [rbx+16], ecx', true],
    ['a wide exchange that compares unequal', 'mov eax, 5\ndb 0xf0, 0x0f, 0xc7, 0x4b, 0x0c', true],
    ['a wider one', 'mov eax, 5\ndb 0xf0, 0x48, 0x0f, 0xc7, 0x4b, 0x10', true],
    ['a bit string', 'mov ecx, 131\nbts [rbx], rcx', true],
  ])('of four bytes is hit or missed by a write to %s', (_, source, hit) => {
    breakOn(0, DATA + 16, 'write', 4);
    expect(run(source, 3)?.hits).toBe(hit ? 1 : undefined);
  });

  it("uses the guest's linear address, aligned to the breakpoint's length", () => {
    breakOn(0, DATA + 19, 'write', 4);
    expect(run('mov byte [rbx+16], 1', 1)?.hits).toBe(1);
  });

  it('stops a repeated string instruction between two elements', () => {
    breakOn(0, DATA + 0x102, 'write', 2);
    const program = 'lea rdi, [rbx+0x100]\nmov ecx, 8\nrep stosb\nnop';
    expect(run(program)).toEqual({ at: 12, hits: 1 });
    expect([bare.cpu.reg(1), bare.cpu.reg(7)]).toEqual([5, DATA + 0x103]);
    expect(goOn()).toEqual({ at: 12, hits: 1 });
    expect(bare.cpu.reg(1)).toBe(4);
    expect(goOn(6)).toBeUndefined();
    expect(bare.cpu.reg(1)).toBe(0);
  });

  it('is not hit by an instruction that faults', () => {
    breakOn(0, DATA + 0xff8, 'access', 8);
    const exit = bare.run(assemble('mov rax, [rbx+0xffc]', BigInt(CODE), {}).bytes, 5);
    expect([Exit[exit], bare.cpu.exitVector]).toEqual(['exception', 14]);
    expect(bare.cpu.dr(6)).toBe(0xffff_0ff0);
    expect(bare.cpu.rflags & RF).toBe(RF);
  });

  it('is reported together with a single step', () => {
    breakOn(0, DATA, 'write');
    bare.cpu.rflags |= 0x100;
    expect(run('mov byte [rbx], 1')).toEqual({ at: 3, hits: DR6_BS | 1 });
  });
});

describe('RF', () => {
  it('is set in the flags that a fault saves, cleared after the next instruction, and never pushed', () => {
    const program = assemble('mov rax, [0]\nnop', BigInt(CODE), {}).bytes;
    expect(Exit[bare.run(program)]).toBe('exception');
    expect(bare.cpu.rflags & RF).toBe(RF);
    bare.cpu.rip = CODE + program.length;
    bare.machine.run(0, 1);
    expect(bare.cpu.rflags & RF).toBe(0);
    bare.cpu.rflags |= RF;
    bare.run(assemble('pushfq', BigInt(CODE), {}).bytes);
    expect(bare.machine.mem.getU32(bare.data + 0x7f8) & RF).toBe(0);
  });

  it('is not set by a trap or by a system call', () => {
    for (const source of ['int3', 'syscall', 'int 0x80']) {
      bare.run(assemble(source, BigInt(CODE), {}).bytes);
      expect(bare.cpu.rflags & RF).toBe(0);
    }
  });
});
