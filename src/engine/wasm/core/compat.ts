// Instructions that exist in compatibility mode but not in long mode, and near branches whose operand size differs
// from the code's or whose segment has a limit. Invariant: as in generic.ts. SDM vol. 2.
import { BLOCK_VA, CS_BASE, CURRENT_BLOCK, EXIT_ERROR, EXIT_SOFTWARE, EXIT_VECTOR, O_DISP, O_IMM, O_LENGTH, O_R1, O_R2 } from './layout';
import { BR, DE, EXIT_EXCEPTION, offsetOf, raise } from './engine';
import { readSized, slowProbe, STACK, writeSized } from './access';
import { AF, carry, CF, conditionOf, flagsLogic, getFlags, OF, setFlags, ZF } from './flags';
import { GONE, popped, push, top } from './generic';
import { address, getSized, setSized, signedSized } from './operands';
import { goNear, setStackPointer, stackAddress, stackMask } from './segment';
import { Form, G } from './ops';

const RAX: usize = 0;
const RCX: usize = 8;
const RSP: usize = 0x20;
const OVERFLOW_VECTOR: u32 = 4;

/** The linear address after the present instruction. */
function behind(cpu: usize, op: usize): u64 {
  return load<u64>(cpu, BLOCK_VA) + offsetOf(load<u32>(cpu, CURRENT_BLOCK), op) + load<u8>(op, O_LENGTH);
}

/** The linear target of a near jump or call. */
function target(cpu: usize, op: usize, form: i32, log: u32): u64 {
  if (form == Form.RI) return load<u64>(cpu, BLOCK_VA) + <u64><i64>load<i32>(op, O_DISP);
  const offset = form == Form.M ? readSized(cpu, op, address(cpu, op), log) : <u64>getSized(cpu, load<u8>(op, O_R1), log);
  return offset + load<u64>(cpu, CS_BASE);
}

/**
 * jcxz and loop. R2 is 0 for jcxz, 1 for loop, 2 for loope, 3 for loopne. R1 is log2 of the counter's size in bytes.
 */
function loopTaken(cpu: usize, op: usize): bool {
  const kind = load<u8>(op, O_R2);
  const log: u32 = load<u8>(op, O_R1);
  const mask: u64 = log == 1 ? 0xffff : 0xffff_ffff;
  const before = load<u64>(cpu, RCX) & mask;
  if (kind == 0) return before == 0;
  const after = (before - 1) & mask;
  return after != 0 && (kind == 1 || conditionOf(cpu, 4) == (kind == 2));
}

function countDown(cpu: usize, op: usize): void {
  const log: u32 = load<u8>(op, O_R1);
  if (load<u8>(op, O_R2) != 0) setSized(cpu, RCX, getSized(cpu, RCX, log) - 1, log);
}

/** pusha, in the order of the manual. As on processors, what was pushed remains when a later access faults. */
function pushAll(cpu: usize, op: usize, log: u32): void {
  const mask = stackMask(cpu);
  const size: u64 = 1 << log;
  const rsp = load<u64>(cpu, RSP);
  for (let i: u64 = 1; i <= 8; i++) {
    writeSized(cpu, op | STACK, stackAddress(cpu, (rsp - i * size) & mask), load<u64>(cpu + ((<usize>i - 1) << 3)), log);
  }
  setStackPointer(cpu, rsp - 8 * size, mask);
}

/**
 * popa. As on processors, what was popped remains when a later access faults, and the place of the stack pointer is read
 * although its value is not used.
 */
function popAll(cpu: usize, op: usize, log: u32): void {
  const mask = stackMask(cpu);
  const size: u64 = 1 << log;
  const rsp = load<u64>(cpu, RSP);
  for (let i: u64 = 0; i < 8; i++) {
    const register: usize = <usize>(7 - i) << 3;
    const value = <i64>readSized(cpu, op | STACK, stackAddress(cpu, (rsp + i * size) & mask), log);
    if (register != RSP) setSized(cpu, register, value, log);
  }
  setStackPointer(cpu, rsp + 8 * size, mask);
}

/** Sets SF, ZF and PF from al, and the other flags as given. */
function flagsOfAl(cpu: usize, others: u32): void {
  flagsLogic(cpu, getSized(cpu, RAX, 0), 56);
  setFlags(cpu, (getFlags(cpu) & ~(CF | AF | OF)) | others);
}

/** daa and das. OF, which no manual defines, is cleared. */
function decimalAdjust(cpu: usize, subtracts: bool): void {
  const f = getFlags(cpu);
  const al = <u32>load<u8>(cpu, RAX);
  let r = al;
  let c: u32 = 0;
  let a: u32 = 0;
  if ((al & 15) > 9 || (f & AF) != 0) {
    r = subtracts ? r - 6 : r + 6;
    c = (f & CF) | (subtracts ? <u32>(al < 6) : <u32>(r > 0xff));
    a = AF;
  }
  if (al > 0x99 || (f & CF) != 0) {
    r = subtracts ? r - 0x60 : r + 0x60;
    c = CF;
  } else if (!subtracts) c = 0;
  store<u8>(cpu, <u8>r, RAX);
  flagsOfAl(cpu, (c & CF) | a);
}

/** aaa and aas. SF, ZF, PF and OF, which no manual defines, are set from al. */
function asciiAdjust(cpu: usize, subtracts: bool): void {
  let others: u32 = 0;
  if ((load<u8>(cpu, RAX) & 15) > 9 || (getFlags(cpu) & AF) != 0) {
    const ax = <u32>load<u16>(cpu, RAX);
    store<u16>(cpu, <u16>(subtracts ? ax - 0x106 : ax + 0x106), RAX);
    others = CF | AF;
  }
  store<u8>(cpu, load<u8>(cpu, RAX) & 15, RAX);
  flagsOfAl(cpu, others);
}

function bound(cpu: usize, op: usize, log: u32): void {
  const va = address(cpu, op);
  const size: u64 = 1 << log;
  const low = signedSized(<i64>readSized(cpu, op, va, log), log);
  const high = signedSized(<i64>readSized(cpu, op, va + size, log), log);
  const index = getSized(cpu, load<u8>(op, O_R1), log);
  if (index < low || index > high) raise(cpu, BR, 0);
}

function adjustPrivilege(cpu: usize, op: usize, form: i32): void {
  const source = <u32>load<u16>(cpu + load<u8>(op, O_R2)) & 3;
  let va: u64 = 0;
  let value: u32;
  if (form == Form.MR) {
    va = address(cpu, op);
    value = <u32>readSized(cpu, op, va, 1);
  } else value = load<u16>(cpu + load<u8>(op, O_R1));
  const f = getFlags(cpu);
  const lower = (value & 3) < source;
  if (lower) {
    const r = (value & ~3) | source;
    if (form == Form.MR) {
      // This is needed even in the code's segment: the decoder does not refuse the instruction, because it does not
      // always write.
      slowProbe(cpu, op, va, 2);
      writeSized(cpu, op, va, r, 1);
    }
    else store<u16>(cpu + load<u8>(op, O_R1), <u16>r);
  }
  setFlags(cpu, lower ? f | ZF : f & ~ZF);
}

/** Returns the same values as generic(). */
export function compatOperation(cpu: usize, op: usize, kind: i32, form: i32, log: u32): i32 {
  const imm: u32 = load<u32>(op, O_IMM);
  switch (kind) {
    case G.JUMP_NEAR:
      goNear(cpu, op, target(cpu, op, form, log), log);
      return GONE;
    case G.CALL_NEAR: {
      goNear(cpu, op, target(cpu, op, form, log), log);
      push(cpu, op, behind(cpu, op) - load<u64>(cpu, CS_BASE), log);
      return GONE;
    }
    case G.RET_NEAR: {
      const to = top(cpu, op, log) + load<u64>(cpu, CS_BASE);
      goNear(cpu, op, to, log);
      popped(cpu, (1 << log) + imm);
      return GONE;
    }
    case G.JCC_NEAR:
      if (conditionOf(cpu, load<u8>(op, O_R1))) goNear(cpu, op, target(cpu, op, Form.RI, log), log);
      else goNear(cpu, op, behind(cpu, op), 2);
      return GONE;
    case G.LOOP_NEAR:
      if (loopTaken(cpu, op)) goNear(cpu, op, target(cpu, op, Form.RI, log), log);
      else goNear(cpu, op, behind(cpu, op), 2);
      countDown(cpu, op);
      return GONE;
    case G.PUSH_ALL:
      pushAll(cpu, op, log);
      return 0;
    case G.POP_ALL:
      popAll(cpu, op, log);
      return 0;
    case G.DAA:
    case G.DAS:
      decimalAdjust(cpu, kind == G.DAS);
      return 0;
    case G.AAA:
    case G.AAS:
      asciiAdjust(cpu, kind == G.AAS);
      return 0;
    case G.AAM: {
      if ((imm & 0xff) == 0) raise(cpu, DE, 0);
      const al = <u32>load<u8>(cpu, RAX);
      store<u16>(cpu, <u16>(((al / (imm & 0xff)) << 8) | (al % (imm & 0xff))), RAX);
      flagsOfAl(cpu, 0);
      return 0;
    }
    case G.AAD:
      store<u16>(cpu, <u16>((load<u8>(cpu, RAX) + load<u8>(cpu, RAX + 1) * (imm & 0xff)) & 0xff), RAX);
      flagsOfAl(cpu, 0);
      return 0;
    case G.BOUND:
      bound(cpu, op, log);
      return 0;
    case G.INTO:
      if ((getFlags(cpu) & OF) == 0) return 0;
      store<u32>(cpu, OVERFLOW_VECTOR, EXIT_VECTOR);
      store<u32>(cpu, 0, EXIT_ERROR);
      store<u32>(cpu, 1, EXIT_SOFTWARE);
      return EXIT_EXCEPTION;
    case G.SALC:
      store<u8>(cpu, carry(cpu) != 0 ? 0xff : 0, RAX);
      return 0;
    case G.ARPL:
      adjustPrivilege(cpu, op, form);
      return 0;
    default:
      raise(cpu, imm, 0);
      return 0;
  }
}
