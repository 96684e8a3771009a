import { describe, expect, it } from 'vitest';
import { type CreateEngine, Exit, Intent } from '../../../src/engine/engine.js';
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

/** The frames that are set in a bit map of the dirty log. */
const framesOf = (bits: Uint8Array): number[] =>
  Array.from({ length: FRAMES }, (_, i) => i).filter((i) => (bits[i >> 3] >> (i & 7)) & 1);

export function memory(create: CreateEngine): void {
  describe('translate', () => {
    it('returns the frames that the tables name, by intent and mode', async () => {
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

    it('fails as the access would, and returns the reason', async () => {
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

    it('for a write sets the same bits as a write by the guest', async () => {
      const rig = await Rig.open(create);
      rig.program('end: syscall');
      const frame = rig.mapNew(PLACE);
      const { engine } = rig;
      const log = new Uint8Array(FRAMES / 8);
      engine.dirty.start();
      engine.translate(0, PLACE, Intent.write);
      expect(rig.mem.getBig(rig.entry(rig.kernelRoot, PLACE)) & (ACCESSED | DIRTY)).toBe(ACCESSED | DIRTY);
      engine.dirty.read(log);
      expect(framesOf(log)).toContain(frame);
    });
  });

  describe('the dirty log', () => {
    const SOURCE = 'mov [rdi], rax\nmov [rdi+4096], rax\nend: syscall';

    it('has every frame that was written by guest or host, and clears what was read', async () => {
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
        const count = engine.dirty.read(log);
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
      engine.dirty.start();
      expect(read()).toEqual([]);
      write();
      engine.touch(rig.linearOf(byHost) + 100);
      const written = read();
      expect(written).toEqual(expect.arrayContaining([first, second, byHost]));
      expect(written).not.toContain(untouched);
      expect(read()).toEqual([]);
      // A page that was written before is logged again.
      write();
      expect(read()).toEqual(expect.arrayContaining([first, second]));
      engine.dirty.stop();
      write();
      engine.dirty.start();
      expect(read()).toEqual([]);
      engine.dirty.stop();
      expect(() => read()).toThrow('dirty log is not running');
    });

    it('is read in ranges, into bits that may already be set', async () => {
      const rig = await Rig.open(create);
      rig.program(SOURCE);
      const frames = Array.from({ length: 12 }, () => rig.take());
      const { engine } = rig;
      engine.dirty.start();
      for (const frame of frames) engine.touch(rig.linearOf(frame));
      const log = new Uint8Array(FRAMES / 8);
      log[0] = 1;
      expect(engine.dirty.read(log, frames[3], 5)).toBe(5);
      expect(framesOf(log)).toEqual([0, ...frames.slice(3, 8)]);
      expect(engine.dirty.read(log)).toBe(7);
      expect(framesOf(log)).toEqual([0, ...frames]);
      expect(() => engine.dirty.read(log, FRAMES - 1, 2)).toThrow(RangeError);
    });
  });

  describe('code', () => {
    const MOVES = [0xb8, 1, 0, 0, 0, 0x0f, 0x05];

    it('that the guest has written runs as written', async () => {
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

    it('that the host has written runs as written', async () => {
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
