import { describe, expect, it } from 'vitest';
import { CR2, type CreateEngine, MAX_VCPUS, RIP } from '../../../src/engine/engine.js';
import { DONE, OWN, READ_ONLY, Rig } from './rig.js';

const NAMES = 'rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15'.split(' ');
const value = (i: number): bigint => BigInt.asUintN(64, 0x8123_4567_89ab_cdefn * BigInt(i + 3));
const RAX = 0;

export function registers(create: CreateEngine): void {
  describe('registers', () => {
    it('are numbered as instructions encode them; all 64 bits can be set and read as halves, whole, and as numbers', async () => {
      const rig = await Rig.open(create);
      rig.program(`${NAMES.map((name, i) => `mov [data+${8 * i}], ${name}`).join('\n')}\nend: syscall`);
      const { cpu } = rig;
      NAMES.forEach((_, i) => {
        const v = value(i);
        if (i % 2 === 0) cpu.setRegBig(i, v);
        else cpu.setRegHalves(i, Number(v & 0xffff_ffffn), Number(BigInt.asIntN(64, v) >> 32n));
      });
      expect(rig.run()).toEqual(DONE);
      NAMES.forEach((name, i) => {
        const v = value(i);
        expect([name, rig.mem.getBig(rig.data(8 * i))]).toEqual([name, v]);
        expect([cpu.regBig(i), cpu.regLo(i), cpu.regHi(i)]).toEqual([
          v,
          Number(v & 0xffff_ffffn),
          Number(BigInt.asIntN(64, v) >> 32n),
        ]);
      });
      for (const address of [0, -1, 0x7fff_ffff_ffff, -0x8000_0000_0000, 0xffff_ffff]) {
        cpu.setReg(RAX, address);
        expect([cpu.reg(RAX), cpu.regBig(RAX)]).toEqual([address, BigInt.asUintN(64, BigInt(address))]);
      }
    });

    it('exist for 1 to 8 vCPUs', async () => {
      const { engine } = await Rig.open(create, { vcpus: MAX_VCPUS });
      for (const cpu of engine.vcpus) cpu.setReg(RAX, 100 + cpu.id);
      expect(engine.vcpus.map((cpu) => cpu.reg(RAX))).toEqual([100, 101, 102, 103, 104, 105, 106, 107]);
      for (const vcpus of [0, MAX_VCPUS + 1])
        await expect(Rig.open(create, { vcpus })).rejects.toThrow(RangeError);
    });

    it('have the values that the program left in them', async () => {
      const rig = await Rig.open(create);
      rig.program(`${NAMES.map((name, i) => `mov ${name}, ${value(i)}`).join('\n')}\nend: syscall`);
      expect(rig.run()).toEqual(DONE);
      expect(NAMES.map((_, i) => rig.cpu.regBig(i))).toEqual(NAMES.map((_, i) => value(i)));
    });

    it('rip and cr2 also keep all 64 bits', async () => {
      const { cpu } = await Rig.open(create);
      const v = 0x1234_5678_9abc_def1n;
      cpu.setRegBig(RIP, v);
      cpu.setRegHalves(CR2, 0x9abc_def2, 0x1234_5678);
      expect([cpu.regBig(RIP), cpu.regBig(CR2)]).toEqual([v, v + 1n]);
      cpu.rip = 0x40_0000;
      cpu.cr2 = -4096;
      expect([cpu.reg(RIP), cpu.reg(CR2)]).toEqual([0x40_0000, -4096]);
    });

    it('rflags has arithmetic and system flags; IF reads as 1', async () => {
      const rig = await Rig.open(create);
      rig.program('pushfq\npop rbx\nstd\nstc\nend: syscall');
      const { cpu } = rig;
      cpu.setReg(4, rig.at('data') + 4096);
      cpu.rflags = 0x202 | 0x44 | 0x20_0000;
      expect(rig.run()).toEqual(DONE);
      expect(cpu.reg(3)).toBe(0x20_0246);
      expect(cpu.rflags).toBe(0x20_0246 | 0x400 | 1);
    });

    it('FS and GS have the bases that they are given, and so has the GS base of the other mode', async () => {
      const rig = await Rig.open(create);
      rig.program('mov rax, fs:[8]\nmov rbx, gs:[16]\nend: syscall');
      rig.mem.setBig(rig.data(8), 11n);
      rig.mem.setBig(rig.data(48), 22n);
      const { cpu } = rig;
      cpu.fsBase = rig.at('data');
      cpu.gsBase = rig.at('data') + 32;
      cpu.gsBaseOther = -8;
      expect(rig.run()).toEqual(DONE);
      expect([cpu.reg(RAX), cpu.reg(3), cpu.gsBaseOther]).toEqual([11, 22, -8]);
    });

    it('the mode selects the top table', async () => {
      const rig = await Rig.open(create);
      rig.program('mov rax, [rdi]\nend: syscall');
      rig.mem.setBig(rig.linearOf(rig.mapNew(OWN, READ_ONLY)), 1n);
      rig.mem.setBig(rig.linearOf(rig.mapNew(OWN, READ_ONLY, rig.userRoot)), 2n);
      const { cpu } = rig;
      for (const [userMode, seen] of [
        [false, 1],
        [true, 2],
        [false, 1],
      ] as const) {
        cpu.userMode = userMode;
        cpu.rip = rig.at('end') - 3;
        cpu.setReg(7, OWN);
        expect(rig.run()).toEqual(DONE);
        expect(cpu.reg(RAX)).toBe(seen);
      }
    });

    it('selectors and debug registers read back', async () => {
      const { cpu } = await Rig.open(create);
      cpu.ds = 0x2b;
      cpu.es = 0x33;
      cpu.fs = 0x3b;
      cpu.gs = 0x43;
      expect([0, 1, 2, 3, 4, 5].map((i) => cpu.selector(i))).toEqual([
        0x33,
        cpu.cs,
        cpu.ss,
        0x2b,
        0x3b,
        0x43,
      ]);
      for (const i of [0, 1, 2, 3]) cpu.setDr(i, -0x1000 * (i + 1));
      cpu.setDr(6, 0xffff_0ff0);
      cpu.setDr(7, 0x400);
      expect([0, 1, 2, 3, 6, 7].map((i) => cpu.dr(i))).toEqual([
        -0x1000, -0x2000, -0x3000, -0x4000, 0xffff_0ff0, 0x400,
      ]);
    });

    it('code is 64-bit code until a segment says otherwise', async () => {
      const { cpu } = await Rig.open(create);
      expect([cpu.codeBits, cpu.linear(-5)]).toEqual([64, -5]);
      const flat = [0, 0xffff_ffff, 0xcf_f300] as const;
      for (const i of [0, 2, 3, 4, 5]) cpu.setSegment(i, ...flat);
      cpu.setSegment(1, 0x1000, 0xffff, 0x40_fb00);
      cpu.setCompatibility();
      expect([
        cpu.codeBits,
        cpu.linear(0x20),
        cpu.segmentBase(1),
        cpu.segmentLimit(1),
        cpu.segmentRights(1),
      ]).toEqual([32, 0x1020, 0x1000, 0xffff, 0x40_fb00]);
      cpu.cs = 0xe033;
      expect(cpu.codeBits).toBe(64);
    });
  });
}
