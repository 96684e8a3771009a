/**
 * The five arguments of a hypercall, each as two halves of 32 bits, so that no bit is lost and nothing is allocated.
 * Source: xen/include/hypercall-defs.c: rdi, rsi, rdx, r10, r8; or `args` of a multicall_entry.
 */
import type { EngineVcpu } from '../../engine/engine.js';
import type { LinearMemory } from '../../xen/memory.js';

/** Register numbers of the arguments, in order. */
const ARGUMENT_REGISTERS = [7, 6, 2, 10, 8];
const TWO32 = 0x1_0000_0000;

export class HypercallArgs {
  /** The low halves, unsigned: what C code sees as an `unsigned int`. */
  readonly lo = new Uint32Array(6);
  /** High halves, signed. */
  readonly hi = new Int32Array(6);

  /** As a signed 64-bit number: exact for every canonical address and within 2^53 of zero, rounded otherwise. */
  long(i: number): number {
    return this.hi[i] * TWO32 + this.lo[i];
  }

  /** The low half as a C `int`. */
  int(i: number): number {
    return this.lo[i] | 0;
  }

  setLong(i: number, value: number): void {
    this.lo[i] = value;
    this.hi[i] = Math.floor(value / TWO32);
  }

  /** Whether the argument is a null pointer. */
  isNull(i: number): boolean {
    return this.lo[i] === 0 && this.hi[i] === 0;
  }

  fromRegisters(cpu: EngineVcpu): void {
    for (let i = 0; i < 5; i++) {
      const register = ARGUMENT_REGISTERS[i];
      this.lo[i] = cpu.regLo(register);
      this.hi[i] = cpu.regHi(register);
    }
  }

  /** Writes the arguments back into the registers, from where a preempted hypercall continues. */
  toRegisters(cpu: EngineVcpu): void {
    for (let i = 0; i < 5; i++) cpu.setRegHalves(ARGUMENT_REGISTERS[i], this.lo[i], this.hi[i]);
  }

  /** Reads the arguments from six 64-bit words. */
  fromMemory(mem: LinearMemory, at: number): void {
    for (let i = 0; i < 6; i++) {
      this.lo[i] = mem.getU32(at + 8 * i);
      this.hi[i] = mem.getS32(at + 8 * i + 4);
    }
  }

  toMemory(mem: LinearMemory, at: number): void {
    for (let i = 0; i < 6; i++) {
      mem.setU32(at + 8 * i, this.lo[i]);
      mem.setU32(at + 8 * i + 4, this.hi[i]);
    }
  }
}
