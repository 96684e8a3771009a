/**
 * Privileged instructions. The processor would refuse them at the guest's privilege level. Xen executes them as far
 * as an unprivileged guest may use them, or raises #GP.
 * Source: pv_emulate_privileged_op of xen/arch/x86/pv/emul-priv-op.c; emulate_forced_invalid_op of emul-inv-op.c.
 */
import { Intent } from '../../engine/engine.js';
import * as iced from '../../x86/iced.js';
import { ENODEV } from '../../xen/errno.js';
import { VMASST_TYPE_architectural_iopl } from '../../xen/vm-assist.js';
import type { IdentityState } from '../identity.js';
import { cpuid } from '../identity.js';
import type { FrameState } from '../mmu/mmu-state.js';
import { newBaseptr } from '../mmu/mmuext-op.js';
import type { ClockState } from '../time/time-state.js';
import { CR0_TS, CR4_DE, fixupCr4, guestCr0, setCr4, setTaskSwitched } from '../vcpu/control-registers.js';
import { getDebugreg, setDebugreg } from '../vcpu/debug-registers.js';
import type { AssistState, EntryState } from '../vcpu/entry-state.js';
import { CR2, RAX, RBX, RCX, RDI, RDX, RSI } from '../vcpu/registers.js';
import {
  EFLAGS_DF,
  injectException,
  injectPageFault,
  TRAP_debug,
  TRAP_gp_fault,
  TRAP_invalid_op,
} from '../vcpu/traps.js';
import type { VcpuContext } from '../vcpu/vcpu-context.js';
import { decodeAndEmulate } from './decode-and-emulate.js';
import { instructionDone } from './instruction-done.js';
import type { IoPortState } from './io-ports.js';
import { ioAllowed, readPort, writePort } from './io-ports.js';
import { readMsr, writeMsr } from './msrs.js';
import {
  injectFault,
  linear,
  mask,
  readMemory,
  readRegister,
  registerBytes,
  writeMemory,
  writeRegister,
} from './operands.js';

/** What privileged instructions read and change. */
interface PrivilegedState extends EntryState, FrameState, IdentityState, ClockState, IoPortState {}

const { Mnemonic, OpKind, Register } = iced;

const XEN_IO_CHECK_DR7 = 0xff;

/** Whether IOPL allows the present code to use I/O instructions, CLI and STI. */
function ioplOk(d: AssistState, v: VcpuContext): boolean {
  const cpl = v.cpu.userMode ? 3 : d.vmAssist & (1 << VMASST_TYPE_architectural_iopl) ? 0 : 1;
  return cpl << 12 <= v.iopl;
}

const CLI = 0xfa;
const STI = 0xfb;
/** E4 to E7 are IN and OUT with the port in the instruction, EC to EF with the port in DX. */
const IO_MASK = 0xfc;
const IO_IMMEDIATE = 0xe4;
const IO_BY_DX = 0xec;
const IO_WIDE = 1;
const IO_OUT = 2;

/** Handles the exit for a privileged instruction. */
export function emulatePrivileged(d: PrivilegedState, v: VcpuContext) {
  const { cpu } = v;
  // Linux disables interrupts with CLI in its hottest paths, so this is handled without decoding.
  const at = d.engine.translate(v.id, cpu.linear(cpu.rip), Intent.execute);
  const opcode = at < 0 ? 0 : d.mem.getU8(at);
  if ((opcode === CLI || opcode === STI) && ioplOk(d, v)) return instructionDone(d, v, cpu.rip + 1);
  // IN and OUT are handled without decoding too: while it boots, Linux polls a timer that does not exist a hundred
  // thousand times.
  const short = (opcode & IO_MASK) === IO_IMMEDIATE;
  if ((short && (at & 4095) < 4095) || (opcode & IO_MASK) === IO_BY_DX) {
    const port = short ? d.mem.getU8(at + 1) : cpu.regLo(RDX) & 0xffff;
    return inOut(d, v, (opcode & IO_OUT) === 0, port, opcode & IO_WIDE ? 4 : 1, cpu.rip + (short ? 2 : 1));
  }
  decodeAndEmulate(d, v, carryOut);
}

function carryOut(d: PrivilegedState, v: VcpuContext, ins: iced.Instruction) {
  const { cpu } = v;
  const next = cpu.rip + ins.length;
  const kernel = !cpu.userMode;
  const refuse = (): void => injectException(d, v, TRAP_gp_fault, 0);
  switch (ins.mnemonic) {
    case Mnemonic.Rdmsr:
      return kernel ? rdmsr(d, v, next) : refuse();
    case Mnemonic.Wrmsr: {
      const value = (readRegister(v, Register.EDX) << 32n) | readRegister(v, Register.EAX);
      if (!kernel || !writeMsr(v, Number(readRegister(v, Register.ECX)), value)) return refuse();
      return instructionDone(d, v, next);
    }
    case Mnemonic.Cli:
    case Mnemonic.Sti:
      // If IOPL allows them they do nothing: the mask in vcpu_info is under the guest's own control.
      return ioplOk(d, v) ? instructionDone(d, v, next) : refuse();
    case Mnemonic.Clts:
      if (!kernel) return refuse();
      setTaskSwitched(v, false);
      return instructionDone(d, v, next);
    case Mnemonic.Wbinvd:
      return kernel ? instructionDone(d, v, next) : refuse();
    case Mnemonic.Mov:
      return kernel ? movSpecial(d, v, ins, next) : refuse();
    case Mnemonic.Rdtsc: {
      if (!kernel) return refuse();
      const now = BigInt(d.clock.now());
      cpu.setRegBig(RAX, now & 0xffff_ffffn);
      cpu.setRegBig(RDX, now >> 32n);
      return instructionDone(d, v, next);
    }
    case Mnemonic.Cpuid:
      return emulateCpuid(d, v, next);
    case Mnemonic.In:
    case Mnemonic.Out: {
      const input = ins.mnemonic === Mnemonic.In;
      const data = input ? ins.op0Register : ins.op1Register;
      const byDx = ins.opKind(input ? 1 : 0) === OpKind.Register;
      const port = byDx ? Number(readRegister(v, Register.DX)) : ins.immediate8;
      return inOut(d, v, input, port, registerBytes(data), next);
    }
    case Mnemonic.Insb:
    case Mnemonic.Insw:
    case Mnemonic.Insd:
    case Mnemonic.Outsb:
    case Mnemonic.Outsw:
    case Mnemonic.Outsd:
      return insOuts(d, v, ins, next);
    default:
      return refuse();
  }
}

function rdmsr(d: EntryState & ClockState, v: VcpuContext, next: number) {
  const value = readMsr(d, v, Number(readRegister(v, Register.ECX)));
  if (value === undefined) return injectException(d, v, TRAP_gp_fault, 0);
  v.cpu.setRegBig(RAX, value & 0xffff_ffffn);
  v.cpu.setRegBig(RDX, value >> 32n);
  instructionDone(d, v, next);
}

/** MOV from and to control and debug registers. */
function movSpecial(d: EntryState & FrameState, v: VcpuContext, ins: iced.Instruction, next: number) {
  const { cpu } = v;
  const refuse = (): void => injectException(d, v, TRAP_gp_fault, 0);
  const to = ins.op0Register;
  const from = ins.op1Register;
  if (from >= Register.CR0 && from <= Register.CR15) {
    let value: bigint;
    switch (from - Register.CR0) {
      case 0:
        value = BigInt(guestCr0(v));
        break;
      case 2:
        value = cpu.regBig(CR2);
        break;
      case 3:
        value = BigInt(cpu.cr3Kernel) << 12n;
        break;
      case 4:
        value = BigInt(v.cr4);
        break;
      default:
        return refuse();
    }
    writeRegister(v, to, value);
    return instructionDone(d, v, next);
  }
  if (from >= Register.DR0 && from <= Register.DR15) {
    const value = getDebugreg(v, from - Register.DR0);
    if (value === undefined) return injectException(d, v, TRAP_invalid_op);
    writeRegister(v, to, BigInt.asUintN(64, BigInt(value)));
    return instructionDone(d, v, next);
  }
  const value = readRegister(v, from);
  if (to >= Register.DR0 && to <= Register.DR15) {
    const signed = BigInt.asIntN(64, value);
    const rc = setDebugreg(
      v,
      to - Register.DR0,
      Number(signed),
      Number(value & 0xffff_ffffn),
      Number(signed >> 32n),
    );
    if (rc === -ENODEV) return injectException(d, v, TRAP_invalid_op);
    return rc === 0 ? instructionDone(d, v, next) : refuse();
  }
  switch (to - Register.CR0) {
    case 0:
      if ((value ^ BigInt(guestCr0(v))) & ~BigInt(CR0_TS)) return refuse();
      setTaskSwitched(v, (value & BigInt(CR0_TS)) !== 0n);
      break;
    case 2:
      cpu.setRegBig(CR2, value);
      break;
    case 3:
      if (newBaseptr(d, v, Number((value >> 12n) & 0xff_ffff_ffffn)) !== 0) return refuse();
      break;
    case 4:
      setCr4(v, fixupCr4(Number(value & 0xffff_ffffn)));
      break;
    default:
      return refuse();
  }
  instructionDone(d, v, next);
}

/** The enable bits of the I/O breakpoints that the access hits. */
function ioBreakpoints(v: VcpuContext, port: number, bytes: number): number {
  if (v.dr7Emul === 0 || !(v.cr4 & CR4_DE)) return 0;
  let hit = 0;
  for (let i = 0; i < 4; i++) {
    if (!(v.dr7Emul & XEN_IO_CHECK_DR7 & (3 << (2 * i)))) continue;
    const length = [1, 2, 8, 4][(v.cpu.dr(7) >>> (18 + 4 * i)) & 3];
    const at = v.cpu.dr(i);
    const start = at - (((at % length) + length) % length);
    if (start < port + bytes && start + length > port) hit |= 1 << i;
  }
  return hit;
}

function finishIo(d: EntryState, v: VcpuContext, hit: number, next: number) {
  if (hit === 0) return instructionDone(d, v, next);
  v.cpu.rip = next;
  v.cpu.setDr(6, (v.cpu.dr(6) | hit | 0xffff_0ff0) >>> 0);
  injectException(d, v, TRAP_debug);
}

/** IN to, or OUT from, the low `bytes` bytes of rax. */
function inOut(
  d: EntryState & IoPortState,
  v: VcpuContext,
  input: boolean,
  port: number,
  bytes: number,
  next: number,
) {
  if (!ioAllowed(d, v, port, bytes, ioplOk(d, v))) return injectException(d, v, TRAP_gp_fault, 0);
  const hit = ioBreakpoints(v, port, bytes);
  const { cpu } = v;
  const eax = cpu.regLo(RAX);
  // 8 and 16 bits keep the rest of the register, 32 bits clear its upper half.
  const low = bytes === 1 ? 0xff : bytes === 2 ? 0xffff : -1;
  if (!input) writePort(d, port, bytes, (eax & low) >>> 0);
  else {
    const value = readPort(d, port, bytes);
    cpu.setRegHalves(RAX, (eax & ~low) | value, bytes === 4 ? 0 : cpu.regHi(RAX));
  }
  finishIo(d, v, hit, next);
}

/**
 * The maximum number of iterations of a repeated string instruction at a time. The others follow after events were
 * checked.
 */
const STRING_ITERATIONS = 256;

function insOuts(d: EntryState & IoPortState, v: VcpuContext, ins: iced.Instruction, next: number) {
  const { cpu } = v;
  const input = [Mnemonic.Insb, Mnemonic.Insw, Mnemonic.Insd].includes(ins.mnemonic);
  const bytes = [Mnemonic.Insb, Mnemonic.Outsb].includes(ins.mnemonic)
    ? 1
    : [Mnemonic.Insw, Mnemonic.Outsw].includes(ins.mnemonic)
      ? 2
      : 4;
  const port = Number(readRegister(v, Register.DX));
  if (!ioAllowed(d, v, port, bytes, ioplOk(d, v))) return injectException(d, v, TRAP_gp_fault, 0);
  const repeated = ins.hasRepPrefix || ins.hasRepnePrefix;
  const memoryKind = ins.opKind(input ? 0 : 1);
  const is = (...kinds: number[]): boolean => kinds.includes(memoryKind);
  const size = is(OpKind.MemorySegSI, OpKind.MemoryESDI)
    ? 2
    : is(OpKind.MemorySegESI, OpKind.MemoryESEDI)
      ? 4
      : 8;
  const index = input ? RDI : RSI;
  const step = cpu.rflags & EFLAGS_DF ? -BigInt(bytes) : BigInt(bytes);
  const segment = input ? Register.ES : ins.memorySegment;
  const hit = ioBreakpoints(v, port, bytes);
  const setLow = (n: number, value: bigint): void =>
    cpu.setRegBig(n, size === 2 ? (cpu.regBig(n) & ~0xffffn) | (value & 0xffffn) : value & mask(size));
  let left = repeated ? BigInt.asUintN(64, cpu.regBig(RCX)) & mask(size) : 1n;
  for (let i = 0; i < STRING_ITERATIONS && left > 0n; i++) {
    const offset = BigInt.asUintN(64, cpu.regBig(index)) & mask(size);
    const va = linear(v, segment, offset, bytes, input);
    if (input) {
      if (!writeMemory(d, v, va, bytes, BigInt(readPort(d, port, bytes)))) return injectFault(d, v);
    } else {
      const value = readMemory(d, v, va, bytes);
      if (value < 0n) return injectFault(d, v);
      writePort(d, port, bytes, Number(value));
    }
    setLow(index, offset + step);
    left--;
    if (repeated) setLow(RCX, left);
    if (hit !== 0) break;
  }
  finishIo(d, v, hit, left > 0n && repeated ? cpu.rip : next);
}

function emulateCpuid(d: EntryState & IdentityState, v: VcpuContext, next: number): void {
  const { cpu } = v;
  const result = cpuid(
    d.identity,
    Number(readRegister(v, Register.EAX)),
    Number(readRegister(v, Register.ECX)),
  );
  cpu.setReg(RAX, result.eax);
  cpu.setReg(RBX, result.ebx);
  cpu.setReg(RCX, result.ecx);
  cpu.setReg(RDX, result.edx);
  instructionDone(d, v, next);
}

const PREFIX_BYTES = 5;

/**
 * Handles the exit for `ud2; "xen"`: the instruction after it is emulated if it is CPUID; otherwise the guest gets
 * #UD.
 */
export function emulateForced(d: EntryState & IdentityState, v: VcpuContext) {
  const { cpu } = v;
  const { rip } = cpu;
  for (let i = 0; i < 2; i++) {
    const va = cpu.linear(rip + PREFIX_BYTES + i);
    const at = d.engine.translate(v.id, va, Intent.read);
    if (at < 0) return injectPageFault(d, v, va, 0);
    if (d.mem.u8[at] !== (i === 0 ? 0x0f : 0xa2)) return injectException(d, v, TRAP_invalid_op);
  }
  emulateCpuid(d, v, rip + PREFIX_BYTES + 2);
}
