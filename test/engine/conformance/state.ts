import { describe, expect, it } from 'vitest';
import { type CreateEngine, Exit } from '../../../src/engine/engine.js';
import { decodeVcpuStates, encodeVcpuStates, type VcpuState } from '../../../src/engine/vcpu-state.js';
import { DONE, FRAMES, Rig } from './rig.js';

const RAX = 0;
const EVER = Number.POSITIVE_INFINITY;

/**
 * Computes sums with the FPU, with vectors and with a string instruction, and makes a system call in each iteration.
 */
const SOURCE = `
  mov r12d, 60
  fninit
  fld1
  movups xmm5, [data+16]
again:
  fld1
  faddp st1, st0
  addps xmm5, [data+32]
  imul rax, rax, 31
  add rax, r12
  std
  syscall
  cld
  mov rdi, rsi
  mov ecx, 300
  rep stosb
  dec r12d
  jnz again
  fistp qword [data+8]
  movups [data+64], xmm5
  mov [data], rax
end: syscall`;

async function sums(create: CreateEngine): Promise<Rig> {
  const rig = await Rig.open(create);
  rig.program(SOURCE);
  for (const i of [0, 1, 2, 3]) {
    rig.mem.setU32(rig.data(16 + 4 * i), 0);
    rig.mem.view.setFloat32(rig.data(32 + 4 * i), 0.5 + i, true);
  }
  rig.cpu.setReg(6, rig.at('data') + 1024);
  return rig;
}

/** Runs to the end. Returns the memory and the registers. */
function finish(rig: Rig): { ram: Uint8Array; state: VcpuState } {
  for (let i = 0; i < 1000; i++) {
    const { exit, at } = rig.run();
    if (exit !== Exit.syscall) throw new Error(`exit ${exit} at ${at}`);
    if (at === DONE.at) break;
  }
  const [state] = rig.engine.save();
  return { ram: rig.engine.ram.bytes(0, FRAMES).slice(), state };
}

/** Makes another engine with the same memory and records. */
async function moved(rig: Rig, create: CreateEngine): Promise<Rig> {
  const next = await sums(create);
  next.engine.ram.bytes(0, FRAMES).set(rig.engine.ram.bytes(0, FRAMES));
  next.engine.restore(decodeVcpuStates(encodeVcpuStates(rig.engine.save())));
  return next;
}

const withoutCount = ({ retired: _, ...state }: VcpuState) => state;

export function state(create: CreateEngine): void {
  describe('a saved vCPU', () => {
    it('continues in another engine at any exit, and ends as if it had stayed', async () => {
      const stayed = finish(await sums(create));
      expect(stayed.state.registers[12]).toBe(0n);
      for (const calls of [1, 2, 30, 59]) {
        let rig = await sums(create);
        for (let i = 0; i < calls; i++) expect(rig.run().exit).toBe(Exit.syscall);
        const saved = rig.engine.save();
        rig = await moved(rig, create);
        expect(rig.engine.save()).toEqual(saved);
        const ended = finish(rig);
        expect(withoutCount(ended.state)).toEqual(withoutCount(stayed.state));
        expect(Buffer.compare(ended.ram, stayed.ram)).toBe(0);
      }
    });

    it('continues between any two instructions, and within one, where the engine counts them', async () => {
      const first = await sums(create);
      if (!first.engine.abilities.exactCounts) return;
      const stayed = finish(first);
      let rig = await sums(create);
      // 13 has no divisor in common with an iteration, so the moves come at different places of each.
      for (let i = 0; i < 60; ) {
        rig.engine.slice(0, 13, 0, EVER);
        const exit = rig.engine.run(0);
        if (exit === Exit.syscall) i++;
        else {
          expect(exit).toBe(Exit.limit);
          if (i % 6 === 0) rig = await moved(rig, create);
        }
      }
      expect(finish(rig)).toEqual(stayed);
    });

    it('is refused by an engine with another number of vCPUs, or if registers are missing', async () => {
      const { engine } = await Rig.open(create);
      const two = await Rig.open(create, { vcpus: 2 });
      const [saved] = engine.save();
      expect(() => two.engine.restore([saved])).toThrow('2 vCPUs expected, found 1');
      expect(() => engine.restore(two.engine.save())).toThrow('1 vCPUs expected, found 2');
      expect(() => engine.restore([{ ...saved, number: 1 }])).toThrow('vCPUs expected');
      for (const field of ['registers', 'dr', 'selectors'] as const)
        expect(() => engine.restore([{ ...saved, [field]: [] }])).toThrow('wrong number of registers');
    });

    it('has every register that the hypervisor has set', async () => {
      const from = await Rig.open(create);
      const { cpu } = from;
      for (let i = 0; i < 16; i++) cpu.setReg(i, 1000 + i);
      cpu.rip = 0x1234;
      cpu.rflags = 0x246;
      cpu.userMode = true;
      cpu.cr0 = 0x8005_003b;
      cpu.cr2 = -16;
      cpu.cr4 = 0x664;
      cpu.cr3Kernel = from.engine.ram.mfnOf(3);
      cpu.cr3User = from.engine.ram.mfnOf(4);
      cpu.fsBase = 0x7000;
      cpu.gsBase = -0x8000;
      cpu.gsBaseOther = 0x9000;
      cpu.setDr(7, 0x400);
      cpu.ds = 0x2b;
      const to = await Rig.open(create);
      const saved = from.engine.save();
      to.engine.restore(saved);
      expect(to.engine.save()).toEqual(saved);
      expect(saved[0]).toMatchObject({
        number: 0,
        registers: Array.from({ length: 16 }, (_, i) => BigInt(1000 + i)),
        rip: 0x1234n,
        rflags: 0x246,
        userMode: true,
        cr0: 0x8005_003bn,
        cr2: 0xffff_ffff_ffff_fff0n,
        cr3Kernel: BigInt(from.engine.ram.mfnOf(3)),
        fsBase: 0x7000n,
        gsBase: 0xffff_ffff_ffff_8000n,
        gsBaseOther: 0x9000n,
        segments: [],
      });
      const there = to.cpu;
      expect([there.rip, there.reg(15), there.userMode, there.cr2, there.gsBase, there.ds]).toEqual([
        0x1234,
        1015,
        true,
        -16,
        -0x8000,
        0x2b,
      ]);
    });
  });

  describe('the FPU', () => {
    /** An fxsave image: two registers of the stack, all of the vectors. */
    function image(): Uint8Array {
      const bytes = new Uint8Array(512);
      const view = new DataView(bytes.buffer);
      view.setUint16(0, 0x37f, true);
      // TOP is 6.
      view.setUint16(2, 6 << 11, true);
      bytes[4] = 0xc0;
      view.setUint32(24, 0x1fa0, true);
      view.setUint32(28, 0xffff, true);
      // The values 1.0 and 3.0, ten bytes each.
      bytes.set([0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f], 32);
      bytes.set([0, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0x40], 48);
      for (let i = 160; i < 416; i++) bytes[i] = i * 7;
      return bytes;
    }

    it('loads an image, computes with it, saves it, and returns it', async () => {
      const rig = await Rig.open(create);
      rig.program(
        'fxsave [data+512]\nfaddp st1, st0\nfistp qword [data]\nmovups [data+16], xmm15\nend: syscall',
      );
      rig.cpu.loadFpu(image());
      expect([...rig.cpu.saveFpu()]).toEqual([...image()]);
      const [before] = rig.engine.save();
      const next = await Rig.open(create);
      next.program('end: syscall');
      next.engine.ram.bytes(0, FRAMES).set(rig.engine.ram.bytes(0, FRAMES));
      next.engine.restore(rig.engine.save());
      expect(next.engine.save()[0]).toEqual(before);
      for (const of of [rig, next]) {
        let end = of.run();
        while (end.exit === Exit.limit) end = of.run();
        expect(end.exit).toBe(Exit.syscall);
        expect([...of.mem.bytes(rig.data(512) - rig.linearOf(0) + of.linearOf(0), 416)]).toEqual([
          ...image().subarray(0, 416),
        ]);
        expect(of.mem.getU64(rig.data() - rig.linearOf(0) + of.linearOf(0))).toBe(4);
        expect([...of.mem.bytes(rig.data(16) - rig.linearOf(0) + of.linearOf(0), 16)]).toEqual([
          ...image().subarray(400, 416),
        ]);
      }
      expect(before).toMatchObject({ mxcsr: 0x1fa0, fcw: 0x37f, ftw: 0xc0 });
      expect(next.cpu.reg(RAX)).toBe(0);
    });
  });
}
