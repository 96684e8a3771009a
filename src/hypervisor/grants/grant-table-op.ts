/**
 * HYPERVISOR_grant_table_op with version 1 tables: setting up the table, and maps, unmaps and copies with the guest
 * on both sides. There are no grants of other domains: domain 0 grants nothing.
 * Source: xen/common/grant_table.c, arch/x86/pv/grant_table.c.
 */
import { ALL_VCPUS } from '../../engine/engine.js';
import { EFAULT, EINVAL, ENOSYS, EOPNOTSUPP, EPERM, ESRCH } from '../../xen/errno.js';
import * as G from '../../xen/grant-table.js';
import { DOMID_SELF } from '../../xen/hypercalls.js';
import {
  PTE_ACCESSED,
  PTE_AVAIL,
  PTE_DIRTY,
  PTE_NX_HI,
  PTE_PRESENT,
  PTE_RW,
  PTE_USER,
} from '../../xen/paging.js';
import type { CallState, LongCallState } from '../calls/call-state.js';
import type { OwnIdState } from '../identity.js';
import { addressOk } from '../mmu/guest-memory.js';
import type { CopyState, FrameState, MmuState } from '../mmu/mmu-state.js';
import type { GrantState } from './grant-table.js';

/** What the operations on grants work on. */
interface GrantOpState extends MmuState, GrantState, OwnIdState {}

/** The position, in the flags of a map, of the guest's own bits for the entry. */
const AVAIL_SHIFT = 16;
const PAGE = 4096;

export function grantTableOp(d: LongCallState & GrantOpState): number {
  const { args, guest } = d;
  const cmd = args.lo[0];
  const uop = args.long(1);
  const count = args.int(2);
  if (count < 0 || cmd > 0xffff) return -EINVAL;
  const each = (bytes: number, run: () => void, from: number, length: number): number => {
    if (!addressOk(uop)) return -EFAULT;
    for (let i = 0; i < count; i++) {
      const at = uop + i * bytes;
      if (i > 0 && d.stepPreempts()) {
        args.setLong(1, at);
        args.setLong(2, count - i);
        d.preempted = true;
        return 0;
      }
      if (!guest.copyIn(d.current.id, at, bytes)) return -EFAULT;
      run();
      if (!guest.copyOut(d.current.id, at + from, length, from)) return -EFAULT;
    }
    return 0;
  };
  switch (cmd) {
    case G.GNTTABOP_map_grant_ref:
      return each(G.GnttabMapGrantRef.sizeof, () => map(d), 0, G.GnttabMapGrantRef.sizeof);
    case G.GNTTABOP_unmap_grant_ref: {
      const rc = each(G.GnttabUnmapGrantRef.sizeof, () => unmap(d, false), G.GnttabUnmapGrantRef.status, 2);
      d.engine.tables.flush(ALL_VCPUS);
      return rc;
    }
    case G.GNTTABOP_unmap_and_replace: {
      const rc = each(
        G.GnttabUnmapAndReplace.sizeof,
        () => unmap(d, true),
        G.GnttabUnmapAndReplace.status,
        2,
      );
      d.engine.tables.flush(ALL_VCPUS);
      return rc;
    }
    case G.GNTTABOP_setup_table:
      return setupTable(d, uop, count);
    case G.GNTTABOP_transfer:
      return each(G.GnttabTransfer.sizeof, () => transfer(d), G.GnttabTransfer.status, 2);
    case G.GNTTABOP_copy:
      return each(G.GnttabCopy.sizeof, () => copy(d), G.GnttabCopy.status, 2);
    case G.GNTTABOP_query_size:
      return querySize(d, uop, count);
    case G.GNTTABOP_set_version:
      return setVersion(d, uop);
    case G.GNTTABOP_get_status_frames:
      return getStatusFrames(d, uop, count);
    case G.GNTTABOP_get_version: {
      if (!guest.copyIn(d.current.id, uop, 2)) return -EFAULT;
      const domid = guest.buffer.getU16(0);
      if (!d.isSelf(domid)) return domid === 0 ? -EPERM : -ESRCH;
      guest.buffer.setU32(0, 1);
      return guest.copyOut(d.current.id, uop + G.GnttabGetVersion.version, 4) ? 0 : -EFAULT;
    }
    case G.GNTTABOP_swap_grant_ref:
      return each(G.GnttabSwapGrantRef.sizeof, () => swap(d), G.GnttabSwapGrantRef.status, 2);
    case G.GNTTABOP_cache_flush:
      return cacheFlush(d, uop, count);
    default:
      return -ENOSYS;
  }
}

/** Flushes caches for one of the guest's own pages: there are none. */
function cacheFlush(d: LongCallState & FrameState, uop: number, count: number): number {
  const s = G.GnttabCacheFlush;
  const { buffer } = d.guest;
  for (let i = 0; i < count; i++) {
    if (i > 0 && d.stepPreempts()) {
      d.args.setLong(1, uop + i * s.sizeof);
      d.args.setLong(2, count - i);
      d.preempted = true;
      return 0;
    }
    if (!d.guest.copyIn(d.current.id, uop + i * s.sizeof, s.sizeof)) return -EFAULT;
    const offset = buffer.getU16(s.offset);
    const length = buffer.getU16(s.length);
    const op = buffer.getU32(s.op);
    if (offset >= PAGE || offset + length > PAGE) return -EINVAL;
    if (length === 0 || op === 0) continue;
    if (op & SOURCE_GREF) return -EOPNOTSUPP;
    if (op & ~CACHE_OPS || d.tables.guestFrame(Math.floor(buffer.getU64(s.a_dev_bus_addr) / PAGE)) < 0)
      return -EINVAL;
  }
  return 0;
}
const SOURCE_GREF = 0x8000_0000;
/** Clean and invalidate. */
const CACHE_OPS = 3;

/** The status for a grant of domain 0, which has a table of one frame in which nothing is granted. */
const foreignGrant = (ref: number): number => (ref < 512 ? G.GNTST_general_error : G.GNTST_bad_gntref);

/** GNTST_okay for the domain itself, or the error status for another domain. */
const domainStatus = (d: OwnIdState, domid: number): number =>
  d.isSelf(domid) ? G.GNTST_okay : domid === 0 ? G.GNTST_permission_denied : G.GNTST_bad_domain;

const setStatus = (d: CopyState, field: number, status: number): void =>
  d.guest.buffer.setU16(field, status & 0xffff);

function setupTable(d: CallState & GrantState & OwnIdState, uop: number, count: number): number {
  const s = G.GnttabSetupTable;
  const { guest, grants } = d;
  const vcpu = d.current.id;
  if (count !== 1) return -EINVAL;
  if (!guest.copyIn(vcpu, uop, s.sizeof)) return -EFAULT;
  const frames = guest.buffer.getU32(s.nr_frames);
  const list = guest.buffer.getS64(s.frame_list);
  if (!addressOk(list)) return -EFAULT;
  let status = domainStatus(d, guest.buffer.getU16(s.dom));
  if (status === G.GNTST_okay) {
    if (frames > grants.maxFrames) status = G.GNTST_general_error;
    else {
      grants.grow(frames);
      for (let i = 0; i < frames; i++) {
        guest.buffer.setU64(0, grants.mfn(i));
        if (!guest.copyOut(vcpu, list + 8 * i, 8)) status = G.GNTST_bad_virt_addr;
      }
    }
  }
  setStatus(d, 0, status);
  return guest.copyOut(vcpu, uop + s.status, 2) ? 0 : -EFAULT;
}

function querySize(d: CallState & GrantState & OwnIdState, uop: number, count: number): number {
  const s = G.GnttabQuerySize;
  const { buffer } = d.guest;
  if (count !== 1) return -EINVAL;
  if (!d.guest.copyIn(d.current.id, uop, s.sizeof)) return -EFAULT;
  const status = domainStatus(d, buffer.getU16(s.dom));
  if (status === G.GNTST_okay) {
    buffer.setU32(s.nr_frames, d.grants.nrFrames);
    buffer.setU32(s.max_nr_frames, d.grants.maxFrames);
  }
  setStatus(d, s.status, status);
  return d.guest.copyOut(d.current.id, uop, s.sizeof) ? 0 : -EFAULT;
}

function setVersion(d: CallState, uop: number): number {
  if (!d.guest.copyIn(d.current.id, uop, G.GnttabSetVersion.sizeof)) return -EFAULT;
  const version = d.guest.buffer.getU32(G.GnttabSetVersion.version);
  const rc = version === 1 ? 0 : version === 2 ? -ENOSYS : -EINVAL;
  d.guest.buffer.setU32(G.GnttabSetVersion.version, 1);
  return d.guest.copyOut(d.current.id, uop, G.GnttabSetVersion.sizeof) ? rc : -EFAULT;
}

function getStatusFrames(d: CallState & OwnIdState, uop: number, count: number): number {
  const s = G.GnttabGetStatusFrames;
  const { buffer } = d.guest;
  if (count !== 1) return -EINVAL;
  if (!d.guest.copyIn(d.current.id, uop, s.sizeof)) return -EFAULT;
  const frames = buffer.getU32(s.nr_frames);
  if (!addressOk(buffer.getS64(s.frame_list))) return -EFAULT;
  let status = domainStatus(d, buffer.getU16(s.dom));
  // A table of version 1 has no status frames.
  if (status === G.GNTST_okay && frames > 0) status = G.GNTST_general_error;
  setStatus(d, s.status, status);
  return d.guest.copyOut(d.current.id, uop + s.status, 2, s.status) ? 0 : -EFAULT;
}

/** The address of the L1 entry that a map or unmap names, in a typed table; -1 if there is none. */
function entryOf(d: CallState & MmuState, field: number, flags: number): number {
  const { buffer } = d.guest;
  let at: number;
  if (flags & G.GNTMAP_contains_pte) {
    const lo = buffer.getU32(field);
    const frame = d.tables.guestFrame(buffer.getU32(field + 4) * 0x10_0000 + (lo >>> 12));
    if (lo & 7 || frame < 0) return -1;
    at = d.ram.linearOf(frame) + (lo & 4095);
  } else at = d.tables.walkL1(d.current.cpu.cr3Kernel, buffer.getS64(field));
  return at >= 0 && d.frames.type[d.ram.frameAt(at)] === 1 ? at : -1;
}

function map(d: CallState & GrantOpState) {
  const s = G.GnttabMapGrantRef;
  const { buffer } = d.guest;
  const { grants } = d;
  const fail = (status: number): void => setStatus(d, s.status, status);
  const flags = buffer.getU32(s.flags);
  const ref = buffer.getU32(s.ref);
  const domid = buffer.getU16(s.dom);
  if (!(flags & (G.GNTMAP_device_map | G.GNTMAP_host_map))) return fail(G.GNTST_bad_gntref);
  if (domid !== d.domid) return fail(domid === 0 ? foreignGrant(ref) : G.GNTST_bad_domain);
  const write = !(flags & G.GNTMAP_readonly);
  const frame = grants.acquire(ref, d.domid, write, true);
  if (frame < 0) return fail(frame);
  const both =
    (flags & (G.GNTMAP_device_map | G.GNTMAP_host_map)) === (G.GNTMAP_device_map | G.GNTMAP_host_map);
  if (both) grants.acquire(ref, d.domid, write, true);
  const undo = (status: number): void => {
    grants.release(ref, write);
    if (both) grants.release(ref, write);
    fail(status);
  };
  const handle = grants.newHandle(flags, ref);
  if (handle < 0) return undo(G.GNTST_no_space);
  const mfn = d.ram.mfnOf(frame);
  if (flags & G.GNTMAP_host_map) {
    const at = entryOf(d, s.host_addr, flags);
    if (at < 0) {
      grants.handles[handle].flags = 0;
      return undo(G.GNTST_general_error);
    }
    let lo = (mfn << 12) | PTE_PRESENT | PTE_ACCESSED | PTE_DIRTY;
    if (write) lo |= PTE_RW;
    if (flags & G.GNTMAP_application_map) lo |= PTE_USER;
    lo |= ((flags >>> AVAIL_SHIFT) << 9) & PTE_AVAIL;
    d.tables.replaceL1(at, lo, (mfn >>> 20) | PTE_NX_HI);
  }
  buffer.setU64(s.dev_bus_addr, mfn * PAGE);
  buffer.setU32(s.handle, handle);
  fail(G.GNTST_okay);
}

function unmap(d: CallState & MmuState & GrantState, replace: boolean) {
  const s = replace ? G.GnttabUnmapAndReplace : G.GnttabUnmapGrantRef;
  const { buffer } = d.guest;
  const { grants } = d;
  const fail = (status: number): void => setStatus(d, s.status, status);
  const handle = grants.handles[buffer.getU32(s.handle)];
  if (handle === undefined || handle.flags === 0) return fail(G.GNTST_bad_handle);
  const { flags, ref } = handle;
  const write = !(flags & G.GNTMAP_readonly);
  const frame = grants.pinnedFrame(ref);
  const hostAddr = buffer.getBig(s.host_addr) !== 0n;
  const busAddr = replace ? 0n : buffer.getBig(G.GnttabUnmapGrantRef.dev_bus_addr);
  if (busAddr !== 0n && flags & G.GNTMAP_device_map && busAddr !== BigInt(d.ram.mfnOf(frame) * PAGE)) {
    return fail(G.GNTST_bad_dev_addr);
  }
  if (hostAddr && flags & G.GNTMAP_host_map) {
    const at = entryOf(d, s.host_addr, flags);
    if (at < 0) return fail(G.GNTST_general_error);
    const mfn = (d.mem.getU32(at + 4) & 0xfffff) * 0x10_0000 + (d.mem.getU32(at) >>> 12);
    if (!(d.mem.getU32(at) & PTE_PRESENT) || mfn !== d.ram.mfnOf(frame)) return fail(G.GNTST_general_error);
    let lo = 0;
    let hi = 0;
    if (replace && buffer.getBig(G.GnttabUnmapAndReplace.new_addr) !== 0n) {
      const from = entryOf(d, G.GnttabUnmapAndReplace.new_addr, 0);
      if (from < 0 || flags & G.GNTMAP_contains_pte) return fail(G.GNTST_general_error);
      lo = d.mem.getU32(from);
      hi = d.mem.getU32(from + 4);
      d.tables.replaceL1(from, 0, 0);
    }
    d.tables.replaceL1(at, lo, hi);
    handle.flags &= ~G.GNTMAP_host_map;
    grants.release(ref, write);
  }
  if (busAddr !== 0n && flags & G.GNTMAP_device_map) {
    handle.flags &= ~G.GNTMAP_device_map;
    grants.release(ref, write);
  }
  if (!(handle.flags & (G.GNTMAP_device_map | G.GNTMAP_host_map))) handle.flags = 0;
  fail(G.GNTST_okay);
}

/** One side of a copy: returns a frame index, or a negative status. A grant is pinned until the copy is done. */
function copyEnd(
  d: CopyState & FrameState & GrantState & OwnIdState,
  field: number,
  isGrant: boolean,
  write: boolean,
): number {
  const { buffer } = d.guest;
  const domid = buffer.getU16(field + COPY_DOMID);
  if (isGrant) {
    if (domid !== d.domid && domid !== DOMID_SELF)
      return domid === 0 ? foreignGrant(buffer.getU32(field)) : G.GNTST_bad_domain;
    return d.grants.acquire(buffer.getU32(field), d.domid, write, false);
  }
  if (domid !== DOMID_SELF)
    return domid === d.domid || domid === 0 ? G.GNTST_permission_denied : G.GNTST_bad_domain;
  const frame = d.tables.guestFrame(buffer.getU64(field));
  if (frame < 0) return G.GNTST_bad_page;
  return write && d.frames.type[frame] !== 0 ? G.GNTST_general_error : frame;
}
const COPY_DOMID = 8;
const COPY_OFFSET = 10;

function copy(d: CopyState & GrantOpState) {
  const s = G.GnttabCopy;
  const { buffer } = d.guest;
  const flags = buffer.getU16(s.flags);
  const length = buffer.getU16(s.len);
  const sourceRef = (flags & G.GNTCOPY_source_gref) !== 0;
  const destRef = (flags & G.GNTCOPY_dest_gref) !== 0;
  const source = copyEnd(d, s.source, sourceRef, false);
  if (source < 0) return setStatus(d, s.status, source);
  const dest = copyEnd(d, s.dest, destRef, true);
  if (dest >= 0) {
    const from = buffer.getU16(s.source + COPY_OFFSET);
    const to = buffer.getU16(s.dest + COPY_OFFSET);
    if (from + length > PAGE || to + length > PAGE) setStatus(d, s.status, G.GNTST_bad_copy_arg);
    else {
      const start = d.ram.linearOf(source) + from;
      const target = d.ram.linearOf(dest) + to;
      d.mem.u8.copyWithin(target, start, start + length);
      d.engine.touch(target);
      setStatus(d, s.status, G.GNTST_okay);
    }
    if (destRef) d.grants.release(buffer.getU32(s.dest), true);
  } else setStatus(d, s.status, dest);
  if (sourceRef) d.grants.release(buffer.getU32(s.source), false);
}

/**
 * Transfers a page to another domain. A page in use cannot be taken from the guest, and all of its pages are in use.
 */
function transfer(d: CopyState): void {
  setStatus(d, G.GnttabTransfer.status, G.GNTST_bad_page);
}

function swap(d: CopyState & GrantState): void {
  const s = G.GnttabSwapGrantRef;
  const { buffer } = d.guest;
  setStatus(d, s.status, d.grants.swap(buffer.getU32(s.ref_a), buffer.getU32(s.ref_b)));
}
