/**
 * The guest's entry points: trap table, callbacks, NMI handler, and the stack of its kernel.
 * Source: xen/arch/x86/pv/callback.c, misc-hypercalls.c; do_nmi_op of common/kernel.c.
 */
import * as C from '../../xen/callback.js';
import { EFAULT, EINVAL, ENOSYS } from '../../xen/errno.js';
import { FLAT_KERNEL_CS64 } from '../../xen/paging.js';
import { TI_IF, TrapInfo } from '../../xen/vcpu.js';
import type { CallState, LongCallState } from '../calls/call-state.js';
import { isCanonical } from '../mmu/guest-memory.js';
import { fixupSelector } from './descriptors.js';
import { TRAP_nmi } from './traps.js';

/** HYPERVISOR_set_trap_table(entries, of which the last one has address 0). A null pointer clears the table. */
export function setTrapTable(d: LongCallState): number {
  const { args, guest } = d;
  const v = d.current;
  if (args.isNull(0)) {
    v.trapAddress.fill(0);
    v.trapCs.fill(0);
    v.trapFlags.fill(0);
    return 0;
  }
  const table = args.long(0);
  for (let i = 0; ; i++) {
    if (i > 0 && d.stepPreempts()) {
      args.setLong(0, table + i * TrapInfo.sizeof);
      d.preempted = true;
      return 0;
    }
    if (!guest.copyIn(v.id, table + i * TrapInfo.sizeof, TrapInfo.sizeof)) return -EFAULT;
    const address = guest.buffer.getS64(TrapInfo.address);
    if (address === 0) return 0;
    if (!isCanonical(address)) return -EINVAL;
    const vector = guest.buffer.getU8(TrapInfo.vector);
    v.trapAddress[vector] = address;
    v.trapCs[vector] = fixupSelector(guest.buffer.getU16(TrapInfo.cs));
    v.trapFlags[vector] = guest.buffer.getU8(TrapInfo.flags);
  }
}

function register(d: CallState, type: number, flags: number, address: number): number {
  const v = d.current;
  if (!isCanonical(address)) return -EINVAL;
  const masks = (flags & C.CALLBACKF_mask_events) !== 0;
  switch (type) {
    case C.CALLBACKTYPE_event:
      v.eventCallback = address;
      return 0;
    case C.CALLBACKTYPE_failsafe:
      v.failsafeCallback = address;
      v.failsafeDisablesEvents = masks;
      return 0;
    case C.CALLBACKTYPE_syscall:
      v.syscallCallback = address;
      v.syscallDisablesEvents = masks;
      return 0;
    case C.CALLBACKTYPE_syscall32:
      v.syscall32Callback = address;
      v.syscall32DisablesEvents = masks;
      return 0;
    case C.CALLBACKTYPE_sysenter:
      v.sysenterCallback = address;
      v.sysenterDisablesEvents = masks;
      return 0;
    case C.CALLBACKTYPE_nmi:
      v.trapAddress[TRAP_nmi] = address;
      v.trapCs[TRAP_nmi] = FLAT_KERNEL_CS64;
      v.trapFlags[TRAP_nmi] = TI_IF;
      return 0;
    default:
      return -ENOSYS;
  }
}

function unregister(d: CallState, type: number): number {
  const v = d.current;
  switch (type) {
    case C.CALLBACKTYPE_event:
    case C.CALLBACKTYPE_failsafe:
    case C.CALLBACKTYPE_syscall:
    case C.CALLBACKTYPE_syscall32:
    case C.CALLBACKTYPE_sysenter:
      return -EINVAL;
    case C.CALLBACKTYPE_nmi:
      v.trapAddress[TRAP_nmi] = 0;
      v.trapCs[TRAP_nmi] = 0;
      v.trapFlags[TRAP_nmi] = 0;
      return 0;
    default:
      return -ENOSYS;
  }
}

export function callbackOp(d: CallState): number {
  const { guest } = d;
  const { buffer } = guest;
  const arg = d.args.long(1);
  switch (d.args.int(0)) {
    case C.CALLBACKOP_register: {
      const s = C.CallbackRegister;
      if (!guest.copyIn(d.current.id, arg, s.sizeof)) return -EFAULT;
      return register(d, buffer.getU16(s.type), buffer.getU16(s.flags), buffer.getS64(s.address));
    }
    case C.CALLBACKOP_unregister: {
      const s = C.CallbackUnregister;
      if (!guest.copyIn(d.current.id, arg, s.sizeof)) return -EFAULT;
      return unregister(d, buffer.getU16(s.type));
    }
    default:
      return -ENOSYS;
  }
}

/** HYPERVISOR_set_callbacks(event, failsafe, syscall). A bad address is silently skipped. */
export function setCallbacks(d: CallState): number {
  register(d, C.CALLBACKTYPE_event, 0, d.args.long(0));
  register(d, C.CALLBACKTYPE_failsafe, 0, d.args.long(1));
  register(d, C.CALLBACKTYPE_syscall, 0, d.args.long(2));
  return 0;
}

export function nmiOp(d: CallState): number {
  switch (d.args.lo[0]) {
    case C.XENNMI_register_callback: {
      if (!d.guest.copyIn(d.current.id, d.args.long(1), C.XennmiCallback.sizeof)) return -EFAULT;
      return register(d, C.CALLBACKTYPE_nmi, 0, d.guest.buffer.getS64(C.XennmiCallback.handler_address));
    }
    case C.XENNMI_unregister_callback:
      return unregister(d, C.CALLBACKTYPE_nmi);
    default:
      return -ENOSYS;
  }
}

/** HYPERVISOR_stack_switch(ss, rsp). */
export function stackSwitch(d: CallState): number {
  const v = d.current;
  v.kernelSs = fixupSelector(d.args.lo[0]);
  const sp = d.args.long(1);
  v.kernelSp = isCanonical(sp) ? sp : NOT_CANONICAL;
  return 0;
}
/**
 * Stands for every non-canonical address, because a number does not keep all bits of such an address. Using it as a
 * stack ends the guest.
 */
const NOT_CANONICAL = 2 ** 48;
