/**
 * What a guest runs on: its memory, its page tables in use, its vCPUs, and a processor that executes their
 * instructions. The hypervisor knows this interface and no engine behind it.
 *
 * Invariant: the guest's instructions reach nothing but the frames of `GuestRam`. Between two calls of run() a vCPU's
 * state is exact: it stands between two instructions, or before the one that faulted, with nothing of it done.
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
  /** `syscall`; rip is after it. RCX and R11 are what the processor makes of them, or what they were. */
  syscall = 1,
  /** See exitVector, exitErrorCode, exitCr2. */
  exception = 2,
  /** An instruction that is #GP at CPL 3: to be emulated or reflected. */
  privileged = 3,
  /** Segment loads, far transfers and the like: needs descriptor tables. */
  descriptor = 4,
  /** `ud2` followed by "xen". */
  forcedEmulation = 5,
  /** requestExit() was called. */
  halted = 6,
}

/** What translate() is asked for: one of the first three, and at most one of the others added to it. */
export enum Intent {
  read = 0,
  /** Sets the accessed and the dirty bit, puts the frame into the dirty log, and drops its decoded code. */
  write = 1,
  execute = 2,
  /** By the tables and rules of the guest's user mode, whatever mode the vCPU is in. */
  asUser = 4,
  /** By those of the guest's kernel. */
  asKernel = 8,
}

/** What every engine needs to know of its guest. */
export interface EngineConfig {
  /** Machine frames, those of Xen included; up to about 3 GiB. */
  readonly map: FrameMap;
  /** 1 to MAX_VCPUS. */
  readonly vcpus: number;
  readonly cpuid: CpuidTable;
  /** Virtual time in ns: for rdtsc, and for the ends of slices. */
  now(): number;
}

export type CreateEngine = (config: EngineConfig) => Promise<CpuEngine>;

/** Numbers of the registers that are no general registers. The numbers themselves say nothing. */
export const RIP = 32;
export const CR2 = 46;

/** One vCPU's registers, and why it stopped. Numbers are signed 64-bit values as doubles: exact for canonical addresses. */
export interface EngineVcpu {
  readonly id: number;
  /**
   * A register by its number: 0 to 15 are rax rcx rdx rbx rsp rbp rsi rdi r8 to r15, as instructions encode them; then
   * RIP and CR2.
   */
  reg(i: number): number;
  setReg(i: number, v: number): void;
  /** The same where all 64 bits matter: the lower half, unsigned, and the upper half, signed. */
  regLo(i: number): number;
  regHi(i: number): number;
  setRegHalves(i: number, lo: number, hi: number): void;
  /** Both at once, where time does not matter. */
  regBig(i: number): bigint;
  setRegBig(i: number, v: bigint): void;
  rip: number;
  /** All of rflags; IF reads as 1. */
  rflags: number;
  /** TF: an exception after the next instruction. */
  readonly stepping: boolean;
  /** RF: the next instruction is begun without a look at instruction breakpoints. */
  resuming: boolean;
  /**
   * Behind an instruction that loads SS: the data breakpoints that it hit, as DR6 shows them; -1 elsewhere. Debug
   * exceptions and events wait until the next instruction is done. SDM volume 3, 6.8.3. It is no part of the saved state.
   */
  stackShadow: number;
  /** False: the guest's kernel runs. */
  userMode: boolean;
  fsBase: number;
  gsBase: number;
  /** The GS base of the mode that does not run now. */
  gsBaseOther: number;
  /** Machine frame of the kernel's, and of the user's, top page table. */
  cr3Kernel: number;
  cr3User: number;
  cr0: number;
  cr2: number;
  cr4: number;
  dr(i: number): number;
  setDr(i: number, v: number): void;
  es: number;
  /** To set it begins 64-bit code, until setCompatibility(). */
  cs: number;
  ss: number;
  ds: number;
  fs: number;
  gs: number;
  /** Bits of the present code's operands and addresses by default: 64, or in compatibility mode 32 or 16. */
  readonly codeBits: number;
  /** Linear address of code at `rip`. */
  linear(rip: number): number;
  /** `number` counts es cs ss ds fs gs. */
  selector(number: number): number;
  /** In compatibility mode, what the processor knows of a segment. */
  segmentBase(number: number): number;
  segmentLimit(number: number): number;
  /** As in the upper half of a descriptor; 0: the segment cannot be used. */
  segmentRights(number: number): number;
  /** Bases of fs and gs are kept as fsBase and gsBase: `base` counts for the others. */
  setSegment(number: number, base: number, limit: number, rights: number): void;
  /** Begins compatibility mode, whose segments are set, or goes on in it after one was changed. */
  setCompatibility(): void;
  readonly exitVector: number;
  readonly exitErrorCode: number;
  readonly exitCr2: number;
  /** Length in bytes of the instruction that left. */
  readonly exitLength: number;
  /** The exception is an `int`, `int3` or `into` instruction: rip is after it. */
  readonly exitSoftware: boolean;
  /** Why translate() failed: a page fault's error code and address. */
  readonly faultCode: number;
  readonly faultAddress: number;
  /** Instructions executed since power-on: of engines with exactCounts. */
  readonly retired?: number;
  /** Loads the 512 bytes of an fxsave image. */
  loadFpu(image: Uint8Array): void;
}

/** Bits of a set of vCPUs, by their numbers: all of them. */
export const ALL_VCPUS = (1 << MAX_VCPUS) - 1;

/**
 * Page tables in use. Frames are given by their indexes.
 *
 * Who may write what: until typed() a page that is to be a table is memory like any other (touch()), and again from
 * untyped() on. In between setEntry() is the only writer besides the vCPUs, which set accessed and dirty bits as they
 * walk. A change may be seen at once; it is seen for certain after a flush.
 */
export interface EngineTables {
  /** The frame is a page table of a level, 1 to 4, from now on: no vCPU writes it by a translation from before. */
  typed(frame: number, level: number): void;
  untyped(frame: number): void;
  /** Sets entry `index`, 0 to 511, of a table of `level` to 64 bits given as halves. */
  setEntry(table: number, index: number, level: number, lo: number, hi: number): void;
  /**
   * Loads the top table of a mode, as MOV to CR3 does: no translation of the old one, and none that is out of date, is
   * used any more. The old table may be the new one.
   */
  loadRoot(vcpu: number, user: boolean, mfn: number): void;
  /**
   * Changes are seen by these vCPUs (a set of bits, ALL_VCPUS for all) in both modes: those of the page at `va`, or if none
   * is given all of them.
   */
  flush(vcpus: number, va?: number): void;
}

/** Which frames were written: by the guest, and by the host where it says so (touch, translate for writing, setEntry). */
export interface DirtyLog {
  /** From here on writes are noted; none is yet. */
  start(): void;
  /**
   * ORs the frames of a range (all, if none is given) that were written since they were read last into `into`, one
   * bit a frame counted from frame 0, and forgets them; how many. Throws RangeError for frames that are none.
   */
  read(into: Uint8Array, first?: number, count?: number): number;
  stop(): void;
}

/** Code that ran often, so that another host's engine of the same kind can make it ready before the guest arrives. */
export interface WarmUp {
  /**
   * Where the code begins that ran often: offsets from the first frame's first byte, at most `most`, roughly those first
   * that ran more often.
   */
  hotCode(most: number): Uint32Array;
  /**
   * Makes the code at an offset of hotCode() ready, before the guest's state is here. From the first call to restore() who
   * writes the memory says so by touch(); otherwise restore() forgets what was made ready.
   */
  prepareCode(offset: number): void;
}

/** What one kind of engine can and another cannot. */
export interface Abilities {
  /** `retired` counts every instruction, the same on every host and in every run: deterministic guests need it. */
  readonly exactCounts: boolean;
  /** `asked`: each rdtsc asks EngineConfig.now; `scaled`: the host's counter is scaled to it. */
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
   * How far a vCPU goes from here, in however many calls of run(): for so many instructions, of which one that faults is
   * none, or until the virtual time `untilNs`, whichever comes first; Infinity for what does not matter. `now`: the
   * virtual time. An engine with exactCounts keeps to the instructions exactly. The time is a wish: an engine may look at
   * its clock early or late by what the guest does in some microseconds.
   */
  slice(vcpu: number, instructions: number, now: number, untilNs: number): void;
  /**
   * Executes instructions of the guest's, until one needs the hypervisor or the slice is over. Behind a load of SS
   * (stackShadow) one more instruction is executed, slice or no slice.
   */
  run(vcpu: number): Exit;
  /** A vCPU's run() returns Exit.halted as soon as it can: the one that is under way, or its next. */
  requestExit(vcpu: number): void;
  /**
   * Linear address of a guest address, or -1 with the vCPU's fault fields set, by an Intent. Valid to the end of the page
   * and for this synchronous turn.
   */
  translate(vcpu: number, va: number, intent: number): number;
  /** Host code writes into the frame at this linear address: it is in the dirty log, and its decoded code goes. */
  touch(linear: number): void;
  /** The states of all vCPUs, in order; frames are saved by whoever saves the guest. */
  save(): VcpuState[];
  /** Takes states that any engine has given, into one that has not run yet, or that has nothing any more to lose. */
  restore(states: readonly VcpuState[]): void;
  /** Gives back what the system lent it. The guest runs no more; its memory can still be read. */
  close(): void;
}
