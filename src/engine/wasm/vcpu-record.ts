/** A vCPU's state as it is saved: everything that the guest, or what the machine does next, depends on. */
import {
  big64,
  block,
  bool,
  int,
  list,
  struct,
  type Table,
  u8,
  u16,
  u32,
  type ValueOf,
} from '../../records/fields.js';
import { recordType } from '../../records/record.js';
import type { LinearMemory } from '../../xen/memory.js';
import {
  CR0,
  CR2,
  CR3_KERNEL,
  CR3_USER,
  CR4,
  DR,
  FCS,
  FCW,
  FDP,
  FIP,
  FOP,
  FS_BASE,
  FSW,
  FTW,
  GS_BASE,
  GS_BASE_OTHER,
  KIND_LONG,
  MXCSR,
  RIP,
  SELECTORS,
  X87_ST,
  XMM,
} from './core/layout.js';
import type { Vcpu } from './vcpu.js';

const segment = struct({
  base: [u32, 'base'],
  limit: [u32, 'last byte'],
  rights: [u32, 'as in the upper half of a descriptor; 0: not to be used'],
});

const earlier = {
  number: [u8, 'the number of the vCPU'],
  registers: [list(big64), 'rax rcx rdx rbx rsp rbp rsi rdi r8 to r15'],
  rip: [big64, 'the next instruction'],
  rflags: [u32, 'all flags, IF as 1'],
  userMode: [bool, 'the guest user runs, not the guest kernel'],
  cr0: [big64, 'as the guest set it'],
  cr2: [big64, 'address of the last page fault'],
  cr3Kernel: [big64, "machine frame of the kernel's top page table"],
  cr3User: [big64, "machine frame of the user's top page table"],
  cr4: [big64, 'as the guest set it'],
  fsBase: [big64, 'FS base'],
  gsBase: [big64, 'GS base of the mode that runs'],
  gsBaseOther: [big64, 'GS base of the other mode'],
  dr: [list(big64), 'dr0 dr1 dr2 dr3 dr6 dr7'],
  selectors: [list(u16), 'es cs ss ds fs gs'],
  xmm: [block(256), 'xmm0 to xmm15'],
  mxcsr: [u32, 'MXCSR'],
  st: [block(128), 'the eight physical x87 registers, 10 of 16 bytes each'],
  fcw: [u16, 'x87 control word'],
  fsw: [u16, 'x87 status word, TOP included'],
  ftw: [u8, 'x87 tags, one bit a physical register: 1 is in use'],
  fop: [u16, 'x87 opcode'],
  fip: [big64, 'x87 instruction pointer'],
  fdp: [big64, 'x87 operand pointer'],
  fselectors: [u32, 'x87 code and data selectors'],
  retired: [int, 'instructions executed since power-on'],
} as const satisfies Table;

const table = {
  ...earlier,
  segments: [list(segment), 'of compatibility mode: es cs ss ds fs gs; none while 64-bit code runs'],
} as const satisfies Table;

/** Version 1 had no compatibility mode. */
export const vcpuRecord = recordType('VCPU', 2, 'the state of one vCPU', table, [
  {
    version: 1,
    body: struct(earlier),
    upgrade: (v: ValueOf<typeof earlier>) => ({ ...v, segments: [] }),
  },
]);
export type SavedVcpu = ValueOf<typeof table>;

const NUMBERS: readonly (readonly [name: BigField, offset: number])[] = [
  ['rip', RIP],
  ['cr0', CR0],
  ['cr2', CR2],
  ['cr3Kernel', CR3_KERNEL],
  ['cr3User', CR3_USER],
  ['cr4', CR4],
  ['fsBase', FS_BASE],
  ['gsBase', GS_BASE],
  ['gsBaseOther', GS_BASE_OTHER],
  ['fip', FIP],
  ['fdp', FDP],
];
type BigField = {
  [K in keyof SavedVcpu & string]: SavedVcpu[K] extends bigint ? K : never;
}[keyof SavedVcpu & string];
const DRS = [0, 1, 2, 3, 6, 7];
const SELECTOR_COUNT = 6;

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

export function saveVcpu(v: Vcpu, mem: LinearMemory): SavedVcpu {
  const at = v.gprs;
  return {
    number: v.id,
    registers: range(16).map((i) => v.regBig(i)),
    ...(Object.fromEntries(NUMBERS.map(([name, offset]) => [name, mem.getBig(at + offset)])) as Record<
      BigField,
      bigint
    >),
    rflags: v.rflags,
    userMode: v.userMode,
    dr: DRS.map((i) => mem.getBig(at + DR + 8 * i)),
    selectors: range(SELECTOR_COUNT).map((i) => mem.getU16(at + SELECTORS + 2 * i)),
    xmm: mem.bytes(at + XMM, 256).slice(),
    mxcsr: mem.getU32(at + MXCSR),
    st: mem.bytes(at + X87_ST, 128).slice(),
    fcw: mem.getU16(at + FCW),
    fsw: mem.getU16(at + FSW),
    ftw: mem.getU8(at + FTW),
    fop: mem.getU16(at + FOP),
    fselectors: mem.getU32(at + FCS),
    retired: v.retired,
    segments:
      v.codeKind === KIND_LONG
        ? []
        : range(SELECTOR_COUNT).map((i) => ({
            base: v.segmentBase(i),
            limit: v.segmentLimit(i),
            rights: v.segmentRights(i),
          })),
  };
}

export function restoreVcpu(v: Vcpu, mem: LinearMemory, saved: SavedVcpu): void {
  const at = v.gprs;
  if (
    saved.registers.length !== 16 ||
    saved.dr.length !== DRS.length ||
    saved.selectors.length !== SELECTOR_COUNT ||
    (saved.segments.length !== 0 && saved.segments.length !== SELECTOR_COUNT)
  )
    throw new RangeError(`the saved state of vCPU ${saved.number} has a wrong number of registers`);
  for (const [i, value] of saved.registers.entries()) v.setRegBig(i, value);
  for (const [name, offset] of NUMBERS) mem.setBig(at + offset, saved[name]);
  v.rflags = saved.rflags;
  v.userMode = saved.userMode;
  for (const [i, value] of saved.dr.entries()) mem.setBig(at + DR + 8 * DRS[i], value);
  for (const [i, value] of saved.selectors.entries()) mem.setU16(at + SELECTORS + 2 * i, value);
  v.cs = saved.selectors[1];
  for (const [i, s] of saved.segments.entries()) v.setSegment(i, s.base, s.limit, s.rights);
  if (saved.segments.length !== 0) v.setCompatibility();
  mem.u8.set(saved.xmm, at + XMM);
  mem.setU32(at + MXCSR, saved.mxcsr);
  mem.u8.set(saved.st, at + X87_ST);
  mem.setU16(at + FCW, saved.fcw);
  mem.setU16(at + FSW, saved.fsw);
  mem.setU8(at + FTW, saved.ftw);
  mem.setU16(at + FOP, saved.fop);
  mem.setU32(at + FCS, saved.fselectors);
  v.retired = saved.retired;
}
