/**
 * One vCPU's registers, in place in linear memory: nothing is copied and nothing is allocated. Numbers are signed
 * 64-bit values as doubles (exact for canonical addresses); if all bits matter, there is a bigint form.
 */
import type { LinearMemory } from '../../xen/memory.js';
import type { EngineVcpu } from '../engine.js';
import {
  CODE_KIND,
  CR0,
  CR2,
  CR3_KERNEL,
  CR3_USER,
  CR4,
  CS_BASE,
  DR,
  DS_BASE,
  ES_BASE,
  EXIT_CR2,
  EXIT_ERROR,
  EXIT_LENGTH,
  EXIT_SOFTWARE,
  EXIT_VECTOR,
  FAULT_ADDRESS,
  FAULT_CODE,
  FCW,
  FDP,
  FIP,
  FOP,
  FS_BASE,
  FSW,
  FTW,
  GS_BASE,
  GS_BASE_OTHER,
  KIND_16,
  KIND_CHECKED,
  KIND_FLAT,
  KIND_LONG,
  MODE,
  MXCSR,
  RETIRED,
  RIP,
  SCRATCH,
  SEGMENT_LIMITS,
  SEGMENT_RIGHTS,
  SEGMENTS_CHECKED,
  SELECTORS,
  SS_BASE,
  SYSTEM_FLAGS,
  VCPU_BASE,
  VCPU_STRIDE,
  X87_ST,
  XMM,
} from './core/layout.js';

/** Flags that arithmetic sets: CF, PF, AF, ZF, SF, OF. */
const ARITHMETIC = 0x8d5;
/** Flags that are always set at CPL 3 here: bit 1 and IF. */
const ALWAYS = 0x202;
/** Flags that are stored separately: TF, DF, IOPL, NT, RF, AC, ID. */
const OTHER = 0x257500;
const TF = 0x100;
const RF = 0x1_0000;
/** ES and B of the x87 status word. */
const PENDING = 0x8080;
/** Bits of MXCSR that may be set. */
const MXCSR_MASK = 0xffff;

/** Segment numbers. */
const CS = 1;
const FS = 4;
const BASES = [ES_BASE, CS_BASE, SS_BASE, DS_BASE, FS_BASE, GS_BASE];
/** The core stores fs and gs first. */
const cacheOf = (number: number): number => 4 * ((number + 2) % BASES.length);
const WHOLE = 0xffff_ffff;
const SEGMENT_BIG = 0x40_0000;
/**
 * Type bits of a descriptor (code or data; expand-down or conforming; writable or readable), and their values for
 * segments that allow every access.
 */
const NOT_LIMITED = 0xe00;
const WRITABLE_DATA = 0x200;
const READABLE_CODE = 0xa00;

export class Vcpu implements EngineVcpu {
  /**
   * Linear address of the register file: register i is the 8 bytes at 8*i; RIP and CR2 have numbers that fit this
   * scheme.
   */
  readonly gprs: number;
  private readonly view: DataView;

  /**
   * After an instruction that loads SS: the data breakpoints that it hit, in the form of DR6; otherwise -1. Debug
   * exceptions and events are held back until the next instruction is complete, so that two instructions can switch a
   * stack. SDM volume 3, 6.8.3. The caller runs one more instruction in this case, so this is not part of the saved
   * state.
   */
  stackShadow = -1;
  /** End of the current slice: the instruction count at which it ends, and whether it is a slice by time. */
  end = 0;
  timed = false;
  /** For a slice by time: when it began, in virtual ns, and the instruction count at that time. */
  began = 0;
  beganAt = 0;

  constructor(
    readonly id: number,
    private readonly mem: LinearMemory,
    private readonly flags: { get(vcpu: number): number; set(vcpu: number, arithmetic: number): void },
  ) {
    this.gprs = VCPU_BASE + id * VCPU_STRIDE;
    this.view = mem.view;
  }

  reg(i: number): number {
    return this.mem.getS64(this.gprs + 8 * i);
  }
  setReg(i: number, v: number): void {
    this.mem.setU64(this.gprs + 8 * i, v);
  }
  // These read through the DataView directly, because every hypercall reads its arguments this way.
  regLo(i: number): number {
    return this.view.getUint32(this.gprs + 8 * i, true);
  }
  regHi(i: number): number {
    return this.view.getInt32(this.gprs + 8 * i + 4, true);
  }
  setRegHalves(i: number, lo: number, hi: number): void {
    const at = this.gprs + 8 * i;
    this.view.setUint32(at, lo, true);
    this.view.setInt32(at + 4, hi, true);
  }
  regBig(i: number): bigint {
    return this.mem.getBig(this.gprs + 8 * i);
  }
  setRegBig(i: number, v: bigint): void {
    this.mem.setBig(this.gprs + 8 * i, BigInt.asUintN(64, v));
  }

  get rip(): number {
    return this.mem.getS64(this.gprs + RIP);
  }
  set rip(v: number) {
    this.mem.setU64(this.gprs + RIP, v);
  }
  /** All of rflags; IF reads as 1. */
  get rflags(): number {
    return (
      (this.flags.get(this.id) & ARITHMETIC) | (this.mem.getU32(this.gprs + SYSTEM_FLAGS) & OTHER) | ALWAYS
    );
  }
  set rflags(v: number) {
    this.flags.set(this.id, v & ARITHMETIC);
    this.mem.setU32(this.gprs + SYSTEM_FLAGS, v & OTHER);
  }
  /** TF: an exception follows the next instruction. */
  get stepping(): boolean {
    return (this.mem.getU32(this.gprs + SYSTEM_FLAGS) & TF) !== 0;
  }
  /** RF: instruction breakpoints are not checked for the next instruction. */
  get resuming(): boolean {
    return (this.mem.getU32(this.gprs + SYSTEM_FLAGS) & RF) !== 0;
  }
  set resuming(v: boolean) {
    const flags = this.mem.getU32(this.gprs + SYSTEM_FLAGS);
    this.mem.setU32(this.gprs + SYSTEM_FLAGS, v ? flags | RF : flags & ~RF);
  }
  /** False: the guest's kernel runs. */
  get userMode(): boolean {
    return this.mem.getU32(this.gprs + MODE) !== 0;
  }
  set userMode(v: boolean) {
    this.mem.setU32(this.gprs + MODE, v ? 1 : 0);
  }
  get retired(): number {
    return this.mem.getU64(this.gprs + RETIRED);
  }
  set retired(v: number) {
    this.mem.setU64(this.gprs + RETIRED, v);
  }
  get fsBase(): number {
    return this.mem.getS64(this.gprs + FS_BASE);
  }
  set fsBase(v: number) {
    this.mem.setU64(this.gprs + FS_BASE, v);
  }
  get gsBase(): number {
    return this.mem.getS64(this.gprs + GS_BASE);
  }
  set gsBase(v: number) {
    this.mem.setU64(this.gprs + GS_BASE, v);
  }
  /** The GS base of the mode that is not running now. */
  get gsBaseOther(): number {
    return this.mem.getS64(this.gprs + GS_BASE_OTHER);
  }
  set gsBaseOther(v: number) {
    this.mem.setU64(this.gprs + GS_BASE_OTHER, v);
  }
  /** Machine frames of the top page tables of kernel and user mode. The caller flushes the TLB. */
  get cr3Kernel(): number {
    return this.mem.getU64(this.gprs + CR3_KERNEL);
  }
  set cr3Kernel(mfn: number) {
    this.mem.setU64(this.gprs + CR3_KERNEL, mfn);
  }
  get cr3User(): number {
    return this.mem.getU64(this.gprs + CR3_USER);
  }
  set cr3User(mfn: number) {
    this.mem.setU64(this.gprs + CR3_USER, mfn);
  }
  get cr0(): number {
    return this.mem.getU32(this.gprs + CR0);
  }
  set cr0(v: number) {
    this.mem.setU64(this.gprs + CR0, v >>> 0);
  }
  get cr2(): number {
    return this.mem.getS64(this.gprs + CR2);
  }
  set cr2(v: number) {
    this.mem.setU64(this.gprs + CR2, v);
  }
  get cr4(): number {
    return this.mem.getU32(this.gprs + CR4);
  }
  set cr4(v: number) {
    this.mem.setU64(this.gprs + CR4, v >>> 0);
  }
  dr(i: number): number {
    return this.mem.getS64(this.gprs + DR + 8 * i);
  }
  setDr(i: number, v: number): void {
    this.mem.setU64(this.gprs + DR + 8 * i, v);
  }
  get es(): number {
    return this.mem.getU16(this.gprs + SELECTORS);
  }
  set es(v: number) {
    this.mem.setU16(this.gprs + SELECTORS, v);
  }
  get cs(): number {
    return this.mem.getU16(this.gprs + SELECTORS + 2);
  }
  /** Also starts 64-bit code, until setCodeKind() changes it. */
  set cs(v: number) {
    this.mem.setU16(this.gprs + SELECTORS + 2, v);
    this.mem.setU32(this.gprs + CODE_KIND, KIND_LONG);
  }
  /** How code is executed: one of the KIND_ constants of core/layout.ts. All but KIND_LONG are compatibility mode. */
  get codeKind(): number {
    return this.mem.getU32(this.gprs + CODE_KIND);
  }
  /** Default size of operands and addresses of the current code, in bits: 16, 32 or 64. */
  get codeBits(): number {
    const kind = this.codeKind;
    return kind === KIND_LONG ? 64 : kind === KIND_16 ? 16 : 32;
  }
  /** Linear address of code at `rip`. */
  linear(rip: number): number {
    if (this.codeKind === KIND_LONG) return rip;
    return (rip + this.mem.getU32(this.gprs + CS_BASE)) % 2 ** 32;
  }
  /** `number`: index in es cs ss ds fs gs. */
  selector(number: number): number {
    return this.mem.getU16(this.gprs + SELECTORS + 2 * number);
  }
  /** The hidden part of a segment register in compatibility mode. `number`: index in es cs ss ds fs gs. */
  segmentBase(number: number): number {
    return this.mem.getU32(this.gprs + BASES[number]);
  }
  segmentLimit(number: number): number {
    return this.mem.getU32(this.gprs + SEGMENT_LIMITS + cacheOf(number));
  }
  /** Access rights as in the upper half of a descriptor; 0: the segment is unusable. */
  segmentRights(number: number): number {
    return this.mem.getU32(this.gprs + SEGMENT_RIGHTS + cacheOf(number));
  }
  /** `base` is ignored for fs and gs, whose bases are fsBase and gsBase. */
  setSegment(number: number, base: number, limit: number, rights: number): void {
    if (number < FS) this.mem.setU64(this.gprs + BASES[number], base);
    this.mem.setU32(this.gprs + SEGMENT_LIMITS + cacheOf(number), limit);
    this.mem.setU32(this.gprs + SEGMENT_RIGHTS + cacheOf(number), rights);
  }
  /** Starts compatibility mode with the segments that were set, or applies a change of one. */
  setCompatibility(): void {
    const { mem, gprs } = this;
    const code = this.segmentRights(CS);
    const flat = this.segmentBase(CS) === 0 && this.segmentLimit(CS) === WHOLE;
    const kind = (code & SEGMENT_BIG) === 0 ? KIND_16 : flat ? KIND_FLAT : KIND_CHECKED;
    mem.setU32(gprs + CODE_KIND, kind);
    let checked = 0;
    for (let i = 0; i < BASES.length; i++) {
      const rights = this.segmentRights(i);
      if (
        rights !== 0 &&
        (this.segmentLimit(i) !== WHOLE ||
          (rights & NOT_LIMITED) !== (i === CS ? READABLE_CODE : WRITABLE_DATA))
      )
        checked = 1;
    }
    mem.setU32(gprs + SEGMENTS_CHECKED, checked);
  }
  get ss(): number {
    return this.mem.getU16(this.gprs + SELECTORS + 4);
  }
  set ss(v: number) {
    this.mem.setU16(this.gprs + SELECTORS + 4, v);
  }
  get ds(): number {
    return this.mem.getU16(this.gprs + SELECTORS + 6);
  }
  set ds(v: number) {
    this.mem.setU16(this.gprs + SELECTORS + 6, v);
  }
  get fs(): number {
    return this.mem.getU16(this.gprs + SELECTORS + 8);
  }
  set fs(v: number) {
    this.mem.setU16(this.gprs + SELECTORS + 8, v);
  }
  get gs(): number {
    return this.mem.getU16(this.gprs + SELECTORS + 10);
  }
  set gs(v: number) {
    this.mem.setU16(this.gprs + SELECTORS + 10, v);
  }
  /** Makes the exit an exception without an error code; returns Exit.exception. */
  raised(vector: number): 2 {
    this.mem.setU32(this.gprs + EXIT_VECTOR, vector);
    this.mem.setU32(this.gprs + EXIT_ERROR, 0);
    this.mem.setU32(this.gprs + EXIT_SOFTWARE, 0);
    return 2;
  }
  get exitVector(): number {
    return this.mem.getU32(this.gprs + EXIT_VECTOR);
  }
  get exitErrorCode(): number {
    return this.mem.getU32(this.gprs + EXIT_ERROR);
  }
  get exitCr2(): number {
    return this.mem.getS64(this.gprs + EXIT_CR2);
  }
  /** Length of the instruction that caused the exit, bytes, if rip still points to it. */
  get exitLength(): number {
    return this.mem.getU32(this.gprs + EXIT_LENGTH);
  }
  /** The exception was raised by an `int`, `int3` or `into` instruction: rip is after it. */
  get exitSoftware(): boolean {
    return this.mem.getU32(this.gprs + EXIT_SOFTWARE) !== 0;
  }
  /** Why translate() failed: the error code and the address of a page fault. */
  get faultCode(): number {
    return this.mem.getU32(this.gprs + FAULT_CODE) & 0xffff;
  }
  get faultAddress(): number {
    return this.mem.getS64(this.gprs + FAULT_ADDRESS);
  }
  /** Writes, or loads, the 512 bytes of an fxsave image at a linear address. */
  fxsave(at: number): void {
    const { mem, gprs } = this;
    mem.bytes(at, 512).fill(0);
    mem.setU16(at, mem.getU16(gprs + FCW));
    mem.setU16(at + 2, mem.getU16(gprs + FSW));
    mem.setU8(at + 4, mem.getU8(gprs + FTW));
    mem.setU16(at + 6, mem.getU16(gprs + FOP));
    mem.setBig(at + 8, mem.getBig(gprs + FIP));
    mem.setBig(at + 16, mem.getBig(gprs + FDP));
    mem.setU32(at + 24, mem.getU32(gprs + MXCSR));
    mem.setU32(at + 28, MXCSR_MASK);
    const top = (mem.getU16(gprs + FSW) >> 11) & 7;
    for (let i = 0; i < 8; i++) {
      const from = gprs + X87_ST + 16 * ((i + top) & 7);
      mem.u8.copyWithin(at + 32 + 16 * i, from, from + 10);
    }
    mem.u8.copyWithin(at + 160, gprs + XMM, gprs + XMM + 256);
  }
  saveFpu(): Uint8Array {
    const at = this.gprs + SCRATCH;
    this.fxsave(at);
    return this.mem.bytes(at, 512).slice();
  }
  /** Loads an fxsave image that is not in linear memory. */
  loadFpu(image: Uint8Array): void {
    this.mem.u8.set(image.subarray(0, 512), this.gprs + SCRATCH);
    this.fxrstor(this.gprs + SCRATCH);
  }
  fxrstor(at: number): void {
    const { mem, gprs } = this;
    const fcw = (mem.getU16(at) & 0x1f3f) | 0x40;
    // Whatever the image says, an exception is pending exactly if an unmasked one is flagged.
    const fsw = mem.getU16(at + 2) & ~PENDING;
    mem.setU16(gprs + FCW, fcw);
    mem.setU16(gprs + FSW, fsw | ((fsw & ~fcw & 0x3f) !== 0 ? PENDING : 0));
    mem.setU8(gprs + FTW, mem.getU8(at + 4));
    mem.setU16(gprs + FOP, mem.getU16(at + 6));
    mem.setBig(gprs + FIP, mem.getBig(at + 8));
    mem.setBig(gprs + FDP, mem.getBig(at + 16));
    mem.setU32(gprs + MXCSR, mem.getU32(at + 24) & MXCSR_MASK);
    const top = (mem.getU16(gprs + FSW) >> 11) & 7;
    for (let i = 0; i < 8; i++) {
      mem.u8.copyWithin(gprs + X87_ST + 16 * ((i + top) & 7), at + 32 + 16 * i, at + 42 + 16 * i);
    }
    mem.u8.copyWithin(gprs + XMM, at + 160, at + 160 + 256);
  }
}
