import { describe, expect, it } from 'vitest';
import { type CpuEngine, type CreateEngine, Exit, Intent } from '../../../src/engine/engine.js';
import {
  ACCESSED,
  DIRTY,
  DONE,
  EXECUTE,
  FRAMES,
  OWN,
  PF_FETCH,
  PF_PRESENT,
  PF_WRITE,
  PLACE,
  READ_ONLY,
  READ_WRITE,
  Rig,
} from './rig.js';

const PF_USER = 4;
const [RAX, RDI] = [0, 7];

/** How the hypervisor says that the entry for PLACE, which named `frame`, is another one. */
const FLUSHES: readonly (readonly [string, (engine: CpuEngine, frame: number) => void])[] = [
  ['flushTlb', (engine) => engine.flushTlb(0)],
  ['flushTlbAll', (engine) => engine.flushTlbAll()],
  ['invlpg', (engine) => engine.invlpg(0, PLACE)],
  ['invlpgAll', (engine) => engine.invlpgAll(PLACE)],
  [
    'tableChanged and flushStale',
    (engine, frame) => {
      engine.tableChanged(frame);
      engine.flushStale(0);
    },
  ],
  [
    'tableChanged and flushStaleAll',
    (engine, frame) => {
      engine.tableChanged(frame);
      engine.flushStaleAll();
    },
  ],
  [
    'tableChanged and loadRoot',
    (engine, frame) => {
      engine.tableChanged(frame);
      engine.loadRoot(0, false, engine.vcpus[0].cr3Kernel);
    },
  ],
];

/** The frames in a bit map of the dirty log. */
const framesOf = (bits: Uint8Array): number[] =>
  Array.from({ length: FRAMES }, (_, i) => i).filter((i) => (bits[i >> 3] >> (i & 7)) & 1);

export function memory(create: CreateEngine): void {
  describe('translate', () => {
    it('leads to the frames that the tables name, by intent and mode', async () => {
      const rig = await Rig.open(create);
      rig.program('end: syscall');
      const [both, fixed] = [rig.mapNew(PLACE), rig.mapNew(PLACE + 4096, READ_ONLY)];
      const [kernels, users] = [rig.mapNew(OWN), rig.mapNew(OWN, READ_WRITE, rig.userRoot)];
      const { engine, cpu } = rig;
      const linear = (va: number, intent: number): number => engine.translate(0, va, intent);
      for (cpu.userMode of [false, true]) {
        for (const mode of [0, Intent.asUser, Intent.asKernel]) {
          expect(linear(PLACE + 5, Intent.read | mode)).toBe(rig.linearOf(both) + 5);
          expect(linear(PLACE + 4095, Intent.write | mode)).toBe(rig.linearOf(both) + 4095);
          expect(linear(PLACE + 4096, Intent.read | mode)).toBe(rig.linearOf(fixed));
          expect(linear(rig.at('end'), Intent.execute | mode)).toBeGreaterThan(0);
        }
        expect(linear(OWN, Intent.read)).toBe(rig.linearOf(cpu.userMode ? users : kernels));
        expect(linear(OWN, Intent.read | Intent.asUser)).toBe(rig.linearOf(users));
        expect(linear(OWN, Intent.read | Intent.asKernel)).toBe(rig.linearOf(kernels));
      }
    });

    it('fails as the access would, and says why', async () => {
      const rig = await Rig.open(create);
      rig.program('end: syscall');
      rig.mapNew(PLACE, READ_ONLY);
      const { engine, cpu } = rig;
      const why = (va: number, intent: number) => {
        expect(engine.translate(0, va, intent)).toBe(-1);
        return [cpu.faultCode & ~PF_USER, cpu.faultAddress];
      };
      expect(why(PLACE + 8, Intent.write)).toEqual([PF_WRITE | PF_PRESENT, PLACE + 8]);
      expect(why(PLACE + 8, Intent.execute)).toEqual([PF_FETCH | PF_PRESENT, PLACE + 8]);
      expect(why(PLACE + 0x20008, Intent.read)).toEqual([0, PLACE + 0x20008]);
      expect(why(OWN + 3, Intent.read)).toEqual([0, OWN + 3]);
    });

    it('of a write marks what a write of the guest does', async () => {
      const rig = await Rig.open(create);
      rig.program('end: syscall');
      const frame = rig.mapNew(PLACE);
      const { engine } = rig;
      const log = new Uint8Array(FRAMES / 8);
      engine.startDirtyLog();
      engine.translate(0, PLACE, Intent.write);
      expect(rig.mem.getBig(rig.entry(rig.kernelRoot, PLACE)) & (ACCESSED | DIRTY)).toBe(ACCESSED | DIRTY);
      engine.readDirty(log);
      expect(framesOf(log)).toContain(frame);
    });
  });

  describe('accessed and dirty bits', () => {
    it('are set by the time that the guest has accessed or written the page', async () => {
      const rig = await Rig.open(create);
      rig.program('mov rax, [rdi]\nmov [rsi], rax\nend: syscall');
      const [read, written] = [
        rig.map(PLACE, rig.take(), READ_WRITE),
        rig.map(PLACE + 4096, rig.take(), READ_WRITE),
      ];
      rig.cpu.setReg(RDI, PLACE);
      rig.cpu.setReg(6, PLACE + 4096);
      expect(rig.run()).toEqual(DONE);
      expect(rig.mem.getBig(read) & ACCESSED).toBe(ACCESSED);
      expect(rig.mem.getBig(written) & (ACCESSED | DIRTY)).toBe(ACCESSED | DIRTY);
      expect(rig.mem.getBig(rig.entry(rig.kernelRoot, rig.at('end'))) & ACCESSED).toBe(ACCESSED);
      // Taken back, they are set again.
      for (const at of [read, written]) rig.mem.setBig(at, rig.mem.getBig(at) & ~(ACCESSED | DIRTY));
      rig.engine.flushTlbAll();
      rig.cpu.rip = rig.at('end') - 6;
      expect(rig.run()).toEqual(DONE);
      expect([rig.mem.getBig(read) & ACCESSED, rig.mem.getBig(written) & DIRTY]).toEqual([ACCESSED, DIRTY]);
    });
  });

  describe('the dirty log', () => {
    const SOURCE = 'mov [rdi], rax\nmov [rdi+4096], rax\nend: syscall';

    it('has every frame that was written, by whomever, and forgets what was read', async () => {
      const rig = await Rig.open(create);
      rig.program(SOURCE);
      const [first, second, byHost, untouched] = [
        rig.mapNew(PLACE),
        rig.mapNew(PLACE + 4096),
        rig.take(),
        rig.take(),
      ];
      const { engine, cpu } = rig;
      const read = (): number[] => {
        const log = new Uint8Array(FRAMES / 8);
        const count = engine.readDirty(log);
        const frames = framesOf(log);
        expect(count).toBe(frames.length);
        return frames;
      };
      const write = (): void => {
        cpu.rip = rig.at('end') - 10;
        cpu.setReg(RDI, PLACE);
        expect(rig.run()).toEqual(DONE);
      };
      write();
      engine.startDirtyLog();
      expect(read()).toEqual([]);
      write();
      engine.touch(rig.linearOf(byHost) + 100);
      const written = read();
      expect(written).toEqual(expect.arrayContaining([first, second, byHost]));
      expect(written).not.toContain(untouched);
      expect(read()).toEqual([]);
      // A page that was written before is noted anew.
      write();
      expect(read()).toEqual(expect.arrayContaining([first, second]));
      engine.stopDirtyLog();
      write();
      engine.startDirtyLog();
      expect(read()).toEqual([]);
      engine.stopDirtyLog();
      expect(() => read()).toThrow('dirty log is not running');
    });

    it('is read by ranges, into bits that are there already', async () => {
      const rig = await Rig.open(create);
      rig.program(SOURCE);
      const frames = Array.from({ length: 12 }, () => rig.take());
      const { engine } = rig;
      engine.startDirtyLog();
      for (const frame of frames) engine.touch(rig.linearOf(frame));
      const log = new Uint8Array(FRAMES / 8);
      log[0] = 1;
      expect(engine.readDirty(log, frames[3], 5)).toBe(5);
      expect(framesOf(log)).toEqual([0, ...frames.slice(3, 8)]);
      expect(engine.readDirty(log)).toBe(7);
      expect(framesOf(log)).toEqual([0, ...frames]);
      expect(() => engine.readDirty(log, FRAMES - 1, 2)).toThrow(RangeError);
    });
  });

  describe('a changed entry', () => {
    it.each(FLUSHES)('is seen after %s', async (_, flush) => {
      const rig = await Rig.open(create);
      rig.program('mov rax, [rdi]\nmov [rdi], rax\nend: syscall');
      const [one, two] = [rig.mapNew(PLACE), rig.take()];
      rig.mem.setBig(rig.linearOf(one), 1n);
      rig.mem.setBig(rig.linearOf(two), 2n);
      const { cpu, engine } = rig;
      const seen = (): number => {
        cpu.rip = rig.at('end') - 6;
        cpu.setReg(RDI, PLACE);
        expect(rig.run()).toEqual(DONE);
        return cpu.reg(RAX);
      };
      expect(seen()).toBe(1);
      rig.map(PLACE, two, READ_WRITE);
      flush(engine, one);
      expect(seen()).toBe(2);
      rig.map(PLACE, two, READ_ONLY);
      flush(engine, two);
      cpu.rip = rig.at('end') - 3;
      expect(rig.run()).toMatchObject({
        exit: Exit.exception,
        vector: 14,
        error: PF_WRITE | PF_PRESENT,
        cr2: PLACE,
      });
      rig.map(PLACE, two, 0n);
      flush(engine, two);
      cpu.rip = rig.at('end') - 6;
      expect(rig.run()).toMatchObject({ exit: Exit.exception, vector: 14, error: 0, cr2: PLACE });
      // Nothing is remembered of a fault.
      rig.map(PLACE, one, READ_WRITE);
      expect(seen()).toBe(1);
    });

    it('of a frame that is not to be written is looked at before the next write', async () => {
      const rig = await Rig.open(create);
      rig.program('mov [rdi], rax\nend: syscall');
      const frame = rig.mapNew(PLACE);
      rig.cpu.setReg(RDI, PLACE);
      expect(rig.run()).toEqual(DONE);
      rig.map(PLACE, frame, READ_ONLY);
      rig.engine.forbidWriting(frame);
      rig.cpu.rip = rig.at('end') - 3;
      expect(rig.run()).toMatchObject({ exit: Exit.exception, vector: 14, error: PF_WRITE | PF_PRESENT });
    });

    it('of another top table is seen when that is loaded, each mode its own', async () => {
      const rig = await Rig.open(create);
      rig.program('mov rax, [rdi]\nend: syscall');
      const [kernels, users] = [rig.mapNew(OWN), rig.mapNew(OWN, READ_WRITE, rig.userRoot)];
      rig.mem.setBig(rig.linearOf(kernels), 1n);
      rig.mem.setBig(rig.linearOf(users), 2n);
      const { cpu, engine } = rig;
      const seen = (userMode: boolean): number => {
        cpu.userMode = userMode;
        cpu.rip = rig.at('end') - 3;
        cpu.setReg(RDI, OWN);
        expect(rig.run()).toEqual(DONE);
        return cpu.reg(RAX);
      };
      expect([seen(false), seen(true)]).toEqual([1, 2]);
      const [kernelMfn, userMfn] = [cpu.cr3Kernel, cpu.cr3User];
      engine.loadRoot(0, false, userMfn);
      expect([seen(false), seen(true), cpu.cr3Kernel]).toEqual([2, 2, userMfn]);
      engine.loadRoot(0, true, kernelMfn);
      expect([seen(false), seen(true), cpu.cr3User]).toEqual([2, 1, kernelMfn]);
    });
  });

  describe('code', () => {
    const MOVES = [0xb8, 1, 0, 0, 0, 0x0f, 0x05];

    it('that the guest has written runs as it was written', async () => {
      const rig = await Rig.open(create);
      rig.program('mov byte [rdi], 7\njmp rsi\nend: syscall');
      const frame = rig.mapNew(PLACE);
      rig.map(PLACE + 4096, frame, EXECUTE);
      rig.mem.u8.set(MOVES, rig.linearOf(frame));
      const { cpu } = rig;
      cpu.rip = PLACE + 4096;
      expect([rig.run().exit, cpu.reg(RAX)]).toEqual([Exit.syscall, 1]);
      cpu.rip = rig.at('end') - 5;
      cpu.setReg(RDI, PLACE + 1);
      cpu.setReg(6, PLACE + 4096);
      expect([rig.run().exit, cpu.reg(RAX)]).toEqual([Exit.syscall, 7]);
    });

    it('that the host has written runs as it was written', async () => {
      const rig = await Rig.open(create);
      rig.program('end: syscall');
      const frame = rig.mapNew(PLACE, EXECUTE);
      rig.mem.u8.set(MOVES, rig.linearOf(frame));
      const { cpu, engine } = rig;
      for (const value of [1, 2, 3]) {
        rig.mem.setU8(rig.linearOf(frame) + 1, value);
        engine.touch(rig.linearOf(frame) + 1);
        cpu.rip = PLACE;
        expect([rig.run().exit, cpu.reg(RAX)]).toEqual([Exit.syscall, value]);
      }
    });
  });
}
