/** Tests 64-bit values of a guest that a JavaScript number cannot hold: every bit of them counts. */
import { beforeEach, describe, expect, it } from 'vitest';
import { CallingGuest, DATA, HOLE, mfn, TinyGuest } from '../../../test/support/tiny-guest.js';
import { EFAULT, EINVAL, ENOMEM } from '../../xen/errno.js';

const SELF = 0x7ff0n;
const LIST = 0x6_0000;
const XEN = 0xffff_82d0_8000_0000n;
const ONES = 0xffff_ffff_ffff_ffffn;
/** The address at which CallingGuest keeps the result of the first call. */
const RESULT = 0x10_0000 + 48;
let c: CallingGuest;
beforeEach(async () => {
  c = await CallingGuest.boot();
});
const put = (at: number, ...words: (number | bigint)[]): void => {
  for (const [i, word] of words.entries()) c.guest.setU64(at + 8 * i, word);
};

describe('XENMEM_exchange', () => {
  /** Makes the call with two lists of extents, their counts and orders, and the number of extents already exchanged. */
  const exchange = (input: bigint[], output: bigint[], exchanged: bigint): number => {
    put(DATA, input[0], input[1], input[2], SELF, output[0], output[1], output[2], SELF, exchanged);
    return c.call(12, 11, DATA);
  };
  const done = (): bigint => c.guest.big(DATA + 64);

  it('treats counts that differ only in their last bit as different', () => {
    const many = XEN / 8n;
    const list = BigInt.asUintN(64, BigInt(LIST) - 8n * many);
    // One extent is left, to be read at the guest's address; the list for the result is in Xen's range, so nothing is
    // written.
    expect(exchange([list, many + 1n, 0n], [0n, many + 1n, 0n], many)).toBe(-EFAULT);
    expect(done()).toBe(many);
    put(LIST, mfn(0x100));
    expect(exchange([list, many + 1n, 0n], [list, many + 1n, 0n], many)).toBe(-ENOMEM);
    expect(exchange([list, many, 0n], [list, many, 0n], many)).toBe(0);
    expect(exchange([list, many, 0n], [list, many, 0n], many + 1n)).toBe(-EINVAL);
    expect(exchange([list, many + 1n, 0n], [list, many, 0n], many - 1n)).toBe(-EINVAL);
  });

  it('refuses sizes above 64 bits, and lists whose end is not below 2^64', () => {
    const list = BigInt(LIST);
    expect(exchange([list, 1n << 63n, 1n], [list, 0n, 0n], 0n)).toBe(-EINVAL);
    expect(exchange([list, (1n << 63n) + 1n, 1n], [list, 2n, 0n], 0n)).toBe(-EINVAL);
    expect(exchange([list, 1n << 62n, 0n], [list, 1n << 62n, 0n], 0n)).toBe(-EFAULT);
  });

  it('counts exchanged extents in whole chunks, and refuses a NUMA node named by a guest', () => {
    put(LIST, ...Array.from({ length: 4 }, (_, i) => mfn(0x100 + i)));
    expect(exchange([BigInt(LIST), 4n, 0n], [BigInt(LIST + 64), 2n, 1n], 3n)).toBe(-ENOMEM);
    expect(done()).toBe(2n);
    expect(
      exchange([BigInt(LIST), 1n, 0n], [BigInt(LIST), 1n, (((1n << 17n) | 0x100n) << 32n) | 0n], 0n),
    ).toBe(-EINVAL);
  });
});

describe('a value that is only returned', () => {
  it("is kept in the guest's memory map, also across a move", async () => {
    put(LIST, ONES - 4095n, ONES, 2n);
    put(DATA, SELF | (1n << 32n), 1n, LIST);
    put(DATA, SELF, 1n, LIST);
    expect(c.call(12, 13, DATA)).toBe(0);
    const read = (): bigint[] => {
      put(DATA, 1n, LIST + 256);
      expect(c.call(12, 9, DATA)).toBe(0);
      return c.guest.words(LIST + 256, 2);
    };
    expect(read()).toEqual([ONES - 4095n, ONES]);
    const there = await c.guest.moved();
    expect(there.domain.state.memoryMap).toEqual([{ start: ONES - 4095n, bytes: ONES, type: 2 }]);
  });

  it('is kept as the first extent of a reservation, which the result reports as done', () => {
    const start = (1n << 57n) + 1n;
    for (const op of [0n, 1n, 6n]) {
      c.call(12, (start << 6n) | op, HOLE);
      expect(c.guest.big(RESULT)).toBe(start);
    }
    // The same holds in a multicall.
    put(DATA, 12, 0, (start << 6n) | 1n, HOLE, 0, 0, 0, 0);
    expect(c.call(13, DATA, 1)).toBe(0);
    expect(c.guest.big(DATA + 8)).toBe(start);
  });
});

it('no such value keeps a guest from being moved', async () => {
  const far = (1n << 62n) + 1n;
  put(DATA, far, 0);
  expect(c.call(24, 8, 0, DATA)).toBe(0);
  expect(c.call(3, 0xe02b, far)).toBe(0);
  const there = await c.guest.moved();
  expect(there.domain.state.vcpus[0].kernelSp).toBe(c.guest.domain.state.vcpus[0].kernelSp);
  expect(there.domain.state.vcpus[0].singleshot).toBe(Number.POSITIVE_INFINITY);
});

it('an address is not canonical if its upper bits differ from bit 47', () => {
  const pte = mfn(0x44) * 4096 + 7;
  for (const high of [1n << 48n, 1n << 63n, 0x7fffn << 48n]) {
    expect(c.call(14, high | 0x60_0000n, pte, 0)).toBe(-EINVAL);
  }
  expect(c.call(14, 0x60_0000, pte, 0)).toBe(0);
});

it('a negative time is in the past: a poll ends at once', async () => {
  const g = await TinyGuest.boot(`
    lea rsi, [poll]
    mov edi, 3
    mov eax, SCHED_OP
    syscall
    jmp poweroff
    poll: dq 0, 0, 0x8000000000000001`);
  expect(g.run(1e9)).toMatchObject({ reason: 'poweroff' });
  expect(g.domain.clock.now()).toBeLessThan(1e6);
});

describe('a register', () => {
  const VALUE = 0x1234_5678_9abc_def1n;

  it("rip of an iret is in the fault's frame with all its bits", async () => {
    const g = await TinyGuest.boot(`
      lea rdi, [traps]
      xor eax, eax
      syscall
      mov eax, 0xe02b
      push rax
      push STACK
      push 0x202
      mov eax, 0xe030
      push rax
      mov rax, ${VALUE}
      push rax
      push 0
      push 0
      push 0
      push 0
      mov eax, IRET
      syscall
      faulted: mov rax, [rsp+24]
      mov rbx, DATA
      mov [rbx], rax
      jmp poweroff
      traps:
        db 13, 4
        dw 0xe030
        dd 0
        dq faulted
        zero 16`);
    expect(g.run()).toMatchObject({ reason: 'poweroff' });
    expect(g.big(DATA)).toBe(VALUE);
  });

  it('cr2 reads as it was written', async () => {
    const g = await TinyGuest.boot(`
      mov rax, ${VALUE}
      mov cr2, rax
      mov rcx, cr2
      mov rbx, DATA
      mov [rbx], rcx
      jmp poweroff`);
    expect(g.run()).toMatchObject({ reason: 'poweroff' });
    expect(g.big(DATA)).toBe(VALUE);
  });
});
