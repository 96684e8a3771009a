/**
 * Operands of an instruction that Xen emulates: effective addresses, registers, memory. This is a slow path; every
 * value is a bigint with as many bits as the operand. If a memory access faults, `fault` describes it, and the caller
 * passes it on to the guest.
 * Source: Intel SDM volume 1, 3.7.5 and 3.4.1.1.
 */

import { dataHits } from '../../engine/breakpoints.js';
import * as iced from '../../x86/iced.js';
import { isCanonical } from '../mmu/guest-memory.js';
import type { MemoryState } from '../mmu/mmu-state.js';
import type { EntryState } from '../vcpu/entry-state.js';
import { injectException, injectPageFault, TRAP_gp_fault, TRAP_stack_error } from '../vcpu/traps.js';
import type { VcpuContext } from '../vcpu/vcpu-context.js';

const { OpKind, Register, RegisterExt, MemorySizeExt } = iced;

export const mask = (bytes: number): bigint => (1n << BigInt(bytes * 8)) - 1n;

/** The size of a general register in bytes. */
export const registerBytes = (register: number): number => RegisterExt.size(register);
const isHighByte = (register: number): boolean => register >= Register.AH && register <= Register.BH;
const indexOf = (register: number): number => RegisterExt.number(RegisterExt.fullRegister(register));

export function readRegister(v: VcpuContext, register: number): bigint {
  if (isHighByte(register)) return (v.cpu.regBig(register - Register.AH) >> 8n) & 0xffn;
  return BigInt.asUintN(64, v.cpu.regBig(indexOf(register))) & mask(registerBytes(register));
}

/** Writes a register as instructions do: 32 bits clear the upper half, 8 and 16 bits keep the rest. */
export function writeRegister(v: VcpuContext, register: number, value: bigint): void {
  if (isHighByte(register)) {
    const i = register - Register.AH;
    v.cpu.setRegBig(i, (v.cpu.regBig(i) & ~0xff00n) | ((value & 0xffn) << 8n));
    return;
  }
  const i = indexOf(register);
  const bytes = registerBytes(register);
  const low = value & mask(bytes);
  v.cpu.setRegBig(i, bytes >= 4 ? low : (v.cpu.regBig(i) & ~mask(bytes)) | low);
}

/** Base of the segment of a memory operand. Only FS and GS have one in 64-bit mode. */
const segmentBase = (v: VcpuContext, segment: number): number =>
  segment === Register.FS ? v.cpu.fsBase : segment === Register.GS ? v.cpu.gsBase : 0;

const CODE = 0x800;
const EXPAND_DOWN = 0x400;
const READ_WRITE = 0x200;
const BIG = 0x40_0000;

/** In compatibility mode: whether segment `number` (es cs ss ds fs gs) allows the access. */
export function segmentAllows(
  v: VcpuContext,
  number: number,
  offset: number,
  bytes: number,
  write: boolean,
): boolean {
  const rights = v.cpu.segmentRights(number);
  const limit = v.cpu.segmentLimit(number);
  const last = offset + bytes - 1;
  const isCode = (rights & CODE) !== 0;
  const can = (rights & READ_WRITE) !== 0;
  if (rights === 0 || (isCode ? write || !can : write && !can)) return false;
  if (isCode || (rights & EXPAND_DOWN) === 0) return last <= limit;
  return offset > limit && last <= (rights & BIG ? 0xffff_ffff : 0xffff);
}

/**
 * Refuses an access because of its segment; injectFault() then raises the exception. Returns NaN in place of an
 * address.
 */
export function refuseSegment(number: number): number {
  fault.canonical = false;
  fault.stack = number === SS;
  return Number.NaN;
}
const SS = 2;

/**
 * The linear address of the memory operand as a signed number. `offset` is added before the segment's base. In
 * compatibility mode it is NaN if the segment does not allow `bytes` bytes there.
 */
export function memoryAddress(
  v: VcpuContext,
  ins: iced.Instruction,
  offset = 0n,
  bytes = 1,
  write = false,
): number {
  let sum = BigInt.asUintN(64, ins.memoryDisplacement) + offset;
  const isLong = v.cpu.codeBits === 64;
  let addressBytes = isLong ? 8 : 4;
  const { memoryBase, memoryIndex } = ins;
  if (memoryBase === Register.EIP) addressBytes = 4;
  else if (memoryBase !== Register.None && memoryBase !== Register.RIP) {
    addressBytes = registerBytes(memoryBase);
    sum += readRegister(v, memoryBase);
  }
  if (memoryIndex !== Register.None) {
    addressBytes = registerBytes(memoryIndex);
    sum += readRegister(v, memoryIndex) * BigInt(ins.memoryIndexScale);
  }
  if (memoryBase === Register.None && memoryIndex === Register.None) {
    if (ins.memoryDisplSize === 4) addressBytes = 4;
    else if (!isLong && ins.memoryDisplSize === 2) addressBytes = 2;
  }
  return linear(v, ins.memorySegment, sum & mask(addressBytes), bytes, write);
}

/**
 * The linear address of an offset in a segment. In compatibility mode it is NaN if the segment does not allow `bytes`
 * bytes there.
 */
export function linear(v: VcpuContext, segment: number, offset: bigint, bytes = 1, write = false): number {
  if (v.cpu.codeBits !== 64) {
    const number = segment - Register.ES;
    if (!segmentAllows(v, number, Number(offset), bytes, write)) return refuseSegment(number);
    return (Number(offset) + v.cpu.segmentBase(number)) % 2 ** 32;
  }
  return Number(BigInt.asIntN(64, offset + BigInt(segmentBase(v, segment))));
}

/**
 * State of the instruction that is being executed: the data breakpoints that its accesses hit, as DR6 shows them, and
 * whether the previous instruction loaded SS (Vcpu.stackShadow).
 */
export const watched = { hits: 0, shadowed: false };

/** To be called at the start of an instruction that, as far as a guest can tell, the processor itself executes. */
export function beginWatch(v: VcpuContext): void {
  const { stackShadow } = v.cpu;
  watched.shadowed = stackShadow >= 0;
  watched.hits = Math.max(stackShadow, 0);
  v.cpu.stackShadow = -1;
}

/** Describes the last access that failed. */
export const fault = { address: 0, code: 0, canonical: true, stack: false };

function locate(d: MemoryState, v: VcpuContext, va: number, intent: number): number {
  // The segment refused the access.
  if (Number.isNaN(va)) return -1;
  fault.stack = false;
  if (!isCanonical(va)) {
    fault.canonical = false;
    fault.address = va;
    return -1;
  }
  const at = d.engine.translate(v.id, va, intent);
  if (at < 0) {
    fault.canonical = true;
    fault.address = va;
    fault.code = v.cpu.faultCode;
  }
  return at;
}

/** Reads `bytes` bytes from the guest's memory in its present mode. Returns -1n after a fault. */
export function readMemory(d: MemoryState, v: VcpuContext, va: number, bytes: number): bigint {
  const first = locate(d, v, va, 0);
  if (first < 0) return -1n;
  watched.hits |= dataHits(v.cpu, va, bytes, false);
  if (bytes === 8 && (first & 4095) <= 4088) return d.mem.getBig(first);
  let value = 0n;
  for (let i = 0; i < bytes; i++) {
    const at = ((first + i) & 4095) >= (first & 4095) ? first + i : locate(d, v, va + i, 0);
    if (at < 0) return -1n;
    value |= BigInt(d.mem.u8[at]) << BigInt(8 * i);
  }
  return value;
}

/** Writes `bytes` bytes to the guest's memory in its present mode, all or none. Returns false after a fault. */
export function writeMemory(
  d: MemoryState,
  v: VcpuContext,
  va: number,
  bytes: number,
  value: bigint,
): boolean {
  if (locate(d, v, va, 1) < 0 || locate(d, v, va + bytes - 1, 1) < 0) return false;
  watched.hits |= dataHits(v.cpu, va, bytes, true);
  for (let i = 0; i < bytes; i++) {
    const at = locate(d, v, va + i, 1);
    d.mem.u8[at] = Number((value >> BigInt(8 * i)) & 0xffn);
  }
  return true;
}

/** Raises the fault of the last access in the guest. */
export function injectFault(d: EntryState, v: VcpuContext, stack = false): void {
  if (fault.canonical) injectPageFault(d, v, fault.address, fault.code);
  else injectException(d, v, stack || fault.stack ? TRAP_stack_error : TRAP_gp_fault, 0);
}

/** The size of the memory operand in bytes. */
export const memoryBytes = (ins: iced.Instruction): number => MemorySizeExt.size(ins.memorySize);

/**
 * The value of operand `n`: a register, an immediate (sign-extended as encoded), or memory. Returns -1n after a
 * fault.
 */
export function readOperand(
  d: MemoryState,
  v: VcpuContext,
  ins: iced.Instruction,
  n: number,
  bytes: number,
): bigint {
  const kind = ins.opKind(n);
  if (kind === OpKind.Register) return readRegister(v, ins.opRegister(n));
  if (kind === OpKind.Memory) return readMemory(d, v, memoryAddress(v, ins, 0n, bytes), bytes);
  return BigInt.asUintN(64, ins.immediate(n)) & mask(bytes);
}
