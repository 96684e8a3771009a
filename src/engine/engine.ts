/**
 * The engine of a guest: its memory, its page tables in use, its vCPUs, and a processor that executes their
 * instructions. The hypervisor knows this interface, and no particular engine.
 *
 * Invariant: the guest's instructions reach nothing but the frames of `GuestRam`. Between two calls of run() a vCPU's
 * state is exact: it stands between two instructions, or before the one that faulted, none of which has been
 * performed.
 */
import type { CpuidTable } from './cpuid.js';
import type { FrameMap, GuestRam } from './ram.js';
import type { VcpuState } from './vcpu-state.js';

export { FrameMap, type GuestRam, PAGE } from './ram.js';

/** Most vCPUs that a guest can have. */
export const MAX_VCPUS = 8;

/** Why run() returned. */
export enum Exit {
  /** The slice is over: see CpuEngine.slice. */
  limit = 0,
  /** `syscall`; rip is after it. RCX and R11 have either the values that the processor would set, or their old ones. */
  syscall = 1,
  /** See exitVector, exitErrorCode, exitCr2. */
  exception = 2,
  /** An instruction that raises #GP at CPL 3: the hypervisor emulates or reflects it. */
  privileged = 3,
  /** Segment loads, far transfers and similar instructions that need descriptor tables. */
  descriptor = 4,
  /** `ud2` followed by "xen". */
  forcedEmulation = 5,
  /** requestExit() was called. */
  halted = 6,
}

/** The purpose of a translate() call: one of the first three, plus at most one of the others. */
export enum Intent {
  read = 0,
  /** Sets the accessed and the dirty bit, marks the frame in the dirty log, and drops its decoded code. */
  write = 1,
  execute = 2,
  /** With the tables and rules of guest user mode, whatever mode the vCPU is in. */
  asUser = 4,
  /** With those of guest kernel mode. */
  asKernel = 8,
}

/** What every engine must know of its guest. */
export interface EngineConfig {
  /** The machine frames, including Xen's; up to about 3 GiB. */
  readonly map: FrameMap;
  /** 1 to MAX_VCPUS. */
  readonly vcpus: number;
  readonly cpuid: CpuidTable;
  /** Virtual time in ns: for rdtsc, and for the ends of slices. */
  now(): number;
}

export type CreateEngine = (config: EngineConfig) => Promise<CpuEngine>;

/** Numbers of the registers that are not general registers. The values have no meaning. */
export const RIP = 32;
export const CR2 = 46;

/**
 * One vCPU's registers, and why it stopped. Numbers are signed 64-bit values as doubles: exact for canonical
 * addresses.
 */
export interface EngineVcpu {
  readonly id: number;
  /**
   * A register by its number: 0 to 15 are rax rcx rdx rbx rsp rbp rsi rdi r8 to r15, as instructions encode them;
   * then RIP and CR2.
   */
  reg(i: number): number;
  setReg(i: number, v: number): void;
  /** The same if all 64 bits matter: the lower half, unsigned, and the upper half, signed. */
  regLo(i: number): number;
  regHi(i: number): number;
  setRegHalves(i: number, lo: number, hi: number): void;
  /** Both halves at once, for code that need not be fast. */
  regBig(i: number): bigint;
  setRegBig(i: number, v: bigint): void;
  rip: number;
  /** All of rflags; IF reads as 1. */
  rflags: number;
  /** TF: an exception follows the next instruction. */
  readonly stepping: boolean;
  /** RF: instruction breakpoints are not checked for the next instruction. */
  resuming: boolean;
  /**
   * After an instruction that loads SS: the data breakpoints that it hit, in the form of DR6; otherwise -1. Debug
   * exceptions and events are held back until the next instruction is complete. SDM volume 3, 6.8.3. This is not part
   * of the saved state.
   */
  stackShadow: number;
  /** False: the guest's kernel runs. */
  userMode: boolean;
  fsBase: number;
  gsBase: number;
  /** The GS base of the mode that is not running now. */
  gsBaseOther: number;
  /** Machine frames of the top page tables of kernel and user mode. */
  cr3Kernel: number;
  cr3User: number;
  cr0: number;
  cr2: number;
  cr4: number;
  dr(i: number): number;
  setDr(i: number, v: number): void;
  es: number;
  /** Setting it also starts 64-bit code, until setCompatibility(). */
  cs: number;
  ss: number;
  ds: number;
  fs: number;
  gs: number;
  /** Default size of operands and addresses of the current code, in bits: 64, or in compatibility mode 32 or 16. */
  readonly codeBits: number;
  /** Linear address of code at `rip`. */
  linear(rip: number): number;
  /** `number`: index in es cs ss ds fs gs. */
  selector(number: number): number;
  /** The hidden part of a segment register in compatibility mode. */
  segmentBase(number: number): number;
  segmentLimit(number: number): number;
  /** As in the upper half of a descriptor; 0: the segment is unusable. */
  segmentRights(number: number): number;
  /** `base` is ignored for fs and gs, whose bases are fsBase and gsBase. */
  setSegment(number: number, base: number, limit: number, rights: number): void;
  /** Starts compatibility mode with the segments that were set, or applies a change of one. */
  setCompatibility(): void;
  readonly exitVector: number;
  readonly exitErrorCode: number;
  readonly exitCr2: number;
  /** Length of the instruction that caused the exit, bytes. */
  readonly exitLength: number;
  /** The exception was raised by an `int`, `int3` or `into` instruction: rip is after it. */
  readonly exitSoftware: boolean;
  /** Why translate() failed: the error code and the address of a page fault. */
  readonly faultCode: number;
  readonly faultAddress: number;
  /** Instructions executed since power-on, for engines with exactCounts. */
  readonly retired?: number;
  /** The 512 bytes of an fxsave image of what it has now. */
  saveFpu(): Uint8Array;
  /** Loads the 512 bytes of an fxsave image. */
  loadFpu(image: Uint8Array): void;
}

/** A set of vCPUs has one bit for each by its number; this is the set of all. */
export const ALL_VCPUS = (1 << MAX_VCPUS) - 1;

/**
 * The page tables in use. Frames are given by their indexes.
 *
 * Who may write a table: until typed(), and again from untyped() on, a page is ordinary memory (touch()). In between,
 * setEntry() is the only writer besides the vCPUs, which set accessed and dirty bits as they walk. A vCPU may see a
 * change at once; after a flush it is certain to see it.
 */
export interface EngineTables {
  /** From now on the frame is a page table of this level, 1 to 4: no vCPU may write it through an older translation. */
  typed(frame: number, level: number): void;
  untyped(frame: number): void;
  /** Sets entry `index`, 0 to 511, of a table of `level` to 64 bits, given as halves. */
  setEntry(table: number, index: number, level: number, lo: number, hi: number): void;
  /**
   * Loads the top table of a mode, as MOV to CR3 does: translations of the old table, and stale ones, are no longer
   * used. The old and the new table may be the same.
   */
  loadRoot(vcpu: number, user: boolean, mfn: number): void;
  /**
   * Makes these vCPUs (a set of bits, ALL_VCPUS for all) see changes in both modes: changes to the page at `va`, or
   * all changes if it is omitted.
   */
  flush(vcpus: number, va?: number): void;
}

/** The frames that were written: by the guest, and by the host through touch, translate for writing and setEntry. */
export interface DirtyLog {
  /** Starts to record writes; the log is empty at first. */
  start(): void;
  /**
   * ORs the frames of a range (default: all) that were written since the last read into `into`, one bit per frame
   * counted from frame 0, and clears them; returns their number. Throws RangeError for frames that do not exist.
   */
  read(into: Uint8Array, first?: number, count?: number): number;
  stop(): void;
}

/** Frequently executed code, which another host's engine of the same kind can prepare before the guest arrives. */
export interface WarmUp {
  /**
   * Start addresses of frequently executed code, as offsets from the first frame, at most `most`, ordered roughly by
   * how often it ran.
   */
  hotCode(most: number): Uint32Array;
  /**
   * Prepares the code at an offset of hotCode(), before the guest's state has arrived. From the first call on until
   * restore(), whoever writes the memory must call touch(); otherwise restore() discards what was prepared.
   */
  prepareCode(offset: number): void;
}

/** Abilities in which engines differ. */
export interface Abilities {
  /** `retired` counts every instruction, the same on every host and in every run, which deterministic guests need. */
  readonly exactCounts: boolean;
  /** `asked`: each rdtsc calls EngineConfig.now; `scaled`: the host's counter is scaled to it. */
  readonly rdtsc: 'asked' | 'scaled';
  /** vCPUs run at the same time, each in a thread of its own. */
  readonly parallelVcpus: boolean;
  readonly warmUp?: WarmUp;
}

export interface CpuEngine {
  readonly abilities: Abilities;
  readonly ram: GuestRam;
  readonly tables: EngineTables;
  readonly dirty: DirtyLog;
  readonly vcpus: readonly EngineVcpu[];
  /**
   * Starts a slice for a vCPU, which may take several calls of run(): it lasts for `instructions` instructions (an
   * instruction that faults does not count), or until the virtual time `untilNs`, whichever comes first; Infinity
   * means no limit. `now`: the virtual time. An engine with exactCounts observes the number exactly. The end by time
   * is approximate: an engine may check its clock some microseconds early or late.
   */
  slice(vcpu: number, instructions: number, now: number, untilNs: number): void;
  /**
   * Executes the guest's instructions until one needs the hypervisor or the slice is over. After a load of SS
   * (stackShadow) one more instruction is executed, even if the slice is over.
   */
  run(vcpu: number): Exit;
  /** Makes a vCPU's run() return Exit.halted as soon as possible: the current call, or else the next. */
  requestExit(vcpu: number): void;
  /**
   * Translates a guest address for an Intent to a linear address; -1 if it faults, with the vCPU's fault fields set.
   * The result is valid to the end of the page, and until the caller returns to the event loop.
   */
  translate(vcpu: number, va: number, intent: number): number;
  /** Host code writes into the frame at this linear address: marks it dirty and drops its decoded code. */
  touch(linear: number): void;
  /** The states of all vCPUs, in order. The frames are saved by the caller. */
  save(): VcpuState[];
  /** Restores states that any engine has saved, into an engine that has not run, or whose state is no longer needed. */
  restore(states: readonly VcpuState[]): void;
  /** Releases system resources. The guest cannot run any more; its memory can still be read. */
  close(): void;
}
