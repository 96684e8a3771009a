/**
 * Delivers exceptions, software interrupts, events and NMIs to the guest's handlers.
 *
 * Invariant: after enter() the vCPU is in kernel mode at the handler, with exactly the frame on its stack that Xen
 * would have pushed; or the domain has crashed for the reason for which Xen would crash it. The frame, upwards from
 * the new rsp: rcx, r11, [error code,] rip, cs | saved_upcall_mask << 32, rflags, rsp, ss.
 * Source: create_bounce_frame and test_all_events of xen/arch/x86/x86_64/entry.S; pv_inject_event of pv/traps.c.
 */
import { type EngineVcpu, Intent } from '../../engine/engine.js';
import {
  FLAT_KERNEL_CS64,
  FLAT_KERNEL_SS64,
  HYPERVISOR_VIRT_END,
  HYPERVISOR_VIRT_START,
} from '../../xen/paging.js';
import { ArchVcpuInfo, VcpuInfo } from '../../xen/shared-info.js';
import { TI_IF } from '../../xen/vcpu.js';
import { VMASST_TYPE_architectural_iopl } from '../../xen/vm-assist.js';
import type { EventState } from '../events/event-channels.js';
import type { MemoryState } from '../mmu/mmu-state.js';
import type { EntryState } from './entry-state.js';
import { R11, RCX, RIP, RSP } from './registers.js';
import type { VcpuContext } from './vcpu-context.js';

export const TRAP_debug = 1;
export const TRAP_nmi = 2;
export const TRAP_int3 = 3;
export const TRAP_invalid_op = 6;
export const TRAP_no_device = 7;
export const TRAP_no_segment = 11;
export const TRAP_stack_error = 12;
export const TRAP_gp_fault = 13;
export const TRAP_page_fault = 14;
/** Vectors that push an error code. */
const HAS_ERROR_CODE =
  (1 << 8) | (1 << 10) | (1 << 11) | (1 << 12) | (1 << 13) | (1 << 14) | (1 << 17) | (1 << 21);
const PFEC_USER = 4;

export const EFLAGS_TF = 0x100;
export const EFLAGS_IF = 0x200;
export const EFLAGS_DF = 0x400;
export const EFLAGS_IOPL = 0x3000;
export const EFLAGS_RF = 0x1_0000;
/** NT, RF, VM, AC and TF, which are clear in every handler. */
const CLEARED_ON_ENTRY = 0x4000 | EFLAGS_RF | 0x2_0000 | 0x4_0000 | EFLAGS_TF;
const CLEARED_IN_FRAME = EFLAGS_IF | EFLAGS_IOPL;

const WRITE_KERNEL = Intent.write | Intent.asKernel;
const NO_ERROR_CODE = -1;

/**
 * Switches between the guest's kernel and user mode: the mode bit selects the page tables, and the two GS bases are
 * swapped.
 */
export function toggleMode(v: VcpuContext): void {
  const { cpu } = v;
  const gs = cpu.gsBase;
  cpu.gsBase = cpu.gsBaseOther;
  cpu.gsBaseOther = gs;
  cpu.userMode = !cpu.userMode;
}

/** A frame under construction, from its top down: the low and high halves of its words. */
const frame = { words: 0, lo: new Uint32Array(16), hi: new Uint32Array(16) };

function add(lo: number, hi: number): void {
  frame.lo[frame.words] = lo;
  frame.hi[frame.words++] = hi;
}

/** Adds a register, all 64 bits. */
function addRegister(cpu: EngineVcpu, register: number): void {
  add(cpu.regLo(register), cpu.regHi(register));
}

/** Writes the frame to the guest's stack, below `sp`. Returns where it begins, or NaN if a part cannot be written. */
function pushFrame(d: MemoryState, v: VcpuContext, sp: number): number {
  const { words, lo, hi } = frame;
  const { mem, engine } = d;
  const start = sp - 8 * words;
  // Frames are aligned to 8 bytes: a word never crosses a page boundary, and nearly every frame is in one page.
  const page = Math.floor(start / 4096) * 4096;
  const whole = sp - page <= 4096 ? engine.translate(v.id, start, WRITE_KERNEL) : -1;
  let ok = true;
  for (let i = 0; i < words; i++) {
    const va = sp - 8 * (i + 1);
    const at = whole >= 0 ? whole + (va - start) : engine.translate(v.id, va, WRITE_KERNEL);
    if (at >= 0) {
      mem.setU32(at, lo[i]);
      mem.setU32(at + 4, hi[i]);
    } else ok = false;
  }
  return ok ? start : Number.NaN;
}

const half = (n: number): number => Math.floor(n / 0x1_0000_0000);

/**
 * Enters the guest's kernel at `address`. `masks`: events are masked until the handler returns. `segments`: ds, es,
 * fs and gs are pushed too (for the failsafe callback).
 */
export function enter(
  d: EntryState,
  v: VcpuContext,
  address: number,
  masks: boolean,
  errorCode = NO_ERROR_CODE,
  segments = false,
): void {
  const { cpu } = v;
  const { mem } = d;
  let cs = cpu.cs;
  let sp: number;
  if (cpu.userMode) {
    toggleMode(v);
    sp = v.kernelSp;
  } else {
    sp = cpu.reg(RSP);
    cs &= 0xfffc;
  }
  sp -= ((sp % 16) + 16) % 16;
  if (sp > HYPERVISOR_VIRT_START && sp < HYPERVISOR_VIRT_END + 64) {
    d.crash("the stack pointer for an exception or event lies in the hypervisor's own address range");
    return;
  }
  const flags = cpu.rflags;
  const info = v.vcpuInfo + VcpuInfo.evtchn_upcall_mask;
  const savedMask = mem.u8[info];
  if (masks && savedMask !== 1) {
    mem.u8[info] = savedMask | 1;
    d.engine.touch(info);
  }
  let frameFlags = flags & ~CLEARED_IN_FRAME;
  if (savedMask === 0) frameFlags |= EFLAGS_IF;
  if (d.vmAssist & (1 << VMASST_TYPE_architectural_iopl)) frameFlags |= v.iopl;
  frame.words = 0;
  add(cpu.ss, 0);
  addRegister(cpu, RSP);
  add(frameFlags, 0);
  add(cs, savedMask);
  addRegister(cpu, RIP);
  if (errorCode >= 0) add(errorCode, 0);
  if (segments) {
    add(cpu.gs, 0);
    add(cpu.fs, 0);
    add(cpu.es, 0);
    add(cpu.ds, 0);
  }
  addRegister(cpu, R11);
  addRegister(cpu, RCX);
  const at = pushFrame(d, v, sp);
  if (Number.isNaN(at)) {
    d.crash(`the stack for an exception or event cannot be written: page fault at ${hex(cpu.faultAddress)}`);
    return;
  }
  if (address === 0) {
    d.crash('an exception or event came for which the guest has no handler');
    return;
  }
  const newFlags = (flags & ~(CLEARED_ON_ENTRY | EFLAGS_IOPL)) | EFLAGS_IF;
  cpu.rflags = newFlags;
  cpu.setReg(RSP, at);
  cpu.cs = FLAT_KERNEL_CS64;
  cpu.ss = FLAT_KERNEL_SS64;
  cpu.rip = address;
  // Xen returns to the handler with SYSRET, which leaves these values in the registers.
  cpu.setReg(RCX, address);
  cpu.setReg(R11, newFlags);
}

/** Formats a 64-bit address. */
export const hex = (address: number): string => {
  const hi = half(address) >>> 0;
  return `0x${hi.toString(16).padStart(8, '0')}${(address >>> 0).toString(16).padStart(8, '0')}`;
};

/** Raises a hardware exception in the guest. `errorCode` is ignored for vectors without one. */
export function injectException(d: EntryState, v: VcpuContext, vector: number, errorCode = 0): void {
  const has = vector < 32 && (HAS_ERROR_CODE >>> vector) & 1;
  if (v.trapAddress[vector] === 0) {
    d.crash(
      `unhandled exception, vector ${vector}${has ? `, error code ${errorCode.toString(16)}` : ''}, at rip ${hex(v.cpu.rip)}`,
    );
    return;
  }
  const masks = (v.trapFlags[vector] & TI_IF) !== 0;
  enter(d, v, v.trapAddress[vector], masks, has ? errorCode : NO_ERROR_CODE);
}

/** Enters the guest's gate for an `int n`, without an error code. */
export function injectInterrupt(d: EntryState, v: VcpuContext, vector: number): void {
  enter(d, v, v.trapAddress[vector], (v.trapFlags[vector] & TI_IF) !== 0);
}

/** Raises a page fault at `address` (a signed number). The U bit of the error code follows the guest's own mode. */
export function injectPageFault(d: EntryState, v: VcpuContext, address: number, errorCode: number): void {
  const at = v.vcpuInfo + VcpuInfo.arch + ArchVcpuInfo.cr2;
  d.mem.setU64(at, address);
  d.engine.touch(at);
  v.cpu.cr2 = address;
  const code = v.cpu.userMode ? errorCode | PFEC_USER : errorCode & ~PFEC_USER;
  if (v.trapAddress[TRAP_page_fault] === 0) {
    d.crash(
      `unhandled page fault at ${hex(address)}, error code ${code.toString(16)}, rip ${hex(v.cpu.rip)}`,
    );
    return;
  }
  injectException(d, v, TRAP_page_fault, code);
}

/** Delivers NMIs and events that are due, on the way back to the guest (test_all_events). */
export function deliverPending(d: EntryState & EventState, v: VcpuContext): void {
  if (v.nmiPending && !(v.asyncMask & 1)) {
    v.nmiPending = false;
    if (v.trapAddress[TRAP_nmi] !== 0) {
      v.nmiOldMask = v.asyncMask;
      v.asyncMask |= 1;
      injectException(d, v, TRAP_nmi);
    }
  }
  if (d.events.deliverable(v) && d.shutdown === undefined) enter(d, v, v.eventCallback, true);
}
