/**
 * VCPUOP_initialise: sets a vCPU's complete initial state from a vcpu_guest_context, with Xen's checks.
 * Source: arch_set_info_guest of xen/arch/x86/domain.c.
 */
import { EEXIST, EFAULT, EINVAL } from '../../xen/errno.js';
import {
  VcpuGuestContext as C,
  CpuUserRegs,
  TrapInfo,
  VGCF_failsafe_disables_events,
  VGCF_i387_valid,
  VGCF_in_kernel,
  VGCF_online,
  VGCF_syscall_disables_events,
} from '../../xen/vcpu.js';
import type { CallState } from '../calls/call-state.js';
import { addressOk, isCanonical } from '../mmu/guest-memory.js';
import type { CopyState, FrameState, MmuState } from '../mmu/mmu-state.js';
import { newBaseptr, newUserBaseptr } from '../mmu/mmuext-op.js';
import { CR0_TS, fixupCr4, setCr4, setTaskSwitched } from './control-registers.js';
import { DR6_DEFAULT, DR7_DEFAULT, setDebugreg } from './debug-registers.js';
import { fixupSelector, setGdtFrames } from './descriptors.js';
import type { AssistState } from './entry-state.js';
import { EFLAGS_IF, EFLAGS_IOPL } from './traps.js';
import type { TurnState } from './turn-state.js';
import type { VcpuContext } from './vcpu-context.js';

/** What a vCPU is initialised with, apart from what the guest says. */
interface InitialiseState extends MmuState, TurnState, AssistState {}

/** The offset of the context in the copy buffer: the page-table operations below use the start of the buffer. */
const BASE = 1024;
const R = BASE + C.user_regs;
/** The registers of cpu_user_regs in the machine's order: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15. */
export const GPRS = [
  CpuUserRegs.rax,
  CpuUserRegs.rcx,
  CpuUserRegs.rdx,
  CpuUserRegs.rbx,
  CpuUserRegs.rsp,
  CpuUserRegs.rbp,
  CpuUserRegs.rsi,
  CpuUserRegs.rdi,
  CpuUserRegs.r8,
  CpuUserRegs.r9,
  CpuUserRegs.r10,
  CpuUserRegs.r11,
  CpuUserRegs.r12,
  CpuUserRegs.r13,
  CpuUserRegs.r14,
  CpuUserRegs.r15,
];
/** Bits of rflags that software can set. */
const EFLAGS_SETTABLE = 0x25_4dd5;
const VMASST_VALID = 0b11_1111;
const MAX_GDT_FRAMES = 16;
const CANONICAL_FIELDS = [
  C.user_regs + CpuUserRegs.rip,
  C.user_regs + CpuUserRegs.rsp,
  C.kernel_sp,
  C.fs_base,
  C.gs_base_kernel,
  C.gs_base_user,
  C.event_callback_eip,
  C.syscall_callback_eip,
  C.failsafe_callback_eip,
];
const gdt = new Float64Array(MAX_GDT_FRAMES);

export function initialiseVcpu(d: CallState & InitialiseState, v: VcpuContext, arg: number): number {
  if (!d.guest.copyIn(d.current.id, arg, C.sizeof, BASE)) return -EFAULT;
  return v.initialised ? -EEXIST : setInfoGuest(d, v);
}

/** Loads the context at BASE in the copy buffer. Returns 0 or an error; after an error the vCPU is not initialised. */
function setInfoGuest(d: CopyState & InitialiseState, v: VcpuContext): number {
  const { buffer } = d.guest;
  const { cpu } = v;
  const s64 = (field: number): number => buffer.getS64(BASE + field);
  const flags = buffer.getU32(BASE + C.flags);
  const ldtEnts = buffer.getU64(BASE + C.ldt_ents);
  const ldtBase = s64(C.ldt_base);
  const gdtEnts = buffer.getU64(BASE + C.gdt_ents);
  for (const field of CANONICAL_FIELDS) if (!isCanonical(s64(field))) return -EINVAL;
  if (ldtEnts !== 0 && !isCanonical(ldtBase)) return -EINVAL;
  for (let i = 0; i < 256; i++) {
    if (!isCanonical(s64(C.trap_ctxt + i * TrapInfo.sizeof + TrapInfo.address))) return -EINVAL;
  }
  if (!addressOk(ldtBase) || (ldtBase & 4095) !== 0 || ldtEnts > 8192) return -EINVAL;
  const vmAssist = buffer.getU32(BASE + C.vm_assist);
  if (v.id === 0 && vmAssist & ~VMASST_VALID) return -EINVAL;
  if (gdtEnts > MAX_GDT_FRAMES * 512) return -EINVAL;
  const cr3 = buffer.getU64(BASE + C.ctrlreg + 8 * 3);
  const userCr3 = buffer.getU64(BASE + C.ctrlreg + 8);
  if (!(flags & VGCF_in_kernel) && userCr3 === 0) return -EINVAL;

  for (let i = 0; i < MAX_GDT_FRAMES; i++) gdt[i] = s64(C.gdt_frames + 8 * i);
  let rc = setGdtFrames(d, v, gdt, gdtEnts);
  if (rc !== 0) return rc;
  rc = newBaseptr(d, v, Math.floor(cr3 / 4096));
  if (rc === 0 && userCr3 !== 0) {
    rc = newUserBaseptr(d, v, Math.floor(userCr3 / 4096));
    if (rc !== 0) dropBaseptr(d, v);
  }
  if (rc !== 0) {
    v.gdtEnts = 0;
    v.gdtFrames.fill(0);
    return rc;
  }
  v.ldtEnts = ldtEnts;
  v.ldtBase = ldtEnts === 0 ? 0 : ldtBase;
  for (let i = 0; i < 256; i++) {
    const at = BASE + C.trap_ctxt + i * TrapInfo.sizeof;
    v.trapAddress[i] = buffer.getS64(at + TrapInfo.address);
    v.trapCs[i] = fixupSelector(buffer.getU16(at + TrapInfo.cs));
    v.trapFlags[i] = buffer.getU8(at + TrapInfo.flags);
  }
  v.failsafeDisablesEvents = (flags & VGCF_failsafe_disables_events) !== 0;
  v.syscallDisablesEvents = (flags & VGCF_syscall_disables_events) !== 0;
  v.eventCallback = s64(C.event_callback_eip);
  v.failsafeCallback = s64(C.failsafe_callback_eip);
  v.syscallCallback = s64(C.syscall_callback_eip);
  v.kernelSs = fixupSelector(buffer.getU16(BASE + C.kernel_ss));
  v.kernelSp = s64(C.kernel_sp);

  GPRS.forEach((field, i) => {
    cpu.setRegHalves(i, buffer.getU32(R + field), buffer.getS32(R + field + 4));
  });
  const rflags = buffer.getU32(R + CpuUserRegs.rflags);
  v.iopl = rflags & EFLAGS_IOPL;
  cpu.rflags = (rflags & EFLAGS_SETTABLE & ~EFLAGS_IOPL) | EFLAGS_IF | 2;
  cpu.rip = buffer.getS64(R + CpuUserRegs.rip);
  cpu.cs = fixupSelector(buffer.getU16(R + CpuUserRegs.cs));
  cpu.ss = fixupSelector(buffer.getU16(R + CpuUserRegs.ss));
  cpu.ds = buffer.getU16(R + CpuUserRegs.ds);
  cpu.es = buffer.getU16(R + CpuUserRegs.es);
  cpu.fs = buffer.getU16(R + CpuUserRegs.fs);
  cpu.gs = buffer.getU16(R + CpuUserRegs.gs);
  v.loadSegments = true;
  const kernel = (flags & VGCF_in_kernel) !== 0;
  cpu.userMode = !kernel;
  cpu.fsBase = s64(C.fs_base);
  cpu.gsBase = s64(kernel ? C.gs_base_kernel : C.gs_base_user);
  cpu.gsBaseOther = s64(kernel ? C.gs_base_user : C.gs_base_kernel);
  setTaskSwitched(v, (buffer.getU32(BASE + C.ctrlreg) & CR0_TS) !== 0);
  setCr4(v, fixupCr4(buffer.getU32(BASE + C.ctrlreg + 8 * 4)));
  if (flags & VGCF_i387_valid) loadFpu(d, v);
  loadDebugRegisters(d, v);
  if (v.id === 0) d.vmAssist = vmAssist;
  v.initialised = true;
  v.down = (flags & VGCF_online) === 0;
  d.reschedule = true;
  return 0;
}

function dropBaseptr(d: FrameState, v: VcpuContext): void {
  d.tables.putType(d.tables.guestFrame(v.cpu.cr3Kernel));
  v.cpu.cr3Kernel = 0;
}

/** The FPU's state goes through the machine's own scratch: it is 512 bytes of the copy buffer. */
function loadFpu(d: CopyState, v: VcpuContext): void {
  v.cpu.loadFpu(d.guest.buffer.bytes(BASE + C.fpu_ctxt, 512));
}

function loadDebugRegisters(d: CopyState, v: VcpuContext): void {
  const { buffer } = d.guest;
  for (let i = 0; i < 4; i++) v.cpu.setDr(i, 0);
  v.cpu.setDr(6, DR6_DEFAULT);
  v.cpu.setDr(7, DR7_DEFAULT);
  v.dr7Emul = 0;
  for (const i of [0, 1, 2, 3, 6, 7]) {
    const at = BASE + C.debugreg + 8 * i;
    setDebugreg(v, i, buffer.getS64(at), buffer.getU32(at), buffer.getS32(at + 4));
  }
}
