/**
 * The guest's stack, for instructions that Xen emulates. In compatibility mode it is in its segment, and the stack
 * pointer has that segment's size.
 * Source: Intel SDM volume 1, 6.2.3.
 */
import { readMemory, refuseSegment, segmentAllows, writeMemory } from '../emulation/operands.js';
import type { MemoryState } from '../mmu/mmu-state.js';
import { RSP } from './registers.js';
import type { VcpuContext } from './vcpu-context.js';

const SS = 2;
const BIG = 0x40_0000;
const SIXTEEN_BITS = 0x1_0000;

/** In compatibility mode: whether the stack pointer is esp and not sp. */
const isBig = (v: VcpuContext): boolean => (v.cpu.segmentRights(SS) & BIG) !== 0;

/**
 * The linear address of `bytes` bytes at `distance` from the stack pointer, or NaN if the segment does not allow
 * them.
 */
function address(v: VcpuContext, distance: number, bytes: number, write: boolean): number {
  if (v.cpu.codeBits === 64) return v.cpu.reg(RSP) + distance;
  const size = isBig(v) ? 2 ** 32 : SIXTEEN_BITS;
  const offset = (((v.cpu.regLo(RSP) + distance) % size) + size) % size;
  if (!segmentAllows(v, SS, offset, bytes, write)) return refuseSegment(SS);
  return (offset + v.cpu.segmentBase(SS)) % 2 ** 32;
}

/** Reads `bytes` bytes at `distance` from the stack pointer. Returns -1n after a fault. */
export const readStack = (d: MemoryState, v: VcpuContext, distance: number, bytes: number): bigint =>
  readMemory(d, v, address(v, distance, bytes, false), bytes);

/** Writes bytes there. Returns false after a fault. */
export const writeStack = (
  d: MemoryState,
  v: VcpuContext,
  distance: number,
  bytes: number,
  value: bigint,
): boolean => writeMemory(d, v, address(v, distance, bytes, true), bytes, value);

/** Moves the stack pointer. */
export function moveStack(v: VcpuContext, distance: number): void {
  const { cpu } = v;
  if (cpu.codeBits === 64) cpu.setReg(RSP, cpu.reg(RSP) + distance);
  else if (isBig(v)) cpu.setReg(RSP, (cpu.regLo(RSP) + distance) >>> 0);
  else {
    const esp = cpu.regLo(RSP);
    cpu.setRegHalves(RSP, (esp & ~0xffff) | ((esp + distance) & 0xffff), cpu.regHi(RSP));
  }
}
