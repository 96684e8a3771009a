/**
 * Small hypercalls on the present vCPU and domain: FPU switching, segment bases, assists, I/O privilege, console
 * output, and those that only a privileged domain may use.
 * Source: xen/arch/x86/pv/misc-hypercalls.c, arch/x86/physdev.c, common/domain.c (vm_assist), drivers/char/console.c.
 */
import {
  E2BIG,
  EACCES,
  EBUSY,
  EFAULT,
  EINVAL,
  ENODATA,
  ENODEV,
  ENOSPC,
  ENOSYS,
  EOPNOTSUPP,
  EPERM,
  ESRCH,
} from '../../xen/errno.js';
import * as H from '../../xen/hypercalls.js';
import * as P from '../../xen/physdev.js';
import {
  VMASST_CMD_disable,
  VMASST_CMD_enable,
  VMASST_TYPE_4gb_segments,
  VMASST_TYPE_4gb_segments_notify,
  VMASST_TYPE_architectural_iopl,
  VMASST_TYPE_m2p_strict,
  VMASST_TYPE_pae_extended_cr3,
  VMASST_TYPE_runstate_update_flag,
  VMASST_TYPE_writable_pagetables,
} from '../../xen/vm-assist.js';
import { loadUserGs } from '../emulation/segments.js';
import type { OwnIdState } from '../identity.js';
import { addressOk, isCanonical } from '../mmu/guest-memory.js';
import type { FrameState, MemoryState } from '../mmu/mmu-state.js';
import { setTaskSwitched } from '../vcpu/control-registers.js';
import type { AssistState } from '../vcpu/entry-state.js';
import type { CallState, LogState, PirqState } from './call-state.js';

/** What the operations on physical devices work on. */
interface PhysdevState extends CallState, FrameState, OwnIdState, PirqState {}

const ASSISTS = new Set([
  VMASST_TYPE_4gb_segments,
  VMASST_TYPE_4gb_segments_notify,
  VMASST_TYPE_writable_pagetables,
  VMASST_TYPE_pae_extended_cr3,
  VMASST_TYPE_architectural_iopl,
  VMASST_TYPE_runstate_update_flag,
  VMASST_TYPE_m2p_strict,
]);
const MAX_PORTS = 65536;
/** The number of physical interrupts of a domain without devices: those of an I/O APIC, and 32. */
export const NR_PIRQS = 56;
const XENIRQSTAT_NEEDS_EOI = 1;
/** A physdev command from before 2006. */
const IRQ_UNMASK_NOTIFY = 4;
/** At most this many bytes of one CONSOLEIO_write are logged. */
const LOG_BYTES = 1024;

export function fpuTaskswitch(d: CallState): number {
  setTaskSwitched(d.current, d.args.int(0) !== 0);
  return 0;
}

export function setSegmentBase(d: CallState & MemoryState): number {
  const v = d.current;
  const base = d.args.long(1);
  const which = d.args.lo[0];
  if (which === H.SEGBASE_GS_USER_SEL) {
    loadUserGs(d, v, d.args.lo[1] & 0xffff);
    return 0;
  }
  if (!isCanonical(base)) return -EINVAL;
  switch (which) {
    case H.SEGBASE_FS:
      v.cpu.fsBase = base;
      return 0;
    case H.SEGBASE_GS_USER:
      v.cpu.gsBaseOther = base;
      return 0;
    case H.SEGBASE_GS_KERNEL:
      v.cpu.gsBase = base;
      return 0;
    default:
      return -EINVAL;
  }
}

/** HYPERVISOR_vm_assist(cmd, type). */
export function vmAssist(d: CallState & FrameState & AssistState): number {
  const type = d.args.lo[1];
  if (!ASSISTS.has(type)) return -EINVAL;
  const cmd = d.args.lo[0];
  if (cmd !== VMASST_CMD_enable && cmd !== VMASST_CMD_disable) return -ENOSYS;
  const on = cmd === VMASST_CMD_enable;
  if (type === VMASST_TYPE_m2p_strict) d.tables.m2pStrict = on;
  else if (on) d.vmAssist |= 1 << type;
  else d.vmAssist &= ~(1 << type);
  return 0;
}

export function physdevOp(d: PhysdevState): number {
  const { guest } = d;
  const v = d.current;
  const arg = d.args.long(1);
  switch (d.args.int(0)) {
    case P.PHYSDEVOP_set_iopl: {
      if (!guest.copyIn(v.id, arg, P.PhysdevSetIopl.sizeof)) return -EFAULT;
      const iopl = guest.buffer.getU32(P.PhysdevSetIopl.iopl);
      if (iopl > 3) return -EINVAL;
      v.iopl = iopl << 12;
      return 0;
    }
    case P.PHYSDEVOP_set_iobitmap: {
      const s = P.PhysdevSetIobitmap;
      if (!guest.copyIn(v.id, arg, s.sizeof)) return -EFAULT;
      const bitmap = guest.buffer.getS64(s.bitmap);
      const ports = guest.buffer.getU32(s.nr_ports);
      if (!addressOk(bitmap) && !(bitmap === 0 && ports === 0)) return -EINVAL;
      if (ports > MAX_PORTS) return -EINVAL;
      v.iobmp = bitmap;
      v.iobmpLimit = ports;
      return 0;
    }
    case IRQ_UNMASK_NOTIFY:
      return 0;
    case P.PHYSDEVOP_eoi:
      // There is no physical interrupt to which the domain could refer.
      return guest.copyIn(v.id, arg, 4) ? -EINVAL : -EFAULT;
    case P.PHYSDEVOP_irq_status_query: {
      const s = P.PhysdevIrqStatusQuery;
      if (!guest.copyIn(v.id, arg, s.sizeof)) return -EFAULT;
      if (guest.buffer.getU32(s.irq) >= NR_PIRQS) return -EINVAL;
      guest.buffer.setU32(s.flags, XENIRQSTAT_NEEDS_EOI);
      return guest.copyOut(v.id, arg, s.sizeof) ? 0 : -EFAULT;
    }
    case P.PHYSDEVOP_pirq_eoi_gmfn_v1:
    case P.PHYSDEVOP_pirq_eoi_gmfn_v2: {
      if (!guest.copyIn(v.id, arg, 8)) return -EFAULT;
      const frame = d.tables.guestFrame(guest.buffer.getU64(0));
      // A page for the bits of interrupts that never occur. It is accepted once and never written.
      if (frame < 0 || d.frames.type[frame] !== 0) return -EINVAL;
      if (d.pirqEoiMfn !== 0) return -EBUSY;
      d.pirqEoiMfn = guest.buffer.getU64(0);
      return 0;
    }
    case P.PHYSDEVOP_apic_read:
    case P.PHYSDEVOP_apic_write:
    case P.PHYSDEVOP_alloc_irq_vector:
      return guest.copyIn(v.id, arg, 4) ? -EPERM : -EFAULT;
    case P.PHYSDEVOP_map_pirq:
    case P.PHYSDEVOP_unmap_pirq: {
      if (!guest.copyIn(v.id, arg, 8)) return -EFAULT;
      const domid = guest.buffer.getU16(0);
      return d.isSelf(domid) || domid === 0 ? -EPERM : -ESRCH;
    }
    case P.PHYSDEVOP_setup_gsi:
    case P.PHYSDEVOP_manage_pci_add:
    case P.PHYSDEVOP_manage_pci_remove:
    case P.PHYSDEVOP_manage_pci_add_ext:
    case P.PHYSDEVOP_pci_device_add:
    case P.PHYSDEVOP_pci_device_remove:
    case P.PHYSDEVOP_prepare_msix:
    case P.PHYSDEVOP_release_msix:
    case P.PHYSDEVOP_restore_msi:
    case P.PHYSDEVOP_restore_msi_ext:
      return guest.copyIn(v.id, arg, 8) ? -EPERM : -EFAULT;
    case P.PHYSDEVOP_pci_mmcfg_reserved:
    case P.PHYSDEVOP_dbgp_op:
      return -EPERM;
    case P.PHYSDEVOP_get_free_pirq:
      return guest.copyIn(v.id, arg, 8) ? -ENOSPC : -EFAULT;
    default:
      return -ENOSYS;
  }
}

/** HYPERVISOR_console_io: guests have no access to Xen's own console. What they write goes to our log. */
export function consoleIo(d: CallState & LogState): number {
  if (d.args.lo[0] === H.CONSOLEIO_write) {
    const bytes = Math.min(d.args.lo[1], LOG_BYTES);
    if (d.guest.copyIn(d.current.id, d.args.long(2), bytes)) {
      let line = '';
      for (let i = 0; i < bytes; i++) line += String.fromCharCode(d.guest.buffer.u8[i] & 0x7f);
      d.log(line);
    }
  }
  return -EPERM;
}

/** HYPERVISOR_hvm_op: a PV domain has no parameters, and can only flush its own translations. */
export function hvmOp(d: CallState): number {
  switch (d.args.lo[0]) {
    case HVMOP_SET_PARAM:
    case HVMOP_GET_PARAM:
      return d.guest.copyIn(d.current.id, d.args.long(1), 16) ? -EINVAL : -EFAULT;
    case HVMOP_FLUSH_TLBS:
      return d.args.isNull(1) ? -EPERM : -EINVAL;
    default:
      return -ENOSYS;
  }
}
const HVMOP_SET_PARAM = 0;
const HVMOP_GET_PARAM = 1;
const HVMOP_FLUSH_TLBS = 5;

/** HYPERVISOR_dm_op is for device models. No guest here is one. */
export function dmOp(d: CallState): number {
  const buffers = d.args.lo[1];
  return buffers === 0 ? -ENODATA : buffers > MAX_DM_OP_BUFFERS ? -E2BIG : -EPERM;
}
const MAX_DM_OP_BUFFERS = 2;

/** HYPERVISOR_xenoprof_op, as on a machine whose performance counters Xen does not know. */
export function xenoprofOp(d: CallState): number {
  const op = d.args.lo[0];
  if (op !== 0) return op > XENOPROF_LAST_OP ? -EINVAL : -EPERM;
  return d.guest.copyIn(d.current.id, d.args.long(1), 4) ? -ENODEV : -EFAULT;
}
const XENOPROF_LAST_OP = 16;

/**
 * The first architecture call: Xen's continuation of a domctl for shadow page tables, which this Xen does not
 * support.
 */
export function pagingDomctlCont(d: CallState): number {
  return d.guest.copyIn(d.current.id, d.args.long(0), 128) ? -EOPNOTSUPP : -EFAULT;
}

export const notPermitted = (): number => -EPERM;

/** Hypercalls of the tools. Their structure begins with a command and the version of the interface. */
const toolOp =
  (version: number) =>
  (d: CallState): number => {
    if (!d.guest.copyIn(d.current.id, d.args.long(0), 8)) return -EFAULT;
    return d.guest.buffer.getU32(4) === version ? -EPERM : -EACCES;
  };
export const platformOp = toolOp(0x0300_0001);
export const sysctl = toolOp(0x15);
export const domctl = toolOp(0x15);

/** The first interface of physdev_op, with a command and its structure in one. */
export function physdevOpCompat(d: PhysdevState): number {
  const op = d.args.long(0);
  if (!d.guest.copyIn(d.current.id, op, 4)) return -EFAULT;
  const cmd = d.guest.buffer.getU32(0);
  if (!COMPAT_COMMANDS.has(cmd)) return -ENOSYS;
  d.args.setLong(0, cmd);
  d.args.setLong(1, op + 8);
  return physdevOp(d);
}
const COMPAT_COMMANDS = new Set([
  P.PHYSDEVOP_irq_status_query,
  P.PHYSDEVOP_set_iopl,
  P.PHYSDEVOP_set_iobitmap,
  P.PHYSDEVOP_apic_read,
  P.PHYSDEVOP_apic_write,
  P.PHYSDEVOP_alloc_irq_vector,
  IRQ_UNMASK_NOTIFY,
]);
