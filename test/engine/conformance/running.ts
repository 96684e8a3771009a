import { describe, expect, it } from 'vitest';
import { type CreateEngine, Exit } from '../../../src/engine/engine.js';
import { CODE, DONE, PLACE, Rig } from './rig.js';

const RDX = 2;
const TF = 0x100;
const DB = 1;
/** Bits of DR6: single step, and breakpoint 0. */
const BS = 0x4000;
const B0 = 1;
/** DR7: breakpoint 0 enabled for execution, and for writes of 8 bytes. */
const ON_EXECUTION = 0x401;
const ON_WRITE = 0x9_0401;
const LOOP = 'again: inc rdx\njmp again';
const EVER = Number.POSITIVE_INFINITY;

export function running(create: CreateEngine): void {
  describe('a slice', () => {
    it('ends when its time is over', async () => {
      const rig = await Rig.open(create);
      rig.program(LOOP);
      const began = rig.now();
      for (let i = 1; i <= 3; i++) {
        rig.engine.slice(0, EVER, rig.now(), rig.now() + 1e6);
        expect(rig.engine.run(0)).toBe(Exit.limit);
        // It stays ended.
        const count = rig.cpu.reg(RDX);
        expect(rig.engine.run(0)).toBe(Exit.limit);
        expect(rig.cpu.reg(RDX)).toBe(count);
      }
      expect(rig.now()).toBeGreaterThan(began);
      expect(rig.cpu.reg(RDX)).toBeGreaterThan(0);
    });

    it('continues across exits', async () => {
      const rig = await Rig.open(create);
      rig.program('again: syscall\ninc rdx\njmp again');
      rig.engine.slice(0, EVER, rig.now(), rig.now() + 1e6);
      let calls = 0;
      while (calls < 10_000_000 && rig.engine.run(0) === Exit.syscall) calls++;
      expect(calls).toBeGreaterThan(0);
      expect(calls - rig.cpu.reg(RDX)).toBeGreaterThanOrEqual(0);
      expect(calls - rig.cpu.reg(RDX)).toBeLessThanOrEqual(1);
    });

    it('ends after an exact number of instructions, where the engine counts them', async () => {
      const rig = await Rig.open(create);
      if (!rig.engine.abilities.exactCounts) return;
      rig.program(`${'inc rdx\n'.repeat(5)}call: syscall\nbad: mov rax, [rdi]\n${LOOP}`);
      const { cpu, engine } = rig;
      cpu.setReg(7, PLACE);
      const counted = cpu.retired!;
      engine.slice(0, 12, rig.now(), EVER);
      expect([engine.run(0), cpu.retired! - counted, cpu.reg(RDX)]).toEqual([Exit.syscall, 6, 5]);
      // An instruction that faults is not counted, however often it does.
      for (let i = 0; i < 3; i++)
        expect([rig.ended(engine.run(0)).at, cpu.retired! - counted]).toEqual(['bad', 6]);
      cpu.rip = rig.at('again');
      expect([engine.run(0), cpu.retired! - counted, cpu.reg(RDX)]).toEqual([Exit.limit, 12, 8]);
      for (let n = 1; n < 50; n++) {
        const before = cpu.retired!;
        engine.slice(0, n, rig.now(), EVER);
        expect([engine.run(0), cpu.retired! - before]).toEqual([Exit.limit, n]);
      }
    });

    it('that is over still runs the one instruction after a load of SS, and so does a request to exit', async () => {
      const rig = await Rig.open(create);
      if (!rig.engine.abilities.exactCounts) return;
      rig.program(`mov rdi, rax\n${LOOP}`);
      const { cpu, engine } = rig;
      engine.slice(0, 1, rig.now(), EVER);
      expect(engine.run(0)).toBe(Exit.limit);
      cpu.stackShadow = 0;
      engine.requestExit(0);
      expect([engine.run(0), cpu.reg(RDX), cpu.stackShadow]).toEqual([Exit.halted, 1, -1]);
      expect([engine.run(0), cpu.reg(RDX)]).toEqual([Exit.limit, 1]);
    });

    it('belongs to one vCPU', async () => {
      const rig = await Rig.open(create, { vcpus: 3 });
      rig.program('mov [data+rdi*8], rdi\nend: syscall'.replace('data+rdi*8', 'rsi+rdi*8'));
      for (const cpu of rig.engine.vcpus) {
        cpu.setReg(7, cpu.id + 1);
        cpu.setReg(6, rig.at('data'));
      }
      for (const id of [2, 0, 1]) rig.slice(id);
      for (const id of [0, 1, 2]) expect(rig.ended(rig.engine.run(id), id)).toEqual(DONE);
      expect([1, 2, 3].map((i) => rig.mem.getU64(rig.data(8 * i)))).toEqual([1, 2, 3]);
      expect(rig.engine.vcpus.map((cpu) => cpu.rip)).toEqual([2, 2, 2].map((n) => rig.at('end') + n));
    });
  });

  describe('requestExit', () => {
    it('ends the next run before its first instruction, once, and only of that vCPU', async () => {
      const rig = await Rig.open(create, { vcpus: 2 });
      rig.program('inc rdx\nend: syscall');
      rig.engine.requestExit(1);
      expect(rig.run(0)).toEqual(DONE);
      expect(rig.run(1)).toEqual({ exit: Exit.halted, at: rig.ended(Exit.halted, 1).at });
      expect([rig.engine.vcpus[1].rip, rig.engine.vcpus[1].reg(RDX)]).toEqual([CODE, 0]);
      expect(rig.run(1)).toEqual(DONE);
    });

    it('ends a run in progress', async () => {
      let ask = (): void => {};
      const rig = await Rig.open(create, {
        now: () => {
          ask();
          return 0;
        },
      });
      // Only there does an engine that runs in this thread call back.
      if (rig.engine.abilities.rdtsc !== 'asked') return;
      rig.program('rdtsc\nagain: inc rdx\njmp again');
      ask = () => rig.engine.requestExit(0);
      rig.engine.slice(0, EVER, 0, EVER);
      expect(rig.engine.run(0)).toBe(Exit.halted);
      ask = () => {};
      rig.engine.slice(0, 100, 0, 1);
      expect(rig.engine.run(0)).toBe(Exit.limit);
      expect(rig.cpu.reg(RDX)).toBeGreaterThan(0);
    });
  });

  describe('debugging', () => {
    it('TF raises an exception after each instruction', async () => {
      const rig = await Rig.open(create);
      rig.program('inc rdx\none: inc rdx\ntwo: inc rdx\nthree: nop\nend: syscall');
      const { cpu } = rig;
      cpu.rflags = 0x202 | TF;
      expect(cpu.stepping).toBe(true);
      for (const [at, count] of [
        ['one', 1],
        ['two', 2],
        ['three', 3],
      ] as const) {
        expect(rig.run()).toEqual({ exit: Exit.exception, at, vector: DB, error: 0 });
        expect([cpu.reg(RDX), cpu.dr(6) & BS]).toEqual([count, BS]);
        cpu.setDr(6, 0xffff_0ff0);
      }
      cpu.rflags = 0x202;
      expect(rig.run()).toEqual(DONE);
    });

    it('a breakpoint on an instruction stops before it; RF lets it run', async () => {
      const rig = await Rig.open(create);
      rig.program('mov edx, 3\nagain: nop\nhere: dec rdx\njnz again\nend: syscall');
      const { cpu } = rig;
      cpu.setDr(0, rig.at('here'));
      cpu.setDr(7, ON_EXECUTION);
      for (const left of [3, 2, 1]) {
        expect(rig.run()).toEqual({ exit: Exit.exception, at: 'here', vector: DB, error: 0 });
        expect([cpu.reg(RDX), cpu.dr(6) & 0xf]).toEqual([left, B0]);
        cpu.setDr(6, 0xffff_0ff0);
        cpu.resuming = true;
      }
      expect(rig.run()).toEqual(DONE);
      expect(cpu.resuming).toBe(false);
    });

    it('a breakpoint on data stops after the instruction that wrote it', async () => {
      const rig = await Rig.open(create);
      rig.program(
        'mov rax, [data+8]\nmov [data+16], rax\nwrites: mov [data+8], rax\nafter: nop\nend: syscall',
      );
      const { cpu } = rig;
      cpu.setDr(0, rig.at('data') + 8);
      cpu.setDr(7, ON_WRITE);
      expect(rig.run()).toEqual({ exit: Exit.exception, at: 'after', vector: DB, error: 0 });
      expect(cpu.dr(6) & 0xf).toBe(B0);
      expect(rig.run()).toEqual(DONE);
    });
  });
}
