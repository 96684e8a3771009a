import { expect, it } from 'vitest';
import { mfn, TinyGuest } from '../../test/support/tiny-guest.js';
import { LinearMemory } from '../xen/memory.js';
import { CpuUserRegs, VcpuGuestContext } from '../xen/vcpu.js';

interface Section {
  readonly type: number;
  readonly bytes: Uint8Array;
  readonly entry: number;
}

function sectionsOf(core: Uint8Array): Map<string, Section> {
  const at = new LinearMemory(core.buffer);
  const count = at.getU16(60);
  const header = (i: number): number => at.getU64(40) + i * at.getU16(58);
  const bytes = (i: number): Uint8Array =>
    core.subarray(at.getU64(header(i) + 24)).subarray(0, at.getU64(header(i) + 32));
  const names = new TextDecoder().decode(bytes(at.getU16(62)));
  const found = new Map<string, Section>();
  for (let i = 1; i < count; i++) {
    const from = at.getU32(header(i));
    const name = names.slice(from, names.indexOf('\0', from));
    found.set(name, { type: at.getU32(header(i) + 4), bytes: bytes(i), entry: at.getU64(header(i) + 56) });
  }
  return found;
}

const SOURCE = `
    mov rax, 0x1122334455667788
    mov [DATA], rax
    mov r15, 0x7fffffffffffffff
  again: jmp again`;

it('the core of a domain has the sections of xl dump-core, its registers and all of its pages', async () => {
  const g = await TinyGuest.boot(SOURCE, { vcpus: 2 });
  g.run(10_000);
  const { frames, m2p, ram } = g.domain.state;
  const pages = frames.owned;
  // The numbers as the guest has them: in the opposite order, the first has none, and two have the same.
  for (let frame = 1; frame < pages; frame++) m2p.set(frame, 5000 - frame, 0);
  m2p.invalidate(0);
  m2p.set(2, 4999, 0);
  const parts = [...g.domain.core()].map((part) => Buffer.from(part));
  expect(Math.max(...parts.map(({ length }) => length))).toBeLessThanOrEqual(1 << 20);
  const core = Uint8Array.from(Buffer.concat(parts));
  const head = new LinearMemory(core.buffer);
  expect([...core.subarray(0, 9)]).toEqual([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, 1]);
  // ET_CORE, EM_X86_64, no program headers.
  expect([head.getU16(16), head.getU16(18), head.getU16(56)]).toEqual([4, 62, 0]);
  const sections = sectionsOf(core);
  expect([...sections].map(([name, { type, entry }]) => [name, type, entry])).toEqual([
    ['.shstrtab', 3, 0],
    ['.note.Xen', 7, 0],
    ['.xen_prstatus', 1, VcpuGuestContext.sizeof],
    ['.xen_shared_info', 1, 4096],
    ['.xen_pages', 1, 4096],
    ['.xen_p2m', 1, 16],
  ]);
  const of = (name: string): LinearMemory =>
    new LinearMemory(Uint8Array.from(sections.get(name)!.bytes).buffer);

  const notes = of('.note.Xen');
  const types: number[] = [];
  for (let at = 0; at < notes.u8.length; at += 16 + notes.getU32(at + 4)) types.push(notes.getU32(at + 8));
  expect(types).toEqual([0x2000000, 0x2000001, 0x2000002, 0x2000003]);
  // After the empty note: magic number, vCPUs that are initialised, pages, bytes of a page.
  expect([0, 8, 16, 24].map((field) => notes.getU64(32 + field))).toEqual([0xf00febed, 1, pages, 4096]);
  expect([notes.getU64(80), notes.getU64(88)]).toEqual([4, 17]);

  const vcpu = of('.xen_prstatus');
  const { registers } = g.domain.crashReport().vcpus[0];
  const register = (name: string): bigint => registers.find(([one]) => one === name)![1];
  const regs = VcpuGuestContext.user_regs;
  for (const name of ['rip', 'rsp', 'rax', 'r15', 'rcx'] as const)
    expect(vcpu.getBig(regs + CpuUserRegs[name]), name).toBe(register(name));
  expect(vcpu.getBig(VcpuGuestContext.ctrlreg + 24)).toBe(register('cr3'));
  // In kernel mode, online, with the state of the FPU.
  expect(vcpu.getU64(VcpuGuestContext.flags)).toBe(1 | 4 | 32);

  const p2m = of('.xen_p2m');
  const entries = Array.from({ length: pages }, (_, i) => [p2m.getBig(16 * i), p2m.getBig(16 * i + 8)]);
  const none = 2n ** 64n - 1n;
  const valid = entries.filter(([pfn]) => pfn !== none);
  expect(valid.length).toBe(pages - 2);
  expect(valid).toEqual(entries.slice(0, pages - 2));
  expect(valid.every(([pfn], i) => i === 0 || pfn > valid[i - 1][0])).toBe(true);
  const contents = sections.get('.xen_pages')!.bytes;
  for (const frame of [1, 0x40, pages - 1]) {
    const i = entries.findIndex(([, gmfn]) => gmfn === BigInt(mfn(frame)));
    expect(entries[i][0]).toBe(BigInt(5000 - frame));
    const page = contents.subarray(i * 4096, (i + 1) * 4096);
    expect(Buffer.compare(page, ram.bytes(frame, 1)), `frame ${frame}`).toBe(0);
  }
  expect(contents.subarray((pages - 2) * 4096).every((byte) => byte === 0)).toBe(true);
});
