/** Reads a vCPU's state from its area in linear memory, and writes it there. */
import type { LinearMemory } from '../../xen/memory.js';
import { SAVED_DRS, SEGMENTS, type VcpuState } from '../vcpu-state.js';
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
  [K in keyof VcpuState & string]: VcpuState[K] extends bigint ? K : never;
}[keyof VcpuState & string];

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

export function saveVcpu(v: Vcpu, mem: LinearMemory): VcpuState {
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
    dr: SAVED_DRS.map((i) => mem.getBig(at + DR + 8 * i)),
    selectors: range(SEGMENTS).map((i) => mem.getU16(at + SELECTORS + 2 * i)),
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
        : range(SEGMENTS).map((i) => ({
            base: v.segmentBase(i),
            limit: v.segmentLimit(i),
            rights: v.segmentRights(i),
          })),
  };
}

/** Restores a state that checkVcpuStates() has accepted. */
export function restoreVcpu(v: Vcpu, mem: LinearMemory, saved: VcpuState): void {
  const at = v.gprs;
  for (const [i, value] of saved.registers.entries()) v.setRegBig(i, value);
  for (const [name, offset] of NUMBERS) mem.setBig(at + offset, saved[name]);
  v.rflags = saved.rflags;
  v.userMode = saved.userMode;
  for (const [i, value] of saved.dr.entries()) mem.setBig(at + DR + 8 * SAVED_DRS[i], value);
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
