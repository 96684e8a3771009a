import { beforeEach, describe, expect, it } from 'vitest';
import {
  CallingGuest,
  DATA,
  L1,
  L2,
  L3,
  L4,
  mfn,
  SHARED,
  TinyGuest,
} from '../../../test/support/tiny-guest.js';
import { decodeAll, encodeRaw } from '../../records/record.js';
import { EINVAL } from '../../xen/errno.js';
import { domainStateRecord, framesRecord } from '../saved-state.js';

const SELF = 0x7ff0;
const PAGE = 4096;
const WINDOW = 0x60_0000;
const WINDOW_ENTRY = (L1 + 3) * PAGE;
/** Frames for tables, which no test uses for anything else. */
const SPARE = 0x61;
const KERNEL = 1n << 52n;
/** The number of the first entry of the machine-to-physical table that stands for one of the guest's frames. */
const M2P = BigInt.asUintN(64, 0xffff_8000_0000_0000n + 8n * BigInt(mfn(0)));
/**
 * The list of two linear entries in version 2 of the record: a length of 4 bytes, then a frame and a count for each.
 */
const LINEAR_BYTES = 4 + 2 * (4 + 8);
let c: CallingGuest;
const pte = (frame: number, flags: number): bigint => BigInt(mfn(frame)) * 4096n + BigInt(flags);
const mmuUpdate = (ptr: number, value: bigint): number => {
  c.guest.setU64(DATA, ptr);
  c.guest.setU64(DATA + 8, value);
  return c.call(1, DATA, 1, 0, SELF);
};
const entryAt = (frame: number, index: number): number => mfn(frame) * PAGE + 8 * index;
const mmuext = (cmd: number, arg1: number): number => {
  c.guest.setU64(DATA, cmd);
  c.guest.setU64(DATA + 8, arg1);
  return c.call(26, DATA, 1, 0, SELF);
};
/** An entry of a page that is not a page table yet. */
const put = (frame: number, index: number, value: bigint): void =>
  c.guest.setU64(frame * PAGE + 8 * index, value);
const entry = (frame: number, index: number): bigint => c.guest.big(frame * PAGE + 8 * index);
/** What an L1 entry with these flags becomes: USER is set in all, GLOBAL for user pages, bit 52 for kernel pages. */
const WAYS: [number, bigint, bigint][] = [
  [0x01, 0n, 0x05n | KERNEL],
  [0x63, 0n, 0x67n | KERNEL],
  [0x05, 0n, 0x105n],
  [0x267, 0n, 0x367n],
  [0x105, 0n, 0x105n],
  // The guest reads the entry and writes it back: it does not change.
  [0x07, KERNEL, 0x07n | KERNEL],
  [0x107, KERNEL, 0x107n | KERNEL],
  [0x101, 0n, 0x105n | KERNEL],
  // An entry that is not present is stored as it is.
  [0x0e, 0n, 0x0en],
];

describe('an entry of the lowest level is stored as Xen stores it', () => {
  beforeEach(async () => {
    c = await CallingGuest.boot();
  });
  const all = (write: (value: bigint) => number): void => {
    for (const [flags, high, kept] of WAYS) {
      expect(write(pte(0x44, flags) | high)).toBe(0);
      expect(c.guest.big(WINDOW_ENTRY)).toBe(pte(0x44, 0) | kept);
      c.guest.setU64(WINDOW_ENTRY, 0);
    }
  };

  it('by update_va_mapping', () => all((value) => c.call(14, WINDOW, value, 2)));

  it('by mmu_update', () => all((value) => mmuUpdate(entryAt(L1 + 3, 0), value)));

  it('when only its flags change', () => {
    expect(c.call(14, WINDOW, pte(0x44, 7), 2)).toBe(0);
    expect(c.call(14, WINDOW, pte(0x44, 3), 2)).toBe(0);
    expect(c.guest.big(WINDOW_ENTRY)).toBe(pte(0x44, 7) | KERNEL);
  });

  it('when the page that contains it becomes a page table', () => {
    WAYS.forEach(([flags, high], i) => {
      put(SPARE, i, pte(0x44, flags) | high);
    });
    expect(mmuext(0, mfn(SPARE))).toBe(0);
    WAYS.forEach(([, , kept], i) => {
      expect(entry(SPARE, i)).toBe(pte(0x44, 0) | kept);
    });
  });

  it('where it maps a grant, whose available bits Xen does not use', () => {
    const { state, layout } = c.guest.domain;
    const grant = state.engine.ram.linearOf(layout.grants) + 8 * 9;
    state.mem.setU32(grant, 1 | (7 << 16));
    state.mem.setU32(grant + 4, mfn(0x70));
    const map = (flags: number): void => {
      for (const [i, word] of [WINDOW, 0, flags, 9, 7].entries()) c.guest.setU32(DATA + 4 * i, word);
      expect(c.call(20, 0, DATA, 1)).toBe(0);
      expect(c.guest.u32(DATA + 16) >>> 16).toBe(0);
    };
    map(2);
    expect(c.guest.big(WINDOW_ENTRY)).toBe(pte(0x70, 0x67) | KERNEL | NX);
    map(2 | 8 | 4);
    expect(c.guest.big(WINDOW_ENTRY)).toBe(pte(0x70, 0x165) | NX);
  });

  it('in the tables that the domain builder makes', async () => {
    const g = await TinyGuest.boot('jmp poweroff');
    expect(g.big((L1 + 3) * PAGE)).toBe(pte(0x600, 0x107));
    expect(g.big((L1 + 3) * PAGE + 8 * 0x1ff)).toBe(pte(L4, 0x105));
  });
});

it('also when the kernel writes it through a read-only mapping of the table', async () => {
  const g = await TinyGuest.boot(`
    xor edi, edi
    mov esi, 2
    mov eax, 21
    syscall
    mov rbx, ${WINDOW_ENTRY}
    mov rdx, ${pte(0x44, 3)}
    mov [rbx], rdx
    mov rdx, ${pte(0x45, 7)}
    mov [rbx+8], rdx
    lock btr qword [rbx+8], 2
    jmp poweroff`);
  expect(g.run()).toMatchObject({ reason: 'poweroff' });
  expect(g.big(WINDOW_ENTRY)).toBe(pte(0x44, 7) | KERNEL);
  // The guest cleared USER: now the page belongs to its kernel, and GLOBAL stays as the guest had set it.
  expect(g.big(WINDOW_ENTRY + 8)).toBe(pte(0x45, 0x107) | KERNEL);
});

describe('an entry of an upper level', () => {
  beforeEach(async () => {
    c = await CallingGuest.boot();
  });

  it('always has USER, and in the top table also ACCESSED', () => {
    expect(mmuUpdate(entryAt(L2, 100), pte(SPARE, 1))).toBe(0);
    expect(entry(L2, 100)).toBe(pte(SPARE, 5));
    expect(mmuUpdate(entryAt(L3, 100), pte(L2, 1))).toBe(0);
    expect(entry(L3, 100)).toBe(pte(L2, 5));
    expect(mmuUpdate(entryAt(L4, 100), pte(L3, 1))).toBe(0);
    expect(entry(L4, 100)).toBe(pte(L3, 0x25));
    put(SPARE + 1, 5, pte(L3, 3));
    expect(mmuext(3, mfn(SPARE + 1))).toBe(0);
    expect(entry(SPARE + 1, 5)).toBe(pte(L3, 0x27));
  });

  it('that maps a table of its own level read-only cannot be made writable', () => {
    for (const table of [L2, L3, L4]) {
      const at = entryAt(table, 300);
      expect(mmuUpdate(at, pte(table, 1))).toBe(0);
      const before = entry(table, 300);
      for (const flags of [3, 7, 0x63]) expect(mmuUpdate(at, pte(table, flags))).toBe(-EINVAL);
      expect(mmuUpdate(at + 2, pte(table, 3))).toBe(-EINVAL);
      expect(entry(table, 300)).toBe(before);
      // An entry that maps a table of the next level may change.
      expect(mmuUpdate(at, 0n)).toBe(0);
    }
    for (const flags of [5, 7, 5]) {
      expect(mmuUpdate(entryAt(L4, 100), pte(L3, flags))).toBe(0);
      expect(entry(L4, 100)).toBe(pte(L3, flags | 0x20));
    }
  });

  it('that maps another table of its level makes no chains', () => {
    for (const table of [SPARE, SPARE + 1, SPARE + 2]) {
      put(table, 0, pte(L3, 7));
      expect(mmuext(3, mfn(table))).toBe(0);
    }
    const a = entryAt(SPARE, 1);
    const b = entryAt(SPARE + 1, 1);
    expect(mmuUpdate(a, pte(SPARE + 1, 1))).toBe(0);
    // The first table maps the second: so the second may map neither a third nor the first, only itself.
    expect(mmuUpdate(b, pte(SPARE + 2, 1))).toBe(-EINVAL);
    expect(mmuUpdate(b, pte(SPARE, 1))).toBe(-EINVAL);
    expect(mmuUpdate(b, pte(SPARE + 1, 1))).toBe(0);
    // The first table maps another one: so no third table may map it.
    expect(mmuUpdate(entryAt(SPARE + 2, 1), pte(SPARE, 1))).toBe(-EINVAL);
    expect(mmuUpdate(a, 0n)).toBe(0);
    expect(mmuUpdate(b, pte(SPARE + 2, 1))).toBe(0);
    expect([...c.guest.domain.state.frames.linear]).toEqual([
      [SPARE + 1, 1],
      [SPARE + 2, -1],
    ]);
    // A table that loses its type takes the counts of its entries along.
    expect(mmuext(4, mfn(SPARE + 1))).toBe(0);
    expect(c.guest.domain.state.frames.linear.size).toBe(0);
  });
});

/** What Xen keeps in the slots of a top table, by slot; its other slots are empty. */
const reserved = (g: TinyGuest, top: number, m2p: boolean): Map<number, bigint> => {
  const { m2pTables } = g.domain.layout;
  return new Map([
    ...(m2p ? [[256, pte(m2pTables, 0x25) | NX] as const] : []),
    [258, pte(top, 0x63) | NX],
    [260, 0x1_0063n | NX],
    [261, 0x1_1063n],
    [262, 0x1_2063n],
  ]);
};
const inSlots = (g: TinyGuest, top: number): Map<number, bigint> => {
  const found = new Map<number, bigint>();
  for (let slot = 256; slot < 272; slot++) {
    const value = g.big(top * PAGE + 8 * slot);
    if (value !== 0n) found.set(slot, value);
  }
  return found;
};
const NX = 1n << 63n;
const M2P_STRICT = 32;

describe('the slots of a top table that Xen reserves', () => {
  beforeEach(async () => {
    c = await CallingGuest.boot();
    // Whatever the guest had in these slots is overwritten.
    for (let slot = 250; slot < 280; slot++) put(SPARE, slot, pte(L3, 7));
  });

  it("are filled in the guest's memory when a table becomes a top table, and the M2P's when a kernel uses it", () => {
    expect(inSlots(c.guest, L4)).toEqual(reserved(c.guest, L4, true));
    expect(mmuext(3, mfn(SPARE))).toBe(0);
    expect(inSlots(c.guest, SPARE)).toEqual(reserved(c.guest, SPARE, false));
    for (const slot of [255, 272]) expect(entry(SPARE, slot)).toBe(pte(L3, 0x27));
    put(SPARE + 1, 0, entry(L4, 0));
    expect(mmuext(3, mfn(SPARE + 1))).toBe(0);
    expect(mmuext(15, mfn(SPARE + 1))).toBe(0);
    expect(inSlots(c.guest, SPARE + 1)).toEqual(reserved(c.guest, SPARE + 1, false));
    expect(mmuext(5, mfn(SPARE + 1))).toBe(0);
    expect(inSlots(c.guest, SPARE + 1)).toEqual(reserved(c.guest, SPARE + 1, true));
    expect(mmuext(5, mfn(L4))).toBe(0);
    expect(inSlots(c.guest, SPARE + 1)).toEqual(reserved(c.guest, SPARE + 1, true));
  });

  it('show the M2P from the beginning with m2p_strict, until user mode uses the table', () => {
    expect(c.call(21, 0, M2P_STRICT)).toBe(0);
    expect(mmuext(3, mfn(SPARE))).toBe(0);
    expect(inSlots(c.guest, SPARE)).toEqual(reserved(c.guest, SPARE, true));
    expect(mmuext(15, mfn(SPARE))).toBe(0);
    expect(inSlots(c.guest, SPARE)).toEqual(reserved(c.guest, SPARE, false));
  });

  it('cannot be changed by the guest, and filling them marks the page as dirty', () => {
    expect(mmuext(3, mfn(SPARE))).toBe(0);
    for (let slot = 256; slot < 272; slot++) {
      for (const value of [0n, pte(L3, 7), entry(SPARE, slot)])
        expect(mmuUpdate(entryAt(SPARE, slot), value)).toBe(-EINVAL);
    }
    expect(inSlots(c.guest, SPARE)).toEqual(reserved(c.guest, SPARE, false));
    expect(mmuext(4, mfn(SPARE))).toBe(0);
    const { engine } = c.guest.domain;
    engine.dirty.start();
    const dirty = new Uint8Array(Math.ceil(engine.ram.frames / 8));
    engine.dirty.read(dirty);
    expect(mmuext(3, mfn(SPARE))).toBe(0);
    dirty.fill(0);
    engine.dirty.read(dirty);
    expect((dirty[SPARE >> 3] >> (SPARE & 7)) & 1).toBe(1);
  });

  it('are the same in the next container, with the assist', async () => {
    expect(c.call(21, 0, M2P_STRICT)).toBe(0);
    expect(mmuext(3, mfn(SPARE))).toBe(0);
    const there = await c.guest.moved();
    expect(inSlots(there, SPARE)).toEqual(reserved(there, SPARE, true));
    expect(there.domain.state.tables.m2pStrict).toBe(true);
  });
});

describe('a guest that was saved by a version that stored page-table entries unchanged', () => {
  /**
   * Undoes what earlier versions did not do: no USER in the kernel's entries, nothing in Xen's slots, an M2P without
   * USER.
   */
  const old = async (): Promise<TinyGuest> => {
    const g = await TinyGuest.boot(`
      mov rbx, ${BigInt.asUintN(64, M2P)}
      mov rax, [rbx + 8*0x44]
      mov [DATA], rax
      jmp poweroff`);
    const { domain } = g;
    const { layout } = domain;
    const all = (frame: number, one: (value: bigint, slot: number) => bigint): void => {
      for (let i = 0; i < 512; i++) {
        const at = frame * PAGE + 8 * i;
        if (g.big(at) & 1n) g.setU64(at, one(g.big(at), i));
      }
    };
    for (const table of domain.state.frames.tables()) {
      const isL1 = domain.state.frames.type[table] === 1;
      all(table, (value, slot) =>
        table === L4 && slot >= 256 && slot < 272 ? 0n : isL1 ? value & ~0x104n : value & ~4n,
      );
    }
    for (let table = layout.m2pTables; table < layout.total; table++)
      all(table, (value) => value & ~4n & ~NX);
    domain.pause();
    const saved = decodeAll(domain.save()).map((r) => {
      if (r.tag === framesRecord.tag) return encodeRaw(r.tag, 2, r.body);
      // Version 2 ends before m2p_strict.
      if (r.tag === domainStateRecord.tag) return encodeRaw(r.tag, 2, r.body.subarray(0, r.body.length - 1));
      return encodeRaw(r.tag, r.version, r.body);
    });
    const there = await TinyGuest.empty('again: jmp again');
    there.ram.set(g.ram);
    there.domain.restore(Uint8Array.from(saved.flatMap((bytes) => [...bytes])));
    there.domain.clock.start();
    return there;
  };

  it('finds them as Xen stores them, and goes on', async () => {
    const there = await old();
    expect(inSlots(there, L4)).toEqual(reserved(there, L4, true));
    expect(there.big(L4 * PAGE)).toBe(pte(L3, 0x27));
    expect(there.big(L3 * PAGE)).toBe(pte(L2, 7));
    expect(there.big(L2 * PAGE)).toBe(pte(L1, 7));
    expect(there.big((L1 + 3) * PAGE)).toBe(pte(0x600, 7) | KERNEL);
    expect(there.run()).toMatchObject({ state: 'shutdown', reason: 'poweroff' });
    expect(there.big(DATA)).toBe(0x44n);
  });
});

describe('linear page tables of a guest that moves', () => {
  const linear = async () => {
    c = await CallingGuest.boot();
    for (const table of [SPARE, SPARE + 1]) {
      put(table, 0, pte(L3, 7));
      expect(mmuext(3, mfn(table))).toBe(0);
    }
    expect(mmuUpdate(entryAt(SPARE, 1), pte(SPARE + 1, 1))).toBe(0);
    return c.guest;
  };

  it('are counted as before the move', async () => {
    const there = await (await linear()).moved();
    expect([...there.domain.state.frames.linear]).toEqual([
      [SPARE, 1],
      [SPARE + 1, -1],
    ]);
  });

  it('are counted anew if the state was saved by a version that did not count them', async () => {
    const guest = await linear();
    guest.domain.pause();
    const saved = decodeAll(guest.domain.save()).map((r) => {
      if (r.tag !== framesRecord.tag) return encodeRaw(r.tag, r.version, r.body);
      // Version 1 ends before the list of linear tables, which is its length and two entries.
      return encodeRaw(r.tag, 1, r.body.subarray(0, r.body.length - LINEAR_BYTES));
    });
    const there = await TinyGuest.empty('again: jmp again');
    there.ram.set(guest.ram);
    there.domain.restore(Uint8Array.from(saved.flatMap((bytes) => [...bytes])));
    expect([...there.domain.state.frames.linear].sort()).toEqual([
      [SPARE, 1],
      [SPARE + 1, -1],
    ]);
  });
});

describe('kernel and user mode', () => {
  /**
   * A top table for user mode in SPARE, with the entries of `entries` in the tables below it; user code runs at WINDOW.
   */
  const twoTables = (body: string): string => `
    lea rdi, [traps]
    xor eax, eax
    syscall
    lea rdi, [baseptr]
    mov esi, 1
    xor edx, edx
    mov r10d, ${SELF}
    mov eax, MMUEXT_OP
    syscall
    test eax, eax
    jnz failed
    mov edi, 0xe02b
    mov rsi, STACK
    mov eax, STACK_SWITCH
    syscall
    mov eax, 0xe02b
    push rax
    push 0
    push 0x246
    mov eax, 0xe033
    push rax
    mov eax, ${WINDOW}
    push rax
    push 0
    push 0
    push 0
    push 0
    mov eax, IRET
    syscall
  failed: ud2
  faulted:
    mov rbx, DATA
    mov rax, [rsp+16]
    mov [rbx], rax
    mov rax, [rsp+24]
    mov [rbx+8], rax
    mov rax, [${SHARED}+16]
    mov [rbx+16], rax
    jmp poweroff
  baseptr: dq 15, ${mfn(SPARE)}, 0
  traps:
    db 14, 4
    dw 0xe030
    dd 0
    dq faulted
    zero 16
    ${body}
  `;
  /** Page tables for user mode only: one page of code at WINDOW, whose entry the guest wrote without USER. */
  const boot = async (code: number[], topHasKernel = false): Promise<TinyGuest> => {
    const g = await TinyGuest.boot(twoTables(''));
    const set = (table: number, index: number, value: bigint): void =>
      g.setU64(table * PAGE + 8 * index, value);
    set(SPARE, 0, pte(SPARE + 1, 1));
    set(SPARE + 1, 0, pte(SPARE + 2, 1));
    set(SPARE + 2, 3, pte(SPARE + 3, 1));
    if (topHasKernel) set(SPARE + 2, 0, pte(L1, 1));
    set(SPARE + 3, 0, pte(0x44, 1));
    g.domain.state.mem.u8.set(code, g.domain.engine.ram.linearOf(0) + 0x44 * PAGE);
    expect(g.run()).toMatchObject({ reason: 'poweroff' });
    return g;
  };
  /** mov eax, [DATA]; the ud2 is never reached. */
  const LOAD_DATA = [0x8b, 0x04, 0x25, ...[0, 8, 16, 24].map((s) => (DATA >> s) & 0xff)];
  /** mov rax, [0xffff800000000000 + 8 * mfn] reads the machine-to-physical table. */
  const LOAD_M2P = [
    0x48,
    0xa1,
    ...Array.from({ length: 8 }, (_, i) => Number((M2P >> BigInt(8 * i)) & 0xffn)),
  ];

  it('are kept apart by their top tables: user mode gets a fault for what its own top table does not map', async () => {
    const g = await boot(LOAD_DATA);
    expect(g.words(DATA, 3)).toEqual([4n, BigInt(WINDOW), BigInt(DATA)]);
  });

  it('are not kept apart by USER: user mode can access whatever its top table maps', async () => {
    // The load works; the next one reads an address that is not mapped.
    const g = await boot([...LOAD_DATA, 0x8b, 0x04, 0x25, 0, 0, 0x90, 0], true);
    expect(g.words(DATA, 3)).toEqual([4n, BigInt(WINDOW + LOAD_DATA.length), 0x90_0000n]);
  });

  it("and Xen's own range belongs to the kernel alone in both", async () => {
    const g = await boot(LOAD_M2P);
    expect(g.big(DATA) & 4n).toBe(4n);
    expect(g.words(DATA + 8, 2)).toEqual([BigInt(WINDOW), BigInt.asUintN(64, M2P)]);
  });
});
