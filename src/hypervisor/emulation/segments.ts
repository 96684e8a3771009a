/**
 * Instructions that need the descriptor tables: loads of segment registers, far transfers, IRET, and those that query
 * descriptors. On Xen the real processor executes them, because the guest's tables are the processor's; here they are
 * executed in software, with the same checks at privilege level 3.
 *
 * A code segment that is not 64-bit starts compatibility mode. The processor's copies of all segments are then made
 * from what the selectors name at that moment, and segment loads keep them up to date until 64-bit code runs again.
 * Xen reloads all selectors whenever it returns to a vCPU, so a copy never outlives its descriptor there either.
 * Source: Intel SDM volume 2 (MOV, IRET, LAR, LSL, VERR), volume 3 chapter 5.
 */
import { Intent } from '../../engine/engine.js';
import * as iced from '../../x86/iced.js';
import { FLAT_USER_CS32, FLAT_USER_SS32 } from '../../xen/paging.js';
import { sysenter } from '../calls/fast-calls.js';
import type { IdentityState } from '../identity.js';
import { amdLike } from '../identity.js';
import { isCanonical } from '../mmu/guest-memory.js';
import type { MemoryState } from '../mmu/mmu-state.js';
import { guestCr0 } from '../vcpu/control-registers.js';
import {
  descriptor,
  readDescriptor,
  SEGMENT_CODE,
  SEGMENT_DB,
  SEGMENT_DPL,
  SEGMENT_EC,
  SEGMENT_G,
  SEGMENT_L,
  SEGMENT_P,
  SEGMENT_S,
  SEGMENT_TYPE,
  SEGMENT_WR,
} from '../vcpu/descriptors.js';
import type { EntryState } from '../vcpu/entry-state.js';
import { RSP } from '../vcpu/registers.js';
import { moveStack, readStack, writeStack } from '../vcpu/stack.js';
import {
  EFLAGS_IF,
  enter,
  injectException,
  TRAP_gp_fault,
  TRAP_invalid_op,
  TRAP_no_segment,
  TRAP_stack_error,
} from '../vcpu/traps.js';
import type { VcpuContext } from '../vcpu/vcpu-context.js';
import { decodeAndEmulate } from './decode-and-emulate.js';
import { processorDone, stackSegmentDone, trapsAfter } from './instruction-done.js';
import {
  beginWatch,
  injectFault,
  mask,
  memoryAddress,
  memoryBytes,
  readMemory,
  readOperand,
  registerBytes,
  writeMemory,
  writeRegister,
} from './operands.js';

const { Mnemonic, OpKind, Register } = iced;
const ZF = 0x40;
/** The flags that IRET may change at privilege level 3; not IOPL, VIF, VIP, VM, IF. */
const IRET_FLAGS = 0x25_4dd5;
/** What an instruction that a processor without UMIP cannot trap shows of Xen's own tables. */
const GDT_LIMIT = 0xefff;
const GDT_BASE = 0xffff_82d0_7fff_2000n;
const IDT_LIMIT = 0x0fff;
const IDT_BASE = 0xffff_82d0_7fff_0000n;
const TSS_SELECTOR = 0xe040;
const LDT_SELECTOR = 0xe050;
const NONE = -1;

/**
 * Checks a selector for a segment register at privilege level 3. Returns NONE if it may be loaded (`descriptor` then
 * contains the descriptor), or the exception's vector; the error code is the selector without its RPL.
 */
function checkSelector(d: MemoryState, v: VcpuContext, register: number, selector: number): number {
  const isStack = register === Register.SS;
  const isCode = register === Register.CS;
  if ((selector & 0xfffc) === 0) {
    descriptor.a = descriptor.b = 0;
    return isStack || isCode ? TRAP_gp_fault : NONE;
  }
  if (!readDescriptor(d, v, selector)) return TRAP_gp_fault;
  const { b } = descriptor;
  if (!(b & SEGMENT_S)) return TRAP_gp_fault;
  const dpl = (b & SEGMENT_DPL) >> 13;
  const rpl = selector & 3;
  const code = (b & SEGMENT_CODE) !== 0;
  if (isCode) {
    if (!code || rpl !== 3) return TRAP_gp_fault;
    if (b & SEGMENT_EC ? dpl > 3 : dpl !== 3) return TRAP_gp_fault;
    if (!(b & SEGMENT_P)) return TRAP_no_segment;
    return b & SEGMENT_L && b & SEGMENT_DB ? TRAP_gp_fault : NONE;
  }
  if (isStack) {
    if (rpl !== 3 || dpl !== 3 || code || !(b & SEGMENT_WR)) return TRAP_gp_fault;
    return b & SEGMENT_P ? NONE : TRAP_stack_error;
  }
  if (code && !(b & SEGMENT_WR)) return TRAP_gp_fault;
  if (!(code && b & SEGMENT_EC) && dpl < 3) return TRAP_gp_fault;
  return b & SEGMENT_P ? NONE : TRAP_no_segment;
}

const base = (): number =>
  (descriptor.a >>> 16) + (descriptor.b & 0xff) * 0x1_0000 + (descriptor.b >>> 24) * 0x100_0000;

/** The offset of the last byte of the segment in `descriptor`. */
function limit(): number {
  const bits = (descriptor.a & 0xffff) | (descriptor.b & 0xf0000);
  return descriptor.b & SEGMENT_G ? ((bits << 12) | 0xfff) >>> 0 : bits;
}

/** Type, S, DPL, P, AVL, L, D/B, G. */
const RIGHTS = 0x00f0_ff00;
const SEGMENTS = [Register.ES, Register.CS, Register.SS, Register.DS, Register.FS, Register.GS];

/** Whether control may go to `target` in the code segment in `descriptor`. */
const canGoTo = (target: number): boolean =>
  descriptor.b & SEGMENT_L ? isCanonical(target) : target >= 0 && target <= limit();

/**
 * Makes the processor's copy of a segment for compatibility mode. A segment that may not be loaded is marked as
 * unusable.
 */
function copySegment(d: MemoryState, v: VcpuContext, number: number): void {
  const selector = v.cpu.selector(number);
  const usable = checkSelector(d, v, SEGMENTS[number], selector) === NONE && (selector & 0xfffc) !== 0;
  v.cpu.setSegment(number, usable ? base() : 0, usable ? limit() : 0, usable ? descriptor.b & RIGHTS : 0);
}

/** Continues with code in the segment of a checked selector. */
function enterCode(d: MemoryState, v: VcpuContext, selector: number): void {
  const { cpu } = v;
  cpu.cs = selector;
  if (!readDescriptor(d, v, selector) || descriptor.b & SEGMENT_L) return;
  for (let i = 0; i < SEGMENTS.length; i++) copySegment(d, v, i);
  cpu.setCompatibility();
}

/** Loads a data segment register. Returns NONE, or the vector of the exception. */
export function loadSegment(d: MemoryState, v: VcpuContext, register: number, selector: number): number {
  const vector = checkSelector(d, v, register, selector);
  if (vector !== NONE) return vector;
  const { cpu } = v;
  const isNull = (selector & 0xfffc) === 0;
  if (cpu.codeBits !== 64) {
    const rights = isNull ? 0 : descriptor.b & RIGHTS;
    cpu.setSegment(register - Register.ES, isNull ? 0 : base(), isNull ? 0 : limit(), rights);
    cpu.setCompatibility();
  }
  switch (register) {
    case Register.DS:
      cpu.ds = selector;
      break;
    case Register.ES:
      cpu.es = selector;
      break;
    case Register.SS:
      cpu.ss = selector;
      break;
    case Register.FS:
      cpu.fs = selector;
      cpu.fsBase = isNull ? 0 : base();
      break;
    default:
      cpu.gs = selector;
      cpu.gsBase = isNull ? 0 : base();
  }
  return NONE;
}

/** SEGBASE_GS_USER_SEL: loads the GS of user mode while the kernel's is in use. A bad selector becomes 0. */
export function loadUserGs(d: MemoryState, v: VcpuContext, selector: number): void {
  const wanted = selector > 3 ? selector | 3 : selector;
  const ok = checkSelector(d, v, Register.GS, wanted) === NONE;
  v.cpu.gs = ok ? wanted : 0;
  v.cpu.gsBaseOther = ok && wanted > 3 ? base() : 0;
}

/** Loads ds, es, fs and gs for a new vCPU. A bad selector is set to zero and the failsafe callback is entered. */
export function loadSegments(d: EntryState, v: VcpuContext): void {
  const { cpu } = v;
  const saved = { ds: cpu.ds, es: cpu.es, fs: cpu.fs, gs: cpu.gs, fsBase: cpu.fsBase, gsBase: cpu.gsBase };
  let ok = loadSegment(d, v, Register.FS, saved.fs) === NONE;
  ok = loadSegment(d, v, Register.GS, saved.gs) === NONE && ok;
  ok = loadSegment(d, v, Register.DS, saved.ds) === NONE && ok;
  ok = loadSegment(d, v, Register.ES, saved.es) === NONE && ok;
  cpu.fsBase = saved.fsBase;
  cpu.gsBase = saved.gsBase;
  if (ok) {
    enterCode(d, v, cpu.cs);
    return;
  }
  cpu.ds = saved.ds;
  cpu.es = saved.es;
  cpu.fs = saved.fs;
  cpu.gs = saved.gs;
  enter(d, v, v.failsafeCallback, v.failsafeDisablesEvents, -1, true);
  cpu.ds = cpu.es = cpu.fs = cpu.gs = 0;
}

/**
 * After an iret hypercall: cs and ss of the frame must be loadable; otherwise the guest gets the exception at the
 * target.
 */
export function checkReturnSelectors(d: EntryState, v: VcpuContext): void {
  const { cpu } = v;
  for (const register of [Register.CS, Register.SS]) {
    const selector = register === Register.CS ? cpu.cs : cpu.ss;
    // In 64-bit mode a null stack selector is only allowed at levels below 3, and Xen's frames have RPL 3.
    const vector = checkSelector(d, v, register, selector);
    if (vector !== NONE) {
      injectException(d, v, vector, selector & 0xfffc);
      return;
    }
  }
  enterCode(d, v, cpu.cs);
  if (cpu.codeBits !== 64 && !withinCode(v)) injectException(d, v, TRAP_gp_fault, 0);
}

const CS = 1;
const withinCode = ({ cpu }: VcpuContext): boolean => cpu.rip >= 0 && cpu.rip <= cpu.segmentLimit(CS);

/** The end of SYSRET to 32-bit code: the segments are flat, whatever the tables say. */
export function enterFlatCode(d: MemoryState, v: VcpuContext): void {
  const { cpu } = v;
  cpu.ss = FLAT_USER_SS32;
  cpu.rip %= 2 ** 32;
  enterCode(d, v, FLAT_USER_CS32);
}

const MOV_TO_SEGMENT = 0x8e;
/** `iretq`, whose bytes are 48 cf. */
const IRETQ = 0xcf48;
const REGISTER_FORM = 0xc0;

/** Handles the exit for an instruction that needs descriptor tables. */
export function emulateDescriptorInstruction(d: EntryState & IdentityState, v: VcpuContext) {
  const { cpu } = v;
  beginWatch(v);
  // `mov fs, eax` and the like are on every path that switches tasks, and Linux uses `iretq` to serialise the
  // processor after changing code. Both are handled without decoding.
  const at = d.engine.translate(v.id, cpu.linear(cpu.rip), Intent.execute);
  const opcode = at >= 0 && (at & 4095) < 4095 ? d.mem.getU16(at) : 0;
  if (opcode === IRETQ && cpu.codeBits === 64) return iretInstruction(d, v, 8);
  if ((opcode & 0xff) === MOV_TO_SEGMENT) {
    const modrm = opcode >>> 8;
    const register = SEGMENTS[(modrm >>> 3) & 7];
    if (modrm >= REGISTER_FORM && register !== undefined) {
      moveToSegment(d, v, register, cpu.regLo(modrm & 7) & 0xffff, cpu.rip + 2);
      return;
    }
  }
  decodeAndEmulate(d, v, carryOut);
}

const FAR_LOADS = new Map<number, number>([
  [Mnemonic.Les, Register.ES],
  [Mnemonic.Lds, Register.DS],
  [Mnemonic.Lss, Register.SS],
  [Mnemonic.Lfs, Register.FS],
  [Mnemonic.Lgs, Register.GS],
]);

function carryOut(d: EntryState & IdentityState, v: VcpuContext, ins: iced.Instruction) {
  const { cpu } = v;
  const next = cpu.rip + ins.length;
  switch (ins.mnemonic) {
    case Mnemonic.Mov: {
      const selector = readOperand(d, v, ins, 1, 2);
      if (selector < 0n) return injectFault(d, v);
      return moveToSegment(d, v, ins.op0Register, Number(selector & 0xffffn), next);
    }
    case Mnemonic.Pop: {
      const bytes = ins.stackPointerIncrement;
      const value = readStack(d, v, 0, bytes);
      if (value < 0n) return injectFault(d, v, true);
      if (!loadOrFault(d, v, ins.op0Register, Number(value & 0xffffn))) return;
      moveStack(v, bytes);
      if (ins.op0Register === Register.SS) return stackSegmentDone(d, v, next);
      return processorDone(d, v, next);
    }
    case Mnemonic.Les:
    case Mnemonic.Lds:
    case Mnemonic.Lss:
    case Mnemonic.Lfs:
    case Mnemonic.Lgs: {
      const bytes = offsetBytes(d, registerBytes(ins.op0Register));
      const va = memoryAddress(v, ins, 0n, bytes + 2);
      const offset = readMemory(d, v, va, bytes);
      const selector = offset < 0n ? -1n : readMemory(d, v, va + bytes, 2);
      if (selector < 0n) return injectFault(d, v);
      const register = FAR_LOADS.get(ins.mnemonic) as number;
      if (!loadOrFault(d, v, register, Number(selector))) return;
      writeRegister(v, ins.op0Register, offset);
      return processorDone(d, v, next);
    }
    case Mnemonic.Lar:
    case Mnemonic.Lsl:
    case Mnemonic.Verr:
    case Mnemonic.Verw:
      return ask(d, v, ins, next);
    case Mnemonic.Sgdt:
    case Mnemonic.Sidt: {
      const gdt = ins.mnemonic === Mnemonic.Sgdt;
      const value = gdt ? (GDT_BASE << 16n) | BigInt(GDT_LIMIT) : (IDT_BASE << 16n) | BigInt(IDT_LIMIT);
      const bytes = cpu.codeBits === 64 ? 10 : 6;
      if (!writeMemory(d, v, memoryAddress(v, ins, 0n, bytes, true), bytes, value)) return injectFault(d, v);
      return processorDone(d, v, next);
    }
    case Mnemonic.Sldt:
      return store(d, v, ins, BigInt(v.ldtEnts > 0 ? LDT_SELECTOR : 0), next);
    case Mnemonic.Str:
      return store(d, v, ins, BigInt(TSS_SELECTOR), next);
    case Mnemonic.Smsw:
      return store(d, v, ins, BigInt(guestCr0(v)), next);
    case Mnemonic.Iret:
      return iretInstruction(d, v, 2);
    case Mnemonic.Iretd:
      return iretInstruction(d, v, 4);
    case Mnemonic.Iretq:
      return iretInstruction(d, v, 8);
    case Mnemonic.Sysenter:
      return sysenter(d, v);
    case Mnemonic.Retf:
      return farReturn(d, v, ins);
    case Mnemonic.Jmp:
    case Mnemonic.Call:
      return farTransfer(d, v, ins, next);
    default:
      return injectException(d, v, TRAP_invalid_op);
  }
}

/** Loads the register, or raises the exception in the guest. Returns true if it was loaded. */
function loadOrFault(d: EntryState, v: VcpuContext, register: number, selector: number): boolean {
  if (register === Register.CS) {
    injectException(d, v, TRAP_invalid_op);
    return false;
  }
  const vector = loadSegment(d, v, register, selector);
  if (vector === NONE) return true;
  injectException(d, v, vector, selector & 0xfffc);
  return false;
}

/** MOV to a segment register. */
function moveToSegment(
  d: EntryState,
  v: VcpuContext,
  register: number,
  selector: number,
  next: number,
): void {
  if (!loadOrFault(d, v, register, selector)) return;
  if (register === Register.SS) stackSegmentDone(d, v, next);
  else processorDone(d, v, next);
}

function store(d: EntryState, v: VcpuContext, ins: iced.Instruction, value: bigint, next: number) {
  if (ins.op0Kind === OpKind.Register) writeRegister(v, ins.op0Register, value);
  else if (!writeMemory(d, v, memoryAddress(v, ins, 0n, 2, true), 2, value)) return injectFault(d, v);
  processorDone(d, v, next);
}

/** LAR, LSL, VERR, VERW: ZF says whether the selector may be used in that way. */
function ask(d: EntryState, v: VcpuContext, ins: iced.Instruction, next: number) {
  const unary = ins.mnemonic === Mnemonic.Verr || ins.mnemonic === Mnemonic.Verw;
  const operand = readOperand(d, v, ins, unary ? 0 : 1, 2);
  if (operand < 0n) return injectFault(d, v);
  const selector = Number(operand & 0xffffn);
  let good = (selector & 0xfffc) !== 0 && readDescriptor(d, v, selector);
  const { a, b } = descriptor;
  if (good) {
    const conforming =
      (b & (SEGMENT_S | SEGMENT_CODE | SEGMENT_EC)) === (SEGMENT_S | SEGMENT_CODE | SEGMENT_EC);
    const visible = conforming || (b & SEGMENT_DPL) >> 13 === 3;
    const code = (b & SEGMENT_CODE) !== 0;
    const segment = (b & SEGMENT_S) !== 0;
    const system = (b & SEGMENT_TYPE) >> 8;
    switch (ins.mnemonic) {
      case Mnemonic.Lar:
        good = visible && (segment || system === 2 || system === 9 || system === 11 || system === 12);
        if (good) writeRegister(v, ins.op0Register, BigInt((b & 0x00f0_ff00) >>> 0));
        break;
      case Mnemonic.Lsl:
        good = visible && (segment || system === 2 || system === 9 || system === 11);
        if (good) {
          let limit = (a & 0xffff) | (b & 0xf0000);
          if (b & SEGMENT_G) limit = ((limit << 12) | 0xfff) >>> 0;
          writeRegister(v, ins.op0Register, BigInt(limit));
        }
        break;
      case Mnemonic.Verr:
        good = visible && segment && (!code || (b & SEGMENT_WR) !== 0);
        break;
      default:
        good = visible && segment && !code && (b & SEGMENT_WR) !== 0;
    }
  }
  const { cpu } = v;
  cpu.rflags = good ? cpu.rflags | ZF : cpu.rflags & ~ZF;
  processorDone(d, v, next);
}

/**
 * IRET with operands of `bytes` bytes, to the same privilege level. In 64-bit code it also loads the stack from the
 * frame; the flags are always loaded.
 */
function iretInstruction(d: EntryState, v: VcpuContext, bytes: number) {
  const { cpu } = v;
  const { stepping } = cpu;
  const isLong = cpu.codeBits === 64;
  const words = isLong ? 5 : 3;
  const frame: bigint[] = [];
  for (let i = 0; i < words; i++) {
    const value = readStack(d, v, i * bytes, bytes);
    if (value < 0n) return injectFault(d, v, true);
    frame.push(value);
  }
  const [rip, csWord, flags] = frame;
  const cs = Number(csWord & 0xffffn);
  const ss = isLong ? Number(frame[4] & 0xffffn) : cpu.ss;
  if (isLong) {
    const vector = checkSelector(d, v, Register.SS, ss);
    const first = checkSelector(d, v, Register.CS, cs);
    if (first === NONE && vector !== NONE) return injectException(d, v, vector, ss & 0xfffc);
  }
  const vector = checkSelector(d, v, Register.CS, cs);
  if (vector !== NONE) return injectException(d, v, vector, cs & 0xfffc);
  const target = Number(BigInt.asIntN(64, rip));
  if (!canGoTo(target)) return injectException(d, v, TRAP_gp_fault, 0);
  const change = bytes === 2 ? IRET_FLAGS & 0xffff : IRET_FLAGS;
  if (isLong) cpu.setRegBig(RSP, frame[3]);
  else moveStack(v, words * bytes);
  cpu.ss = ss;
  cpu.rflags = (cpu.rflags & ~change) | (Number(flags & 0xffff_ffffn) & change) | EFLAGS_IF;
  cpu.rip = target;
  enterCode(d, v, cs);
  // RF is set as in the frame.
  trapsAfter(d, v, stepping);
}

function farReturn(d: EntryState, v: VcpuContext, ins: iced.Instruction) {
  const extra = ins.opCount > 0 ? Number(ins.immediate16) : 0;
  const bytes = (ins.stackPointerIncrement - extra) / 2;
  const rip = readStack(d, v, 0, bytes);
  const csWord = rip < 0n ? -1n : readStack(d, v, bytes, bytes);
  if (csWord < 0n) return injectFault(d, v, true);
  const cs = Number(csWord & 0xffffn);
  const vector = checkSelector(d, v, Register.CS, cs);
  if (vector !== NONE) return injectException(d, v, vector, cs & 0xfffc);
  const target = Number(BigInt.asIntN(64, rip));
  if (!canGoTo(target)) return injectException(d, v, TRAP_gp_fault, 0);
  moveStack(v, 2 * bytes + extra);
  enterCode(d, v, cs);
  processorDone(d, v, target);
}

/**
 * The size in bytes of the offset in a far pointer in memory, for operands of `bytes` bytes. For AMD processors,
 * REX.W is the size of what is pushed and written, but they still read a pointer of 32 bits and a selector; Intel
 * processors read 64 bits. AMD64 manual, volume 3, CALL (far), LSS.
 */
const offsetBytes = (d: IdentityState, bytes: number): number =>
  bytes === 8 && amdLike(d.identity) ? 4 : bytes;

/** Far JMP and CALL. A call gate faults with its own selector, because Xen gives gates level 0. */
function farTransfer(d: EntryState & IdentityState, v: VcpuContext, ins: iced.Instruction, next: number) {
  const { cpu } = v;
  let bytes: number;
  let offset: bigint;
  let selector: number;
  if (ins.op0Kind === OpKind.FarBranch16 || ins.op0Kind === OpKind.FarBranch32) {
    bytes = ins.op0Kind === OpKind.FarBranch16 ? 2 : 4;
    offset = BigInt(bytes === 2 ? ins.farBranch16 : ins.farBranch32);
    selector = ins.farBranchSelector;
  } else {
    bytes = memoryBytes(ins) - 2;
    const wide = offsetBytes(d, bytes);
    const va = memoryAddress(v, ins, 0n, wide + 2);
    offset = readMemory(d, v, va, wide);
    const selectorWord = offset < 0n ? -1n : readMemory(d, v, va + wide, 2);
    if (selectorWord < 0n) return injectFault(d, v);
    selector = Number(selectorWord);
  }
  const cs = selector | 3;
  const vector = checkSelector(d, v, Register.CS, cs);
  if (vector !== NONE) return injectException(d, v, vector, selector & 0xfffc);
  const target = Number(BigInt.asIntN(64, offset));
  if (!canGoTo(target)) return injectException(d, v, TRAP_gp_fault, 0);
  if (ins.mnemonic === Mnemonic.Call) {
    const frame = (BigInt(next) & mask(bytes)) | (BigInt(cpu.cs) << BigInt(8 * bytes));
    if (!writeStack(d, v, -2 * bytes, 2 * bytes, frame)) return injectFault(d, v, true);
    moveStack(v, -2 * bytes);
  }
  enterCode(d, v, cs);
  processorDone(d, v, target);
}
