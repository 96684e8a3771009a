/**
 * Writes by the guest's kernel to L1 page tables that it has mapped read-only. They are emulated as page-table
 * updates, as the assist writable_pagetables promises. Writes to any other read-only page remain page faults.
 *
 * Invariant: only a frame that the frame table knows as an L1 table is written here, only within one aligned entry,
 * and only after Xen's checks of the new entry.
 * Source: pv_ro_page_fault, ptwr_emulated_update of xen/arch/x86/pv/ro-page-fault.c.
 */
import { Intent } from '../../engine/engine.js';
import * as iced from '../../x86/iced.js';

import { VMASST_TYPE_writable_pagetables } from '../../xen/vm-assist.js';
import { decodeAt } from '../emulation/decode-at.js';
import { instructionDone } from '../emulation/instruction-done.js';
import {
  injectFault,
  linear,
  mask,
  memoryAddress,
  memoryBytes,
  readMemory,
  readOperand,
  readRegister,
  writeRegister,
} from '../emulation/operands.js';
import type { EntryState } from '../vcpu/entry-state.js';
import { RCX, RDI, RSI } from '../vcpu/registers.js';
import { EFLAGS_DF } from '../vcpu/traps.js';
import type { VcpuContext } from '../vcpu/vcpu-context.js';
import { addressOk } from './guest-memory.js';
import type { FrameState, MemoryState } from './mmu-state.js';

const { Mnemonic, OpKind, Register } = iced;
const PFEC_PRESENT = 1;
const PFEC_WRITE = 2;
const PFEC_RSVD = 8;
const PFEC_FETCH = 16;

const CF = 1;
const PF = 4;
const AF = 0x10;
const ZF = 0x40;
const SF = 0x80;
const OF = 0x800;
const ARITHMETIC = CF | PF | AF | ZF | SF | OF;

/** Returns true if the page fault at `address` was a write to a page table, which was then executed or has faulted. */
export function emulatePageTableWrite(
  d: EntryState & FrameState,
  v: VcpuContext,
  address: number,
  errorCode: number,
): boolean {
  if (v.cpu.userMode || !(d.vmAssist & (1 << VMASST_TYPE_writable_pagetables))) return false;
  if ((errorCode & (PFEC_PRESENT | PFEC_WRITE | PFEC_RSVD | PFEC_FETCH)) !== (PFEC_PRESENT | PFEC_WRITE))
    return false;
  if (!addressOk(address)) return false;
  const at = d.engine.translate(v.id, address, Intent.read);
  if (at < 0 || d.frames.type[d.ram.frameAt(at)] !== 1) return false;
  const ins = decodeAt(d.engine, v.id, v.cpu.rip);
  if (ins === null) return false;
  try {
    return emulate(d, v, ins, address);
  } finally {
    ins.free();
  }
}

/** The part of an entry on which an instruction works, and its old value. entry() sets it. */
const target = { at: 0, frame: 0, shift: 0n, lo: 0, hi: 0, old: 0n };

/** Finds the part of an entry at `va`. It must be in the faulting page and aligned to its own size. */
function entry(d: MemoryState, v: VcpuContext, va: number, bytes: number, faulted: number): boolean {
  if (Math.floor(va / 4096) !== Math.floor(faulted / 4096) || va % bytes !== 0 || bytes > 8) return false;
  const at = d.engine.translate(v.id, va, Intent.read);
  if (at < 0) return false;
  target.at = at - (at & 7);
  target.frame = d.ram.frameAt(at);
  target.shift = BigInt((at & 7) * 8);
  target.lo = d.mem.getU32(target.at);
  target.hi = d.mem.getU32(target.at + 4);
  target.old = (((BigInt(target.hi) << 32n) | BigInt(target.lo)) >> target.shift) & mask(bytes);
  return true;
}

/** Replaces the old value by `value`. Returns false if Xen refuses the entry. */
function update(d: FrameState, bytes: number, value: bigint): boolean {
  const whole = (BigInt(target.hi) << 32n) | BigInt(target.lo);
  const hole = mask(bytes) << target.shift;
  const next = (whole & ~hole) | ((value & mask(bytes)) << target.shift);
  return (
    d.tables.modify(target.frame, target.at, Number(next & 0xffff_ffffn), Number(next >> 32n), false) === 0
  );
}

function emulate(
  d: EntryState & FrameState,
  v: VcpuContext,
  ins: iced.Instruction,
  faulted: number,
): boolean {
  const { cpu } = v;
  const next = cpu.rip + ins.length;
  const { mnemonic } = ins;
  if (isString(mnemonic)) return emulateString(d, v, ins, faulted, next);
  if (ins.op0Kind !== OpKind.Memory && !(mnemonic === Mnemonic.Xchg && ins.op1Kind === OpKind.Memory))
    return false;
  const bytes = memoryBytes(ins);
  const bitTest = mnemonic === Mnemonic.Bts || mnemonic === Mnemonic.Btr || mnemonic === Mnemonic.Btc;
  if (bitTest) return emulateBit(d, v, ins, faulted, next, bytes);
  if (!entry(d, v, memoryAddress(v, ins), bytes, faulted)) return false;
  const { old } = target;
  const all = mask(bytes);
  let flags = cpu.rflags & ~ARITHMETIC;
  switch (mnemonic) {
    case Mnemonic.Mov:
      if (!update(d, bytes, readOperand(d, v, ins, 1, bytes))) return false;
      instructionDone(d, v, next);
      return true;
    case Mnemonic.Xchg: {
      const register = ins.op0Kind === OpKind.Register ? ins.op0Register : ins.op1Register;
      if (!update(d, bytes, readRegister(v, register))) return false;
      writeRegister(v, register, old);
      instructionDone(d, v, next);
      return true;
    }
    case Mnemonic.Cmpxchg: {
      const accumulator = [Register.AL, Register.AX, Register.EAX, Register.RAX][Math.log2(bytes)];
      const expected = readRegister(v, accumulator);
      flags |= subtractFlags(expected, old, bytes, 0n);
      if (expected === old) {
        if (!update(d, bytes, readOperand(d, v, ins, 1, bytes))) return false;
      } else writeRegister(v, accumulator, old);
      break;
    }
    case Mnemonic.Or:
    case Mnemonic.And:
    case Mnemonic.Xor: {
      const operand = readOperand(d, v, ins, 1, bytes);
      const value =
        mnemonic === Mnemonic.Or ? old | operand : mnemonic === Mnemonic.And ? old & operand : old ^ operand;
      if (!update(d, bytes, value)) return false;
      flags |= resultFlags(value, bytes);
      break;
    }
    case Mnemonic.Add:
    case Mnemonic.Adc:
    case Mnemonic.Xadd: {
      const operand = readOperand(d, v, ins, 1, bytes);
      const carry = mnemonic === Mnemonic.Adc ? BigInt(cpu.rflags & CF) : 0n;
      const value = (old + operand + carry) & all;
      if (!update(d, bytes, value)) return false;
      flags |= addFlags(old, operand, bytes, carry);
      if (mnemonic === Mnemonic.Xadd) writeRegister(v, ins.op1Register, old);
      break;
    }
    case Mnemonic.Sub:
    case Mnemonic.Sbb: {
      const operand = readOperand(d, v, ins, 1, bytes);
      const borrow = mnemonic === Mnemonic.Sbb ? BigInt(cpu.rflags & CF) : 0n;
      if (!update(d, bytes, (old - operand - borrow) & all)) return false;
      flags |= subtractFlags(old, operand, bytes, borrow);
      break;
    }
    case Mnemonic.Inc:
      if (!update(d, bytes, (old + 1n) & all)) return false;
      flags |= (addFlags(old, 1n, bytes, 0n) & ~CF) | (cpu.rflags & CF);
      break;
    case Mnemonic.Dec:
      if (!update(d, bytes, (old - 1n) & all)) return false;
      flags |= (subtractFlags(old, 1n, bytes, 0n) & ~CF) | (cpu.rflags & CF);
      break;
    case Mnemonic.Not:
      if (!update(d, bytes, ~old & all)) return false;
      flags = cpu.rflags;
      break;
    case Mnemonic.Neg:
      if (!update(d, bytes, -old & all)) return false;
      flags |= subtractFlags(0n, old, bytes, 0n);
      break;
    default:
      return false;
  }
  cpu.rflags = flags;
  instructionDone(d, v, next);
  return true;
}

/** BTS, BTR, BTC: the number of the bit may be outside the named operand. */
function emulateBit(
  d: EntryState & FrameState,
  v: VcpuContext,
  ins: iced.Instruction,
  faulted: number,
  next: number,
  bytes: number,
): boolean {
  const bits = BigInt(bytes * 8);
  const fromRegister = ins.op1Kind === OpKind.Register;
  const number = readOperand(d, v, ins, 1, bytes);
  const signed = fromRegister ? BigInt.asIntN(bytes * 8, number) : number % bits;
  const bit = ((signed % bits) + bits) % bits;
  const offset = ((signed - bit) / bits) * BigInt(bytes);
  if (!entry(d, v, memoryAddress(v, ins, BigInt.asUintN(64, offset)), bytes, faulted)) return false;
  const one = 1n << bit;
  const { old } = target;
  const value =
    ins.mnemonic === Mnemonic.Bts ? old | one : ins.mnemonic === Mnemonic.Btr ? old & ~one : old ^ one;
  if (!update(d, bytes, value)) return false;
  v.cpu.rflags = (v.cpu.rflags & ~CF) | (old & one ? CF : 0);
  instructionDone(d, v, next);
  return true;
}

const STRING_BYTES = new Map<number, number>([
  [Mnemonic.Stosb, 1],
  [Mnemonic.Stosw, 2],
  [Mnemonic.Stosd, 4],
  [Mnemonic.Stosq, 8],
  [Mnemonic.Movsb, 1],
  [Mnemonic.Movsw, 2],
  [Mnemonic.Movsd, 4],
  [Mnemonic.Movsq, 8],
]);
const isString = (mnemonic: number): boolean => STRING_BYTES.has(mnemonic);

/** One step of STOS or MOVS. A repeated one faults again for its next step. */
function emulateString(
  d: EntryState & FrameState,
  v: VcpuContext,
  ins: iced.Instruction,
  faulted: number,
  next: number,
): boolean {
  const { cpu } = v;
  const bytes = STRING_BYTES.get(ins.mnemonic) as number;
  const size = ins.op0Kind === OpKind.MemoryESRDI ? 8 : 4;
  const stores = ins.op1Kind === OpKind.Register;
  const repeated = ins.hasRepPrefix || ins.hasRepnePrefix;
  const di = BigInt.asUintN(64, cpu.regBig(RDI)) & mask(size);
  if (!entry(d, v, linear(v, Register.ES, di), bytes, faulted)) return false;
  let value: bigint;
  const si = BigInt.asUintN(64, cpu.regBig(RSI)) & mask(size);
  if (stores) value = readRegister(v, ins.op1Register);
  else {
    value = readMemory(d, v, linear(v, ins.memorySegment, si), bytes);
    if (value < 0n) {
      injectFault(d, v);
      return true;
    }
  }
  if (!update(d, bytes, value)) return false;
  const step = cpu.rflags & EFLAGS_DF ? -BigInt(bytes) : BigInt(bytes);
  cpu.setRegBig(RDI, (di + step) & mask(size));
  if (!stores) cpu.setRegBig(RSI, (si + step) & mask(size));
  let done = true;
  if (repeated) {
    const left = (cpu.regBig(RCX) - 1n) & mask(size);
    cpu.setRegBig(RCX, left);
    done = left === 0n;
  }
  instructionDone(d, v, done ? next : cpu.rip);
  return true;
}

/** PF, ZF and SF of a result. */
function resultFlags(value: bigint, bytes: number): number {
  let parity = Number(value & 0xffn);
  parity ^= parity >> 4;
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  const sign = (value >> BigInt(bytes * 8 - 1)) & 1n;
  return (parity & 1 ? 0 : PF) | (value === 0n ? ZF : 0) | (sign ? SF : 0);
}

function addFlags(a: bigint, b: bigint, bytes: number, carry: bigint): number {
  const sum = a + b + carry;
  const value = sum & mask(bytes);
  const top = BigInt(bytes * 8 - 1);
  const overflow = ((a ^ value) & (b ^ value)) >> top;
  return (
    resultFlags(value, bytes) |
    (sum > mask(bytes) ? CF : 0) |
    ((a ^ b ^ value) & 0x10n ? AF : 0) |
    (overflow & 1n ? OF : 0)
  );
}

function subtractFlags(a: bigint, b: bigint, bytes: number, borrow: bigint): number {
  const value = (a - b - borrow) & mask(bytes);
  const top = BigInt(bytes * 8 - 1);
  const overflow = ((a ^ b) & (a ^ value)) >> top;
  return (
    resultFlags(value, bytes) |
    (a < b + borrow ? CF : 0) |
    ((a ^ b ^ value) & 0x10n ? AF : 0) |
    (overflow & 1n ? OF : 0)
  );
}
