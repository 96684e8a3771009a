/**
 * Tests data breakpoints and single steps on instructions that the hypervisor emulates (SDM volume 3, section 17.2).
 */
import { describe, expect, it } from 'vitest';
import { LEAVE_CALLBACK } from '../../../test/support/event-kernel.js';
import { DATA, mfn, TinyGuest } from '../../../test/support/tiny-guest.js';

const GDT = 0x6_0000;
const OPERAND = DATA + 0x200;
const CODE_64 = 0x00af_9a00_0000_ffffn;
const STEP = 0x4000;

/**
 * Runs `body` with a breakpoint on the 8 bytes at OPERAND, to which r12 points; rsp starts 0x100 bytes above it.
 * `kind`: whether the breakpoint is for writes, for reads and writes, or off. Returns for each debug exception where it
 * came, as the label at its rip or the rip in hexadecimal, and the bits of DR6 that it showed.
 */
async function trapsOf(
  body: string,
  kind: 'write' | 'access' | 'off' = 'access',
): Promise<[string, number][]> {
  const control = { write: 0x9_0701, access: 0xb_0701, off: 0x400 }[kind];
  const g = await TinyGuest.boot(`
    lea rdi, [traps]
    mov eax, SET_TRAP_TABLE
    syscall
    lea rdi, [gdt]
    mov esi, 8
    mov eax, 2
    syscall
    mov rbx, DATA
    mov r12, ${OPERAND}
    mov dword [r12], 0xe02b
    mov rax, r12
    mov dr0, rax
    mov eax, ${control}
    mov dr7, rax
    lea rsp, [r12+0x100]
    ${body}
  end:
    xor eax, eax
    mov dr7, rax
    jmp poweroff
  ondebug:
    push rax
    mov rax, [rsp+24]
    mov [rbx], rax
    mov rax, dr6
    mov [rbx+8], rax
    mov eax, 0xffff0ff0
    mov dr6, rax
    add rbx, 16
    pop rax
    ${LEAVE_CALLBACK}
  traps:
    db 1, 4
    dw 0xe030
    dd 0
    dq ondebug
    zero 16
  gdt: dq ${mfn(GDT >>> 12)}`);
  g.setU64(GDT + 16, CODE_64);
  expect(g.run()).toMatchObject({ reason: 'poweroff' });
  const found: [string, number][] = [];
  for (let at = DATA; g.big(at) !== 0n && at < OPERAND; at += 16) {
    const rip = g.big(at);
    const [label] = [...g.code.labels].filter(([, where]) => where === rip).map(([name]) => name);
    found.push([label ?? rip.toString(16), g.u32(at + 8) & 0xffff & ~0xff0]);
  }
  return found;
}

describe('a data breakpoint is hit by', () => {
  it.each([
    ['mov to a segment register', 'mov ds, [r12]\nafter: nop'],
    ['mov to fs', 'mov word [r12], 0\nreset: mov fs, [r12]\nafter: nop'],
    ['pop of a segment register', 'mov word [r12], 0\nreset: mov rsp, r12\npop fs\nafter: nop'],
    ['lfs', 'mov qword [r12], 0\nreset: db 0x41, 0x0f, 0xb4, 0x0c, 0x24\nafter: nop'],
    [
      'lss',
      'mov dword [r12], 0\nmov word [r12+4], 0xe02b\nreset: db 0x41, 0x0f, 0xb2, 0x0c, 0x24\nafter: nop',
    ],
    ['lar', 'db 0x41, 0x0f, 0x02, 0x0c, 0x24\nafter: nop'],
    ['verr', 'db 0x41, 0x0f, 0x00, 0x24, 0x24\nafter: nop'],
    ['sgdt', 'db 0x41, 0x0f, 0x01, 0x04, 0x24\nafter: nop'],
    ['str', 'db 0x41, 0x0f, 0x00, 0x0c, 0x24\nafter: nop'],
    ['smsw', 'db 0x41, 0x0f, 0x01, 0x24, 0x24\nafter: nop'],
    [
      'a far jump',
      'lea rax, [after]\nmov [r12], eax\nmov word [r12+4], 0xe033\nreset: db 0x41, 0xff, 0x2c, 0x24\nafter: nop',
    ],
    [
      'the push of a far call',
      'lea rax, [after]\nmov [rbx+0x300], eax\nmov word [rbx+0x304], 0xe033\nlea rsp, [r12+8]\ndb 0xff, 0x9b, 0, 3, 0, 0\nafter: nop',
    ],
    [
      'a far return',
      'lea rax, [after]\nlea rsp, [r12+8]\npush 0xe033\nreset: mov rsp, r12\nmov [r12], eax\nreset2: mov dword [r12+4], 0xe033\nreset3: db 0xcb\nafter: nop',
    ],
    [
      'iretq',
      'lea rax, [after]\nmov [r12], rax\nreset: mov qword [r12+8], 0xe033\nmov qword [r12+16], 0x202\nmov [r12+24], rsp\nmov qword [r12+32], 0xe02b\nmov rsp, r12\ndb 0x48, 0xcf\nafter: nop',
    ],
  ])('%s', async (_, body) => {
    const found = (await trapsOf(body)).filter(([label]) => label === 'after');
    expect(found).toEqual([['after', 1]]);
    expect(await trapsOf(body, 'off')).toEqual([]);
  });

  it('only by the kind of access that it is set for: a load is no write', async () => {
    expect(await trapsOf('mov ds, [r12]\nafter: nop', 'write')).toEqual([]);
    expect(await trapsOf('db 0x41, 0x0f, 0x00, 0x0c, 0x24\nafter: nop', 'write')).toEqual([['after', 1]]);
  });

  it('by no instruction that Xen emulates without a look at breakpoints', async () => {
    const input =
      'mov edi, 6\nlea rsi, [one]\nmov eax, 33\nsyscall\nmov edx, 0x71\nmov rdi, r12\ndb 0x6c\nmov r15, rdi';
    expect(await trapsOf(`${input}\njmp end\none: dq 1`)).toEqual([]);
  });
});

describe('behind a load of SS', () => {
  it('the debug exception waits for one instruction', async () => {
    expect(await trapsOf('mov ss, [r12]\nnop\nafter: nop')).toEqual([['after', 1]]);
    // A second load of SS does not delay it further, and an instruction that the hypervisor carries out discards it.
    expect(await trapsOf('mov ss, [r12]\nmov ss, [r12]\nafter: nop\nnop')).toEqual([['after', 1]]);
    expect(await trapsOf('mov ss, [r12]\nsyscall\nnop\nnop')).toEqual([]);
  });

  it('a single step waits as well', async () => {
    const step = 'pushfq\nor qword [rsp], 0x100\npopfq';
    const found = await trapsOf(`${step}\nfirst: mov ss, [r12]\nsecond: nop\nthird: nop\nand: nop`);
    expect(found.slice(0, 2)).toEqual([
      ['third', STEP | 1],
      ['and', STEP],
    ]);
  });

  it('no event is delivered', async () => {
    const g = await TinyGuest.boot(`
      lea rdi, [onevent]
      lea rsi, [onevent]
      lea rdx, [onevent]
      mov eax, SET_CALLBACKS
      syscall
      mov rbx, DATA
      mov r13d, 0xe02b
      ; an event is pending, and not masked when Xen returns from the load
      mov byte [SHARED], 1
      mov byte [SHARED+1], 0
      mov ss, r13d
      lea rsp, [rbx+0x800]
      mov [rbx], rsp
      spin: jmp spin
      onevent: mov [rbx+8], rsp
      jmp poweroff`);
    g.run(10_000_000);
    expect(g.domain.state.shutdown).toMatchObject({ code: 0 });
    expect(g.s64(DATA + 8)).toBeGreaterThan(DATA);
  });
});

describe('a single step', () => {
  it('over an instruction that changes the stack pushes its frame onto the new stack', async () => {
    const found = await trapsOf(
      'mov qword [r12+0x40], 0\nlea rsp, [r12+0x40]\npushfq\nor qword [rsp], 0x100\npopfq\npop fs\nafter: nop\nmov [r12+0x80], rsp',
      'off',
    );
    expect(found[0]).toEqual(['after', STEP]);
  });

  it('over iret reports the address to which iret returns', async () => {
    const found = await trapsOf(
      `lea rax, [after]
      push 0xe02b
      push r12
      push 2
      push 0xe033
      push rax
      pushfq
      or qword [rsp], 0x100
      popfq
      db 0x48, 0xcf
      after: nop
      nop`,
      'off',
    );
    expect(found).toEqual([['after', STEP]]);
  });
});
