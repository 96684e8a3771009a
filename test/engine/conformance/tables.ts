import { describe, expect, it } from 'vitest';
import { ALL_VCPUS, type CpuEngine, type CreateEngine, Exit, PAGE } from '../../../src/engine/engine.js';
import {
  ACCESSED,
  CODE,
  DIRTY,
  DONE,
  FRAMES,
  NX,
  OWN,
  P,
  PF_PRESENT,
  PF_WRITE,
  PLACE,
  READ_ONLY,
  READ_WRITE,
  Rig,
  RW,
  US,
} from './rig.js';

const [RAX, RDI] = [0, 7];
const LOAD_STORE = 'load: mov rax, [rdi]\nend: syscall\nnop\nstore: mov [rdi], rax\ndone: syscall';
const STORED = { exit: Exit.syscall, at: 'done+2' };
/** The first of Xen's slots. */
const XEN = -(2 ** 47);
const SLOT = 2 ** 39;

/** The ways in which the hypervisor makes changed entries visible to vCPU 0. */
const FLUSHES: readonly (readonly [string, (engine: CpuEngine) => void])[] = [
  ['a flush', (engine) => engine.tables.flush(1)],
  ['a flush on all vCPUs', (engine) => engine.tables.flush(ALL_VCPUS)],
  ['a flush of the page', (engine) => engine.tables.flush(1, PLACE)],
  [
    'a flush of the page by another byte of it, on all vCPUs',
    (engine) => engine.tables.flush(ALL_VCPUS, PLACE + 4095),
  ],
  ['its top table is loaded anew', (engine) => engine.tables.loadRoot(0, false, engine.vcpus[0].cr3Kernel)],
];

const begin = (rig: Rig, label: string, va: number, vcpu = 0): void => {
  const cpu = rig.engine.vcpus[vcpu];
  cpu.rip = rig.at(label);
  cpu.setReg(RDI, va);
};
/** Returns what a vCPU reads at `va`. */
const seen = (rig: Rig, va: number, vcpu = 0): number => {
  begin(rig, 'load', va, vcpu);
  expect(rig.run(vcpu)).toEqual(DONE);
  return rig.engine.vcpus[vcpu].reg(RAX);
};
const store = (rig: Rig, va: number) => {
  begin(rig, 'store', va);
  return rig.run();
};
const load = (rig: Rig, va: number) => {
  begin(rig, 'load', va);
  return rig.run();
};
const pageFault = (error: number, cr2: number) => ({ exit: Exit.exception, vector: 14, error, cr2 });

/** A machine with two frames that begin with 1 and 2; the first is mapped at PLACE. */
async function two(create: CreateEngine, vcpus = 1) {
  const rig = await Rig.open(create, { vcpus });
  rig.program(LOAD_STORE);
  const [one, other] = [rig.mapNew(PLACE), rig.take()];
  rig.mem.setBig(rig.linearOf(one), 1n);
  rig.mem.setBig(rig.linearOf(other), 2n);
  return { rig, one, other };
}

export function tables(create: CreateEngine): void {
  describe('an entry that setEntry() changes', () => {
    it('is in memory as it was given, and marks its table as written', async () => {
      const rig = await Rig.open(create);
      const table = rig.takeTable(1);
      rig.engine.dirty.start();
      rig.engine.tables.setEntry(table, 511, 1, 0x8765_4020, 0xfff0_0001);
      rig.engine.tables.setEntry(table, 0, 1, 0xe, 0);
      expect(rig.mem.getBig(rig.linearOf(table) + 8 * 511)).toBe(0xfff0_0001_8765_4020n);
      expect(rig.mem.getBig(rig.linearOf(table))).toBe(0xen);
      const log = new Uint8Array(FRAMES / 8);
      expect(rig.engine.dirty.read(log, table, 1)).toBe(1);
    });

    it.each(FLUSHES)('is seen after %s', async (_, flush) => {
      const { rig, one, other } = await two(create);
      expect(seen(rig, PLACE)).toBe(1);
      expect(store(rig, PLACE)).toEqual(STORED);
      rig.map(PLACE, other, READ_WRITE);
      flush(rig.engine);
      expect(seen(rig, PLACE)).toBe(2);
      rig.map(PLACE, other, READ_ONLY);
      flush(rig.engine);
      expect(store(rig, PLACE)).toMatchObject(pageFault(PF_WRITE | PF_PRESENT, PLACE));
      rig.map(PLACE, other, 0n);
      flush(rig.engine);
      expect(load(rig, PLACE)).toMatchObject(pageFault(0, PLACE));
      // Faults are not cached.
      rig.map(PLACE, one, READ_WRITE);
      expect(seen(rig, PLACE)).toBe(1);
    });

    it.each([2, 3, 4])(
      'at level %i is seen after a flush, and after its top table is loaded',
      async (level) => {
        for (const flush of [FLUSHES[0][1], FLUSHES[4][1]]) {
          const { rig, other } = await two(create);
          expect(seen(rig, PLACE)).toBe(1);
          // A second set of the same tables with other code and data at the end; then back to the first.
          const roots = [rig.kernelRoot, rig.takeTable(4)];
          rig.map(
            CODE,
            rig.engine.ram.frameOf(Number(rig.mem.getBig(rig.entry(rig.kernelRoot, CODE)) >> 12n)),
            P | US,
            roots[1],
          );
          rig.map(PLACE, other, READ_WRITE, roots[1]);
          const at = rig.entry(rig.kernelRoot, PLACE, level);
          const before = rig.mem.getBig(at);
          const after = rig.mem.getBig(rig.entry(roots[1], PLACE, level));
          for (const [value, want] of [
            [after, 2],
            [before, 1],
          ] as const) {
            rig.set(at, value, level);
            flush(rig.engine);
            expect(seen(rig, PLACE)).toBe(want);
          }
        }
      },
    );

    it('is seen by the vCPUs that are named, in both modes', async () => {
      const { rig, other } = await two(create, 2);
      const { engine } = rig;
      const all = (): number[] =>
        [false, true].flatMap((userMode) =>
          engine.vcpus.map((cpu) => {
            cpu.userMode = userMode;
            return seen(rig, PLACE, cpu.id);
          }),
        );
      expect(all()).toEqual([1, 1, 1, 1]);
      rig.map(PLACE, other, READ_WRITE);
      engine.tables.flush(2);
      expect([all()[1], all()[3]]).toEqual([2, 2]);
      engine.tables.flush(1, PLACE);
      expect(all()).toEqual([2, 2, 2, 2]);
    });

    it('takes the right to write away without a flush once the frame is a page table', async () => {
      const { rig, one } = await two(create);
      expect(store(rig, PLACE)).toEqual(STORED);
      rig.map(PLACE, one, READ_ONLY);
      rig.engine.ram.bytes(one, 1).fill(0);
      rig.engine.touch(rig.linearOf(one));
      rig.engine.tables.typed(one, 1);
      expect(store(rig, PLACE)).toMatchObject(pageFault(PF_WRITE | PF_PRESENT, PLACE));
      rig.engine.tables.untyped(one);
      rig.map(PLACE, one, READ_WRITE);
      expect(store(rig, PLACE)).toEqual(STORED);
    });
  });

  it('another top table is used when it is loaded, separately for each mode', async () => {
    const rig = await Rig.open(create);
    rig.program(LOAD_STORE);
    const [kernels, users] = [rig.mapNew(OWN), rig.mapNew(OWN, READ_WRITE, rig.userRoot)];
    rig.mem.setBig(rig.linearOf(kernels), 1n);
    rig.mem.setBig(rig.linearOf(users), 2n);
    const { cpu, engine } = rig;
    const by = (userMode: boolean): number => {
      cpu.userMode = userMode;
      return seen(rig, OWN);
    };
    expect([by(false), by(true)]).toEqual([1, 2]);
    const [kernelMfn, userMfn] = [cpu.cr3Kernel, cpu.cr3User];
    engine.tables.loadRoot(0, false, userMfn);
    expect([by(false), by(true), cpu.cr3Kernel]).toEqual([2, 2, userMfn]);
    engine.tables.loadRoot(0, true, kernelMfn);
    expect([by(false), by(true), cpu.cr3User]).toEqual([2, 1, kernelMfn]);
  });

  describe('accessed and dirty bits', () => {
    it('are set at all levels by the time that the guest has used the page, and again after they were cleared', async () => {
      const { rig, one } = await two(create);
      const leaf = rig.entry(rig.kernelRoot, PLACE);
      const upper = [2, 3, 4].map((level) => rig.entry(rig.kernelRoot, PLACE, level));
      const code = rig.entry(rig.kernelRoot, CODE);
      const clear = (): void => {
        rig.set(leaf, rig.mfnBits(one) | READ_WRITE);
        rig.set(code, rig.mem.getBig(code) & ~(ACCESSED | DIRTY));
        for (const [i, at] of upper.entries()) rig.set(at, rig.mem.getBig(at) & ~ACCESSED, i + 2);
        rig.engine.tables.flush(ALL_VCPUS);
      };
      for (let turn = 0; turn < 2; turn++) {
        clear();
        expect(seen(rig, PLACE)).toBe(1);
        for (const at of [leaf, code, ...upper]) expect(rig.mem.getBig(at) & ACCESSED).toBe(ACCESSED);
        clear();
        expect(store(rig, PLACE)).toEqual(STORED);
        for (const at of [leaf, ...upper]) expect(rig.mem.getBig(at) & ACCESSED).toBe(ACCESSED);
        expect(rig.mem.getBig(leaf) & DIRTY).toBe(DIRTY);
      }
    });

    it('add the table to the dirty log together with the page', async () => {
      const { rig, one } = await two(create);
      rig.engine.dirty.start();
      rig.set(rig.entry(rig.kernelRoot, PLACE), rig.mfnBits(one) | READ_WRITE);
      rig.engine.dirty.read(new Uint8Array(FRAMES / 8));
      rig.engine.tables.flush(1);
      expect(store(rig, PLACE)).toEqual(STORED);
      const log = new Uint8Array(FRAMES / 8);
      rig.engine.dirty.read(log);
      const table = rig.engine.ram.frameAt(rig.entry(rig.kernelRoot, PLACE));
      for (const frame of [one, table]) expect((log[frame >> 3] >> (frame & 7)) & 1).toBe(1);
    });
  });

  describe("Xen's slots of a top table", () => {
    /**
     * Xen's slots as the hypervisor fills them: one readable by the guest, one not, one that names no frame, the rest
     * empty.
     */
    const withSlots = async () => {
      const rig = await Rig.open(create);
      rig.program(LOAD_STORE);
      const frame = rig.take();
      rig.mem.setBig(rig.linearOf(frame) + 8, 0x4444n);
      rig.entry(rig.kernelRoot, XEN);
      rig.map(XEN, frame, P | US | ACCESSED | NX);
      const top = rig.linearOf(rig.kernelRoot);
      const l4 = (slot: number): number => top + 8 * slot;
      rig.set(l4(256), (rig.mem.getBig(l4(256)) & ~RW) | NX, 4);
      rig.set(l4(258), rig.mfnBits(rig.kernelRoot) | P | RW | ACCESSED | DIRTY | NX, 4);
      rig.set(l4(261), 0x1_1000n | P | RW | ACCESSED | DIRTY, 4);
      rig.engine.tables.flush(ALL_VCPUS);
      return { rig, slots: (): Uint8Array => rig.mem.bytes(l4(256), 128).slice() };
    };

    it('give the guest read-only access to what their entries map', async () => {
      const { rig } = await withSlots();
      expect(seen(rig, XEN + 8)).toBe(0x4444);
      expect(store(rig, XEN + 8)).toMatchObject(pageFault(PF_WRITE | PF_PRESENT, XEN + 8));
      rig.cpu.userMode = true;
      expect(load(rig, XEN + 8)).toMatchObject({ exit: Exit.exception, vector: 14, cr2: XEN + 8 });
    });

    it('give neither mode access without the user bit, and reveal nothing else', async () => {
      const { rig } = await withSlots();
      rig.engine.tables.loadRoot(0, true, rig.cpu.cr3Kernel);
      // The top table itself as a page, through itself at all four levels; Xen's code; and empty slots.
      const self = XEN + 2 * SLOT + (258 * 2 ** 18 + 258 * 2 ** 9 + 258) * PAGE;
      for (const va of [self, XEN + 5 * SLOT + 0x1234, XEN + SLOT, XEN + 16 * SLOT - 8]) {
        for (const userMode of [false, true]) {
          for (const [access, bits] of [
            [load, 0],
            [store, PF_WRITE],
          ] as const) {
            rig.cpu.userMode = userMode;
            const end = access(rig, va);
            expect(end).toMatchObject({ exit: Exit.exception, vector: 14, cr2: va });
            // Whether the fault reports a present page is left to the engine.
            expect([bits, bits | PF_PRESENT]).toContain(end.error);
          }
        }
      }
    });

    it('contain only what was put there, whatever the guest does', async () => {
      const { rig, slots } = await withSlots();
      const before = slots();
      seen(rig, XEN + 8);
      for (let slot = 0; slot < 16; slot++) load(rig, XEN + slot * SLOT);
      rig.engine.tables.loadRoot(0, false, rig.cpu.cr3Kernel);
      expect(slots()).toEqual(before);
    });
  });
}
