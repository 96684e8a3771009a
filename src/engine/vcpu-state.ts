/**
 * A vCPU's state as it is saved: everything that the guest, or the engine's next step, depends on. Any engine can
 * save and restore it; its record in a stream is the same for all.
 */
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
} from '../records/fields.js';
import { concatBytes, decodeAll, decodeRecord, encodeRecord, recordType } from '../records/record.js';

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

/** The fields of the record. An engine that does not count instructions saves the same `retired` as it restored. */
export type VcpuState = ValueOf<typeof table>;

const REGISTERS = 16;
/** The numbers of the debug registers in VcpuState.dr. */
export const SAVED_DRS: readonly number[] = [0, 1, 2, 3, 6, 7];
export const SEGMENTS = 6;

/**
 * Throws unless these are the states of `vcpus` vCPUs, in order and with the right shape; engines call it before they
 * restore.
 */
export function checkVcpuStates(states: readonly VcpuState[], vcpus: number): void {
  if (states.length !== vcpus || states.some((state, i) => state.number !== i))
    throw new Error(`${vcpus} vCPUs expected, found ${states.length}`);
  for (const { number, registers, dr, selectors, segments } of states) {
    if (
      registers.length !== REGISTERS ||
      dr.length !== SAVED_DRS.length ||
      selectors.length !== SEGMENTS ||
      (segments.length !== 0 && segments.length !== SEGMENTS)
    )
      throw new RangeError(`the saved state of vCPU ${number} has a wrong number of registers`);
  }
}

/** The records of all vCPUs, one after another. */
export const encodeVcpuStates = (states: readonly VcpuState[]): Uint8Array =>
  concatBytes(states.map((state) => encodeRecord(vcpuRecord, state)));

/** Throws RecordError. */
export const decodeVcpuStates = (records: Uint8Array): VcpuState[] =>
  decodeAll(records).map((raw) => decodeRecord(vcpuRecord, raw));
