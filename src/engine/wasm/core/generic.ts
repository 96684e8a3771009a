// Every operation that the interpreter's switch does not handle itself: rarer instructions, and the 8-bit, 16-bit and
// memory forms of common ones. Invariant: an instruction that raises has changed nothing. A store, and whatever it
// depends on, comes before any register is changed.
import { CR4, O_DISP, O_IMM, O_R1, O_R2, O_SCALE, SELECTORS, SYSTEM_FLAGS } from './layout';
import { compatOperation } from './compat';
import { DE, GP, hostCpuid, hostNow, leave, raise, retireUpTo, EXIT_PRIVILEGED, EXIT_RECHECK } from './engine';
import {
  ARITHMETIC, carry, CF, conditionOf, flagsAdc, flagsAdd, flagsIncDec, flagsLogic, flagsSbb, flagsShift, flagsSub,
  getFlags, setFlags, ZF,
} from './flags';
import { readSized, slowProbe, STACK, writeSized } from './access';
import { address, addressBeyond, getSized, setSized, signedSized } from './operands';
import { divide, high64, multiply, multiplySigned } from './muldiv';
import { doubleShift, shiftOrRotate } from './shift';
import { stringOperation } from './string';
import { noteAccess } from './watch';
import { floatOperation } from './float';
import { isLong, setStackPointer, stackAddress, stackMask } from './segment';
import { Form, G } from './ops';

/** generic() returns this if the same instruction is to continue. */
export const AGAIN: i32 = -1;
/** generic() returns this if control goes to RIP, which is linear. */
export const GONE: i32 = -2;

const RAX: usize = 0;
const RCX: usize = 8;
const RDX: usize = 0x10;
const RBX: usize = 0x18;
const RSP: usize = 0x20;
const RBP: usize = 0x28;
const OVERFLOW: u32 = 0x801;
const TF: u32 = 0x100;
const DF: u32 = 0x400;
const RF: u32 = 0x10000;
const ALIGNMENT: u32 = 0x40000;
/** The flags that popf may change at CPL 3: TF, DF, NT, AC, ID. */
const POPF: u32 = 0x24_4500;
const TSD: u32 = 4;

function arithmetic(cpu: usize, kind: i32, a: i64, b: i64, log: u32): i64 {
  const shift = 64 - (8 << log);
  let r: i64;
  switch (kind) {
    case G.ADD:
      r = signedSized(a + b, log);
      flagsAdd(cpu, a, b, r, shift);
      return r;
    case G.ADC: {
      const c = carry(cpu);
      r = signedSized(a + b + <i64>c, log);
      flagsAdc(cpu, a, b, r, c, shift);
      return r;
    }
    case G.SBB: {
      const c = carry(cpu);
      r = signedSized(a - b - <i64>c, log);
      flagsSbb(cpu, a, b, r, c, shift);
      return r;
    }
    case G.SUB:
    case G.CMP:
      flagsSub(cpu, a, b, shift);
      return signedSized(a - b, log);
    case G.OR:
      r = a | b;
      break;
    case G.XOR:
      r = a ^ b;
      break;
    default:
      r = a & b;
  }
  flagsLogic(cpu, r, shift);
  return r;
}

function unary(cpu: usize, kind: i32, a: i64, log: u32): i64 {
  const shift = 64 - (8 << log);
  switch (kind) {
    case G.INC:
      flagsIncDec(cpu, a, -1, shift);
      return signedSized(a + 1, log);
    case G.DEC:
      flagsIncDec(cpu, a, 1, shift);
      return signedSized(a - 1, log);
    case G.NEG:
      flagsSub(cpu, 0, a, shift);
      return signedSized(-a, log);
    default:
      return ~a;
  }
}

function multiplyWide(cpu: usize, isSigned: bool, b: i64, log: u32): void {
  const a = getSized(cpu, RAX, log);
  let low: i64;
  let overflow: bool;
  if (log == 3) {
    low = isSigned ? multiplySigned(a, b) : <i64>multiply(<u64>a, <u64>b);
    overflow = isSigned ? <i64>high64 != low >> 63 : high64 != 0;
    store<i64>(cpu, low, RAX);
    store<u64>(cpu, high64, RDX);
  } else {
    const bits: i64 = 8 << log;
    const mask: i64 = (<i64>1 << bits) - 1;
    const product = isSigned ? a * b : (a & mask) * (b & mask);
    low = signedSized(product, log);
    overflow = isSigned ? low != product : <u64>product >> bits != 0;
    if (log == 0) store<u16>(cpu, <u16>product, RAX);
    else {
      setSized(cpu, RAX, product, log);
      setSized(cpu, RDX, product >> bits, log);
    }
  }
  flagsShift(cpu, low, overflow ? OVERFLOW : 0, 64 - (8 << log));
}

function divideWide(cpu: usize, isSigned: bool, b: i64, log: u32): void {
  if (b == 0) raise(cpu, DE, 0);
  if (log < 3) {
    const bits: i64 = 8 << log;
    const mask: i64 = (<i64>1 << bits) - 1;
    let n = log == 0 ? <i64>load<i16>(cpu, RAX) : (getSized(cpu, RDX, log) << bits) | (getSized(cpu, RAX, log) & mask);
    let q: i64;
    let r: i64;
    if (isSigned) {
      if (log == 2 && n == i64.MIN_VALUE && b == -1) raise(cpu, DE, 0);
      q = n / b;
      r = n % b;
      if (q != signedSized(q, log)) raise(cpu, DE, 0);
    } else {
      if (log == 0) n &= 0xffff;
      else if (log == 1) n &= 0xffff_ffff;
      q = <i64>(<u64>n / <u64>(b & mask));
      r = <i64>(<u64>n % <u64>(b & mask));
      if ((<u64>q & ~<u64>mask) != 0) raise(cpu, DE, 0);
    }
    if (log == 0) store<u16>(cpu, <u16>((q & 0xff) | ((r & 0xff) << 8)), RAX);
    else {
      setSized(cpu, RAX, q, log);
      setSized(cpu, RDX, r, log);
    }
    return;
  }
  let low = load<u64>(cpu, RAX);
  let high = load<u64>(cpu, RDX);
  if (!isSigned) {
    if (high >= <u64>b) raise(cpu, DE, 0);
    const q = divide(high, low, <u64>b);
    store<u64>(cpu, q, RAX);
    store<u64>(cpu, high64, RDX);
    return;
  }
  const negative = <i64>high < 0;
  if (negative) {
    low = 0 - low;
    high = ~high + (low == 0 ? 1 : 0);
  }
  const divisor = b < 0 ? 0 - <u64>b : <u64>b;
  if (high >= divisor) raise(cpu, DE, 0);
  const q = divide(high, low, divisor);
  const opposite = negative != b < 0;
  if (q > (opposite ? <u64>i64.MIN_VALUE : <u64>i64.MAX_VALUE)) raise(cpu, DE, 0);
  store<u64>(cpu, opposite ? 0 - q : q, RAX);
  store<u64>(cpu, negative ? 0 - high64 : high64, RDX);
}

function bitOperation(cpu: usize, op: usize, kind: i32, form: i32, log: u32): void {
  const bits: i64 = 8 << log;
  let bit = form == Form.RR || form == Form.MR ? getSized(cpu, load<u8>(op, O_R2), log) : <i64>load<i32>(op, O_IMM);
  let a: i64;
  let va: u64 = 0;
  if (form >= Form.MR) {
    va = form == Form.MR ? addressBeyond(cpu, op, <u64>((bit >> (3 + log)) << log)) : address(cpu, op);
    if (kind != G.BT) slowProbe(cpu, op, va, 1 << log);
    a = <i64>readSized(cpu, op, va, log);
  } else a = getSized(cpu, load<u8>(op, O_R1), log);
  bit &= bits - 1;
  const one: i64 = <i64>1 << bit;
  const before = <u32>(a >> bit) & 1;
  if (kind != G.BT) {
    const r = kind == G.BTS ? a | one : kind == G.BTR ? a & ~one : a ^ one;
    if (form >= Form.MR) writeSized(cpu, op, va, <u64>r, log);
    else setSized(cpu, load<u8>(op, O_R1), r, log);
  }
  setFlags(cpu, (getFlags(cpu) & ~CF) | before);
}

function compareExchangeWide(cpu: usize, op: usize, log: u32): void {
  const va = address(cpu, op);
  const half: u64 = 1 << log;
  if (log == 3 && (va & 15) != 0) raise(cpu, GP, 0);
  slowProbe(cpu, op, va, <u32>half * 2);
  const low = signedSized(<i64>readSized(cpu, op, va, log), log);
  const high = signedSized(<i64>readSized(cpu, op, va + half, log), log);
  const f = getFlags(cpu) & ~ZF;
  if (low == getSized(cpu, RAX, log) && high == getSized(cpu, RDX, log)) {
    writeSized(cpu, op, va, load<u64>(cpu, RBX), log);
    writeSized(cpu, op, va + half, load<u64>(cpu, RCX), log);
    setFlags(cpu, f | ZF);
  } else {
    // In this case processors write back what they have read, which a breakpoint notices.
    noteAccess(cpu, va, <u32>half * 2, true);
    setSized(cpu, RAX, low, log);
    setSized(cpu, RDX, high, log);
    setFlags(cpu, f);
  }
}

export function push(cpu: usize, op: usize, v: u64, log: u32): void {
  const mask = stackMask(cpu);
  const rsp = (load<u64>(cpu, RSP) - (1 << log)) & mask;
  writeSized(cpu, op | STACK, stackAddress(cpu, rsp), v, log);
  setStackPointer(cpu, rsp, mask);
}

/** Reads the top of the stack. */
export function top(cpu: usize, op: usize, log: u32): u64 {
  return readSized(cpu, op | STACK, stackAddress(cpu, load<u64>(cpu, RSP) & stackMask(cpu)), log);
}

/** Moves the stack pointer up. */
export function popped(cpu: usize, bytes: u64): void {
  setStackPointer(cpu, load<u64>(cpu, RSP) + bytes, stackMask(cpu));
}

function popFlags(cpu: usize, op: usize, log: u32): i32 {
  const v = <u32>top(cpu, op, log);
  const may = log == 1 ? POPF & 0xffff : POPF;
  const before = load<u32>(cpu, SYSTEM_FLAGS);
  const after = (before & ~may) | (v & may);
  popped(cpu, 1 << log);
  setFlags(cpu, v & ARITHMETIC);
  store<u32>(cpu, after, SYSTEM_FLAGS);
  return (before ^ after) & (TF | ALIGNMENT) ? EXIT_RECHECK : 0;
}

/** enter: up to 31 frame pointers are copied. SDM vol. 2, ENTER. */
function enter(cpu: usize, op: usize, log: u32): void {
  const size: u64 = 1 << log;
  const level: u64 = load<u8>(op, O_R1) & 31;
  const bytes: u64 = load<u32>(op, O_IMM) & 0xffff;
  const mask = stackMask(cpu);
  const rbp = load<u64>(cpu, RBP);
  const frame = (load<u64>(cpu, RSP) - size) & mask;
  const last = (frame - level * size) & mask;
  const stack = op | STACK;
  // In the order of the manual. As on processors, what was pushed remains when a later access faults.
  writeSized(cpu, stack, stackAddress(cpu, frame), rbp, log);
  for (let i: u64 = 1; i < level; i++) {
    const v = readSized(cpu, stack, stackAddress(cpu, (rbp - i * size) & mask), log);
    writeSized(cpu, stack, stackAddress(cpu, (frame - i * size) & mask), v, log);
  }
  if (level > 0) writeSized(cpu, stack, stackAddress(cpu, last), frame, log);
  slowProbe(cpu, stack, stackAddress(cpu, (last - bytes) & mask), <u32>size);
  setSized(cpu, RBP, <i64>frame, log);
  setStackPointer(cpu, last - bytes, mask);
}

/** Reads the first operand. A memory operand that will be stored to is probed first. */
@inline
function probed(cpu: usize, op: usize, va: u64, log: u32): i64 {
  slowProbe(cpu, op, va, 1 << log);
  return signedSized(<i64>readSized(cpu, op, va, log), log);
}

/** Executes one operation. Returns 0 when it is done, AGAIN, GONE, or the exit that follows the instruction. */
export function generic(cpu: usize, op: usize, code: u32): i32 {
  const log = code & 3;
  const form = <i32>(code >> 2) & 7;
  const kind = <i32>(code >> 5) & 0x3ff;
  const r1: usize = load<u8>(op, O_R1);
  const r2: usize = load<u8>(op, O_R2);
  const imm: i64 = load<i32>(op, O_IMM);
  if (kind <= G.TEST) {
    if (form >= Form.MR) {
      const va = address(cpu, op);
      const b = form == Form.MR ? getSized(cpu, r2, log) : imm;
      if (kind >= G.CMP) arithmetic(cpu, kind, signedSized(<i64>readSized(cpu, op, va, log), log), b, log);
      else {
        const a = probed(cpu, op, va, log);
        writeSized(cpu, op, va, <u64>arithmetic(cpu, kind, a, b, log), log);
      }
      return 0;
    }
    const b =
      form == Form.RR
        ? getSized(cpu, r2, log)
        : form == Form.RI
          ? imm
          : signedSized(<i64>readSized(cpu, op, address(cpu, op), log), log);
    const r = arithmetic(cpu, kind, getSized(cpu, r1, log), b, log);
    if (kind < G.CMP) setSized(cpu, r1, r, log);
    return 0;
  }
  if (kind <= G.SAR) {
    const count: u32 = form == Form.RR || form == Form.MR ? load<u8>(cpu, RCX) : <u32>imm & 0xff;
    if (form >= Form.MR) {
      const va = address(cpu, op);
      const a = probed(cpu, op, va, log);
      writeSized(cpu, op, va, <u64>shiftOrRotate(cpu, kind, a, count, log), log);
    } else setSized(cpu, r1, shiftOrRotate(cpu, kind, getSized(cpu, r1, log), count, log), log);
    return 0;
  }
  switch (kind) {
    case G.MOV:
      if (form == Form.MR) writeSized(cpu, op, address(cpu, op), <u64>getSized(cpu, r2, log), log);
      else if (form == Form.MI) writeSized(cpu, op, address(cpu, op), <u64>imm, log);
      else if (form == Form.RM) setSized(cpu, r1, <i64>readSized(cpu, op, address(cpu, op), log), log);
      else setSized(cpu, r1, form == Form.RR ? getSized(cpu, r2, log) : imm, log);
      return 0;
    case G.MOVZX8:
    case G.MOVZX16:
    case G.MOVSX8:
    case G.MOVSX16:
    case G.MOVSX32: {
      const from: u32 = kind == G.MOVSX32 ? 2 : kind == G.MOVZX16 || kind == G.MOVSX16 ? 1 : 0;
      let v = form == Form.RR ? getSized(cpu, r2, from) : signedSized(<i64>readSized(cpu, op, address(cpu, op), from), from);
      if (kind <= G.MOVZX16) v &= from == 0 ? 0xff : 0xffff;
      setSized(cpu, r1, v, log);
      return 0;
    }
    case G.LEA:
      setSized(cpu, r1, <i64>address(cpu, op), log);
      return 0;
    case G.INC:
    case G.DEC:
    case G.NEG:
    case G.NOT:
      if (form == Form.M) {
        const va = address(cpu, op);
        const a = probed(cpu, op, va, log);
        writeSized(cpu, op, va, <u64>unary(cpu, kind, a, log), log);
      } else setSized(cpu, r1, unary(cpu, kind, getSized(cpu, r1, log), log), log);
      return 0;
    case G.SHLD:
    case G.SHRD: {
      const count: u32 = imm < 0 ? load<u8>(cpu, RCX) : <u32>imm;
      const b = getSized(cpu, r2, log);
      if (form == Form.M) {
        const va = address(cpu, op);
        const a = probed(cpu, op, va, log);
        writeSized(cpu, op, va, <u64>doubleShift(cpu, kind == G.SHRD, a, b, count, log), log);
      } else setSized(cpu, r1, doubleShift(cpu, kind == G.SHRD, getSized(cpu, r1, log), b, count, log), log);
      return 0;
    }
    case G.MUL:
    case G.IMUL:
    case G.DIV:
    case G.IDIV: {
      const b = form == Form.M ? signedSized(<i64>readSized(cpu, op, address(cpu, op), log), log) : getSized(cpu, r1, log);
      if (kind <= G.IMUL) multiplyWide(cpu, kind == G.IMUL, b, log);
      else divideWide(cpu, kind == G.IDIV, b, log);
      return 0;
    }
    case G.IMUL2:
    case G.IMUL3: {
      const b = form == Form.RM ? signedSized(<i64>readSized(cpu, op, address(cpu, op), log), log) : getSized(cpu, r2, log);
      const a = kind == G.IMUL3 ? imm : getSized(cpu, r1, log);
      let r: i64;
      let overflow: bool;
      if (log == 3) {
        r = multiplySigned(a, b);
        overflow = <i64>high64 != r >> 63;
      } else {
        const product = a * b;
        r = signedSized(product, log);
        overflow = r != product;
      }
      setSized(cpu, r1, r, log);
      flagsShift(cpu, r, overflow ? OVERFLOW : 0, 64 - (8 << log));
      return 0;
    }
    case G.BT:
    case G.BTS:
    case G.BTR:
    case G.BTC:
      bitOperation(cpu, op, kind, form, log);
      return 0;
    case G.BSF:
    case G.BSR: {
      let v = <u64>(form == Form.RM ? <i64>readSized(cpu, op, address(cpu, op), log) : getSized(cpu, r2, log));
      if (log < 3) v &= (<u64>1 << (8 << log)) - 1;
      if (v != 0) setSized(cpu, r1, kind == G.BSF ? ctz<i64>(<i64>v) : 63 - clz<i64>(<i64>v), log);
      setFlags(cpu, (getFlags(cpu) & ~ZF) | (v == 0 ? ZF : 0));
      return 0;
    }
    case G.BSWAP:
      // With 16 bits the result is undefined; processors return 0.
      if (log == 3) store<u64>(cpu + r1, bswap<u64>(load<u64>(cpu + r1)));
      else if (log == 2) store<u64>(cpu + r1, <u64>bswap<u32>(load<u32>(cpu + r1)));
      else store<u16>(cpu + r1, 0);
      return 0;
    case G.XCHG:
      if (form == Form.MR) {
        const va = address(cpu, op);
        const a = probed(cpu, op, va, log);
        writeSized(cpu, op, va, <u64>getSized(cpu, r2, log), log);
        setSized(cpu, r2, a, log);
      } else {
        const a = getSized(cpu, r1, log);
        setSized(cpu, r1, getSized(cpu, r2, log), log);
        setSized(cpu, r2, a, log);
      }
      return 0;
    case G.CMPXCHG: {
      const memory = form == Form.MR;
      const va = memory ? address(cpu, op) : 0;
      const a = memory ? probed(cpu, op, va, log) : getSized(cpu, r1, log);
      const accumulator = getSized(cpu, RAX, log);
      const b = getSized(cpu, r2, log);
      if (memory) writeSized(cpu, op, va, <u64>(a == accumulator ? b : a), log);
      if (a == accumulator) {
        if (!memory) setSized(cpu, r1, b, log);
      } else {
        // A register operand keeps its upper half too.
        setSized(cpu, RAX, a, log);
      }
      flagsSub(cpu, accumulator, a, 64 - (8 << log));
      return 0;
    }
    case G.XADD: {
      const memory = form == Form.MR;
      const va = memory ? address(cpu, op) : 0;
      const a = memory ? probed(cpu, op, va, log) : getSized(cpu, r1, log);
      const r = arithmetic(cpu, G.ADD, a, getSized(cpu, r2, log), log);
      if (memory) writeSized(cpu, op, va, <u64>r, log);
      setSized(cpu, r2, a, log);
      if (!memory) setSized(cpu, r1, r, log);
      return 0;
    }
    case G.CMPXCHG8B:
      compareExchangeWide(cpu, op, 2);
      return 0;
    case G.CMPXCHG16B:
      compareExchangeWide(cpu, op, 3);
      return 0;
    case G.CMOV: {
      const v = form == Form.RM ? <i64>readSized(cpu, op, address(cpu, op), log) : getSized(cpu, r2, log);
      if (conditionOf(cpu, <u32>imm)) setSized(cpu, r1, v, log);
      else if (log == 2) setSized(cpu, r1, getSized(cpu, r1, 2), 2);
      return 0;
    }
    case G.SETCC:
      if (form == Form.M) writeSized(cpu, op, address(cpu, op), <u64>conditionOf(cpu, <u32>imm), 0);
      else setSized(cpu, r1, <i64>conditionOf(cpu, <u32>imm), 0);
      return 0;
    case G.PUSH:
      push(cpu, op, form == Form.M ? readSized(cpu, op, address(cpu, op), log) : form == Form.RI ? <u64>imm : load<u64>(cpu + r1), log);
      return 0;
    case G.POP: {
      const rsp = load<u64>(cpu, RSP);
      const v = top(cpu, op, log);
      if (form == Form.M) {
        // A segment that cannot be used is refused before rsp changes. The address is computed with the new rsp.
        address(cpu, op);
        popped(cpu, 1 << log);
        const after = load<u64>(cpu, RSP);
        const va = address(cpu, op);
        store<u64>(cpu, rsp, RSP);
        if (!isLong(cpu)) slowProbe(cpu, op, va, 1 << log);
        writeSized(cpu, op, va, v, log);
        store<u64>(cpu, after, RSP);
      } else {
        popped(cpu, 1 << log);
        setSized(cpu, r1, <i64>v, log);
      }
      return 0;
    }
    case G.PUSHF:
      push(cpu, op, getFlags(cpu) | (load<u32>(cpu, SYSTEM_FLAGS) & ~RF) | 0x202, log);
      return 0;
    case G.POPF:
      return popFlags(cpu, op, log);
    case G.ENTER:
      enter(cpu, op, log);
      return 0;
    case G.LEAVE: {
      const mask = stackMask(cpu);
      const rbp = load<u64>(cpu, RBP) & mask;
      const v = readSized(cpu, op | STACK, stackAddress(cpu, rbp), log);
      setStackPointer(cpu, rbp + (1 << log), mask);
      setSized(cpu, RBP, <i64>v, log);
      return 0;
    }
    case G.PUSH_SEGMENT:
      push(cpu, op, load<u16>(cpu + SELECTORS + (r2 << 1)), log);
      return 0;
    case G.STORE_SEGMENT: {
      const v: i64 = load<u16>(cpu + SELECTORS + (r2 << 1));
      if (form == Form.M) writeSized(cpu, op, address(cpu, op), <u64>v, 1);
      else setSized(cpu, r1, v, log);
      return 0;
    }
    case G.LAHF:
      store<u8>(cpu, <u8>(getFlags(cpu) | 2), 1);
      return 0;
    case G.SAHF:
      setFlags(cpu, (getFlags(cpu) & 0x800) | (load<u8>(cpu, 1) & 0xd5));
      return 0;
    case G.CLC:
      setFlags(cpu, getFlags(cpu) & ~CF);
      return 0;
    case G.STC:
      setFlags(cpu, getFlags(cpu) | CF);
      return 0;
    case G.CMC:
      setFlags(cpu, getFlags(cpu) ^ CF);
      return 0;
    case G.CLD:
      store<u32>(cpu, load<u32>(cpu, SYSTEM_FLAGS) & ~DF, SYSTEM_FLAGS);
      return 0;
    case G.STD:
      store<u32>(cpu, load<u32>(cpu, SYSTEM_FLAGS) | DF, SYSTEM_FLAGS);
      return 0;
    case G.CONVERT:
      setSized(cpu, RAX, getSized(cpu, RAX, log - 1), log);
      return 0;
    case G.SPREAD:
      setSized(cpu, RDX, getSized(cpu, RAX, log) >> 63, log);
      return 0;
    case G.XLAT:
      store<u8>(cpu, <u8>readSized(cpu, op, addressBeyond(cpu, op, load<u8>(cpu, RAX)), 0), RAX);
      return 0;
    case G.LOAD_ABSOLUTE:
      setSized(cpu, RAX, <i64>readSized(cpu, op, load<u64>(op, O_DISP) + load<u64>(cpu + (load<u8>(op, O_SCALE) & 0xf8)), log), log);
      return 0;
    case G.STORE_ABSOLUTE:
      writeSized(cpu, op, load<u64>(op, O_DISP) + load<u64>(cpu + (load<u8>(op, O_SCALE) & 0xf8)), load<u64>(cpu, RAX), log);
      return 0;
    case G.MOVS:
    case G.STOS:
    case G.LODS:
    case G.SCAS:
    case G.CMPS:
      return stringOperation(cpu, op, kind, log) ? 0 : AGAIN;
    case G.RDTSC: {
      if (load<u32>(cpu, CR4) & TSD) leave(cpu, EXIT_PRIVILEGED);
      retireUpTo(cpu, op);
      const t = <u64>hostNow();
      store<u64>(cpu, t & 0xffff_ffff, RAX);
      store<u64>(cpu, t >> 32, RDX);
      return 0;
    }
    case G.CPUID:
      hostCpuid(cpu);
      return 0;
    case G.FP:
      floatOperation(cpu, op);
      return 0;
    case G.TOUCH:
      readSized(cpu, op, address(cpu, op), 0);
      return 0;
    case G.RAISE:
      raise(cpu, <u32>imm, 0);
      return 0;
    default:
      return compatOperation(cpu, op, kind, form, log);
  }
}
