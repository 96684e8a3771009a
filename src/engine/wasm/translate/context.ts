/**
 * What the writers of single operations share: the code written so far, the registers that it uses, and where a fault
 * goes.
 */
import { BLOCK_VA, FS_BASE, GS_BASE, SCALE_ADDR32, ZERO } from '../core/layout.js';
import { Emitter, type Label } from './emitter.js';
import { CPU, REGION_VA, REGISTER_0, RESULT } from './locals.js';
import { I32, I64, W } from './opcodes.js';
import type { Operation } from './operation.js';

/** Numbers of the imported functions. */
export enum Import {
  readAt,
  writeAt,
  step,
  conditionOf,
  fpExec,
  readFlags,
}

export const RAX = 0;
export const RCX = 8;
export const RDX = 0x10;
export const RSP = 0x20;
export const RBP = 0x28;

export class Context {
  readonly e = new Emitter();
  /** The registers that the code uses and writes, with one bit for each. */
  used = 0;
  written = 0;
  usesMemory = false;
  usesJumps = false;
  usesStack = false;
  readsFlags = false;
  writesFlags = false;
  /** The kind of flags (F_KIND) that is known while translating, or UNKNOWN. See flags.ts. */
  kind = -1;
  /** True if F_B is known to be zero. */
  isLogic = false;
  /** Where control goes if an operation cannot be done here. RESULT must be set before. */
  fault: Label = 0;
  mayFault = false;
  /** Guest address of the present block relative to that of the region. */
  delta = 0;
  operation!: Operation;
  /** The value of RESULT for a fault of the present operation. */
  faultResult = 0;
  /** Whether the flags are needed after the present operation. */
  flagsWanted = true;
  /** True if CR0 was already checked in this block. */
  vectorsAllowed = false;

  reset(): void {
    this.e.reset();
    this.used = 0;
    this.written = 0;
    this.usesMemory = false;
    this.usesJumps = false;
    this.usesStack = false;
    this.readsFlags = false;
    this.writesFlags = false;
  }

  /** Leaves the instruction to the interpreter if the i32 on the stack is not 0. */
  faultIf(): void {
    const { e } = this;
    this.mayFault = true;
    e.open(W.if, 0x40);
    e.i32(this.faultResult);
    e.set(RESULT);
    e.br(this.fault);
    e.end();
  }

  register(offset: number): number {
    const n = offset >> 3;
    this.used |= 1 << n;
    return REGISTER_0 + n;
  }
  private target(offset: number): number {
    this.written |= 1 << (offset >> 3);
    return this.register(offset);
  }

  /** Pushes the register's value, sign-extended: i64 for 8 bytes, i32 for less. */
  getRegister(offset: number, log: number): void {
    const { e } = this;
    e.get(this.register(offset));
    if (log === 3) return;
    if (log === 0 && (offset & 1) !== 0) {
      e.i64(8);
      e.op(W.i64_shr_u);
    }
    e.op(W.i32_wrap_i64);
    if (log === 1) e.op(W.i32_extend16_s);
    else if (log === 0) e.op(W.i32_extend8_s);
  }

  /** Pops the value from the stack. Writing 32 bits clears the upper half. */
  setRegister(offset: number, log: number): void {
    const { e } = this;
    const local = this.target(offset);
    if (log === 3) {
      e.set(local);
      return;
    }
    e.op(W.i64_extend_i32_u);
    if (log < 2) {
      const high = log === 0 && (offset & 1) !== 0;
      e.i64(log === 1 ? 0xffff : 0xff);
      e.op(W.i64_and);
      if (high) {
        e.i64(8);
        e.op(W.i64_shl);
      }
      e.get(local);
      e.i64(log === 1 ? -0x10000 : high ? -0xff01 : -0x100);
      e.op(W.i64_and);
      e.op(W.i64_or);
    }
    e.set(local);
  }

  /** Pushes the register's 64 bits unchanged. */
  getWide(offset: number): void {
    this.e.get(this.register(offset));
  }
  setWide(offset: number): void {
    this.e.set(this.target(offset));
  }

  /** Pushes the guest address of the operation's memory operand as i64. */
  address(op: Operation, extra = 0, withSegment = true): void {
    const { e } = this;
    let disp = op.disp + extra;
    let any = false;
    const add = (): void => {
      if (any) e.op(W.i64_add);
      any = true;
    };
    if (op.base === BLOCK_VA) {
      e.get(REGION_VA);
      disp += this.delta;
      add();
    } else if (op.base !== ZERO) {
      e.get(this.register(op.base));
      add();
    }
    if (op.index !== ZERO) {
      e.get(this.register(op.index));
      const shift = op.scale & 3;
      if (shift !== 0) {
        e.i64(shift);
        e.op(W.i64_shl);
      }
      add();
    }
    if (disp !== 0 || !any) {
      e.i64(disp);
      add();
    }
    if ((op.scale & SCALE_ADDR32) !== 0) {
      e.i64(0xffff_ffffn);
      e.op(W.i64_and);
    }
    const segment = op.scale & 0xf8;
    if (withSegment && (segment === FS_BASE || segment === GS_BASE)) {
      e.get(CPU);
      e.memory(W.i64_load, segment);
      e.op(W.i64_add);
    }
  }

  /** Pushes a guest address in the region's code. */
  codeAddress(delta: number): void {
    const { e } = this;
    e.get(REGION_VA);
    if (delta !== 0) {
      e.i64(delta);
      e.op(W.i64_add);
    }
  }
}

/** Instructions by operand size: i64 for 8 bytes, i32 for less. */
export interface Typed {
  readonly type: number;
  readonly add: number;
  readonly sub: number;
  readonly mul: number;
  readonly and: number;
  readonly or: number;
  readonly xor: number;
  readonly shl: number;
  readonly shrS: number;
  readonly shrU: number;
  readonly rotl: number;
  readonly rotr: number;
  readonly clz: number;
  readonly ctz: number;
}

const NARROW: Typed = {
  type: I32,
  add: W.i32_add,
  sub: W.i32_sub,
  mul: W.i32_mul,
  and: W.i32_and,
  or: W.i32_or,
  xor: W.i32_xor,
  shl: W.i32_shl,
  shrS: W.i32_shr_s,
  shrU: W.i32_shr_u,
  rotl: W.i32_rotl,
  rotr: W.i32_rotr,
  clz: W.i32_clz,
  ctz: W.i32_ctz,
};
const WIDE: Typed = {
  type: I64,
  add: W.i64_add,
  sub: W.i64_sub,
  mul: W.i64_mul,
  and: W.i64_and,
  or: W.i64_or,
  xor: W.i64_xor,
  shl: W.i64_shl,
  shrS: W.i64_shr_s,
  shrU: W.i64_shr_u,
  rotl: W.i64_rotl,
  rotr: W.i64_rotr,
  clz: W.i64_clz,
  ctz: W.i64_ctz,
};

export const typed = (log: number): Typed => (log === 3 ? WIDE : NARROW);

export function constant(e: Emitter, log: number, value: number): void {
  if (log === 3) e.i64(value);
  else e.i32(value);
}

/** Sign-extends the low 8 or 16 bits of an i32. */
export function narrow(e: Emitter, log: number): void {
  if (log === 1) e.op(W.i32_extend16_s);
  else if (log === 0) e.op(W.i32_extend8_s);
}
