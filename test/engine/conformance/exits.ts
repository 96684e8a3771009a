import { describe, expect, it } from 'vitest';
import { ALL_VCPUS, type CreateEngine, Exit } from '../../../src/engine/engine.js';
import { CODE, CPUID, DONE, EXECUTE, PF_FETCH, PF_PRESENT, PF_WRITE, PLACE, READ_ONLY, Rig } from './rig.js';

const [RAX, RCX, RDX, RBX, RSP, , RSI, RDI] = [0, 1, 2, 3, 4, 5, 6, 7];
const PF = 14;

/** Instructions that raise an exception themselves: source, vector, error code, and where rip is. */
const EXCEPTIONS: readonly (readonly [string, number, number, string])[] = [
  ['xor edx, edx\nxor ecx, ecx\nbad: div rcx', 0, 0, 'bad'],
  ['bad: ud2\nnop', 6, 0, 'bad'],
  ['mov rax, 0x800000000000\nbad: mov rax, [rax]', 13, 0, 'bad'],
  ['mov rsp, 0x800000000008\nbad: push rax', 12, 0, 'bad'],
  ['mov rax, 0x800000000000\nbad: jmp rax', 13, 0, 'bad'],
];

/** Instructions that a guest at privilege level 3 may not execute. */
const PRIVILEGED = [
  'hlt',
  'cli',
  'sti',
  'in al, dx',
  'out dx, eax',
  'mov rax, cr0',
  'mov cr3, rax',
  'rdmsr',
  'wbinvd',
];

export function exits(create: CreateEngine): void {
  describe('exits', () => {
    it('syscall exits after the instruction, and changes neither mode nor selectors', async () => {
      for (const userMode of [false, true]) {
        const rig = await Rig.open(create);
        rig.program('nop\nend: syscall\nnop');
        const { cpu } = rig;
        cpu.userMode = userMode;
        cpu.setReg(RAX, 5);
        expect(rig.run()).toEqual(DONE);
        // RCX and R11 either have the values that a processor sets, or are unchanged: the hypervisor sets them.
        expect([cpu.reg(RAX), cpu.userMode, cpu.cs, cpu.ss]).toEqual([5, userMode, 0xe033, 0xe02b]);
      }
    });

    it.each(EXCEPTIONS)(
      '%j is vector %i, error code %i, with rip at %s',
      async (source, vector, error, at) => {
        const rig = await Rig.open(create);
        rig.program(source);
        expect(rig.run()).toEqual({ exit: Exit.exception, at, vector, error });
        expect(rig.cpu.exitSoftware).toBe(false);
      },
    );

    it.each([
      ['int3', 3, 1],
      ['int 0x80', 0x80, 2],
      ['int 14', 14, 2],
    ])(
      '%s is a software exception: rip is after the instruction, and its length is reported',
      async (source, vector, bytes) => {
        const rig = await Rig.open(create);
        rig.program(`nop\nbad: ${source}\nafter: nop`);
        const { cpu } = rig;
        rig.slice();
        expect(rig.engine.run(0)).toBe(Exit.exception);
        expect([cpu.exitSoftware, cpu.exitVector, cpu.exitLength, cpu.rip]).toEqual([
          true,
          vector,
          bytes,
          rig.at('after'),
        ]);
      },
    );

    it('with TS set in CR0 the first FPU instruction raises vector 7', async () => {
      const rig = await Rig.open(create);
      rig.program('nop\nbad: movaps xmm0, xmm1\nend: syscall');
      rig.cpu.cr0 = 0x8005_003b;
      expect(rig.run()).toEqual({ exit: Exit.exception, at: 'bad', vector: 7, error: 0 });
      rig.cpu.cr0 = 0x8005_0033;
      expect(rig.run()).toEqual(DONE);
    });

    it('page faults report address and error code, and the instruction has had no effect', async () => {
      const rig = await Rig.open(create);
      rig.program(
        'reads: add rax, [rdi+5]\nwrites: add [rdi+6], rax\nonly: xchg [rsi+8], rax\njumps: jmp rbx\nend: syscall',
      );
      const locked = rig.mapNew(PLACE, READ_ONLY);
      const absent = PLACE + 0x10000;
      const { cpu } = rig;
      const at = (label: string) => {
        cpu.rip = rig.at(label);
        cpu.setReg(RAX, 0x55);
        cpu.setReg(RDI, absent);
        cpu.setReg(RSI, PLACE);
        cpu.setReg(RBX, PLACE + 16);
        const end = rig.run();
        expect(cpu.reg(RAX)).toBe(0x55);
        return end;
      };
      const fault = (label: string, error: number, cr2: number) => ({
        exit: Exit.exception,
        at: label,
        vector: PF,
        error,
        cr2,
      });
      for (cpu.userMode of [false, true]) {
        expect(at('reads')).toEqual(fault('reads', 0, absent + 5));
        expect(at('writes')).toEqual(fault('writes', PF_WRITE, absent + 6));
        expect(at('only')).toEqual(fault('only', PF_WRITE | PF_PRESENT, PLACE + 8));
      }
      cpu.userMode = false;
      // The fetch at the destination faults.
      const jumped = at('jumps');
      expect([jumped.vector, jumped.error, jumped.cr2, cpu.rip]).toEqual([
        PF,
        PF_FETCH | PF_PRESENT,
        PLACE + 16,
        PLACE + 16,
      ]);
      expect(rig.mem.getBig(rig.linearOf(locked) + 8)).toBe(0n);
    });

    it('a string instruction that faults keeps the elements that it has done', async () => {
      const rig = await Rig.open(create);
      rig.program('copies: rep stosb\nend: syscall');
      const frame = rig.mapNew(PLACE);
      const { cpu } = rig;
      cpu.setReg(RAX, 7);
      cpu.setReg(RDI, PLACE + 4000);
      cpu.setReg(RCX, 200);
      expect(rig.run()).toEqual({
        exit: Exit.exception,
        at: 'copies',
        vector: PF,
        error: PF_WRITE,
        cr2: PLACE + 4096,
      });
      expect([cpu.reg(RCX), cpu.reg(RDI)]).toEqual([104, PLACE + 4096]);
      expect(rig.mem.bytes(rig.linearOf(frame) + 4000, 96).every((byte) => byte === 7)).toBe(true);
      const second = rig.mapNew(PLACE + 4096);
      rig.engine.tables.flush(ALL_VCPUS);
      expect(rig.run()).toEqual(DONE);
      expect([
        cpu.reg(RCX),
        rig.mem.getU8(rig.linearOf(second) + 103),
        rig.mem.getU8(rig.linearOf(second) + 104),
      ]).toEqual([0, 7, 0]);
    });

    it.each(PRIVILEGED)('%s exits to the hypervisor without any effect', async (instruction) => {
      for (const userMode of [false, true]) {
        const rig = await Rig.open(create);
        rig.program(`nop\nhere: ${instruction}\nnop`);
        const { cpu } = rig;
        cpu.userMode = userMode;
        cpu.setReg(RAX, 0x1234);
        cpu.setReg(RDX, 0x60);
        expect(rig.run()).toEqual({ exit: Exit.privileged, at: 'here' });
        expect([cpu.reg(RAX), cpu.reg(RDX)]).toEqual([0x1234, 0x60]);
        // The hypervisor emulates the instruction and continues after it.
        cpu.rip = rig.at('here');
      }
    });

    it('ud2 followed by "xen" is forced emulation; before anything else it is an invalid opcode', async () => {
      const rig = await Rig.open(create);
      rig.program('nop\nhere: ud2\nascii "xen"\ncpuid\nnop\nbad: ud2\nascii "xem"\ncpuid');
      expect(rig.run()).toEqual({ exit: Exit.forcedEmulation, at: 'here' });
      rig.cpu.rip = rig.at('bad');
      expect(rig.run()).toEqual({ exit: Exit.exception, at: 'bad', vector: 6, error: 0 });
    });

    it("cpuid returns the identity's leaves, unless it is left to the hypervisor", async () => {
      const rig = await Rig.open(create);
      rig.program('xor eax, eax\nxor ecx, ecx\nhere: cpuid\nend: syscall');
      const { cpu } = rig;
      const end = rig.run();
      if (end.exit === Exit.privileged) {
        expect(end.at).toBe('here');
        return;
      }
      expect(end).toEqual(DONE);
      const [{ eax, ebx, ecx, edx }] = CPUID;
      expect([RAX, RBX, RCX, RDX].map((i) => cpu.reg(i))).toEqual([eax, ebx, ecx, edx]);
    });

    it('rdtsc returns virtual time', async () => {
      let time = 1e9;
      const rig = await Rig.open(create, { now: () => (time += 1000) });
      rig.program('rdtsc\nmov rsi, rax\nmov rdi, rdx\nrdtsc\nend: syscall');
      const { cpu } = rig;
      expect(rig.run()).toEqual(DONE);
      const [first, second] = [cpu.reg(RDI) * 2 ** 32 + cpu.reg(RSI), cpu.reg(RDX) * 2 ** 32 + cpu.reg(RAX)];
      expect(first).toBeGreaterThan(1e9);
      expect(second).toBeGreaterThanOrEqual(first);
      if (rig.engine.abilities.rdtsc === 'asked') expect(second - first).toBe(1000);
    });

    it('code may cross a page boundary, and faults for the page that is absent', async () => {
      const rig = await Rig.open(create);
      rig.program('end: syscall');
      const [first, second] = [rig.mapNew(PLACE, EXECUTE), rig.take()];
      // mov eax, 0x11223344; its last three bytes are in the second page, followed by syscall.
      rig.mem.u8.set([0xb8, 0x44], rig.linearOf(first) + 4094);
      rig.mem.u8.set([0x33, 0x22, 0x11, 0x0f, 0x05], rig.linearOf(second));
      const { cpu } = rig;
      cpu.rip = PLACE + 4094;
      const missing = rig.run();
      expect([missing.vector, missing.error, missing.cr2, cpu.rip]).toEqual([
        PF,
        PF_FETCH,
        PLACE + 4096,
        PLACE + 4094,
      ]);
      rig.map(PLACE + 4096, second, EXECUTE);
      rig.engine.tables.flush(ALL_VCPUS);
      expect([rig.run().exit, cpu.reg(RAX)]).toEqual([Exit.syscall, 0x1122_3344]);
    });

    it('the stack is memory like any other', async () => {
      const rig = await Rig.open(create);
      rig.program('push rax\npush rcx\npop rdx\ncall there\nend: syscall\nnop\nthere: ret');
      const { cpu } = rig;
      cpu.setReg(RSP, rig.at('data') + 64);
      cpu.setReg(RAX, 5);
      cpu.setReg(RCX, 6);
      expect(rig.run()).toEqual(DONE);
      expect([
        cpu.reg(RDX),
        cpu.reg(RSP),
        rig.mem.getU64(rig.data(56)),
        rig.mem.getU64(rig.data(48)),
      ]).toEqual([6, rig.at('data') + 56, 5, rig.at('end')]);
      expect(rig.at('end')).toBeGreaterThan(CODE);
    });
  });
}
