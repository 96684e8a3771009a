/**
 * Builds page tables for tests of the memory management: any entry at any level, bit by bit, and small programs on
 * them. Frames are allocated in order and never freed.
 */
import { assemble } from '../../../src/asm/assembler.js';
import { Exit, FrameMap, PAGE } from '../../../src/engine/engine.js';
import type { Machine, Vcpu } from '../machine.js';

/** Bits of a page-table entry (SDM volume 3, 4.5). */
export const P = 0x1n;
export const RW = 0x2n;
export const US = 0x4n;
export const A = 0x20n;
export const D = 0x40n;
export const PS = 0x80n;
export const NX = 1n << 63n;
export const ALL = P | RW | US;

/** Bits of a page fault's error code. */
export const NOT_PRESENT = 0;
export const PROTECTION = 1;
export const WRITE = 2;
export const USER = 4;
export const RESERVED = 8;
export const FETCH = 16;
export const PF = 14;

/** The base-2 logarithm of the bytes that one entry covers, by level. */
export const SHIFTS = [0, 12, 21, 30, 39];

/** A frame number beyond the size of every machine here. */
const MAP = FrameMap.whole(2 ** 20);
export const mfnBits = (frame: number): bigint => BigInt(MAP.mfnOf(frame)) << 12n;

export class Tables {
  private next = 0;

  constructor(readonly machine: Machine) {}

  /** Returns the index of a new zeroed frame. */
  take(): number {
    const frame = this.next++;
    if (frame >= this.machine.ram.frames)
      throw new RangeError(`all ${this.machine.ram.frames} frames are taken`);
    this.machine.mem.u8.fill(0, this.linear(frame), this.linear(frame) + PAGE);
    return frame;
  }

  linear(frame: number): number {
    return this.machine.ram.linearOf(frame);
  }

  /** Returns the linear address of the entry for `va` at a level; the tables above it allow everything. */
  entry(root: number, va: number, level = 1): number {
    let table = root;
    for (let l = 4; l > level; l--) {
      const at = this.slot(table, va, l);
      if ((this.machine.mem.getBig(at) & P) === 0n) this.machine.mem.setBig(at, mfnBits(this.take()) | ALL);
      table = this.machine.ram.frameOf(Number((this.machine.mem.getBig(at) >> 12n) & 0xff_ffff_ffffn));
    }
    return this.slot(table, va, level);
  }

  slot(table: number, va: number, level: number): number {
    const index = Number((BigInt(va) >> BigInt(SHIFTS[level])) & 511n);
    return this.linear(table) + 8 * index;
  }

  /** Sets the entry at a linear address through the engine, which is so informed of it. */
  set(at: number, value: bigint, level = 1): void {
    const { ram, tables } = this.machine;
    const [lo, hi] = [value & 0xffff_ffffn, value >> 32n].map(Number);
    tables.setEntry(ram.frameAt(at), (at % PAGE) / 8, level, lo, hi);
  }

  /** Maps `va` to a frame, at level 1 by default. Returns the linear address of the entry. */
  map(root: number, va: number, frame: number, bits = ALL, level = 1): number {
    const at = this.entry(root, va, level);
    this.machine.mem.setBig(at, mfnBits(frame) | bits | (level > 1 ? PS : 0n));
    return at;
  }

  /** Maps a new frame and returns its linear address. */
  mapNew(root: number, va: number, bits = ALL): number {
    const frame = this.take();
    this.map(root, va, frame, bits);
    return this.linear(frame);
  }

  /** Puts a program into a new frame at `va`, which must be the start of a page. Returns its labels. */
  program(root: number, va: number, source: string): ReadonlyMap<string, number> {
    const { bytes, labels } = assemble(source, BigInt(va));
    for (let at = 0; at < bytes.length; at += PAGE)
      this.machine.mem.u8.set(bytes.subarray(at, at + PAGE), this.mapNew(root, va + at, P | US));
    return new Map([...labels].map(([name, address]) => [name, Number(address)]));
  }
}

export interface Outcome {
  readonly exit: Exit;
  /** The vector of an exception. */
  readonly vector?: number;
  readonly error?: number;
  /** The error code and the address of a page fault. */
  readonly cr2?: number;
}

/** Runs at most `budget` instructions from the vCPU's present state, or from `rip`. */
export function go(machine: Machine, cpu: Vcpu, budget: number, rip?: number): Outcome {
  if (rip !== undefined) cpu.rip = rip;
  const exit = machine.run(cpu.id, budget);
  if (exit !== Exit.exception) return { exit };
  const { exitVector: vector, exitErrorCode: error } = cpu;
  return vector === PF ? { exit, vector, error, cr2: cpu.exitCr2 } : { exit, vector, error };
}

export const ran: Outcome = { exit: Exit.limit };
export const fault = (error: number, cr2: number): Outcome => ({
  exit: Exit.exception,
  vector: PF,
  error,
  cr2,
});
export const general: Outcome = { exit: Exit.exception, vector: 13, error: 0 };

/** Bits 12 to 51, unsigned, also for frames that do not exist. */
export const rawFrame = (mfn: bigint): bigint => (mfn & 0xff_ffff_ffffn) << 12n;
