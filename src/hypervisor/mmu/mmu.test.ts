import { beforeEach, describe, expect, it } from 'vitest';
import {
  CallingGuest,
  DATA,
  FRAMES,
  HOLE,
  L1,
  L2,
  L3,
  L4,
  mfn,
  TinyGuest,
} from '../../../test/support/tiny-guest.js';
import { EACCES, EBUSY, EFAULT, EINVAL, ENOSYS, EOPNOTSUPP, EPERM, ESRCH } from '../../xen/errno.js';
import { frameLayout } from '../address-space.js';

const SELF = 0x7ff0;
const PAGE = 4096;
let c: CallingGuest;
beforeEach(async () => {
  c = await CallingGuest.boot();
});
const pte = (frame: number, flags = 7): number => mfn(frame) * PAGE + flags;
/**
 * An entry of the lowest level as Xen stores it: always with USER, with GLOBAL for a user page, with bit 52 for a
 * kernel page.
 */
const kept = (frame: number, flags = 7): number =>
  flags & 4 ? pte(frame, flags | 0x100) : pte(frame, flags | 4) + 2 ** 52;
const mmuUpdate = (ptr: number, value: number | bigint, foreign = SELF): number => {
  c.guest.setU64(DATA, ptr);
  c.guest.setU64(DATA + 8, value);
  return c.call(1, DATA, 1, 0, foreign);
};
const mmuext = (cmd: number, arg1: number | bigint = 0, arg2: number | bigint = 0): number => {
  c.guest.setU64(DATA, cmd);
  c.guest.setU64(DATA + 8, arg1);
  c.guest.setU64(DATA + 16, arg2);
  return c.call(26, DATA, 1, 0, SELF);
};
const updateVa = (va: number, value: number | bigint, flags = 2): number => c.call(14, va, value, flags);
/** The address of an entry in the guest's page tables. */
const l1e = (frame: number): number => mfn(L1 + (frame >>> 9)) * PAGE + 8 * (frame & 511);
const types = (...frames: number[]) =>
  frames.map((f) => [c.guest.domain.state.frames.type[f], c.guest.domain.state.frames.count[f]]);

describe('a page-table entry', () => {
  it('is changed by update_va_mapping and by mmu_update', () => {
    expect(updateVa(0x60_0000, pte(0x44))).toBe(0);
    expect(c.guest.s64((L1 + 3) * PAGE)).toBe(kept(0x44));
    expect(mmuUpdate(l1e(0x601), pte(0x45))).toBe(0);
    expect(c.guest.s64((L1 + 3) * PAGE + 8)).toBe(kept(0x45));
    expect(mmuUpdate(l1e(0x601), 0)).toBe(0);
    expect(c.guest.s64((L1 + 3) * PAGE + 8)).toBe(0);
  });

  it('keeps its accessed and dirty bits where the guest asks for that', () => {
    c.guest.setU64((L1 + 3) * PAGE, pte(0x44, 0x67));
    expect(mmuUpdate(l1e(0x600) + 2, pte(0x46, 1))).toBe(0);
    expect(c.guest.s64((L1 + 3) * PAGE)).toBe(kept(0x46, 0x61));
  });

  it('may not name frames that the guest does not have, nor map a page table writable', () => {
    expect(updateVa(0x60_0000, 5 * PAGE + 7)).toBe(-EPERM);
    expect(updateVa(0x60_0000, 0xf_ffff_ffff_f007n)).toBe(-EINVAL);
    expect(updateVa(0x60_0000, mfn(c.guest.domain.layout.m2p) * PAGE + 5)).toBe(-EBUSY);
    expect(updateVa(0x60_0000, pte(L1))).toBe(-EBUSY);
    expect(updateVa(0x60_0000, pte(L1, 5))).toBe(0);
    expect(updateVa(0x60_0000, pte(0x44, 0x17))).toBe(-EINVAL);
    expect(updateVa(0x60_0000, mfn(c.guest.domain.layout.sharedInfo) * PAGE + 7)).toBe(0);
  });

  it("is reported missing for addresses without a table and for Xen's range", () => {
    for (const va of [0x4000_0000, 0xffff_8000_0000_0000n, 2 ** 46]) {
      expect(c.call(14, va, pte(0x44), 0)).toBe(-EINVAL);
    }
  });

  it('in a page that is no page table is plain memory', () => {
    expect(mmuUpdate(mfn(0x50) * PAGE + 16, 0x1234_5678_9abc_def0n)).toBe(0);
    expect(c.guest.big(0x50 * PAGE + 16)).toBe(0x1234_5678_9abc_def0n);
  });
});

describe('mmu_update', () => {
  it('counts the updates that it has done, and stops at the first error', () => {
    for (const [i, value] of [pte(1), pte(2), 3 * PAGE + 7, pte(4)].entries()) {
      c.guest.setU64(DATA + 16 * i, l1e(0x600 + i));
      c.guest.setU64(DATA + 16 * i + 8, value);
    }
    c.guest.setU32(DATA + 256, 99);
    expect(c.call(1, DATA, 4, DATA + 256, SELF)).toBe(-EPERM);
    expect(c.guest.u32(DATA + 256)).toBe(2);
    expect(c.guest.s64((L1 + 3) * PAGE + 24)).toBe(kept(0x603));
  });

  it('returns the errors that Xen returns', () => {
    expect(mmuUpdate(l1e(0x600) + 4, 0)).toBe(-ENOSYS);
    expect(mmuUpdate(0x5000, 0)).toBe(-EINVAL);
    expect(mmuUpdate(l1e(0x600), 0, 0)).toBe(-EPERM);
    expect(mmuUpdate(l1e(0x600), 0, 7)).toBe(-ESRCH);
    expect(mmuUpdate(l1e(0x600), 0, 9)).toBe(-ESRCH);
    expect(c.call(1, HOLE, 1, 0, SELF)).toBe(-EFAULT);
  });

  it('changes the machine-to-physical table, which the guest can read but not write', async () => {
    expect(mmuUpdate(mfn(0x55) * PAGE + 1, 0x4321)).toBe(0);
    const g = await TinyGuest.boot(`
      mov rax, 0xffff800000000000
      mov ecx, ${mfn(0x55)}
      mov rdx, [rax+rcx*8]
      mov rbx, DATA
      mov [rbx], rdx
      mov [rax+rcx*8], rdx`);
    expect(g.run()).toMatchObject({ reason: 'crash' });
    expect(g.domain.crashReport().message).toMatch(/page fault at 0xffff8000008002a8, error code 3/);
    expect(g.s64(DATA)).toBe(0x55);
    const { state } = c.guest.domain;
    expect(state.m2p.get(0x55)).toBe(0x4321);
  });
});

describe('the machine-to-physical table', () => {
  const READS = `
      mov rsi, 0xffff800000000000
      mov rdi, DATA
      xor eax, eax
      call read
      mov eax, ${mfn(0) - 1}
      call read
      mov eax, ${mfn(0)}
      call read
      mov eax, [DATA+0x800]
      call read
      mov eax, [DATA+0x804]
      dec eax
      call read
      mov eax, [DATA+0x804]
    read:
      mov rdx, [rsi+rax*8]
      mov [rdi], rdx
      add rdi, 8
      ret`;
  const NONE = 0xffff_ffff_ffff_ffffn;
  /** The number of machine frames whose entries fill one 2 MiB page of the table. */
  const PIECE = 0x4_0000;

  it.each(['at power-on', 'on the next host'])(
    'is there from frame 0 to the end of its last 2 MiB: %s',
    async (when) => {
      let g = await TinyGuest.boot(READS);
      const { layout } = g.domain;
      const end = Math.ceil(mfn(layout.total) / PIECE) * PIECE;
      g.setU32(DATA + 0x800, mfn(layout.sharedInfo));
      g.setU32(DATA + 0x804, end);
      if (when !== 'at power-on') g = await g.moved();
      // There is nothing beyond it.
      expect(g.run()).toMatchObject({ reason: 'crash' });
      const beyond = (0xffff_8000_0000_0000n + 8n * BigInt(end)).toString(16);
      expect(g.domain.crashReport().message).toContain(`page fault at 0x${beyond}, error code 0`);
      // These are: frames of others, the guest's frame 0, frames that Xen shares with the guest, and a frame of nobody.
      expect(g.words(DATA, 5)).toEqual([NONE, NONE, 0n, NONE, NONE]);
    },
  );

  it('cannot be written where no frames exist', async () => {
    const g = await TinyGuest.boot('mov rax, 0xffff800000000000\n mov [rax], rax');
    expect(g.run()).toMatchObject({ reason: 'crash' });
    expect(g.domain.crashReport().message).toMatch(/page fault at 0xffff800000000000, error code 3/);
  });

  it("begins with the guest's first frame in a guest that was switched on when tables began there", async () => {
    const g = await TinyGuest.boot(READS, { wholeM2p: false });
    expect(g.run()).toMatchObject({ reason: 'crash' });
    expect(g.domain.crashReport().message).toMatch(/page fault at 0xffff800000000000, error code 0/);
  });

  it('takes two more frames than such a short one', () => {
    expect(frameLayout(FRAMES, true).total - frameLayout(FRAMES, false).total).toBe(2);
  });
});

describe('page tables', () => {
  it('are typed from the base pointer down, and counted', () => {
    expect(types(L4, L3, L2, L1, L1 + 4)).toEqual([
      [4, 2],
      [3, 1],
      [2, 1],
      [1, 1],
      [1, 1],
    ]);
    // The toolstack has pinned the first table.
    expect(mmuext(3, mfn(L4))).toBe(-EINVAL);
    expect(mmuext(4, mfn(L4))).toBe(0);
    expect(mmuext(4, mfn(L4))).toBe(-EINVAL);
    expect(types(L4, L3)).toEqual([
      [4, 1],
      [3, 1],
    ]);
    expect(mmuext(3, mfn(L4))).toBe(0);
    expect(mmuext(2, mfn(L4))).toBe(-EINVAL);
    expect(mmuext(3, 5)).toBe(-EINVAL);
  });

  it('get their type when they are pinned or entered, and are memory again when the last reference is dropped', () => {
    const fresh = 0x60;
    c.guest.domain.state.mem.u8.fill(
      0,
      c.guest.domain.state.ram.linearOf(fresh),
      c.guest.domain.state.ram.linearOf(fresh + 1),
    );
    expect(mmuext(0, mfn(fresh))).toBe(0);
    expect(types(fresh)).toEqual([[1, 1]]);
    expect(mmuUpdate(mfn(L2) * PAGE + 8 * 100, pte(fresh, 3))).toBe(0);
    expect(types(fresh)).toEqual([[1, 2]]);
    expect(c.guest.s64(L2 * PAGE + 800)).toBe(pte(fresh, 7));
    expect(mmuext(4, mfn(fresh))).toBe(0);
    expect(mmuUpdate(mfn(L2) * PAGE + 8 * 100, 0)).toBe(0);
    expect(types(fresh)).toEqual([[0, 0]]);
  });

  it('with an invalid entry are refused, and leave no reference behind', () => {
    const at = 0x61 * PAGE;
    c.guest.setU64(at, pte(L1));
    c.guest.setU64(at + 8, 5 * PAGE + 1);
    expect(mmuext(1, mfn(0x61))).toBe(-EINVAL);
    expect(types(0x61, L1)).toEqual([
      [0, 0],
      [1, 1],
    ]);
  });

  it('may map themselves read-only', () => {
    expect(mmuUpdate(mfn(L4) * PAGE + 8 * 300, pte(L4, 5))).toBe(0);
    expect(mmuUpdate(mfn(L4) * PAGE + 8 * 301, pte(L4, 7))).toBe(-EINVAL);
    expect(mmuUpdate(mfn(L4) * PAGE + 8 * 260, 0)).toBe(-EINVAL);
    expect(types(L4)).toEqual([[4, 2]]);
    expect(mmuUpdate(mfn(L4) * PAGE + 8 * 300, 0)).toBe(0);
    expect(types(L4)).toEqual([[4, 2]]);
  });

  it('are switched by their base pointer, for kernel and user mode', () => {
    const { state } = c.guest.domain;
    expect(mmuext(15, mfn(L4))).toBe(0);
    expect(types(L4)).toEqual([[4, 3]]);
    expect(mmuext(15, 0)).toBe(0);
    expect(types(L4)).toEqual([[4, 2]]);
    expect(mmuext(5, mfn(L3))).toBe(-EINVAL);
    expect(mmuext(5, mfn(L4))).toBe(0);
    expect(state.vcpus[0].cpu.cr3Kernel).toBe(mfn(L4));
  });
});

describe('mmuext_op', () => {
  it('clears and copies pages, but not page tables', () => {
    c.guest.setU64(0x70 * PAGE, 77);
    expect(mmuext(17, mfn(0x71), mfn(0x70))).toBe(0);
    expect(c.guest.s64(0x71 * PAGE)).toBe(77);
    expect(mmuext(16, mfn(0x71))).toBe(0);
    expect(c.guest.s64(0x71 * PAGE)).toBe(0);
    expect(mmuext(16, mfn(L1))).toBe(-EINVAL);
    expect(mmuext(17, mfn(L1), mfn(0x70))).toBe(-EINVAL);
    expect(mmuext(17, mfn(0x70), 5)).toBe(-EINVAL);
  });

  it('returns the errors that Xen returns', () => {
    expect(mmuext(12)).toBe(-EACCES);
    expect(mmuext(18)).toBe(-EINVAL);
    expect(mmuext(19)).toBe(-EOPNOTSUPP);
    expect(mmuext(77)).toBe(-ENOSYS);
    expect(mmuext(13, DATA, 9000)).toBe(-EINVAL);
    expect(mmuext(13, DATA + 8, 4)).toBe(-EINVAL);
    expect(mmuext(13, DATA, 4)).toBe(0);
    expect(mmuext(8, 0, HOLE)).toBe(-EINVAL);
    expect(mmuext(6)).toBe(0);
    expect(c.call(26, DATA, 1, 0, 0)).toBe(-EPERM);
    expect(c.call(26, DATA, 1, 0, 7)).toBe(-ESRCH);
  });
});

describe('a write by the kernel to a page table that it has mapped read-only', () => {
  const ENTRY = (L1 + 3) * PAGE + 8 * 0x10;
  /** Runs `body` with the address of an entry that holds pte(0x610) in rbx. Returns the guest. */
  const run = async (body: string, assist = true): Promise<TinyGuest> => {
    const g = await TinyGuest.boot(`
      ${assist ? 'xor edi, edi\nmov esi, 2\nmov eax, 21\nsyscall' : ''}
      mov rbx, ${ENTRY}
      mov rdx, ${pte(0x40)}
      mov rcx, DATA
      ${body}`);
    return g;
  };
  const good = async (body: string): Promise<TinyGuest> => {
    const g = await run(`${body}\npushfq\npop rax\nmov [rcx+8], rax\njmp poweroff`);
    expect(g.run()).toMatchObject({ reason: 'poweroff' });
    return g;
  };

  it('is emulated, whatever the instruction', async () => {
    expect((await good('mov [rbx], rdx')).s64(ENTRY)).toBe(kept(0x40));
    expect((await good('mov qword [rbx], 0')).s64(ENTRY)).toBe(0);
    expect((await good('mov dword [rbx], 0')).s64(ENTRY)).toBe(Math.floor(kept(0x610) / 2 ** 32) * 2 ** 32);
    expect((await good('lock or qword [rbx], 0x200')).s64(ENTRY)).toBe(kept(0x610, 0x207));
    expect((await good('lock and qword [rbx], -3')).s64(ENTRY)).toBe(kept(0x610, 5));
    expect((await good('lock btr qword [rbx], 1')).s64(ENTRY)).toBe(kept(0x610, 5));
    expect((await good('mov eax, 9\nlock bts [rbx], rax')).s64(ENTRY)).toBe(kept(0x610, 0x207));
    expect((await good('mov byte [rbx], 0x65')).s64(ENTRY)).toBe(kept(0x610, 0x65));
    expect(
      (await good('mov rdi, rbx\nmov ecx, 3\nxor eax, eax\nrep stosq\nmov ecx, DATA')).words(ENTRY, 4),
    ).toEqual([0n, 0n, 0n, BigInt(kept(0x613))]);
  });

  it('by xchg or cmpxchg returns the old value and sets the flags', async () => {
    const x = await good('xchg [rbx], rdx\nmov [rcx], rdx');
    expect([x.s64(ENTRY), x.s64(DATA)]).toEqual([kept(0x40), kept(0x610)]);
    const hit = await good(`mov rax, ${kept(0x610)}\nlock cmpxchg [rbx], rdx`);
    expect([hit.s64(ENTRY), hit.s64(DATA + 8) & 0x40]).toEqual([kept(0x40), 0x40]);
    const miss = await good('mov eax, 5\nlock cmpxchg [rbx], rdx\nmov [rcx], rax');
    expect([miss.s64(ENTRY), miss.s64(DATA), miss.s64(DATA + 8) & 0x40]).toEqual([
      kept(0x610),
      kept(0x610),
      0,
    ]);
  });

  it('stays a page fault without the assist, for an invalid entry, and for tables above L1', async () => {
    const bad = async (body: string, assist = true): Promise<string> => {
      const g = await run(body, assist);
      expect(g.run()).toMatchObject({ reason: 'crash' });
      return g.domain.crashReport().message;
    };
    expect(await bad('mov [rbx], rdx', false)).toMatch(/page fault .* error code 3/);
    expect(await bad('mov edx, 0x5007\nmov [rbx], rdx')).toMatch(/error code 3/);
    expect(await bad(`mov rbx, ${L2 * PAGE}\nmov [rbx], rdx`)).toMatch(/error code 3/);
    expect(await bad('mov [rbx+4], rdx')).toMatch(/error code 3/);
  });

  it('to any other page that is mapped read-only stays a page fault', async () => {
    const g = await run(`
      mov rdi, ${0x60_0000}
      mov rsi, ${pte(0x44, 5)}
      mov edx, 2
      mov eax, UPDATE_VA_MAPPING
      syscall
      mov rbx, ${0x60_0000}
      mov [rbx], rdx`);
    expect(g.run()).toMatchObject({ reason: 'crash' });
    expect(g.domain.crashReport().message).toMatch(/page fault at 0x0000000000600000, error code 3/);
  });
});

describe('a hypercall with much to do', () => {
  it('is continued in several parts, and the guest sees one call', () => {
    const count = 10_000;
    const list = 0x20_0000;
    for (let i = 0; i < count; i++) {
      c.guest.setU64(list + 16 * i, l1e(0x600) + 2);
      c.guest.setU64(list + 16 * i + 8, pte(i & 0x3ff, 1));
    }
    const before = c.guest.domain.clock.now();
    expect(c.call(1, list, count, DATA, SELF)).toBe(0);
    expect(c.guest.u32(DATA)).toBe(count);
    expect(c.guest.big((L1 + 3) * PAGE) & ~0x60n).toBe(BigInt(kept((count - 1) & 0x3ff, 1)));
    expect(c.guest.domain.clock.now() - before).toBeGreaterThan(400_000);
  });

  it('inside a multicall is continued inside the multicall', () => {
    const count = 5000;
    const list = 0x20_0000;
    for (let i = 0; i < count; i++) {
      c.guest.setU64(list + 16 * i, l1e(0x601));
      c.guest.setU64(list + 16 * i + 8, pte(i & 0x3ff, 1));
    }
    const calls = [
      [17, 0, 0, 0, 0, 0],
      [1, list, count, DATA + 8, SELF, 0],
      [17, 7, 0, 0, 0, 0],
    ];
    for (const [i, [op, ...args]] of calls.entries()) {
      c.guest.setU64(DATA + 64 + 64 * i, op);
      for (const [j, arg] of args.entries()) c.guest.setU64(DATA + 64 + 64 * i + 16 + 8 * j, arg);
    }
    expect(c.call(13, DATA + 64, 3)).toBe(0);
    expect([0, 1, 2].map((i) => c.guest.s64(DATA + 64 + 64 * i + 8))).toEqual([0x40011, 0, PAGE]);
    expect(c.guest.u32(DATA + 8)).toBe(count);
  });
});
