/**
 * HYPERVISOR_mmu_update and HYPERVISOR_update_va_mapping: changes of page-table entries and of the
 * machine-to-physical table.
 * Source: do_mmu_update, __do_update_va_mapping of xen/arch/x86/mm.c.
 */
import { ALL_VCPUS } from '../../engine/engine.js';
import { EFAULT, EINVAL, ENOSYS, EPERM, ESRCH } from '../../xen/errno.js';
import { DOMID_IO, DOMID_SELF, DOMID_XEN } from '../../xen/hypercalls.js';
import {
  MMU_MACHPHYS_UPDATE,
  MMU_PT_UPDATE_NO_TRANSLATE,
  MMU_PT_UPDATE_PRESERVE_AD,
  MmuUpdate,
  UVMF_ALL,
  UVMF_FLUSHTYPE_MASK,
  UVMF_INVLPG,
  UVMF_LOCAL,
  UVMF_TLB_FLUSH,
} from '../../xen/mmu.js';
import type { CallState, LongCallState } from '../calls/call-state.js';
import type { OwnIdState } from '../identity.js';
import type { VcpusState } from '../vcpu/turn-state.js';
import { batch, batchCount, batchIsOver } from './batch.js';
import { Owner } from './frames.js';
import { addressOk } from './guest-memory.js';
import type { CopyState, M2pState, MmuState } from './mmu-state.js';

/** The bits of `ptr` below the size of an entry, which contain the command. */
const COMMAND_MASK = 7;

/** Checks the domain to which pages are said to belong (get_pg_owner). Returns 0, or the error. */
export function checkOwner(domid: number, ioError = -EPERM): number {
  if (domid === DOMID_SELF) return 0;
  // Domain 0 and the special domains exist, but an unprivileged guest may not name them. A domain's own id does not
  // mean "self" here.
  return domid === 0 || domid === DOMID_XEN ? -EPERM : domid === DOMID_IO ? ioError : -ESRCH;
}

export function mmuUpdate(d: LongCallState & MmuState & M2pState & OwnIdState): number {
  const { args } = d;
  const foreigndom = args.lo[3];
  if (batchIsOver(d)) return foreigndom | 0;
  if (!addressOk(args.long(0))) return -EFAULT;
  const tablesDom = foreigndom >>> 16;
  if (tablesDom !== 0 && tablesDom - 1 !== d.domid) return tablesDom - 1 === 0 ? -EPERM : -ESRCH;
  const pagesDom = foreigndom & 0xffff;
  // Whether domain 0's pages may be accessed is checked for each request.
  const rc = pagesDom === 0 && batchCount(d) === 0 ? 0 : checkOwner(pagesDom, 0);
  return batch(d, MmuUpdate.sizeof, rc, one);
}

/** Executes one request, which is in the copy buffer. */
function one(d: CopyState & MmuState & M2pState): number {
  const { buffer } = d.guest;
  const ptrLo = buffer.getU32(MmuUpdate.ptr);
  const ptrHi = buffer.getU32(MmuUpdate.ptr + 4);
  const cmd = ptrLo & COMMAND_MASK;
  const lo = buffer.getU32(MmuUpdate.val);
  const hi = buffer.getU32(MmuUpdate.val + 4);
  const frame = frameOf(d, ptrLo, ptrHi, cmd === MMU_MACHPHYS_UPDATE);
  if (cmd === MMU_MACHPHYS_UPDATE) {
    if (frame < 0) return -EINVAL;
    d.m2p.set(frame, lo, hi);
    return 0;
  }
  if (cmd > MMU_PT_UPDATE_NO_TRANSLATE) return -ENOSYS;
  if (frame < 0) return -EINVAL;
  const at = d.ram.linearOf(frame) + (ptrLo & 0xff8);
  const level = d.frames.type[frame];
  if (level === 0) {
    d.mem.setU32(at, lo);
    d.mem.setU32(at + 4, hi);
    d.engine.touch(at);
    return 0;
  }
  return d.tables.modify(frame, at, lo, hi, cmd === MMU_PT_UPDATE_PRESERVE_AD);
}

/**
 * The index of the frame at a machine address, if the guest owns it; for the M2P also if Xen shares it with the
 * guest.
 */
function frameOf(d: MmuState, lo: number, hi: number, shared: boolean): number {
  const mfn = hi * 0x10_0000 + (lo >>> 12);
  const frame = d.tables.guestFrame(mfn);
  if (frame >= 0 || !shared) return frame;
  const index = d.ram.frameOf(mfn);
  return index >= 0 && d.frames.owner[index] === Owner.shared ? index : -1;
}

export function updateVaMapping(d: CallState & MmuState & VcpusState): number {
  return update(d, DOMID_SELF);
}

export function updateVaMappingOtherdomain(d: CallState & MmuState & VcpusState): number {
  return update(d, d.args.lo[3] & 0xffff);
}

function update(d: CallState & MmuState & VcpusState, domid: number): number {
  const { args, engine } = d;
  const v = d.current;
  const va = args.long(0);
  const rc = checkOwner(domid);
  if (rc !== 0) return rc;
  const at = d.tables.walkL1(v.cpu.cr3Kernel, va);
  if (at < 0) return -EINVAL;
  const frame = d.ram.frameAt(at);
  if (d.frames.type[frame] !== 1) return -EINVAL;
  const done = d.tables.modify(frame, at, args.lo[1], args.hi[1] >>> 0, false);
  if (done !== 0) return done;
  const flags = args.lo[2];
  const flush = flags & UVMF_FLUSHTYPE_MASK;
  if (flush === 0) return 0;
  const where = args.hi[2] === 0 ? (flags & ~UVMF_FLUSHTYPE_MASK) >>> 0 : -1;
  if (flush !== UVMF_TLB_FLUSH && flush !== UVMF_INVLPG) return 0;
  if (where === UVMF_LOCAL) {
    engine.tables.flush(1 << v.id, flush === UVMF_TLB_FLUSH ? undefined : va);
    return 0;
  }
  if (where === UVMF_ALL) {
    engine.tables.flush(ALL_VCPUS, flush === UVMF_TLB_FLUSH ? undefined : va);
    return 0;
  }
  const mask = vcpuMask(d, args.long(2) - flush);
  if (mask < 0) return mask;
  engine.tables.flush(mask, flush === UVMF_TLB_FLUSH ? undefined : va);
  return 0;
}

/** Reads a bitmap of vCPUs at a guest address. Returns its bits as a number, or -EFAULT. */
export function vcpuMask(d: CallState & VcpusState, va: number): number {
  if (!d.guest.copyIn(d.current.id, va, 8)) return -EFAULT;
  return d.guest.buffer.getU32(0) & ((1 << d.vcpus.length) - 1);
}
