/**
 * HYPERVISOR_mmuext_op: pinning page tables, switching them, flushing translations, the LDT, clearing and copying
 * pages.
 * Source: do_mmuext_op, new_guest_cr3 of xen/arch/x86/mm.c.
 */
import { ALL_VCPUS } from '../../engine/engine.js';
import { EACCES, EFAULT, EINVAL, ENOSYS, EOPNOTSUPP } from '../../xen/errno.js';
import * as M from '../../xen/mmu.js';
import type { CallState, LongCallState } from '../calls/call-state.js';
import type { VcpusState } from '../vcpu/turn-state.js';
import type { VcpuContext } from '../vcpu/vcpu-context.js';
import { batch, batchIsOver } from './batch.js';
import { addressOk } from './guest-memory.js';
import type { FrameState, MmuState } from './mmu-state.js';
import { checkOwner, vcpuMask } from './mmu-update.js';

const MAX_LDT_ENTRIES = 8192;

export function mmuextOp(d: LongCallState & MmuState & VcpusState): number {
  if (batchIsOver(d)) return d.args.int(3);
  if (!addressOk(d.args.long(0))) return -EFAULT;
  return checkOwner(d.args.lo[3] & 0xffff) || batch(d, M.MmuextOp.sizeof, 0, one);
}

/** Executes one operation, whose structure is in the copy buffer. */
function one(d: CallState & MmuState & VcpusState): number {
  const { buffer } = d.guest;
  const { engine, tables } = d;
  const v = d.current;
  const cmd = buffer.getU32(M.MmuextOp.cmd);
  const mfn = buffer.getU64(M.MmuextOp.arg1_mfn);
  const va = buffer.getS64(M.MmuextOp.arg1_linear_addr);
  switch (cmd) {
    case M.MMUEXT_PIN_L1_TABLE:
    case M.MMUEXT_PIN_L2_TABLE:
    case M.MMUEXT_PIN_L3_TABLE:
    case M.MMUEXT_PIN_L4_TABLE:
      return pinTable(d, mfn, cmd - M.MMUEXT_PIN_L1_TABLE + 1);
    case M.MMUEXT_UNPIN_TABLE:
      return unpin(d, mfn);
    case M.MMUEXT_NEW_BASEPTR:
      return newBaseptr(d, v, mfn);
    case M.MMUEXT_NEW_USER_BASEPTR:
      return newUserBaseptr(d, v, mfn);
    case M.MMUEXT_TLB_FLUSH_LOCAL:
      engine.tables.flush(1 << v.id);
      return 0;
    case M.MMUEXT_INVLPG_LOCAL:
      engine.tables.flush(1 << v.id, va);
      return 0;
    case M.MMUEXT_TLB_FLUSH_MULTI:
    case M.MMUEXT_INVLPG_MULTI: {
      const mask = vcpuMask(d, buffer.getS64(M.MmuextOp.arg2_vcpumask));
      if (mask < 0) return -EINVAL;
      if (cmd === M.MMUEXT_TLB_FLUSH_MULTI || addressOk(va))
        engine.tables.flush(mask, cmd === M.MMUEXT_TLB_FLUSH_MULTI ? undefined : va);
      return 0;
    }
    case M.MMUEXT_TLB_FLUSH_ALL:
      engine.tables.flush(ALL_VCPUS);
      return 0;
    case M.MMUEXT_INVLPG_ALL:
      if (addressOk(va)) engine.tables.flush(ALL_VCPUS, va);
      return 0;
    case M.MMUEXT_FLUSH_CACHE:
      return -EACCES;
    case M.MMUEXT_FLUSH_CACHE_GLOBAL:
      return -EINVAL;
    case M.MMUEXT_SET_LDT: {
      const entries = buffer.getU32(M.MmuextOp.arg2_nr_ents);
      if (entries > MAX_LDT_ENTRIES) return -EINVAL;
      if (entries > 0 && ((va & 4095) !== 0 || !addressOk(va))) return -EINVAL;
      v.ldtEnts = entries;
      v.ldtBase = entries > 0 ? va : 0;
      return 0;
    }
    case M.MMUEXT_CLEAR_PAGE: {
      const frame = writable(d, mfn);
      if (frame < 0) return -EINVAL;
      const at = d.ram.linearOf(frame);
      d.mem.u8.fill(0, at, at + 4096);
      engine.touch(at);
      return 0;
    }
    case M.MMUEXT_COPY_PAGE: {
      const source = tables.guestFrame(buffer.getU64(M.MmuextOp.arg2_src_mfn));
      const target = writable(d, mfn);
      if (source < 0 || target < 0) return -EINVAL;
      const from = d.ram.linearOf(source);
      const to = d.ram.linearOf(target);
      d.mem.u8.copyWithin(to, from, from + 4096);
      engine.touch(to);
      return 0;
    }
    case M.MMUEXT_MARK_SUPER:
    case M.MMUEXT_UNMARK_SUPER:
      return -EOPNOTSUPP;
    default:
      return -ENOSYS;
  }
}

/** The frame index of one of the guest's pages that is not a page table, or -1. */
function writable(d: FrameState, mfn: number): number {
  const frame = d.tables.guestFrame(mfn);
  return frame >= 0 && d.frames.type[frame] === 0 ? frame : -1;
}

/** Pins a page table of `level`. Returns 0 or -EINVAL. */
export function pinTable(d: FrameState, mfn: number, level: number): number {
  const frame = d.tables.guestFrame(mfn);
  if (frame < 0) return -EINVAL;
  const rc = d.tables.getType(mfn, level);
  if (rc !== 0) return rc;
  if (d.frames.pinned[frame]) {
    d.tables.putType(frame);
    return -EINVAL;
  }
  d.frames.pinned[frame] = 1;
  return 0;
}

function unpin(d: FrameState, mfn: number): number {
  const frame = d.tables.guestFrame(mfn);
  if (frame < 0 || !d.frames.pinned[frame]) return -EINVAL;
  d.frames.pinned[frame] = 0;
  d.tables.putType(frame);
  return 0;
}

/** Switches a vCPU's kernel page tables. Returns 0 or -EINVAL. */
export function newBaseptr(d: MmuState, v: VcpuContext, mfn: number): number {
  const old = v.cpu.cr3Kernel;
  if (old !== mfn) {
    const rc = d.tables.getType(mfn, 4);
    if (rc !== 0) return rc;
    d.tables.beforeLoad(mfn, false);
  }
  d.engine.tables.loadRoot(v.id, false, mfn);
  if (old !== mfn && old !== 0) d.tables.putType(d.ram.frameOf(old));
  return 0;
}

/** Sets the page tables of user mode. MFN 0 means none. */
export function newUserBaseptr(d: MmuState, v: VcpuContext, mfn: number): number {
  const old = v.cpu.cr3User;
  if (old === mfn) return 0;
  if (mfn !== 0) {
    const rc = d.tables.getType(mfn, 4);
    if (rc !== 0) return rc;
    d.tables.beforeLoad(mfn, true);
  }
  d.engine.tables.loadRoot(v.id, true, mfn);
  if (old !== 0) d.tables.putType(d.ram.frameOf(old));
  return 0;
}
