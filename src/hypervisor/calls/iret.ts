/**
 * HYPERVISOR_iret: returns from a handler to user or kernel mode. Everything is in one frame on the guest's stack.
 * This is the most frequent hypercall: every system call and every fault of a process ends with it.
 * Source: do_iret of xen/arch/x86/pv/iret.c; restore_all_guest of x86_64/entry.S.
 */
import { type EngineVcpu, Intent } from '../../engine/engine.js';
import type { LinearMemory } from '../../xen/memory.js';
import { FLAT_KERNEL_CS64, FLAT_KERNEL_SS64, FLAT_USER_CS32 } from '../../xen/paging.js';
import { VcpuInfo } from '../../xen/shared-info.js';
import { IretContext, VGCF_in_syscall } from '../../xen/vcpu.js';
import { VMASST_TYPE_architectural_iopl } from '../../xen/vm-assist.js';
import { checkReturnSelectors, enterFlatCode } from '../emulation/segments.js';
import { addressOk, isCanonical } from '../mmu/guest-memory.js';
import type { EntryState } from '../vcpu/entry-state.js';
import { R11, RAX, RCX, RIP, RSP } from '../vcpu/registers.js';
import { EFLAGS_IF, EFLAGS_IOPL, injectException, TRAP_gp_fault, toggleMode } from '../vcpu/traps.js';
import type { CallState } from './call-state.js';

const EFLAGS_VM = 0x2_0000;
/** The bits of rflags that exist, which IRET and SYSRET take from the saved word. */
const EFLAGS_KNOWN = 0x3f_7fd5;
const EFLAGS_RF = 0x1_0000;
const READ_KERNEL = Intent.read | Intent.asKernel;

export function iret(d: CallState & EntryState): void {
  const v = d.current;
  const { cpu } = v;
  const { mem, engine } = d;
  const sp = cpu.reg(RSP);
  let frame = addressOk(sp) ? engine.translate(v.id, sp, READ_KERNEL) : -1;
  let from: LinearMemory = mem;
  if (frame >= 0 && (frame & 4095) > 4096 - IretContext.sizeof) {
    frame = d.guest.copyIn(v.id, sp, IretContext.sizeof) ? 0 : -1;
    from = d.guest.buffer;
  }
  if (frame < 0) {
    d.crash("a fault while reading the frame of an iret hypercall from the guest's stack");
    return;
  }
  const cs = from.getU16(frame + IretContext.cs);
  const ss = from.getU16(frame + IretContext.ss);
  const flags = from.getU32(frame + IretContext.rflags);
  const rip = from.getS64(frame + IretContext.rip);
  if ((cs & 3) === 3) {
    if (cpu.cr3User === 0) {
      d.crash('a return to user mode without page tables of user mode');
      return;
    }
    toggleMode(v);
  }
  if (d.vmAssist & (1 << VMASST_TYPE_architectural_iopl)) v.iopl = flags & EFLAGS_IOPL;
  let newFlags = (flags & EFLAGS_KNOWN & ~(EFLAGS_IOPL | EFLAGS_VM)) | EFLAGS_IF | 2;

  load(cpu, RSP, from, frame + IretContext.rsp);
  load(cpu, RAX, from, frame + IretContext.rax);
  load(cpu, RIP, from, frame + IretContext.rip);
  cpu.cs = cs | 3;
  cpu.ss = ss | 3;

  const info = v.vcpuInfo + VcpuInfo.evtchn_upcall_mask;
  const mask = flags & EFLAGS_IF ? 0 : 1;
  if (mem.u8[info] !== mask) {
    mem.u8[info] = mask;
    engine.touch(info);
  }
  if (v.asyncMask !== 0) v.asyncMask = v.nmiOldMask;

  const sysret = (from.getU32(frame + IretContext.flags) & VGCF_in_syscall) !== 0;
  if (sysret && isCanonical(rip)) {
    // SYSRET: the segments are flat, whatever the frame says, and rcx and r11 are as the instruction leaves them.
    newFlags &= ~EFLAGS_RF;
    cpu.rflags = newFlags;
    load(cpu, RCX, from, frame + IretContext.rip);
    cpu.setReg(R11, newFlags);
    if (cpu.cs === FLAT_USER_CS32) {
      enterFlatCode(d, v);
      return;
    }
    cpu.cs = FLAT_KERNEL_CS64;
    cpu.ss = FLAT_KERNEL_SS64;
    return;
  }
  cpu.rflags = newFlags;
  if (!sysret) {
    load(cpu, R11, from, frame + IretContext.r11);
    load(cpu, RCX, from, frame + IretContext.rcx);
  }
  if (!isCanonical(rip)) {
    injectException(d, v, TRAP_gp_fault, 0);
    return;
  }
  if (cpu.cs !== FLAT_KERNEL_CS64 || cpu.ss !== FLAT_KERNEL_SS64) checkReturnSelectors(d, v);
}

/** Loads all 64 bits of a register from memory. */
function load(cpu: EngineVcpu, register: number, from: LinearMemory, at: number): void {
  cpu.setRegHalves(register, from.getU32(at), from.getS32(at + 4));
}
