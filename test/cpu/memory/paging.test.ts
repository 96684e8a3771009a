/**
 * Compares the page walker with a model that is written from the manual: every combination of present, writable, user
 * and no-execute at every level, for pages of each size, in both guest modes and for every kind of access (SDM volume
 * 3: 4.5 tables, 4.6 rights, 4.7 error codes, 4.8 accessed and dirty bits). Two things are as in Xen: the guest's
 * kernel reaches pages with and without the user bit, and the error code's user bit is the guest's mode.
 */
import { beforeAll, describe, expect, test } from 'vitest';
import { Exit, PAGE } from '../../../src/engine/engine.js';
import type { Machine } from '../machine.js';
import { createMachine } from '../machine.js';
import {
  A,
  ALL,
  D,
  FETCH,
  fault,
  go,
  mfnBits,
  NOT_PRESENT,
  NX,
  type Outcome,
  P,
  PROTECTION,
  PS,
  RESERVED,
  RW,
  ran,
  rawFrame,
  Tables,
  US,
  USER,
  WRITE,
} from './tables.js';

/** Indices that differ at each level and are not used for code. */
const VA = 5 * 2 ** 39 + 6 * 2 ** 30 + 7 * 2 ** 21 + 8 * 2 ** 12 + 0x128;
const CODE = 0x400000;

const ACCESSES = ['read', 'write', 'execute', 'change'] as const;
type Access = (typeof ACCESSES)[number];
const SIZES = [
  { name: '4 KiB', leaf: 1, frame: 2000, offset: 0 },
  { name: '2 MiB', leaf: 2, frame: 1024, offset: 8 },
  // Its other frames do not exist.
  { name: '1 GiB', leaf: 3, frame: 0, offset: 7 * 512 + 8 },
] as const;
type Size = (typeof SIZES)[number];
const FRAMES = 4096;

let machine: Machine;
let tables: Tables;
let root: number;
let current: Size = SIZES[0];
let code: ReadonlyMap<string, number>;
/** For each size: the linear address of the entry for VA at each level, and the address field of that entry. */
const chains = new Map<Size, { at: number[]; frames: bigint[] }>();

/** Makes the root lead to the chain of tables of `size`. */
function choose(size: Size): { at: number[]; frames: bigint[] } {
  const chain = chains.get(size)!;
  current = size;
  for (let level = size.leaf; level <= 4; level++)
    machine.mem.setBig(chain.at[level], chain.frames[level] | ALL);
  return chain;
}

beforeAll(async () => {
  machine = await createMachine(FRAMES);
  tables = new Tables(machine);
  root = tables.take();
  code = tables.program(root, CODE, 'read: mov rax, [rdi]\nwrite: mov [rdi], rax\nchange: add [rdi], rax\n');
  const cpu = machine.vcpus[0];
  cpu.cr3Kernel = cpu.cr3User = machine.ram.mfnOf(root);
  cpu.setReg(7, VA);
  for (const size of SIZES) {
    const chain = { at: [] as number[], frames: [] as bigint[] };
    let table = root;
    for (let level = 4; level >= size.leaf; level--) {
      chain.at[level] = tables.slot(table, VA, level);
      if (level > size.leaf) table = tables.take();
      chain.frames[level] = level > size.leaf ? mfnBits(table) : mfnBits(size.frame) | (level > 1 ? PS : 0n);
    }
    chains.set(size, chain);
    const target = tables.linear(size.frame + size.offset);
    machine.mem.u8.fill(0x90, target, target + PAGE);
  }
});

/**
 * What can be wrong with an entry at a level: a bit that must be zero is set, or it names a frame that does not exist.
 */
type Fault = 'reserved bit' | 'no frame' | undefined;

/** What the manual says: the error code of a refused access, or undefined if it is allowed. */
function refusal(bits: readonly bigint[], leaf: number, access: Access, user: boolean, wrong: Fault[]) {
  const base =
    (user ? USER : 0) |
    (access === 'write' || access === 'change' ? WRITE : 0) |
    (access === 'execute' ? FETCH : 0);
  for (let level = 4; level >= leaf; level--) {
    if ((bits[level] & P) === 0n) return base | NOT_PRESENT;
    if (wrong[level] === 'reserved bit') return base | PROTECTION | RESERVED;
    // Our choice: for a frame that does not exist, the guest learns only what its rights allow.
    const open = bits.slice(level).every((b) => (b & US) !== 0n);
    if (wrong[level] === 'no frame') return base | PROTECTION | (open ? RESERVED : 0);
  }
  const used = bits.slice(leaf);
  const every = (bit: bigint): boolean => used.every((b) => (b & bit) !== 0n);
  if (!every(US)) return base | PROTECTION;
  if ((base & WRITE) !== 0 && !every(RW)) return base | PROTECTION;
  if (access === 'execute' && used.some((b) => (b & NX) !== 0n)) return base | PROTECTION;
  return undefined;
}

function attempt(access: Access, user: boolean): Outcome {
  const cpu = machine.vcpus[0];
  cpu.userMode = user;
  machine.tables.forget();
  // The stores have overwritten the instructions to execute.
  const target = tables.linear(current.frame + current.offset) + (VA % PAGE);
  machine.touch(target);
  machine.mem.setBig(target, 0x9090_9090_9090_9090n);
  return go(machine, cpu, 1, access === 'execute' ? VA : code.get(access)!);
}

const expected = (code: number | undefined): Outcome => (code === undefined ? ran : fault(code, VA));
const FOUR = Array.from({ length: 16 }, (_, i) =>
  [P, RW, US, NX].reduce((bits, bit, k) => (((i >> k) & 1) === 1 ? bits | bit : bits), 0n),
);
const name = (bits: readonly bigint[]): string => bits.map((b, l) => `L${l} ${b.toString(16)}`).join(', ');
const NONE: Fault[] = [];

describe.each(SIZES)('a page of $name', (size) => {
  const levels = Array.from({ length: 5 - size.leaf }, (_, i) => size.leaf + i);

  test('is reached by an instruction as the bits of each level allow, else the fault has the right error code', () => {
    const chain = choose(size);
    const wrong: string[] = [];
    for (const changed of levels) {
      for (const odd of FOUR) {
        const bits = [0n, 0n, 0n, 0n, 0n].map((_, l) => (l === changed ? odd : ALL));
        for (const level of levels) machine.mem.setBig(chain.at[level], chain.frames[level] | bits[level]);
        for (const user of [false, true]) {
          for (const access of ACCESSES) {
            const want = expected(refusal(bits, size.leaf, access, user, NONE));
            const got = attempt(access, user);
            if (JSON.stringify(got) !== JSON.stringify(want))
              wrong.push(`${name(bits)} ${access} ${user ? 'user' : 'kernel'}: ${JSON.stringify(got)}`);
          }
        }
      }
    }
    expect(wrong).toEqual([]);
  });

  test('is walked to as all bits of all levels together allow', () => {
    const chain = choose(size);
    const cpu = machine.vcpus[0];
    const wrong: string[] = [];
    let allowed = 0;
    const all = (done: bigint[], level: number): void => {
      if (level > 4) {
        for (const user of [false, true]) {
          for (const [intent, access] of [
            [0, 'read'],
            [1, 'write'],
            [2, 'execute'],
          ] as const) {
            const want = refusal(done, size.leaf, access, user, NONE);
            const linear = machine.translate(0, VA, intent | (user ? 4 : 8));
            const right =
              want === undefined
                ? linear === tables.linear(size.frame + size.offset) + (VA % PAGE)
                : linear === -1 && cpu.faultCode === want && cpu.faultAddress === VA;
            if (want === undefined) allowed++;
            if (!right) wrong.push(`${name(done)} ${access} ${user ? 'user' : 'kernel'}`);
          }
        }
        return;
      }
      for (const bits of FOUR) {
        done[level] = bits;
        machine.mem.setBig(chain.at[level], chain.frames[level] | bits);
        all(done, level + 1);
      }
    };
    all([0n, 0n, 0n, 0n, 0n], size.leaf);
    expect(wrong).toEqual([]);
    // Both modes: reads with P and US at every level, half of the writes, and half of all executions.
    const n = levels.length;
    expect(allowed).toBe(2 * (4 ** n + 2 ** n + 2 ** n));
  });

  test('marks the walked tables accessed, and a written page dirty, only if the access is allowed', () => {
    const chain = choose(size);
    const wrong: string[] = [];
    const marks = [0n, A, D, A | D];
    for (let before = 0; before < 4 ** levels.length; before++) {
      const bits = levels.map((_, i) => marks[(before >> (2 * i)) & 3]);
      for (const access of ACCESSES) {
        for (const refused of [false, true]) {
          const rights = refused ? P | RW : ALL;
          levels.forEach((level, i) => {
            machine.mem.setBig(chain.at[level], chain.frames[level] | rights | bits[i]);
          });
          const outcome = attempt(access, true);
          const writes = access === 'write' || access === 'change';
          const right =
            (outcome.exit === Exit.exception) === refused &&
            levels.every((level, i) => {
              const dirty = writes && level === size.leaf ? D : 0n;
              const want = chain.frames[level] | rights | bits[i] | (refused ? 0n : A | dirty);
              return machine.mem.getBig(chain.at[level]) === want;
            });
          if (!right) wrong.push(`${before} ${access} ${refused}`);
        }
      }
    }
    expect(wrong).toEqual([]);
  });

  test('with a reserved bit at any level faults with RSVD in the error code, even where rights are missing too', () => {
    const chain = choose(size);
    const wrong: string[] = [];
    // A frame that does not exist stands for a bit above the processor's physical address width.
    const odd = (level: number): [bigint, Fault][] => [
      ...[
        rawFrame(BigInt(machine.ram.map.firstMfn) - 512n ** 2n),
        rawFrame(BigInt(machine.ram.map.firstMfn) + 512n ** 2n),
        rawFrame(-(512n ** 2n)),
      ].map((frame): [bigint, Fault] => [frame | (level === size.leaf && level > 1 ? PS : 0n), 'no frame']),
      ...(level === 4 ? [[chain.frames[4] | PS, 'reserved bit'] as [bigint, Fault]] : []),
      ...(level === size.leaf && level > 1
        ? Array.from({ length: 9 * (level - 1) - 1 }, (_, i): [bigint, Fault] => [
            chain.frames[level] | (1n << BigInt(13 + i)),
            'reserved bit',
          ])
        : []),
    ];
    for (const broken of levels) {
      for (const [entry, kind] of odd(broken)) {
        for (const rights of [ALL, P, P | NX, RW | US]) {
          for (const level of levels) machine.mem.setBig(chain.at[level], chain.frames[level] | ALL);
          machine.mem.setBig(chain.at[broken], entry | rights);
          const bits = [0n, 0n, 0n, 0n, 0n].map((_, l) => (l === broken ? rights : ALL));
          const reserved = bits.map((_, l) => (l === broken ? kind : undefined));
          for (const user of [false, true]) {
            for (const access of ACCESSES) {
              const want = expected(refusal(bits, size.leaf, access, user, reserved));
              const got = attempt(access, user);
              if (JSON.stringify(got) !== JSON.stringify(want))
                wrong.push(`L${broken} ${entry.toString(16)} ${access} ${user}: ${JSON.stringify(got)}`);
            }
          }
        }
      }
    }
    expect(wrong).toEqual([]);
  });
});

test('ignores the bits that software may use', () => {
  for (const size of SIZES) {
    const chain = choose(size);
    // They are 9 to 11, 52 to 62, those for caching (PWT, PCD), and G and PAT where the entry maps a page.
    const free = 0x7ff0_0000_0000_0e18n;
    for (let level: number = size.leaf; level <= 4; level++) {
      const global = level === size.leaf ? 0x100n | (level === 1 ? 0x80n : 0x1000n) : 0n;
      machine.mem.setBig(chain.at[level], chain.frames[level] | ALL | free | global);
    }
    for (const access of ACCESSES) expect(attempt(access, true)).toEqual(ran);
  }
});

test('an address that is not canonical is a general protection fault, on the stack a stack fault', () => {
  const cpu = machine.vcpus[0];
  choose(SIZES[0]);
  cpu.userMode = true;
  const va = 0x8000_0000_0000;
  cpu.setReg(7, va);
  expect(go(machine, cpu, 1, code.get('read'))).toMatchObject({ vector: 13, error: 0 });
  expect(go(machine, cpu, 1, code.get('write'))).toMatchObject({ vector: 13, error: 0 });
  expect(go(machine, cpu, 1, va)).toMatchObject({ vector: 13, error: 0 });
  cpu.setReg(7, -va - 1);
  expect(go(machine, cpu, 1, code.get('change'))).toMatchObject({ vector: 13, error: 0 });
  const stack = tables.program(root, CODE + PAGE, 'push: push rax\nrbp: mov rax, [rbp]');
  cpu.setReg(4, va + 8);
  cpu.setReg(5, va);
  expect(go(machine, cpu, 1, stack.get('push'))).toMatchObject({ vector: 12, error: 0 });
  expect(go(machine, cpu, 1, stack.get('rbp'))).toMatchObject({ vector: 12, error: 0 });
  cpu.setReg(7, VA);
});

test('a root that is no valid frame faults as a reserved bit does', () => {
  const cpu = machine.vcpus[0];
  cpu.userMode = true;
  cpu.cr3User = machine.ram.map.endMfn;
  machine.tables.forget();
  expect(go(machine, cpu, 1, CODE)).toEqual(fault(FETCH | USER | RESERVED | PROTECTION, CODE));
  cpu.cr3User = machine.ram.mfnOf(root);
});

describe('the slots of a top table that Xen reserves', () => {
  const XEN = -(2 ** 47);
  const SLOT = 2 ** 39;
  let entry: number;
  let userRoot: number;

  beforeAll(() => {
    const [l3, l2, l1] = [tables.take(), tables.take(), tables.take()];
    const table = (at: number, frame: number, bits: bigint): void =>
      machine.mem.setBig(at, mfnBits(frame) | bits);
    table(tables.linear(l3), l2, P | US | A);
    table(tables.linear(l2), l1, P | US | A);
    entry = tables.linear(l1);
    table(entry, 2000, P | US | A | NX);
    userRoot = tables.take();
    for (let slot = 0; slot < 256; slot++)
      machine.mem.setBig(
        tables.linear(userRoot) + 8 * slot,
        machine.mem.getBig(tables.linear(root) + 8 * slot),
      );
    table(tables.linear(root) + 8 * 256, l3, P | US | A | NX);
    for (const top of [root, userRoot]) {
      table(tables.linear(top) + 8 * 258, top, P | RW | A | D | NX);
      // A frame that only an engine uses, or one that does not exist.
      machine.mem.setBig(tables.linear(top) + 8 * 261, rawFrame(0x11n) | P | RW | A | D);
    }
    machine.vcpus[0].setReg(7, XEN);
  });

  test("are what the kernel's top table has in them: one is readable, nothing else is accessible", () => {
    const cpu = machine.vcpus[0];
    cpu.userMode = false;
    machine.tables.forget();
    machine.mem.setBig(tables.linear(2000), 0x1234_5678n);
    expect(go(machine, cpu, 1, code.get('read'))).toEqual(ran);
    expect(cpu.reg(0)).toBe(0x1234_5678);
    expect(go(machine, cpu, 1, code.get('write'))).toEqual(fault(WRITE | PROTECTION, XEN));
    expect(go(machine, cpu, 1, code.get('change'))).toEqual(fault(WRITE | PROTECTION, XEN));
    expect(go(machine, cpu, 1, XEN)).toEqual(fault(FETCH | PROTECTION, XEN));
    expect(machine.mem.getBig(entry) & D).toBe(0n);
    cpu.setReg(7, XEN + 16 * SLOT - 8);
    expect(go(machine, cpu, 1, code.get('read'))).toEqual(fault(NOT_PRESENT, XEN + 16 * SLOT - 8));
    cpu.setReg(7, XEN);
  });

  test("are not accessible to the guest's user mode", () => {
    const cpu = machine.vcpus[0];
    cpu.userMode = true;
    cpu.cr3User = machine.ram.mfnOf(userRoot);
    machine.tables.forget();
    expect(go(machine, cpu, 1, code.get('read'))).toEqual(fault(USER | NOT_PRESENT, XEN));
    expect(go(machine, cpu, 1, code.get('write'))).toEqual(fault(USER | WRITE | NOT_PRESENT, XEN));
    expect(go(machine, cpu, 1, XEN)).toEqual(fault(USER | FETCH | NOT_PRESENT, XEN));
    cpu.cr3User = machine.ram.mfnOf(root);
    machine.tables.forget();
  });

  test('without USER are accessible to neither mode, wherever they lead', () => {
    const cpu = machine.vcpus[0];
    // The top table itself, as a page: through slot 258 at all four levels.
    const self = XEN + 2 * SLOT + (258 * 2 ** 18 + 258 * 2 ** 9 + 258) * PAGE;
    for (const va of [self, XEN + 5 * SLOT + 0x1234]) {
      for (const user of [false, true]) {
        cpu.userMode = user;
        cpu.setReg(7, va);
        const error = PROTECTION | (user ? USER : 0);
        expect(go(machine, cpu, 1, code.get('read'))).toEqual(fault(error, va));
        expect(go(machine, cpu, 1, code.get('write'))).toEqual(fault(error | WRITE, va));
        expect(go(machine, cpu, 1, va)).toEqual(fault(error | FETCH, va));
      }
    }
    cpu.setReg(7, XEN);
  });

  test("end where the guest's own slots begin", () => {
    const cpu = machine.vcpus[0];
    cpu.userMode = true;
    const own = XEN + 16 * 2 ** 39;
    const linear = tables.mapNew(root, own);
    machine.mem.setBig(linear, 77n);
    cpu.setReg(7, own);
    expect(go(machine, cpu, 1, code.get('read'))).toEqual(ran);
    expect(cpu.reg(0)).toBe(77);
  });
});
