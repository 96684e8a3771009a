/**
 * Tests 32-bit and 16-bit code in the user mode of a small kernel: the frames that its kernel gets are those of Xen.
 */
import { describe, expect, it } from 'vitest';
import { DATA, L4, mfn, TinyGuest, USER_STACK } from '../../../test/support/tiny-guest.js';

const USER = 0x5_0000;
const GDT = 0x6_0000;
const P = 0x8000;
const FLAT_USER_CS32 = 0xe023;
const UD = 6;
const GP = 13;
const CALLBACKTYPE_sysenter = 5;
const CALLBACKTYPE_syscall32 = 7;

/**
 * A descriptor of privilege level 3, from its base, its last byte, and type and flags as they are in its upper half.
 */
const descriptor = (base: number, limit: number, upper: number): bigint => {
  const low = (limit & 0xffff) | ((base & 0xffff) << 16);
  const high =
    (upper | P | 0x7000 | ((base >>> 16) & 0xff) | (base & 0xff00_0000) | (limit & 0xf_0000)) >>> 0;
  return BigInt(low >>> 0) | (BigInt(high) << 32n);
};
const CODE = 0xa00;
const WRITABLE = 0x200;
const D = 0x40_0000;
/** The selectors of the descriptors that setUp() puts into the table. */
const SMALL_CODE = 0xb;
const SMALL_DATA = 0x13;
const SHORT_CODE = 0x1b;

/** A kernel that enters user mode at `cs`:`eip` once, and keeps the first 10 words of the frame that brings it back. */
const kernel = (cs: number, eip: number, callback: number): string => `
    lea rdi, [traps]
    mov eax, SET_TRAP_TABLE
    syscall
    lea rdi, [gdt]
    mov esi, 8
    mov eax, 2
    syscall
    mov edi, 0
    lea rsi, [callback]
    mov eax, 30
    syscall
    lea rdi, [baseptr]
    mov esi, 1
    xor edx, edx
    mov r10d, 0x7ff0
    mov eax, MMUEXT_OP
    syscall
    mov edi, 0xe02b
    mov rsi, 0x8000
    mov eax, STACK_SWITCH
    syscall
    mov eax, 0xe02b
    db 0x8e, 0xd8                     ; mov ds, eax
    db 0x8e, 0xc0                     ; mov es, eax
    mov eax, ${SMALL_DATA}
    db 0x8e, 0xe8                     ; mov gs, eax
    db 0x8e, 0xe0                     ; mov fs, eax
    mov edi, 3                        ; SEGBASE_GS_USER_SEL
    mov esi, ${SMALL_DATA}
    mov eax, 25
    syscall
    mov eax, 0xe02b
    push rax
    mov eax, USER_STACK
    push rax
    mov eax, 0x246
    push rax
    mov eax, ${cs}
    push rax
    mov eax, ${eip}
    push rax
    push 0
    push 0
    push 0
    mov rax, -1
    push rax
    mov eax, IRET
    syscall
  handler6: mov r15, 6
    jmp keep
  handler13: mov r15, 13
    jmp keep
  handler14: mov r15, 14
    jmp keep
  handler4: mov r15, 4
    jmp keep
  handler80: mov r15, 0x80
    jmp keep
  called: mov r15, 1
  keep:
    mov [DATA+104], rax
    mov [DATA+112], rbx
    mov [DATA], r15
    mov rsi, rsp
    mov edi, DATA+8
    mov ecx, 10
    cld
    rep movsq
    jmp poweroff
  baseptr: dq 15, ${mfn(L4)}, 0
  callback:
    dw ${callback}, 0
    dd 0
    dq called
  gdt: dq ${mfn(GDT >>> 12)}
  traps:
    ${[
      [UD, 4],
      [GP, 4],
      [14, 4],
      [4, 3],
      [0x80, 3],
    ]
      .map(([n, flags]) => `db ${n}, ${flags}\ndw 0xe030\ndd 0\ndq handler${n === 0x80 ? 80 : n}`)
      .join('\n')}
    zero 16
`;

interface Way {
  readonly cs?: number;
  readonly eip?: number;
  readonly callback?: number;
  readonly intel?: boolean;
}

/** Puts code at an offset in the user's code page. */
function put(g: TinyGuest, offset: number, code: string): void {
  const { engine, state } = g.domain;
  state.mem.u8.set(Buffer.from(code.replaceAll(' ', ''), 'hex'), engine.ram.linearOf(0) + USER + offset);
}

/** Returns a guest with this user code, before its first instruction. */
async function setUp(code: string, way: Way = {}): Promise<TinyGuest> {
  const { cs = FLAT_USER_CS32, eip = USER, callback = 0 } = way;
  const g = await TinyGuest.boot(kernel(cs, eip, callback));
  const { cpuid } = g.domain.state.identity;
  if (way.intel === true) cpuid[0] = { ...cpuid[0], ebx: Buffer.from('Genu').readUInt32LE() };
  put(g, 0, code);
  g.setU64(GDT + 8, descriptor(USER, 0xff, CODE | 0x100 | D));
  g.setU64(GDT + 16, descriptor(DATA + 0x400, 0xf, WRITABLE | 0x100 | D));
  g.setU64(GDT + 24, descriptor(USER, 0xffff, CODE | 0x100));
  return g;
}

interface Frame {
  readonly by: number;
  readonly words: readonly bigint[];
  readonly eax: bigint;
  readonly ebx: bigint;
}

function end(g: TinyGuest): Frame {
  expect(g.run()).toMatchObject({ reason: 'poweroff' });
  return { by: g.s64(DATA), words: g.words(DATA + 8, 10), eax: g.big(DATA + 104), ebx: g.big(DATA + 112) };
}

const run = async (code: string, way: Way = {}): Promise<Frame> => end(await setUp(code, way));

describe('32-bit code', () => {
  // inc eax; inc ebx; int 0x80
  const COUNT = '40 43 cd80';

  it('is entered at FLAT_RING3_CS32 by iret, and left by int 0x80 with its selectors and eip', async () => {
    const f = await run(COUNT);
    expect(f.by).toBe(0x80);
    expect(f.eax).toBe(0n);
    // The frame is rcx, r11, rip, cs, rflags, rsp, ss.
    expect(f.words.slice(2, 4)).toEqual([BigInt(USER + 4), BigInt(FLAT_USER_CS32)]);
    expect(f.words.slice(5, 7)).toEqual([BigInt(USER_STACK), 0xe02bn]);
  });

  it('means something else than the same bytes at the same address in 64-bit code', async () => {
    // In 64-bit code 40 and 43 are prefixes. 32-bit code calls them, becomes 64-bit code by a far return, and calls
    // them again.
    const g = await setUp('40 43 c3', { eip: USER + 0x40 });
    put(g, 0x40, 'e8bbffffff 6833e00000 6860000500 cb');
    put(g, 0x60, 'e89bffffff cd80');
    const f = end(g);
    expect([f.by, f.eax, f.ebx]).toEqual([0x80, 0n, 1n]);
    expect(f.words.slice(2, 4)).toEqual([BigInt(USER + 0x67), 0xe033n]);
  });

  it('goes on where it was, with its segments, in another container', async () => {
    // mov ecx, 20000; again: inc dword gs:[4]; dec ecx; jne again; mov eax, gs:[4]; int 0x80
    const g = await setUp('b9204e0000 65ff0504000000 49 75f6 65a104000000 cd80');
    g.run(20_000);
    expect(g.domain.engine.vcpus[0].cs).toBe(FLAT_USER_CS32);
    const moved = await g.moved();
    expect(moved.domain.engine.vcpus[0].codeBits).toBe(32);
    const f = end(moved);
    expect([f.by, f.eax]).toEqual([0x80, 20_000n]);
    expect(moved.u32(DATA + 0x404)).toBe(20_000);
  });

  it('has an address space of 4 GiB: the sum of base and offset wraps', async () => {
    // mov ebx, -16; mov eax, [ebx + DATA + 16]; int 0x80
    const g = await setUp(`bbf0ffffff 8b83${'10000400'} cd80`);
    g.setU32(DATA, 0x1234_5678);
    expect(end(g).eax).toBe(0x1234_5678n);
  });

  it('is refused what its segments do not allow', async () => {
    // mov eax, gs:[12]; mov eax, gs:[13]
    const f = await run('65a10c000000 65a10d000000 cd80');
    expect([f.by, f.words[2], f.words[3]]).toEqual([GP, 0n, BigInt(USER + 6)]);
    // mov cs:[DATA], eax
    expect((await run('2ea300000400')).by).toBe(GP);
    // mov fs, 0; mov eax, fs:[0]
    const none = await run('31c0 8ee0 64a100000000');
    expect([none.by, none.words[3]]).toEqual([GP, BigInt(USER + 4)]);
  });

  it('pushes eip as 32 bits, and returns', async () => {
    // call 1f; int 0x80; 1: mov eax, [esp]; mov ebx, esp; ret
    const f = await run('e802000000 cd80 8b0424 89e3 c3');
    expect(f.by).toBe(0x80);
    expect([f.eax, f.ebx]).toEqual([BigInt(USER + 5), BigInt(USER_STACK - 4)]);
  });

  it('has the overflow trap', async () => {
    // mov eax, 0x7fffffff; inc eax; into
    const f = await run('b8ffffff7f 40 ce');
    expect([f.by, f.words[2]]).toEqual([4, BigInt(USER + 7)]);
  });
});

describe("the guest's own code segments", () => {
  it('count eip from their base, and have a limit', async () => {
    // jmp 0xfe: there is a nop, and nothing after it.
    const g = await setUp('e9f9000000', { cs: SMALL_CODE, eip: 0 });
    put(g, 0xfe, '9090');
    const f = end(g);
    expect([f.by, f.words[3], f.words[4]]).toEqual([GP, 0x100n, BigInt(SMALL_CODE)]);
    // A jump to beyond the limit faults at the jump.
    const far = await run('90 e9fa000000', { cs: SMALL_CODE, eip: 0 });
    expect([far.by, far.words[3]]).toEqual([GP, 1n]);
  });

  it('may contain 16-bit code', async () => {
    // inc ax; mov bx, 0x1234; int 0x80
    const f = await run('40 bb3412 cd80', { cs: SHORT_CODE, eip: 0 });
    expect([f.by, f.eax, f.ebx]).toEqual([0x80, 0xffff_ffff_ffff_0000n, 0x1234n]);
    expect(f.words.slice(2, 4)).toEqual([6n, BigInt(SHORT_CODE)]);
  });

  it('are changed by far calls and returns', async () => {
    // lcall SMALL_CODE:0x20; int 0x80; at 0x20: mov eax, cs; retf
    const g = await setUp(`9a20000000${'0b00'} cd80`);
    put(g, 0x20, '8cc8cb');
    const f = end(g);
    expect([f.by, f.eax, f.words[2]]).toEqual([0x80, BigInt(SMALL_CODE), BigInt(USER + 9)]);
  });
});

describe('syscall in 32-bit code', () => {
  it('goes to the 32-bit callback, with the selectors of SYSCALL', async () => {
    const f = await run('0f05', { callback: CALLBACKTYPE_syscall32, cs: SMALL_CODE, eip: 0 });
    expect(f.by).toBe(1);
    // rcx is the address at which the user continues.
    expect(f.words[0]).toBe(2n);
    expect(f.words.slice(2, 4)).toEqual([2n, BigInt(FLAT_USER_CS32)]);
  });
  it('is #UD without such a callback', async () => {
    const f = await run('0f05');
    expect([f.by, f.words[2]]).toEqual([UD, BigInt(USER)]);
  });
  it('is #UD on an Intel processor', async () => {
    const f = await run('0f05', { callback: CALLBACKTYPE_syscall32, intel: true });
    expect([f.by, f.words[2]]).toEqual([UD, BigInt(USER)]);
  });
});

describe('sysenter', () => {
  it('is #UD on an AMD processor', async () => {
    expect((await run('0f34', { callback: CALLBACKTYPE_sysenter })).by).toBe(UD);
  });
  it('goes to its callback on an Intel processor, which saves neither eip nor esp', async () => {
    const f = await run('0f34', { callback: CALLBACKTYPE_sysenter, intel: true });
    expect([f.by, f.words[2], f.words[3]]).toEqual([1, 0n, 3n]);
    expect(f.words.slice(5, 7)).toEqual([0n, 0xe02bn]);
  });
  it('is #GP without such a callback', async () => {
    expect((await run('0f34', { intel: true })).by).toBe(GP);
  });
});
