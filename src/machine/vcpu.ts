/**
 * One vCPU's registers, in place in linear memory: nothing is copied, nothing allocates. Numbers are signed 64-bit
 * values as doubles (exact for canonical addresses); where all bits matter there is a bigint form.
 */
import type { LinearMemory } from '../xen/memory.js';
import { CPU_BASE, CPU_BYTES, Cpu } from './layout.js';

/** Flags that arithmetic sets: CF, PF, AF, ZF, SF, OF. */
const ARITHMETIC = 0x8d5;
/** Flags that are always one at CPL 3 here: bit 1 and IF. */
const ALWAYS = 0x202;
/** Flags kept beside them: TF, DF, IOPL, NT, AC, ID. */
const OTHER = 0x247500;

export class Vcpu {
  /** Linear address of the register file: register i is the 8 bytes at 8*i. */
  readonly gprs: number;

  constructor(
    readonly id: number,
    private readonly mem: LinearMemory,
    private readonly flags: { get(vcpu: number): number; set(vcpu: number, arithmetic: number): void },
  ) {
    this.gprs = CPU_BASE + id * CPU_BYTES;
  }

  reg(i: number): number {
    return this.mem.getS64(this.gprs + 8 * i);
  }
  setReg(i: number, v: number): void {
    this.mem.setU64(this.gprs + 8 * i, v);
  }
  regBig(i: number): bigint {
    return this.mem.getBig(this.gprs + 8 * i);
  }
  setRegBig(i: number, v: bigint): void {
    this.mem.setBig(this.gprs + 8 * i, BigInt.asUintN(64, v));
  }

  get rip(): number {
    return this.mem.getS64(this.gprs + Cpu.rip);
  }
  set rip(v: number) {
    this.mem.setU64(this.gprs + Cpu.rip, v);
  }
  /** All of rflags; IF reads as 1. */
  get rflags(): number {
    return (
      (this.flags.get(this.id) & ARITHMETIC) | (this.mem.getU32(this.gprs + Cpu.otherFlags) & OTHER) | ALWAYS
    );
  }
  set rflags(v: number) {
    this.flags.set(this.id, v & ARITHMETIC);
    this.mem.setU64(this.gprs + Cpu.otherFlags, v & OTHER);
  }
  /** False: the guest's kernel runs. */
  get userMode(): boolean {
    return this.mem.getU32(this.gprs + Cpu.userMode) !== 0;
  }
  set userMode(v: boolean) {
    this.mem.setU32(this.gprs + Cpu.userMode, v ? 1 : 0);
  }
  get retired(): number {
    return this.mem.getU64(this.gprs + Cpu.retired);
  }
  set retired(v: number) {
    this.mem.setU64(this.gprs + Cpu.retired, v);
  }
  get fsBase(): number {
    return this.mem.getS64(this.gprs + Cpu.fsBase);
  }
  set fsBase(v: number) {
    this.mem.setU64(this.gprs + Cpu.fsBase, v);
  }
  get gsBase(): number {
    return this.mem.getS64(this.gprs + Cpu.gsBase);
  }
  set gsBase(v: number) {
    this.mem.setU64(this.gprs + Cpu.gsBase, v);
  }
  /** The GS base of the mode that does not run now. */
  get gsBaseOther(): number {
    return this.mem.getS64(this.gprs + Cpu.gsBaseOther);
  }
  set gsBaseOther(v: number) {
    this.mem.setU64(this.gprs + Cpu.gsBaseOther, v);
  }
  /** Machine frame of the kernel's, and of the user's, top page table. The caller flushes the TLB. */
  get cr3Kernel(): number {
    return this.mem.getU64(this.gprs + Cpu.cr3Kernel);
  }
  set cr3Kernel(mfn: number) {
    this.mem.setU64(this.gprs + Cpu.cr3Kernel, mfn);
  }
  get cr3User(): number {
    return this.mem.getU64(this.gprs + Cpu.cr3User);
  }
  set cr3User(mfn: number) {
    this.mem.setU64(this.gprs + Cpu.cr3User, mfn);
  }
  get cr0(): number {
    return this.mem.getU32(this.gprs + Cpu.cr0);
  }
  set cr0(v: number) {
    this.mem.setU64(this.gprs + Cpu.cr0, v >>> 0);
  }
  get cr2(): number {
    return this.mem.getS64(this.gprs + Cpu.cr2);
  }
  set cr2(v: number) {
    this.mem.setU64(this.gprs + Cpu.cr2, v);
  }
  get cr4(): number {
    return this.mem.getU32(this.gprs + Cpu.cr4);
  }
  set cr4(v: number) {
    this.mem.setU64(this.gprs + Cpu.cr4, v >>> 0);
  }
  dr(i: number): number {
    return this.mem.getS64(this.gprs + Cpu.dr + 8 * i);
  }
  setDr(i: number, v: number): void {
    this.mem.setU64(this.gprs + Cpu.dr + 8 * i, v);
  }
  get es(): number {
    return this.mem.getU16(this.gprs + Cpu.selectors);
  }
  set es(v: number) {
    this.mem.setU16(this.gprs + Cpu.selectors, v);
  }
  get cs(): number {
    return this.mem.getU16(this.gprs + Cpu.selectors + 2);
  }
  set cs(v: number) {
    this.mem.setU16(this.gprs + Cpu.selectors + 2, v);
  }
  get ss(): number {
    return this.mem.getU16(this.gprs + Cpu.selectors + 4);
  }
  set ss(v: number) {
    this.mem.setU16(this.gprs + Cpu.selectors + 4, v);
  }
  get ds(): number {
    return this.mem.getU16(this.gprs + Cpu.selectors + 6);
  }
  set ds(v: number) {
    this.mem.setU16(this.gprs + Cpu.selectors + 6, v);
  }
  get fs(): number {
    return this.mem.getU16(this.gprs + Cpu.selectors + 8);
  }
  set fs(v: number) {
    this.mem.setU16(this.gprs + Cpu.selectors + 8, v);
  }
  get gs(): number {
    return this.mem.getU16(this.gprs + Cpu.selectors + 10);
  }
  set gs(v: number) {
    this.mem.setU16(this.gprs + Cpu.selectors + 10, v);
  }
  get exitVector(): number {
    return this.mem.getU32(this.gprs + Cpu.exitVector);
  }
  get exitErrorCode(): number {
    return this.mem.getU32(this.gprs + Cpu.exitErrorCode);
  }
  get exitCr2(): number {
    return this.mem.getS64(this.gprs + Cpu.exitCr2);
  }
  /** Length in bytes of the instruction that left, where rip is still on it. */
  get exitLength(): number {
    return this.mem.getU32(this.gprs + Cpu.exitLength);
  }
  /** The exception is an `int`, `int3` or `into` instruction: rip is after it. */
  get exitSoftware(): boolean {
    return this.mem.getU32(this.gprs + Cpu.exitSoftware) !== 0;
  }
  /** Why translate() or decodeAt() failed: a page fault's error code and address. */
  get faultCode(): number {
    return this.mem.getU32(this.gprs + Cpu.faultCode) & 0xffff;
  }
  get faultAddress(): number {
    return this.mem.getS64(this.gprs + Cpu.faultAddress);
  }
  /** Writes, or loads, the 512 bytes of fxsave at a linear address. */
  fxsave(at: number): void {
    const { mem, gprs } = this;
    mem.bytes(at, 512).fill(0);
    mem.setU16(at, mem.getU16(gprs + Cpu.fcw));
    mem.setU16(at + 2, mem.getU16(gprs + Cpu.fsw));
    mem.setU8(at + 4, mem.getU8(gprs + Cpu.ftw));
    mem.setU16(at + 6, mem.getU16(gprs + Cpu.fop));
    mem.setBig(at + 8, mem.getBig(gprs + Cpu.fip));
    mem.setBig(at + 16, mem.getBig(gprs + Cpu.fdp));
    mem.setU32(at + 24, mem.getU32(gprs + Cpu.mxcsr));
    mem.setU32(at + 28, 0xffbf);
    const top = (mem.getU16(gprs + Cpu.fsw) >> 11) & 7;
    for (let i = 0; i < 8; i++) {
      const from = gprs + Cpu.st + 16 * ((i + top) & 7);
      mem.u8.copyWithin(at + 32 + 16 * i, from, from + 10);
    }
    mem.u8.copyWithin(at + 160, gprs + Cpu.xmm, gprs + Cpu.xmm + 256);
  }
  /** Loads an fxsave image that is not in linear memory. */
  loadFpu(image: Uint8Array): void {
    this.mem.u8.set(image.subarray(0, 512), this.gprs + Cpu.scratch);
    this.fxrstor(this.gprs + Cpu.scratch);
  }
  fxrstor(at: number): void {
    const { mem, gprs } = this;
    mem.setU16(gprs + Cpu.fcw, mem.getU16(at));
    mem.setU16(gprs + Cpu.fsw, mem.getU16(at + 2));
    mem.setU8(gprs + Cpu.ftw, mem.getU8(at + 4));
    mem.setU16(gprs + Cpu.fop, mem.getU16(at + 6));
    mem.setBig(gprs + Cpu.fip, mem.getBig(at + 8));
    mem.setBig(gprs + Cpu.fdp, mem.getBig(at + 16));
    mem.setU32(gprs + Cpu.mxcsr, mem.getU32(at + 24) & 0xffbf);
    const top = (mem.getU16(gprs + Cpu.fsw) >> 11) & 7;
    for (let i = 0; i < 8; i++) {
      mem.u8.copyWithin(gprs + Cpu.st + 16 * ((i + top) & 7), at + 32 + 16 * i, at + 42 + 16 * i);
    }
    mem.u8.copyWithin(gprs + Cpu.xmm, at + 160, at + 160 + 256);
  }
}
