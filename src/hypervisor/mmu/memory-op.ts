/**
 * HYPERVISOR_memory_op: the guest's reservation (balloon), its memory map, and what it may know of the machine.
 * Frames that the guest returns stay in the container without an owner, and are handed out again after they were
 * cleared.
 * Source: do_memory_op of xen/common/memory.c; arch_memory_op, subarch_memory_op of arch/x86.
 */
import { EACCES, EDOM, EFAULT, EINVAL, ENOMEM, ENOSYS, EOPNOTSUPP, EPERM, ESRCH } from '../../xen/errno.js';
import * as M from '../../xen/memory-op.js';
import { MACH2PHYS_NR_ENTRIES, MACH2PHYS_VIRT_END, MACH2PHYS_VIRT_START } from '../../xen/paging.js';
import type { CallState, LongCallState } from '../calls/call-state.js';
import type { OwnIdState } from '../identity.js';
import { Owner } from './frames.js';
import { addressOk } from './guest-memory.js';
import type { FrameState, M2pState, MemoryState, MmuState, ReservationState } from './mmu-state.js';

/** What the operations on the reservation work on. */
interface MemoryOpState extends LongCallState, MmuState, M2pState, ReservationState, OwnIdState {}

/** The largest extent that an unprivileged domain may ask for: 2^9 frames (CONFIG_DOMU_MAX_ORDER). */
const MAX_ORDER = 9;
const MAX_EXTENTS = Math.floor(0xffff_ffff / 2 ** M.MEMOP_EXTENT_SHIFT);
const XENMEMF_POPULATE_ON_DEMAND = 1 << 16;
/** How many frames each entry of real Xen's M2P list covers, because it consists of 2 MiB pages. */
const FRAMES_PER_LIST_ENTRY = 0x4_0000;

/** Numbers up to this are exact. */
const EXACT = Number.MAX_SAFE_INTEGER;

export function memoryOp(d: MemoryOpState): number | bigint {
  const { args } = d;
  const op = args.lo[0] & M.MEMOP_CMD_MASK;
  const startExtent =
    (args.hi[0] >>> 0) * 2 ** (32 - M.MEMOP_EXTENT_SHIFT) + (args.lo[0] >>> M.MEMOP_EXTENT_SHIFT);
  const arg = args.long(1);
  switch (op) {
    case M.XENMEM_increase_reservation:
    case M.XENMEM_decrease_reservation:
    case M.XENMEM_populate_physmap:
      // More extents than any list can have. Nothing is done, and Xen returns the number itself, with all its bits.
      if (startExtent > EXACT) return exactStart(args);
      return reservation(d, op, startExtent, arg);
    case M.XENMEM_exchange:
      return startExtent !== 0 ? -EINVAL : exchange(d, arg);
    case M.XENMEM_maximum_ram_page:
      return startExtent !== 0 ? -EINVAL : d.ram.map.endMfn;
    case M.XENMEM_current_reservation:
    case M.XENMEM_maximum_reservation:
    case M.XENMEM_maximum_gpfn:
      return startExtent !== 0 ? -EINVAL : statistics(d, op, arg);
    case M.XENMEM_add_to_physmap:
    case M.XENMEM_add_to_physmap_batch:
      return addToPhysmap(d, op, startExtent, arg);
    case M.XENMEM_remove_from_physmap: {
      if (startExtent !== 0) return -EINVAL;
      if (!d.guest.copyIn(d.current.id, arg, M.XenRemoveFromPhysmap.sizeof)) return -EFAULT;
      const domid = d.guest.buffer.getU16(M.XenRemoveFromPhysmap.domid);
      return d.isSelf(domid) || domid === 0 ? -EACCES : -ESRCH;
    }
    case M.XENMEM_get_vnumainfo: {
      if (startExtent !== 0) return -EINVAL;
      if (!d.guest.copyIn(d.current.id, arg, M.XenVnumaTopologyInfo.sizeof)) return -EFAULT;
      if (d.guest.buffer.getU16(M.XenVnumaTopologyInfo.domid + 2) !== 0) return -EINVAL;
      return whose(d, d.guest.buffer.getU16(M.XenVnumaTopologyInfo.domid)) || -EOPNOTSUPP;
    }
    case M.XENMEM_acquire_resource: {
      if (!d.guest.copyIn(d.current.id, arg, M.XenMemAcquireResource.sizeof)) return -EFAULT;
      // Only a resource of another domain can be named, by its number.
      const domid = d.guest.buffer.getU16(M.XenMemAcquireResource.domid);
      return domid === d.domid || domid === 0 ? -EPERM : -ESRCH;
    }
  }
  if (startExtent !== 0) return NO_CONTINUATION.has(op) ? -EINVAL : -ENOSYS;
  switch (op) {
    case M.XENMEM_memory_map:
      return memoryMap(d, arg);
    case M.XENMEM_set_memory_map:
      return setMemoryMap(d, arg);
    case M.XENMEM_machine_memory_map:
      return -EPERM;
    case M.XENMEM_machphys_mapping: {
      const { buffer } = d.guest;
      buffer.setU64(M.XenMachphysMapping.v_start, MACH2PHYS_VIRT_START);
      buffer.setU64(M.XenMachphysMapping.v_end, MACH2PHYS_VIRT_END);
      buffer.setU64(M.XenMachphysMapping.max_mfn, MACH2PHYS_NR_ENTRIES - 1);
      return d.guest.copyOut(d.current.id, arg, M.XenMachphysMapping.sizeof) ? 0 : -EFAULT;
    }
    case M.XENMEM_machphys_mfn_list:
      return machphysMfnList(d, arg);
    case M.XENMEM_machphys_compat_mfn_list:
      return -EOPNOTSUPP;
    case M.XENMEM_set_pod_target:
    case M.XENMEM_get_pod_target: {
      if (!d.guest.copyIn(d.current.id, arg, 32)) return -EFAULT;
      const domid = d.guest.buffer.getU16(POD_TARGET_DOMID);
      return d.isSelf(domid) || domid === 0 ? -EINVAL : -ESRCH;
    }
    case XENMEM_ACCESS_OP:
      return d.guest.copyIn(d.current.id, arg, 32) ? -EINVAL : -EFAULT;
    case XENMEM_CLAIM_PAGES:
      return d.guest.copyIn(d.current.id, arg, 32) ? -EPERM : -EFAULT;
    case XENMEM_RESERVED_DEVICE_MEMORY_MAP:
      return d.guest.copyIn(d.current.id, arg, 32) ? 0 : -EFAULT;
    case XENMEM_GET_SHARING_FREED_PAGES:
    case XENMEM_GET_SHARING_SHARED_PAGES:
      return 0;
    default:
      return -ENOSYS;
  }
}

/** The number of the first extent in memoryOp(), with all its 58 bits. */
const exactStart = ({ lo, hi }: CallState['args']): bigint =>
  ((BigInt(hi[0] >>> 0) << 32n) | BigInt(lo[0])) >> BigInt(M.MEMOP_EXTENT_SHIFT);

const POD_TARGET_DOMID = 24;
const XENMEM_GET_SHARING_FREED_PAGES = 18;
const XENMEM_GET_SHARING_SHARED_PAGES = 19;
const XENMEM_ACCESS_OP = 21;
const XENMEM_CLAIM_PAGES = 24;
const XENMEM_RESERVED_DEVICE_MEMORY_MAP = 27;
const NO_CONTINUATION = new Set([XENMEM_ACCESS_OP, XENMEM_CLAIM_PAGES, XENMEM_RESERVED_DEVICE_MEMORY_MAP]);

/** Returns 0 for the domain itself, -EPERM for domain 0, and -ESRCH for domains that do not exist. */
const whose = (d: OwnIdState, domid: number): number => (d.isSelf(domid) ? 0 : domid === 0 ? -EPERM : -ESRCH);

/** Returns the preferred frame if nobody owns it, otherwise the first one that nobody owns, or -1. */
function freeFrame(d: FrameState, preferred: number): number {
  const { owner } = d.frames;
  if (preferred >= 0 && preferred < owner.length && owner[preferred] === Owner.free) return preferred;
  return owner.indexOf(Owner.free);
}

/** Gives the guest a cleared frame. Returns -1 if its reservation is full. `preferred` is an index. */
function allocate(d: MmuState & ReservationState, preferred: number): number {
  if (d.frames.owned >= d.maxPages) return -1;
  const frame = freeFrame(d, preferred);
  if (frame < 0) return -1;
  d.frames.setOwner(frame, Owner.guest);
  const at = d.ram.linearOf(frame);
  d.mem.u8.fill(0, at, at + 4096);
  d.engine.touch(at);
  return frame;
}

/** Returns the number of finished extents, also after a failure: these operations report failures in that way. */
function reservation(d: MemoryOpState, op: number, start: number, arg: number): number {
  const { guest, tables } = d;
  const { buffer } = guest;
  const s = M.XenMemoryReservation;
  const vcpu = d.current.id;
  if (!guest.copyIn(vcpu, arg, s.sizeof)) return start;
  const extents = buffer.getU64(s.nr_extents);
  if (extents > MAX_EXTENTS || start >= extents) return start;
  const list = buffer.getS64(s.extent_start);
  const order = buffer.getU32(s.extent_order);
  const flags = buffer.getU32(s.mem_flags);
  if (whose(d, buffer.getU16(s.domid)) !== 0 || order > MAX_ORDER) return start;
  const optional = op === M.XENMEM_increase_reservation && list === 0;
  if (!optional && !addressOk(list)) return start;
  // Memory for extents of several frames would have to be contiguous. Only single frames are supported.
  const pages = 2 ** order;
  for (let i = start; i < extents; i++) {
    if (i > start && d.stepPreempts()) {
      d.args.setLong(0, op + i * 2 ** M.MEMOP_EXTENT_SHIFT);
      d.preempted = true;
      return i;
    }
    if (op === M.XENMEM_decrease_reservation) {
      if (!guest.copyIn(vcpu, list + i * 8, 8)) return i;
      const first = buffer.getU64(0);
      for (let j = 0; j < pages; j++) {
        const frame = tables.guestFrame(first + j);
        if (frame < 0) return i;
        release(d, frame);
      }
      continue;
    }
    if (op === M.XENMEM_populate_physmap) {
      if (flags & XENMEMF_POPULATE_ON_DEMAND) return i;
      if (!guest.copyIn(vcpu, list + i * 8, 8)) return i;
    }
    if (order > 0) return i;
    const populate = op === M.XENMEM_populate_physmap;
    const lo = buffer.getU32(0);
    const hi = buffer.getU32(4);
    const frame = allocate(d, populate && hi === 0 ? lo : -1);
    if (frame < 0) return i;
    if (populate) d.m2p.set(frame, lo, hi);
    else d.m2p.invalidate(frame);
    if (!optional) {
      buffer.setU64(0, d.ram.mfnOf(frame));
      if (!guest.copyOut(vcpu, list + i * 8, 8)) return i;
    }
  }
  return extents;
}

/** Removes a frame from the reservation. A page table stays one until its last reference is gone. */
function release(d: FrameState & M2pState, frame: number): void {
  if (d.frames.pinned[frame]) {
    d.frames.pinned[frame] = 0;
    d.tables.putType(frame);
  }
  d.frames.setOwner(frame, Owner.free);
  d.m2p.invalidate(frame);
}

/**
 * Exchanges frames for others, which are contiguous or below an address. A machine without free memory refuses this
 * with -ENOMEM, and so does this one.
 */
function exchange(d: CallState & FrameState & OwnIdState, arg: number): number {
  const { buffer } = d.guest;
  const s = M.XenMemoryExchange;
  const r = M.XenMemoryReservation;
  const vcpu = d.current.id;
  if (!d.guest.copyIn(vcpu, arg, s.sizeof)) return -EFAULT;
  // Counts and addresses have 64 bits, and Xen computes with all of them.
  const inExtents = buffer.getBig(s.in + r.nr_extents);
  const outExtents = buffer.getBig(s.out + r.nr_extents);
  const inOrder = buffer.getU32(s.in + r.extent_order);
  const outOrder = buffer.getU32(s.out + r.extent_order);
  const exchanged = buffer.getBig(s.nr_exchanged);
  let rc: number;
  if (Math.max(inOrder, outOrder) > MAX_ORDER) rc = -EPERM;
  else {
    const inChunk = BigInt(Math.max(0, outOrder - inOrder));
    const outChunk = BigInt(Math.max(0, inOrder - outOrder));
    const inStart = buffer.getBig(s.in + r.extent_start);
    const outStart = buffer.getBig(s.out + r.extent_start);
    if (
      exchanged > inExtents ||
      buffer.getU16(s.in + r.domid) !== buffer.getU16(s.out + r.domid) ||
      inExtents << BigInt(inOrder) > ALL_ONES ||
      inExtents << BigInt(inOrder) !== outExtents << BigInt(outOrder)
    ) {
      rc = -EINVAL;
    } else if (exchanged === inExtents) return 0;
    else if (
      !subrangeOk(inStart, exchanged, inExtents) ||
      !subrangeOk(outStart, BigInt.asUintN(64, (exchanged >> inChunk) << outChunk), outExtents)
    ) {
      rc = -EFAULT;
    } else if (buffer.getU32(s.out + r.mem_flags) & NODE && buffer.getU32(s.out + r.mem_flags) & EXACT_NODE) {
      rc = -EINVAL;
    } else {
      rc = whose(d, buffer.getU16(s.in + r.domid));
      if (rc === 0) {
        // Either whole chunks are exchanged, or nothing of them.
        const first = (exchanged >> inChunk) << inChunk;
        buffer.setBig(s.nr_exchanged, first);
        rc = giveUp(d, Number(BigInt.asIntN(64, inStart + 8n * first)));
      }
    }
  }
  return d.guest.copyOut(vcpu, arg + s.nr_exchanged, 8, s.nr_exchanged) ? rc : -EFAULT;
}
const ALL_ONES = 0xffff_ffff_ffff_ffffn;
/** In mem_flags: a node of the machine plus 1, and the requirement to use exactly that node. Guests may not choose. */
const NODE = 0xff00;
const EXACT_NODE = 1 << 17;

/**
 * guest_handle_subrange_okay: entries `first` to `count - 1` of a list of 8-byte elements begin at addresses that a
 * guest may use.
 */
function subrangeOk(start: bigint, first: bigint, count: bigint): boolean {
  const entries = BigInt.asUintN(64, count - first);
  return entries < ALL_ONES / 8n && addressOk(Number(BigInt.asIntN(64, start + 8n * first)));
}

/** The first frame to be given away must belong to the guest; then the call fails for lack of memory. */
function giveUp(d: CallState & FrameState, list: number): number {
  const { guest } = d;
  if (!guest.copyIn(d.current.id, list, 8, EXTENT_AT)) return -EFAULT;
  return d.tables.guestFrame(guest.buffer.getU64(EXTENT_AT)) < 0 ? -EINVAL : -ENOMEM;
}
/** An offset in the buffer, after the argument structures. */
const EXTENT_AT = 256;

function statistics(
  d: CallState & MmuState & ReservationState & OwnIdState,
  op: number,
  arg: number,
): number | bigint {
  if (!d.guest.copyIn(d.current.id, arg, 2)) return -EFAULT;
  const rc = whose(d, d.guest.buffer.getU16(0));
  if (rc !== 0) return rc;
  if (op === M.XENMEM_current_reservation) return d.frames.owned;
  if (op === M.XENMEM_maximum_reservation) return d.maxPages;
  // arch.max_pfn is written by the guest. Xen returns it minus one.
  const at = d.sharedInfo + MAX_PFN_OFFSET;
  const maxPfn = d.mem.getU64(at);
  return maxPfn <= EXACT ? Math.max(maxPfn, 1) - 1 : d.mem.getBig(at) - 1n;
}
const MAX_PFN_OFFSET = 3088;

function addToPhysmap(d: CallState & OwnIdState, op: number, start: number, arg: number): number {
  if (start > 0xffff || start < 0) return -EDOM;
  const batch = op === M.XENMEM_add_to_physmap_batch;
  const s = batch ? M.XenAddToPhysmapBatch : M.XenAddToPhysmap;
  if (!d.guest.copyIn(d.current.id, arg, s.sizeof)) return -EFAULT;
  const { buffer } = d.guest;
  const space = batch ? buffer.getU16(M.XenAddToPhysmapBatch.space) : buffer.getU32(M.XenAddToPhysmap.space);
  if (!batch && space === M.XENMAPSPACE_gmfn_foreign) return -ENOSYS;
  if (batch && space === M.XENMAPSPACE_gmfn_range) return -EOPNOTSUPP;
  const domid = buffer.getU16(s.domid);
  if (!d.isSelf(domid) && domid !== 0) return -ESRCH;
  // A PV guest manages its own physical map.
  return -EACCES;
}

function memoryMap(d: CallState & ReservationState, arg: number): number {
  const s = M.XenMemoryMap;
  const e = M.E820Entry;
  const { guest } = d;
  const vcpu = d.current.id;
  if (!guest.copyIn(vcpu, arg, s.sizeof)) return -EFAULT;
  const wanted = Math.min(guest.buffer.getU32(s.nr_entries), d.memoryMap.length);
  const list = guest.buffer.getS64(s.buffer);
  if (d.memoryMap.length === 0) return -ENOSYS;
  for (let i = 0; i < wanted; i++) {
    const range = d.memoryMap[i];
    guest.buffer.setBig(64 + e.addr, range.start);
    guest.buffer.setBig(64 + e.size, range.bytes);
    guest.buffer.setU32(64 + e.type, range.type);
    if (!guest.copyOut(vcpu, list + i * e.sizeof, e.sizeof, 64)) return -EFAULT;
  }
  guest.buffer.setU32(s.nr_entries, wanted);
  return guest.copyOut(vcpu, arg, s.sizeof) ? 0 : -EFAULT;
}

/** The maximum number of entries in a memory map (E820MAX). */
const MAX_MAP_ENTRIES = 1024;

function setMemoryMap(d: CallState & ReservationState & OwnIdState, arg: number): number {
  const s = M.XenForeignMemoryMap;
  const e = M.E820Entry;
  const { guest } = d;
  const vcpu = d.current.id;
  if (!guest.copyIn(vcpu, arg, s.sizeof)) return -EFAULT;
  const count = guest.buffer.getU32(s.map + M.XenMemoryMap.nr_entries);
  const list = guest.buffer.getS64(s.map + M.XenMemoryMap.buffer);
  if (count > MAX_MAP_ENTRIES) return -EINVAL;
  const rc = whose(d, guest.buffer.getU16(s.domid));
  if (rc !== 0) return rc;
  const map = [];
  for (let i = 0; i < count; i++) {
    if (!guest.copyIn(vcpu, list + i * e.sizeof, e.sizeof)) return -EFAULT;
    map.push({
      start: guest.buffer.getBig(e.addr),
      bytes: guest.buffer.getBig(e.size),
      type: guest.buffer.getU32(e.type),
    });
  }
  d.memoryMap = map;
  return 0;
}

/** The frames that contain the table, one for each 2 MiB of it. */
function machphysMfnList(d: CallState & MemoryState & M2pState, arg: number): number {
  const s = M.XenMachphysMfnList;
  const { guest } = d;
  const vcpu = d.current.id;
  if (!guest.copyIn(vcpu, arg, s.sizeof)) return -EFAULT;
  const most = guest.buffer.getU32(s.max_extents);
  const list = guest.buffer.getS64(s.extent_start);
  const end = d.ram.map.endMfn;
  let i = 0;
  for (; i !== most && i * FRAMES_PER_LIST_ENTRY < end; i++) {
    guest.buffer.setU64(64, d.ram.mfnOf(d.m2p.pageOf(i * FRAMES_PER_LIST_ENTRY)));
    if (!guest.copyOut(vcpu, list + i * 8, 8, 64)) return -EFAULT;
  }
  guest.buffer.setU32(s.nr_extents, i);
  return guest.copyOut(vcpu, arg, s.sizeof) ? 0 : -EFAULT;
}
