/** Tests compatibility mode on the bare machine, for what the comparison with the processor cannot show. */

import { beforeEach, describe, expect, it } from 'vitest';
import { Exit } from '../../src/engine/engine.js';
import { decodeVcpuStates, encodeVcpuStates } from '../../src/engine/vcpu-state.js';
import { decodeAll, encodeRaw } from '../../src/records/record.js';
import { type Bare, CODE, DATA, openBare } from './bare.js';

const WHOLE = 0xffff_ffff;
const CODE_32 = 0xcf_fb00;
const CODE_16 = 0x00_fb00;
const DATA_32 = 0xcf_f300;
const DB = 1;
const GP = 13;
const PF = 14;

let bare: Bare;
beforeEach(async () => {
  bare = await openBare();
});

const hex = (code: string): number[] => [...Buffer.from(code.replaceAll(' ', ''), 'hex')];

/** A machine for 32-bit code with flat segments; cs and gs as given. */
function enter(codeBase = 0, codeLimit = WHOLE, rights = CODE_32, gsBase = 0): void {
  const { cpu } = bare;
  cpu.cs = 0x23;
  for (const i of [0, 2, 3, 4, 5]) cpu.setSegment(i, 0, WHOLE, DATA_32);
  cpu.setSegment(1, codeBase, codeLimit, rights);
  cpu.gsBase = gsBase;
  cpu.setCompatibility();
}

describe('32-bit code', () => {
  it('saves eight vector registers by fxsave, and does not write the bytes after them', () => {
    enter();
    const { mem } = bare.machine;
    mem.u8.fill(0xee, bare.data, bare.data + 512);
    bare.cpu.setReg(3, DATA);
    expect(bare.run(hex('0fae03'))).toBe(Exit.limit);
    expect(mem.u8[bare.data + 287]).toBe(0);
    expect(mem.u8.subarray(bare.data + 288, bare.data + 512).every((b) => b === 0xee)).toBe(true);
  });

  it('stores its own selectors in the x87 environment', () => {
    enter();
    const { cpu, machine } = bare;
    cpu.ds = 0x2b;
    cpu.setReg(3, DATA);
    // fld dword [ebx]; fnstenv [ebx + 64]
    expect(bare.run(hex('d903 d97340'), 2)).toBe(Exit.limit);
    expect(machine.mem.getU32(bare.data + 64 + 12)).toBe(CODE);
    expect(machine.mem.getU16(bare.data + 64 + 16)).toBe(0x23);
    expect(machine.mem.getU32(bare.data + 64 + 20)).toBe(DATA);
    expect(machine.mem.getU16(bare.data + 64 + 24)).toBe(0x2b);
  });

  it('is 64-bit code again, at the same address, when cs is loaded with a 64-bit segment', () => {
    // The byte is inc eax in 32-bit code, and a prefix of the following nop in 64-bit code.
    const code = hex('40 90');
    enter();
    bare.cpu.setReg(0, 7);
    bare.run(code, 2);
    expect(bare.cpu.reg(0)).toBe(8);
    bare.cpu.cs = 0x33;
    bare.cpu.rip = CODE;
    expect(bare.machine.run(0, 1)).toBe(Exit.limit);
    expect([bare.cpu.reg(0), bare.cpu.rip]).toEqual([8, CODE + 2]);
    enter();
    bare.cpu.rip = CODE;
    bare.machine.run(0, 1);
    expect([bare.cpu.reg(0), bare.cpu.rip]).toEqual([9, CODE + 1]);
  });

  it('hits data breakpoints by linear address', () => {
    enter(0, WHOLE, CODE_32, DATA);
    const { cpu } = bare;
    cpu.setDr(0, DATA + 8);
    cpu.setDr(7, 0xf_0001);
    // mov eax, gs:[8]
    expect(bare.run(hex('65a108000000'), 5)).toBe(Exit.exception);
    expect([cpu.exitVector, cpu.rip, cpu.dr(6) & 1]).toEqual([DB, CODE + 6, 1]);
  });
});

describe('an operand that faults in more than one way', () => {
  /** The limit of ds and ss is such that the last bytes of the operand are beyond it. */
  const limitedTo = (limit: number): void => {
    enter();
    bare.cpu.setSegment(3, 0, limit, DATA_32);
    bare.cpu.setSegment(2, 0, limit, DATA_32);
  };

  // The processor reported #PF for the first piece, the 8 bytes that end in the page, and not #GP or #SS for the whole.
  it.each([
    ['fbstp [ebx]', 'df33', 3, CODE + 0xff8],
    ['fstp tword [ebp]', 'db7d00', 5, CODE + 0xff7],
  ])('%s: the page of its first piece is checked before the limit', (_, code, register, at) => {
    const { cpu } = bare;
    limitedTo(CODE + 0xfff);
    cpu.setReg(register, at);
    // fld1 comes before it.
    expect(bare.run(hex(`d9e8 ${code}`), 2)).toBe(Exit.exception);
    expect([cpu.exitVector, cpu.exitErrorCode, cpu.cr2]).toEqual([PF, 7, at]);
  });

  it('the limit is checked first if it is exceeded by the first piece too', () => {
    const { cpu } = bare;
    limitedTo(CODE + 0xffe);
    cpu.setReg(3, CODE + 0xff8);
    expect(bare.run(hex('d9e8 df33'), 2)).toBe(Exit.exception);
    expect([cpu.exitVector, cpu.exitErrorCode]).toEqual([GP, 0]);
  });

  it('popad reads the slot of esp, although it does not use the value', () => {
    const { cpu } = bare;
    enter();
    cpu.setReg(4, DATA + 0xff2);
    expect(bare.run(hex('61'))).toBe(Exit.exception);
    // The slot of esp begins two bytes before the end of the page.
    expect([cpu.exitVector, cpu.exitErrorCode, cpu.cr2]).toEqual([PF, 4, DATA + 0x1000]);
  });
});

describe('code in a segment', () => {
  it("hits instruction breakpoints by linear address, and counts rip from the segment's base", () => {
    enter(CODE, 0xfff);
    const { cpu } = bare;
    cpu.setDr(0, CODE + 1);
    cpu.setDr(7, 1);
    bare.run([]);
    cpu.rip = 0;
    expect(bare.machine.run(0, 5)).toBe(Exit.exception);
    expect([cpu.exitVector, cpu.rip]).toEqual([DB, 1]);
  });

  it('takes single steps', () => {
    enter(CODE, 0xfff, CODE_16);
    const { cpu } = bare;
    bare.run([]);
    cpu.rflags = 0x302;
    cpu.rip = 3;
    expect(bare.machine.run(0, 5)).toBe(Exit.exception);
    expect([cpu.exitVector, cpu.rip]).toEqual([DB, 4]);
  });

  it('faults beyond the limit, whether the instruction begins before it or not', () => {
    const { cpu } = bare;
    for (const [limit, rip] of [
      [4, 4],
      [3, 4],
    ]) {
      enter(CODE, limit);
      bare.run(hex('90 90 90 90 b800000000'));
      enter(CODE, limit);
      cpu.rip = rip;
      expect(bare.machine.run(0, 1)).toBe(Exit.exception);
      expect([cpu.exitVector, cpu.exitErrorCode, cpu.rip]).toEqual([GP, 0, rip]);
    }
  });
});

describe('saved vCPU state', () => {
  it('of version 1, which had only 64-bit code, is still restored', () => {
    bare.cpu.setReg(5, 77);
    const [{ version, body }] = decodeAll(encodeVcpuStates(bare.machine.save()));
    expect(version).toBe(2);
    // Version 2 has the segments at its end; here they are removed.
    const old = encodeRaw('VCPU', 1, body.subarray(0, body.length - 4));
    enter();
    bare.cpu.setReg(5, 0);
    bare.machine.restore(decodeVcpuStates(old));
    expect([bare.cpu.reg(5), bare.cpu.codeKind, bare.cpu.cs]).toEqual([77, 0, 0x33]);
  });

  it('has the segments as the processor had cached them, whatever the tables contain by now', () => {
    enter(CODE, 0xfff, CODE_16, DATA);
    const saved = encodeVcpuStates(bare.machine.save());
    bare.cpu.cs = 0x33;
    bare.machine.restore(decodeVcpuStates(saved));
    const { cpu } = bare;
    expect([cpu.codeKind, cpu.codeBits, cpu.segmentBase(1), cpu.segmentLimit(1)]).toEqual([
      3,
      16,
      CODE,
      0xfff,
    ]);
    expect([cpu.gsBase, cpu.segmentRights(5)]).toEqual([DATA, DATA_32]);
  });
});
